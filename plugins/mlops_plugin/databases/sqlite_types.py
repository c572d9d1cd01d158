"""SQLite's few types, and what other types become there; both ways into SQLite ask here."""

from __future__ import annotations

import pyarrow as pa


def stored_type(arrow_type: pa.DataType) -> pa.DataType:
    """The type in which SQLite holds the values of another one: it has no booleans, times or decimals."""
    types = pa.types
    if types.is_boolean(arrow_type):
        return pa.int64()
    if types.is_temporal(arrow_type) or types.is_decimal(arrow_type):
        return pa.string()
    if types.is_dictionary(arrow_type):
        return stored_type(arrow_type.value_type)
    return arrow_type


def declared_type(declared: str) -> pa.DataType:
    """What to expect in a column without a value, by the type that its table declares."""
    # https://www.sqlite.org/datatype3.html#determination_of_columndeclared_type
    name = declared.upper()
    if "INT" in name:
        return pa.int64()
    if any(word in name for word in ("CHAR", "CLOB", "TEXT", "DATE", "TIME")):
        return pa.string()
    if "BLOB" in name:
        return pa.binary()
    if any(word in name for word in ("REAL", "FLOA", "DOUB", "NUM", "DEC")):
        return pa.float64()
    return pa.int64()
