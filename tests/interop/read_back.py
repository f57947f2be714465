"""A running directory, read by others: PyIceberg, DuckDB, our SQL and a small Python merge have to agree.

    read_back.py <lakesync binary>

Deltas go in over HTTP, with ids computed here. After each stage (hot, flushed, compacted, late, compacted again) all
readers are compared row by row. The last line counts what passed and what failed.
"""

import functools
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from pyiceberg.expressions import And, EqualTo, IsNull

import readers
import wire
from rows import as_log, as_rows, deltas_of_log, expected
from server import Server


@dataclass
class Table:
    """A table, and the deltas that the gateway has acknowledged, in arrival order."""

    name: str
    columns: dict
    key: str | None = None
    partition_by: tuple = ()
    sort_by: tuple = ()
    arrived: list = field(default_factory=list)

    def definition(self) -> dict:
        columns = [{"name": name, "type": column_type} for name, column_type in self.columns.items()]
        return {"table": self.name, "columns": columns, "primaryKey": [self.key] if self.key else [],
                "partitionBy": list(self.partition_by), "sortBy": list(self.sort_by)}

    def merged(self, deltas=None) -> dict:
        """The rows by the merge rule; a key column is the row id's."""
        rows = wire.merge(self.arrived if deltas is None else deltas)
        complete = {}
        for row, cells in rows.items():
            cells = {**cells, self.key: row} if self.key else cells
            complete[row] = {c: expected(cells.get(c), t) for c, t in self.columns.items()}
        return complete


EVERY_TYPE = Table("every_type", {
    "title": "string", "n": "number", "count": "long", "done": "boolean", "extra": "json",
    "price": "decimal(20,4)", "day": "date", "at": "timestamp", "raw": "binary",
})
PARTITIONED = [
    Table("by_identity", EVERY_TYPE.columns, None, ("title", "bucket(3, count)", "day(at)"), ("n desc", "title")),
    Table("by_time", EVERY_TYPE.columns, None, ("year(day)", "truncate(2, title)", "hour(at)"), ("at nulls first",)),
    Table("by_many", EVERY_TYPE.columns, None, (
        "month(day)", "price", "bucket(4, raw)", "done", "truncate(10, count)", "bucket(2, price)", "bucket(2, day)",
        "bucket(2, at)", "bucket(2, title)", "month(at)"), ()),
    Table("by_value", EVERY_TYPE.columns, None, ("day", "at", "count", "year(at)", "day(day)"), ("raw", "done desc")),
]
KEYED = Table("keyed", {"code": "string", "stock": "long", "note": "string"}, key="code")


class Report:
    def __init__(self):
        self.passed = self.failed = 0

    def same(self, what: str, got, want):
        if got == want:
            self.passed += 1
            print(f"ok    {what}")
            return
        self.failed += 1
        print(f"FAIL  {what}")
        for key in sorted(set(got) | set(want)):
            for line in differences(got.get(key), want.get(key)):
                print(f"      {key}{line}")

    def attempt(self, what: str, read, want):
        try:
            got = read()
        except Exception:
            self.failed += 1
            print(f"FAIL  {what}\n{traceback.format_exc()}")
            return
        self.same(what, got, want)


def differences(got, want) -> list:
    if isinstance(got, dict) and isinstance(want, dict):
        return [f".{k}: got {got.get(k)!r}, want {want.get(k)!r}" for k in {**got, **want} if got.get(k) != want.get(k)]
    return [] if got == want else [f": got {got!r}, want {want!r}"]


class Writer:
    """Makes deltas of a table and pushes them; what is acknowledged is kept with its seq."""

    def __init__(self, server: Server, table: Table):
        self.server, self.table = server, table
        self.start_ms = time.time_ns() // 1_000_000 - 60_000

    def delta(self, op, row, at_ms, columns=None, client="c1"):
        columns = columns or {}
        hlc = (self.start_ms + at_ms) << 16
        canonical = [(name, wire.canonical(value, self.table.columns[name])) for name, value in columns.items()]
        return {
            "op": op, "row": row, "client": client, "hlc": hlc, "columns": columns,
            "id": wire.delta_id(client, canonical, hlc, row, self.table.name),
        }

    def body(self, d) -> dict:
        columns = [
            {"column": c, "value": wire.wire_value(v, self.table.columns[c])} for c, v in d["columns"].items()]
        return {
            "op": d["op"], "table": self.table.name, "rowId": d["row"], "clientId": d["client"], "columns": columns,
            "hlc": str(d["hlc"]), "deltaId": d["id"],
        }

    def push(self, *deltas):
        answer = self.server.push(deltas[0]["client"], [self.body(d) for d in deltas])
        assert answer["accepted"] == len(deltas), answer
        for d, outcome in zip(deltas, answer["outcomes"], strict=True):
            if outcome["outcome"] == "accepted":
                self.table.arrived.append({**d, "seq": int(outcome["seq"])})


