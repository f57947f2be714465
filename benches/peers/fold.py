"""The fold of W5 by DuckDB: the last write of each touched cell over the base, written as one Parquet file.

    fold.py <folder with peer-base.parquet and peer-deltas.parquet>

Two threads, zstd level 1, row groups of 131,072 rows, rows in the order of the base; medians of five runs as one JSON
object: peer, wall and CPU seconds, bytes written.
"""

import json
import os
import statistics
import sys
import time

import duckdb

RUNS = 5
THREADS = 2


def main():
    folder = sys.argv[1]
    base, deltas, out = (f"{folder}/peer-{name}.parquet" for name in ("base", "deltas", "folded"))
    connection = duckdb.connect(config={"threads": THREADS, "memory_limit": "512MB", "temp_directory": f"{folder}/duckdb"})
    fold = f"""
        COPY (
          WITH hot AS (SELECT row_id, arg_max(l_discount, _hlc) AS l_discount FROM '{deltas}' GROUP BY row_id)
          SELECT base.* REPLACE (CASE WHEN hot.row_id IS NULL THEN base.l_discount ELSE hot.l_discount END AS l_discount)
          FROM '{base}' AS base LEFT JOIN hot ON base.row_id = hot.row_id
        ) TO '{out}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE 131072)"""
    walls, cpus = [], []
    for _ in range(RUNS):
        if os.path.exists(out):
            os.remove(out)
        wall, cpu = time.perf_counter(), time.process_time()
        connection.execute(fold)
        # Ours is durable when it returns.
        with open(out, "rb+") as written:
            os.fsync(written.fileno())
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    print(json.dumps({
        "peer": f"DuckDB {duckdb.__version__}",
        "wall": statistics.median(walls),
        "cpu": statistics.median(cpus),
        "bytes": os.path.getsize(out),
    }))


if __name__ == "__main__":
    main()
