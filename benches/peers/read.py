"""The queries of W1 by DuckDB and chDB over a base and its deltas.

    read.py <folder with peer-base.parquet and peer-deltas.parquet> <queries as JSON: [{"name", "sql"}, …]>

DuckDB reads the base without the touched rows, united with those completed from it: the overlay that a person would
write by hand, kept as a table. chDB holds base and deltas in a CoalescingMergeTree and reads it FINAL. Each peer is a
process of its own with two threads; a line of JSON a query: peer, query, wall and CPU seconds (medians of five runs).
"""

import json
import os
import statistics
import sys
import time

RUNS = 5
THREADS = 2


def measured(run):
    walls, cpus = [], []
    for _ in range(RUNS):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus)


def report(peer, query, run):
    run()
    wall, cpu = measured(run)
    print(json.dumps({"peer": peer, "query": query, "wall": wall, "cpu": cpu}), flush=True)


def duckdb_reads(folder, queries):
    import duckdb

    connection = duckdb.connect(config={"threads": THREADS})
    base, deltas = f"{folder}/peer-base.parquet", f"{folder}/peer-deltas.parquet"
    connection.execute(f"""
        CREATE TABLE hot AS SELECT row_id, arg_max(l_discount, _hlc) AS l_discount FROM '{deltas}' GROUP BY row_id""")
    connection.execute(f"""
        CREATE TABLE completed AS SELECT base.* REPLACE (hot.l_discount AS l_discount)
        FROM '{base}' AS base JOIN hot USING (row_id)""")
    connection.execute(f"""
        CREATE VIEW lineitem AS SELECT * FROM '{base}' AS base WHERE row_id NOT IN (SELECT row_id FROM hot)
        UNION ALL SELECT * FROM completed""")
    version = f"DuckDB {duckdb.__version__}, overlay in SQL"
    for query in queries:
        report(version, query["name"], lambda: connection.execute(query["sql"]).fetchall())


def nullable(kind):
    return kind if kind.startswith("Nullable") else f"Nullable({kind})"


def chdb_reads(folder, queries):
    import chdb
    from chdb import session

    base, deltas = f"{folder}/peer-base.parquet", f"{folder}/peer-deltas.parquet"
    chat = session.Session(f"{folder}/chdb")
    chat.query("CREATE DATABASE w ENGINE = Atomic")
    described = chat.query(f"DESCRIBE file('{base}', Parquet)", "JSONEachRow").bytes().decode()
    columns = [json.loads(line) for line in described.splitlines()]
    kinds = ", ".join(f"{c['name']} {nullable(c['type'])}" for c in columns if c["name"] != "row_id")
    chat.query(f"CREATE TABLE w.lineitem (row_id String, {kinds}) ENGINE = CoalescingMergeTree ORDER BY row_id")
    chat.query(f"INSERT INTO w.lineitem SELECT * FROM file('{base}', Parquet)")
    chat.query("OPTIMIZE TABLE w.lineitem FINAL")
    chat.query(f"INSERT INTO w.lineitem (row_id, l_discount) SELECT row_id, l_discount FROM file('{deltas}', Parquet)")
    version = f"chDB {chdb.__version__}, CoalescingMergeTree FINAL"
    for query in queries:
        sql = query["sql"].replace("from lineitem", "from w.lineitem final")
        sql += f" settings max_threads = {THREADS}"
        report(version, query["name"], lambda: chat.query(sql, "JSONCompact").bytes())


def main():
    folder, queries = sys.argv[1], json.loads(sys.argv[2])
    for reads in (duckdb_reads, chdb_reads):
        child = os.fork()
        if child == 0:
            try:
                reads(folder, queries)
            except BaseException as error:
                print(f"{reads.__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        if os.waitpid(child, 0)[1] != 0:
            sys.exit(1)


if __name__ == "__main__":
    main()