class Comparison:
    """Every reader of a table against what was pushed."""

    def __init__(self, report: Report, server: Server, writer: Writer):
        self.report, self.server, self.writer, self.table = report, server, writer, writer.table
        self.numbers = {c["name"]: c["number"] for c in server.schema(self.table.name)["columns"]}

    def union(self, stage: str):
        read = lambda: as_rows(self.server.sql(f"SELECT * FROM {self.table.name}"), self.table.columns)
        self.report.attempt(f"{stage}: SQL is the merge of all deltas", read, self.table.merged())

    def log(self, stage: str):
        columns, name = self.table.columns, f"{self.table.name}__deltas"
        want = {d["seq"]: {
            **{c: expected(d["columns"].get(c), t) for c, t in columns.items()}, "set": sorted(d["columns"]),
            **{part: d[part] for part in ("op", "row", "client", "hlc", "id")},
        } for d in self.table.arrived}
        found = {
            "PyIceberg": lambda: readers.pyiceberg_rows(self.server.data_dir, name),
            "DuckDB": lambda: readers.duckdb_rows(self.server.data_dir, name),
            "SQL": lambda: self.server.sql(f'SELECT * FROM "{self.table.name}$deltas"'),
        }
        for who, read in found.items():
            log = lambda read=read: as_log(read(), columns, self.numbers)
            self.report.attempt(f"{stage}: {who} reads the log as it was pushed", log, want)
        merge = lambda: self.table.merged(deltas_of_log(found["PyIceberg"](), columns, self.numbers))
        self.report.attempt(f"{stage}: a merge of PyIceberg's log is that of all deltas", merge, self.table.merged())

    def base(self, stage: str, want: dict):
        for who, read in (("PyIceberg", readers.pyiceberg_rows), ("DuckDB", readers.duckdb_rows)):
            rows = lambda read=read: as_rows(read(self.server.data_dir, self.table.name), self.table.columns)
            self.report.attempt(f"{stage}: {who} reads the base", rows, want)

    def filtered(self, stage: str):
        """Filters of PyIceberg's, which leave out files by their partitions, find what they ask for."""
        merged = self.table.merged()
        for row, cells in merged.items():
            found = lambda row=row: {
                r["row_id"] for r in readers.pyiceberg_rows(self.server.data_dir, self.table.name, filter_of(row, cells))}
            self.report.attempt(f"{stage}: PyIceberg finds {row} by its values", lambda f=found: dict.fromkeys(f()), {row: None})

    def pull(self, stage: str):
        """Pages of four give every delta as it was pushed, wherever it lies by now."""
        want = {d["seq"]: self.writer.body(d) for d in self.table.arrived}
        read = lambda: {
            int(d["seq"]): {k: v for k, v in d.items() if k != "seq"} for d in self.server.pull_all(4)
            if d["table"] == self.table.name
        }
        self.report.attempt(f"{stage}: pulls give every delta", read, want)


def filter_of(row, cells):
    """The row's own values, of the types that filters of every reader compare alike. PyIceberg truncates the least long
    beyond 64 bits; Java's Iceberg, Rust's and ours wrap."""
    terms = [EqualTo("row_id", row)]
    for column in ("title", "count", "day"):
        if column == "count" and cells[column] == -(2**63):
            continue
        terms.append(IsNull(column) if cells[column] is None else EqualTo(column, cells[column]))
    return functools.reduce(And, terms)


