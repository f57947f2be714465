"""A table under maintenance, read by others: after every fold in every mode, every rewrite and every expiry, PyIceberg,
DuckDB, chDB and our SQL have to agree row by row. Then a foreign writer comes in between.

    maintained.py <lakesync binary>

Invariant: a reader that cannot read a mode is asked all the same, and must say so instead of giving wrong rows.
"""

import os
import random
import sys
import tempfile
import traceback

import pyarrow

import readers
import wire
from read_back import EVERY_TYPE, Comparison, Report, Table, Writer
from rows import as_rows
from server import Server

ROWS = 120
MODES = ("merge-on-read", "copy-on-write", "equality-deletes")
LAYOUTS = {"plain": ((), ()), "laid_out": (("bucket(3, count)",), ("n", "title"))}
READERS = {"PyIceberg": readers.pyiceberg_rows, "DuckDB": readers.duckdb_rows, "chDB": readers.chdb_rows}
# PyIceberg refuses a scan that needs equality deletes.
CANNOT = {("PyIceberg", "equality-deletes"): "equality deletes"}


class Life:
    """One table, edited and maintained."""

    def __init__(self, report: Report, server: Server, table: Table, mode: str):
        self.report, self.server, self.table, self.mode = report, server, table, mode
        server.post_schema(table.definition())
        self.writer = Writer(server, table)
        self.compared = Comparison(report, server, self.writer)
        self.dice = random.Random(table.name)
        self.moment = 0

    def cells(self) -> dict:
        dice = self.dice
        every = {"title": f"title {dice.randrange(9)}", "n": dice.random(), "count": dice.randrange(-5, 5), "done": dice.random() < .5,
                 "extra": {"a": [1, None]}, "raw": bytes([dice.randrange(256)])}
        return {name: None if dice.random() < .1 else value for name, value in every.items() if dice.random() < .6}

    def edit(self, rows, ops=("INSERT", "UPDATE", "DELETE")):
        """A push of edits; some are stamped before what is there already."""
        deltas = []
        for row in rows:
            op = self.dice.choice(ops)
            self.moment += 1
            at_ms = self.moment if self.dice.random() < .9 else self.dice.randrange(self.moment)
            columns = {} if op == "DELETE" else self.cells()
            # One stamp, one delta.
            client = f"c{self.moment}"
            deltas.append(self.writer.delta(op, f"r{row:04}", at_ms, columns, client))
        for delta in deltas:
            self.writer.push(delta)

    def fold(self):
        self.server.flush()
        self.call(f"compact(table => '{self.table.name}', mode => '{self.mode}')")

    def call(self, procedure: str) -> list:
        return self.server.sql(f"CALL system.{procedure}")

    def compare(self, stage: str, mode: str):
        stage = f"{self.table.name}, {stage}"
        self.compared.union(stage)
        want = self.table.merged()
        for who, read in READERS.items():
            rows = lambda read=read: as_rows(read(self.server.data_dir, self.table.name), self.table.columns)
            # A partitioned table gets position deletes all the same.
            refusal = None if self.table.partition_by else CANNOT.get((who, mode))
            if refusal is None:
                self.report.attempt(f"{stage}: {who} reads the base", rows, want)
                continue
            self.report.attempt(f"{stage}: {who} says that it cannot", lambda rows=rows: said(rows, refusal), {refusal: True})

    def run(self):
        self.edit(range(ROWS), ("INSERT",))
        self.fold()
        self.compare("folded", "copy-on-write")
        for round_ in range(3):
            self.edit(self.dice.sample(range(ROWS + 10), 12))
            self.fold()
            self.compare(f"folded again ({round_})", self.mode)
        self.call(f"rewrite_data_files(table => '{self.table.name}')")
        self.compare("rewritten", self.mode)
        self.edit(self.dice.sample(range(ROWS), 8))
        self.fold()
        self.call(f"rewrite_manifests(table => '{self.table.name}')")
        self.call(f"expire_snapshots(table => '{self.table.name}', older_than => INTERVAL '0 seconds', retain_last => 1)")
        self.compare("folded, expired", self.mode)


def said(read, refusal: str) -> dict:
    try:
        read()
    except Exception as error:
        return {refusal: refusal in str(error).lower()}
    return {refusal: False}


def foreign_writer(report: Report, server: Server):
    """PyIceberg appends to a base. Its rows have no deltas, so the next fold is refused by name; once the append is rolled
    back, the table goes on, and nothing of it is lost."""
    table = Table("visited", {"title": "string", "count": "long"})
    life = Life(report, server, table, "merge-on-read")
    writer = life.writer
    writer.push(*(writer.delta("INSERT", f"r{n}", n, {"title": "ours", "count": n}) for n in range(5)))
    life.fold()
    theirs = readers.pyiceberg_table(server.data_dir, table.name)
    ours = theirs.current_snapshot().snapshot_id
    row = {"row_id": ["guest"], "title": ["theirs"], "count": [1]}
    theirs.append(pyarrow.table(row, schema=theirs.schema().as_arrow()))
    guest = theirs.current_snapshot().snapshot_id
    writer.push(writer.delta("UPDATE", "r1", 50, {"count": 51}))
    server.flush()
    compact = lambda: life.call(f"compact(table => '{table.name}')")
    for part in (str(guest), str(ours), "append", "roll"):
        report.same(f"a fold above a foreign append is refused and says {part}", said(compact, part), {part: True})
    life.compared.union("a foreign append")
    life.call(f"rollback_to_snapshot(table => '{table.name}', snapshot_id => {ours})")
    life.compared.union("the append is rolled back")
    life.fold()
    life.compare("folded after a rollback", "merge-on-read")


def main() -> int:
    report = Report()
    wire.check_vectors()
    binary = os.path.abspath(sys.argv[1])
    # chDB reads nothing outside of the folder that it is in.
    os.chdir("/")
    with tempfile.TemporaryDirectory(prefix="lakesync-interop-") as data_dir:
        with Server(binary, data_dir) as server:
            try:
                for mode in MODES:
                    for layout, (partition_by, sort_by) in LAYOUTS.items():
                        table = Table(f"{mode.replace('-', '_')}_{layout}", EVERY_TYPE.columns, None, partition_by, sort_by)
                        Life(report, server, table, mode).run()
                foreign_writer(report, server)
                report.same("the server ends well", {"exit code": server.stop()}, {"exit code": 0})
            except Exception:
                report.failed += 1
                print(f"FAIL  the run stopped\n{traceback.format_exc()}")
            if report.failed:
                print("the server said:", "".join(server.log), sep="\n")
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
