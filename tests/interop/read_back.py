"""A running directory, read by others: PyIceberg, DuckDB, our SQL and a small Python merge have to agree.

    read_back.py <lakesync binary>

Deltas go in over HTTP, with ids computed here. After each stage (hot, flushed, compacted, late, compacted again) all
readers are compared row by row. The last line counts what passed and what failed.
"""

import base64
import sys
import tempfile
import time
import traceback
from datetime import date, datetime
from decimal import Decimal

import readers
import wire
from server import Server

TABLE = "every_type"
COLUMNS = {
    "title": "string", "n": "number", "count": "long", "done": "boolean", "extra": "json",
    "price": "decimal(20,4)", "day": "date", "at": "timestamp", "raw": "binary",
}
OPS = {"INSERT": 1, "UPDATE": 2, "DELETE": 3}


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
            if got.get(key) != want.get(key):
                print(f"      {key}: got {got.get(key)}, want {want.get(key)}")

    def attempt(self, what: str, read, want):
        try:
            got = read()
        except Exception:
            self.failed += 1
            print(f"FAIL  {what}\n{traceback.format_exc()}")
            return
        self.same(what, got, want)


class Writer:
    """Makes deltas, remembers them by arrival number, and pushes them."""

    def __init__(self, server: Server):
        self.server = server
        self.start_ms = time.time_ns() // 1_000_000 - 60_000
        self.arrived = []

    def delta(self, op, row, at_ms, columns=None, client="c1", counter=0):
        columns = columns or {}
        hlc = (self.start_ms + at_ms) << 16 | counter
        canonical = [(name, wire.canonical(value, COLUMNS[name])) for name, value in columns.items()]
        return {
            "op": op, "row": row, "client": client, "hlc": hlc, "columns": columns,
            "id": wire.delta_id(client, canonical, hlc, row, TABLE),
        }

    def push(self, *deltas):
        client = deltas[0]["client"]
        body = [{
            "op": d["op"], "table": TABLE, "rowId": d["row"], "clientId": d["client"], "hlc": str(d["hlc"]),
            "deltaId": d["id"],
            "columns": [{"column": c, "value": wire.wire_value(v, COLUMNS[c])} for c, v in d["columns"].items()],
        } for d in deltas]
        answer = self.server.push(client, body)
        assert answer["accepted"] == len(deltas), answer
        for d, outcome in zip(deltas, answer["outcomes"], strict=True):
            if outcome["outcome"] == "accepted":
                self.arrived.append({**d, "seq": int(outcome["seq"])})


def plain(value, column_type: str):
    """One form for one value, whoever read it."""
    if value is None:
        return None
    if column_type == "number":
        return float(value)
    if column_type == "long":
        return int(value)
    if column_type == "json":
        return value if isinstance(value, str) else wire.stable(value)
    if column_type.startswith("decimal"):
        return Decimal(value)
    if column_type == "date":
        return value if isinstance(value, date) else date.fromisoformat(value)
    if column_type == "timestamp":
        return value if isinstance(value, int) else micros(value)
    if column_type == "binary":
        return value if isinstance(value, bytes) else base64.b64decode(value, validate=True)
    return value


def micros(moment) -> int:
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    since = moment - wire.EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def expected(value, column_type: str):
    """A value as the writer holds it, in the same one form."""
    if column_type == "json" and value is not None:
        return wire.stable(value)
    return plain(value, column_type)


def user_columns(row: dict) -> dict:
    return {name: plain(row.get(name), column_type) for name, column_type in COLUMNS.items()}


def as_rows(found: list) -> dict:
    rows = {row["row_id"]: user_columns(row) for row in found}
    assert len(rows) == len(found), "a row id comes twice"
    return rows


def merged(deltas: list) -> dict:
    rows = wire.merge(deltas)
    return {row: {c: expected(cells.get(c), t) for c, t in COLUMNS.items()} for row, cells in rows.items()}


def presence(bitmap: bytes, numbers: dict) -> list:
    bit = lambda n: n // 8 < len(bitmap) and bitmap[n // 8] >> n % 8 & 1
    return sorted(name for name, number in numbers.items() if bit(number))


