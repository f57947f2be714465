"""Rows of any reader in one plain form, so that they can be compared.

Invariant: one value has one form, whoever read it: str, float, int, bool, Decimal, date, microseconds, bytes, None.
"""

import base64
from datetime import date, datetime
from decimal import Decimal

import wire

OPS = {1: "INSERT", 2: "UPDATE", 3: "DELETE"}


def plain(value, column_type: str):
    """A value as PyIceberg, DuckDB or NDJSON give it."""
    if value is None:
        return None
    if column_type == "number":
        return float(value)
    if column_type == "long":
        return int(value)
    if column_type.startswith("decimal"):
        return Decimal(value)
    if column_type == "date":
        return value if isinstance(value, date) else date.fromisoformat(value)
    if column_type == "timestamp":
        return value if isinstance(value, int) else micros(value)
    if column_type == "binary":
        return value if isinstance(value, bytes) else base64.b64decode(value, validate=True)
    return value


def expected(value, column_type: str):
    """A value as it was pushed, or came out of a merge of what was read."""
    if column_type == "json" and value is not None and not isinstance(value, str):
        return wire.stable(value)
    return plain(value, column_type)


def micros(moment) -> int:
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    since = moment - wire.EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def user_columns(row: dict, columns: dict) -> dict:
    return {name: plain(row.get(name), column_type) for name, column_type in columns.items()}


def as_rows(found: list, columns: dict) -> dict:
    """Rows of a table or a base, by row id."""
    rows = {row["row_id"]: user_columns(row, columns) for row in found}
    assert len(rows) == len(found), "a row id comes twice"
    return rows


def as_log(found: list, columns: dict, numbers: dict) -> dict:
    """Rows of a log, by seq."""
    log = {}
    for row in found:
        seq, delta_id = plain(row["_seq"], "long"), row["_delta_id"]
        assert seq not in log, "a seq comes twice"
        log[seq] = {
            **user_columns(row, columns), "set": presence(plain(row["_set"], "binary"), numbers),
            "op": OPS[row["_op"]], "row": row["row_id"], "client": row["_client"], "hlc": plain(row["_hlc"], "long"),
            "id": delta_id if isinstance(delta_id, str) else delta_id.hex(),
        }
    return log


def presence(bitmap: bytes, numbers: dict) -> list:
    """The names of the columns whose bits are set; bit n % 8 of byte n // 8 is column number n."""
    bit = lambda n: n // 8 < len(bitmap) and bitmap[n // 8] >> n % 8 & 1
    return sorted(name for name, number in numbers.items() if bit(number))


def deltas_of_log(found: list, columns: dict, numbers: dict) -> list:
    """Rows of a log as deltas again, for the merge."""
    log = as_log(found, columns, numbers).values()
    return [{**row, "columns": {name: row[name] for name in row["set"]}} for row in log]