def first_edits(w: Writer):
    everything = {
        "title": "é\u2028😀\"\\\n\u0001", "n": 0.1, "count": 2**53 + 1, "done": True, "extra": {"b": [1, None], "a": "x"},
        "price": Decimal("9999999999999999.9999"), "day": date(2026, 2, 28), "at": 1_700_000_000_123_456,
        "raw": bytes(range(256)),
    }
    w.push(
        w.delta("INSERT", "r1", 0, everything),
        w.delta("INSERT", "r2", 1, {"title": "", "n": -1.5, "count": -(2**63), "price": Decimal("-0.0001"),
                                    "day": date(1, 1, 1), "at": -1, "raw": b""}),
        w.delta("INSERT", "r3", 2),
        w.delta("INSERT", "r4", 3, {"title": "gone", "n": 1e21}),
        w.delta("DELETE", "r4", 4),
    )
    w.push(
        w.delta("UPDATE", "r1", 10, {"done": None, "n": 1e-7}, client="c2"),
        w.delta("UPDATE", "r2", 0, {"title": "too late"}, client="c2"),
        w.delta("UPDATE", "r2", 1, {"title": "c2 wins the tie", "n": 5e-324}, client="c2"),
        w.delta("UPDATE", "r5", 12, {"title": "never inserted"}, client="c2"),
        w.delta("DELETE", "r6", 13, client="c2"),
    )


def late_edits(w: Writer):
    w.push(
        w.delta("UPDATE", "r1", 5, {"done": False, "title": "between"}, client="c3"),
        w.delta("UPDATE", "r4", 20, {"count": 7}, client="c3"),
        w.delta("UPDATE", "r6", 12, {"title": "under the tombstone"}, client="c3"),
        w.delta("DELETE", "r5", 11, client="c3"),
        w.delta("DELETE", "r3", 30, client="c3"),
    )


def keyed_edits(w: Writer):
    w.push(
        w.delta("INSERT", "a", 0, {"code": "a", "stock": 1}),
        w.delta("INSERT", "b", 1, {"code": "b", "stock": 2}),
        w.delta("DELETE", "b", 2),
        w.delta("UPDATE", "b", 3, {"note": "revived without its key column"}),
    )


def stages(server: Server, report: Report, table: Table):
    """Hot, flushed, compacted, late, compacted again: a table of every type."""
    writer = Writer(server, table)
    every_type = Comparison(report, server, writer)
    first_edits(writer)
    every_type.union("hot")
    server.flush()
    every_type.union("flushed")
    every_type.log("flushed")
    every_type.base("flushed, not compacted", {})
    server.sql(f"CALL system.compact('{table.name}')")
    every_type.union("compacted")
    every_type.log("compacted")
    settled = table.merged()
    every_type.base("compacted", settled)
    late_edits(writer)
    every_type.union("late and hot")
    every_type.base("late and hot, the base is as it was", settled)
    server.flush()
    server.sql(f"CALL system.compact('{table.name}')")
    every_type.union("compacted again")
    every_type.log("compacted again")
    every_type.base("compacted again", table.merged())
    every_type.pull("compacted again")
    if table.partition_by:
        every_type.filtered("compacted again")


def run(server: Server, report: Report):
    for table in (EVERY_TYPE, *PARTITIONED, KEYED):
        server.post_schema(table.definition())
    stages(server, report, EVERY_TYPE)
    for table in PARTITIONED:
        print(f"      partitioned by {', '.join(table.partition_by)}")
        stages(server, report, table)

    writer = Writer(server, KEYED)
    keyed = Comparison(report, server, writer)
    keyed_edits(writer)
    server.flush()
    server.sql(f"CALL system.compact('{KEYED.name}')")
    keyed.union("with a key")
    keyed.log("with a key")
    keyed.base("with a key", KEYED.merged())
    report.same("the server ends well", {"exit code": server.stop()}, {"exit code": 0})


def main() -> int:
    report = Report()
    wire.check_vectors()
    with tempfile.TemporaryDirectory(prefix="lakesync-interop-") as data_dir:
        with Server(sys.argv[1], data_dir) as server:
            try:
                run(server, report)
            except Exception:
                report.failed += 1
                print(f"FAIL  the run stopped\n{traceback.format_exc()}")
            if report.failed:
                print("the server said:", "".join(server.log), sep="\n")
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
