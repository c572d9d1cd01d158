"""The columns of a table as an ODBC driver describes them, for an engine whose catalogue we cannot ask."""

from __future__ import annotations

from collections.abc import Mapping

from mlops_plugin.databases.drivers.odbc.driver_manager import OdbcColumn
from mlops_plugin.databases.engines.table_column import MICROSECONDS, UNJUDGED, TableColumn

# https://learn.microsoft.com/sql/odbc/reference/appendixes/sql-data-types, and two of SQL Server's own.
_ODBC_KINDS: Mapping[int, str] = {
    **dict.fromkeys((-6, -5, 4, 5), "int"),
    **dict.fromkeys((2, 3), "decimal"),
    **dict.fromkeys((6, 8), "float64"),
    **dict.fromkeys((-10, -9, -8, -1, 1, 12), "text"),
    **dict.fromkeys((-4, -3), "blob"),
    **dict.fromkeys((9, 91), "date"),
    **dict.fromkeys((-154, 10, 92), "time"),
    **dict.fromkeys((11, 93), "timestamp"),
    -155: "timestamp_utc",
    -11: "uuid",
    -7: "bool",
    -2: "fixed binary",
    7: "float32",
}
_FIXED_TEXTS = frozenset({"char", "nchar", "character", "bpchar"})
_WHOLE_SECONDS = {"time": len("12:34:56"), "timestamp": len("2026-01-02 12:34:56")}
_MOST_FRACTION = 9


def table_column(column: OdbcColumn) -> TableColumn:
    """What a driver says for sure: not how long a text may be, where some name a size of their own."""
    kind = _ODBC_KINDS.get(column.sql_type, UNJUDGED)
    if kind == "text" and "bool" in column.type_name:  # psqlodbc has it as a text
        kind = "bool"
    if kind == "text" and column.type_name in _FIXED_TEXTS:
        kind = "char"
    digits = f"({column.precision},{column.scale})" if kind == "decimal" else ""
    return TableColumn(
        column.name,
        (column.type_name or f"of ODBC's type {column.sql_type}") + digits,
        kind,
        characters=column.length if kind == "char" else None,
        octets=column.length if kind == "fixed binary" else None,
        digits=column.precision,
        scale=column.scale,
        fraction=_fraction(column, kind),
    )


def _fraction(column: OdbcColumn, kind: str) -> int:
    # Drivers have it in one or the other; with neither, a column with no room for digits has none.
    digits = column.scale or column.precision
    if 0 < digits <= _MOST_FRACTION:
        return digits
    return 0 if 0 < column.length <= _WHOLE_SECONDS.get(kind, 0) else MICROSECONDS