def as_log(found: list, numbers: dict) -> dict:
    log = {}
    for row in found:
        assert row["_seq"] not in log, "a seq comes twice"
        log[row["_seq"]] = {
            "op": row["_op"], "row": row["row_id"], "client": row["_client"], "hlc": row["_hlc"],
            "id": plain(row["_delta_id"], "binary").hex(), "set": presence(plain(row["_set"], "binary"), numbers),
            **user_columns(row),
        }
    return log


def sent_log(deltas: list) -> dict:
    return {d["seq"]: {
        "op": OPS[d["op"]], "row": d["row"], "client": d["client"], "hlc": d["hlc"], "id": d["id"],
        "set": sorted(d["columns"]), **{c: expected(d["columns"].get(c), t) for c, t in COLUMNS.items()},
    } for d in deltas}


def logged(found: list, numbers: dict) -> list:
    """Log rows as deltas again, for the merge."""
    names = {code: op for op, code in OPS.items()}
    return [{
        "op": names[row["op"]], "row": row["row"], "client": row["client"], "hlc": row["hlc"], "id": row["id"],
        "columns": {c: row[c] for c in row["set"]},
    } for row in as_log(found, numbers).values()]


def merge_of_log(found: list, numbers: dict) -> dict:
    rows = wire.merge(logged(found, numbers))
    return {row: {c: cells.get(c) for c in COLUMNS} for row, cells in rows.items()}


class Comparison:
    def __init__(self, report: Report, server: Server, writer: Writer):
        self.report, self.server, self.writer = report, server, writer
        self.dir = server.data_dir
        self.numbers = {c["name"]: c["number"] for c in server.schema(TABLE)["columns"]}

    def union(self, stage: str):
        read = lambda: as_rows(self.server.sql(f"SELECT * FROM {TABLE}"))
        self.report.attempt(f"{stage}: SQL is the merge of all deltas", read, merged(self.writer.arrived))

    def log(self, stage: str):
        want, table = sent_log(self.writer.arrived), f"{TABLE}__deltas"
        pyiceberg = lambda: readers.pyiceberg_rows(self.dir, table)
        self.report.attempt(f"{stage}: PyIceberg reads the log as it was pushed", lambda: as_log(pyiceberg(), self.numbers), want)
        duckdb = lambda: readers.duckdb_rows(self.dir, table)
        self.report.attempt(f"{stage}: DuckDB reads the log as it was pushed", lambda: as_log(duckdb(), self.numbers), want)
        sql = lambda: self.server.sql(f'SELECT * FROM "{TABLE}$deltas"')
        self.report.attempt(f"{stage}: SQL reads the log as it was pushed", lambda: as_log(sql(), self.numbers), want)
        self.report.attempt(f"{stage}: a merge of PyIceberg's log is the union read",
                            lambda: merge_of_log(pyiceberg(), self.numbers), merged(self.writer.arrived))

    def base(self, stage: str, want: dict):
        for name, read in (("PyIceberg", readers.pyiceberg_rows), ("DuckDB", readers.duckdb_rows)):
            self.report.attempt(f"{stage}: {name} reads the base", lambda read=read: as_rows(read(self.dir, TABLE)), want)


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


def run(server: Server, report: Report):
    server.post_schema({"table": TABLE, "columns": [{"name": n, "type": t} for n, t in COLUMNS.items()]})
    writer = Writer(server)
    comparison = Comparison(report, server, writer)
    first_edits(writer)
    comparison.union("hot")
    server.flush()
    comparison.union("flushed")
    comparison.log("flushed")
    comparison.base("flushed, not compacted", {})
    server.sql(f"CALL system.compact('{TABLE}')")
    comparison.union("compacted")
    comparison.log("compacted")
    comparison.base("compacted", merged(writer.arrived))
    settled = merged(writer.arrived)
    late_edits(writer)
    comparison.union("late and hot")
    comparison.base("late and hot: the base is as it was", settled)
    server.flush()
    server.sql(f"CALL system.compact('{TABLE}')")
    comparison.union("compacted again")
    comparison.log("compacted again")
    comparison.base("compacted again", merged(writer.arrived))
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
