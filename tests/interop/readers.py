"""PyIceberg, DuckDB and chDB on a directory that a server is using.

Invariant: they see only files and the catalog's SQLite database, never the server.
"""

import importlib.util
import pathlib
import sqlite3
import urllib.parse

import chdb
import duckdb
import pyarrow
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.expressions import AlwaysTrue

CATALOG = "lakesync"


def pyiceberg_rows(data_dir: str, table: str, row_filter=AlwaysTrue()) -> list:
    return pyiceberg_table(data_dir, table).scan(row_filter=row_filter).to_arrow().to_pylist()


def pyiceberg_table(data_dir: str, table: str):
    warehouse = pathlib.Path(data_dir, "warehouse").as_uri()
    catalog = SqlCatalog(CATALOG, uri=f"sqlite:///{data_dir}/catalog.db", warehouse=warehouse)
    return catalog.load_table(f"public.{table}")


def metadata_location(data_dir: str, table: str) -> str:
    """Where the catalog says the table's metadata is, read without PyIceberg."""
    with sqlite3.connect(f"file:{data_dir}/catalog.db?mode=ro", uri=True) as catalog:
        found = catalog.execute(
            "SELECT metadata_location FROM iceberg_tables"
            " WHERE catalog_name = ? AND table_namespace = 'public' AND table_name = ?", (CATALOG, table)).fetchone()
    assert found, f"the catalog has no public.{table}"
    return found[0]


def duckdb_rows(data_dir: str, table: str) -> list:
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    for name in ("avro", "iceberg"):  # iceberg needs avro; both are signed builds
        connection.execute(f"LOAD '{extension(name)}'")
    connection.execute("SET TimeZone = 'UTC'")
    location = metadata_location(data_dir, table)
    # As Arrow: DuckDB's own conversion of timestamps needs one more package.
    return connection.execute("SELECT * FROM iceberg_scan(?)", [location]).to_arrow_table().to_pylist()


def chdb_rows(data_dir: str, table: str) -> list:
    location = pathlib.Path(urllib.parse.urlparse(metadata_location(data_dir, table)).path)
    folder = location.parent.parent
    # Its strings are bytes of any kind, so they come as bytes, and the table says which of them are text.
    settings = "session_timezone = 'UTC', output_format_arrow_string_as_string = 0"
    answer = chdb.query(f"SELECT * FROM icebergLocal('{folder}') SETTINGS {settings}", "Arrow")
    rows = pyarrow.ipc.open_file(pyarrow.BufferReader(answer.bytes())).read_all().to_pylist()
    binary = {f.name for f in pyiceberg_table(data_dir, table).schema().fields if str(f.field_type) == "binary"}
    text = lambda name, value: value.decode() if isinstance(value, bytes) and name not in binary else value
    return [{name: text(name, value) for name, value in row.items()} for row in rows]


def extension(name: str) -> str:
    package = importlib.util.find_spec(f"duckdb_extension_{name}").submodule_search_locations[0]
    return str(next(pathlib.Path(package).rglob(f"{name}.duckdb_extension")))
