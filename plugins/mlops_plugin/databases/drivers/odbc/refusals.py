"""Says which column held the value that stopped an ODBC driver half-way: the driver itself does not."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa

from mlops_plugin.databases.source_column import SourceColumn
from mlops_plugin.errors import DatabaseError, UnsupportedType

_TOO_LONG = re.compile(r"too large to be written into the allocated buffer.*?Some\((\d+)\)")


def unreadable_value(
    error: DatabaseError,
    columns: Sequence[SourceColumn],
    schema: pa.Schema,
    *,
    room_bytes: int,
    text_bytes: str | None,
) -> UnsupportedType | None:
    """What to raise instead of an error that arose while rows were read; None for one of another kind.

    `text_bytes` as in `OdbcRules`.
    """
    types = pa.types
    texts = [
        column
        for column, field in zip(columns, schema, strict=True)
        if types.is_string(field.type) or types.is_binary(field.type)
    ]
    if size := _TOO_LONG.search(error.driver_says):
        if int(size[1]) <= room_bytes:
            return _too_long_a_time(columns, schema)
        where = " or ".join(f"'{column.name}' of type {column.type_name}" for column in texts)
        return UnsupportedType(
            f"connection '{error.conn_id}': column {where} holds a value of {size[1]} bytes, but at most "
            f"{room_bytes} are read; set source.max_text_bytes to {size[1]} or more"
        )
    if "invalid UTF-8" in error.driver_says and texts and text_bytes:
        return texts[0].refusal("holds text that is not UTF-8", instead=text_bytes)
    return None


def _too_long_a_time(columns: Sequence[SourceColumn], schema: pa.Schema) -> UnsupportedType | None:
    for column, field in zip(columns, schema, strict=True):
        if pa.types.is_time(field.type):
            return column.refusal("holds a time outside one day")
    return None
