"""Decides for each column how it is fetched over ODBC and in which type it is handed on, or refuses it.

Drivers pass some types on wrongly and say nothing (docs/databases.md lists them): such a column is
fetched in a wider type or as text that is then read strictly, and what nothing can repair is refused.
"""

from __future__ import annotations

from typing import NoReturn

import pyarrow as pa

from mlops_plugin.databases.odbc_driver_manager import BIGINT, BIT, REAL, OdbcColumn
from mlops_plugin.errors import UnsupportedType

_MOST_DIGITS = 38
# Types of SQLite's driver that arrive as stored, if the values are what the column declares.
SQLITE_INTEGERS = frozenset({-25, -7, -6, -5, 4, 5})
_SQLITE_TEXTS = frozenset({"text", "varchar", "char", "clob", "nvarchar", "nchar"})


def delivered_type(conn_id: str, engine: str, column: OdbcColumn) -> pa.DataType | None:
    """The type to hand on where it is not the fetched one. Raises `UnsupportedType`.

    `engine` is the dialect's name.
    """
    refuse = _Refusal(conn_id, column)
    if column.sql_type == BIGINT and column.is_unsigned:
        refuse("CAST({0} AS DECIMAL(20, 0))", "whose upper half arrives as negative numbers")
    is_exact = 0 <= column.scale <= column.precision <= _MOST_DIGITS
    if column.type_name in ("decimal", "numeric") and engine != "sqlite" and not is_exact:
        refuse(
            "CAST({0} AS DECIMAL(38, 10))", f"with {column.precision} digits, {column.scale} after the point"
        )
    match engine:
        case "mysql":
            return _from_mysql(refuse, column)
        case "postgresql":
            return _from_postgres(refuse, column)
        case "sqlite":
            is_text = column.type_name.partition("(")[0] in _SQLITE_TEXTS
            if column.sql_type not in SQLITE_INTEGERS and not is_text:
                refuse(None, "which SQLite's ODBC driver changes; use a connection of type sqlite instead")
    return None


def _from_mysql(refuse: _Refusal, column: OdbcColumn) -> pa.DataType | None:
    match column.type_name:
        case "bit" if column.sql_type != BIT:
            refuse("CAST({0} AS SIGNED)", "which arrives as bytes")
        case "geometry":
            refuse("ST_AsText({0})", "which arrives as bytes")
        # A date of zeros would end the process, a TIME beyond a day arrives as another.
        case "date":
            return pa.date32()
        case "datetime" | "timestamp":
            return pa.timestamp("us")
        case "time":
            return pa.time64("us")
    return None


def _from_postgres(refuse: _Refusal, column: OdbcColumn) -> pa.DataType | None:
    match column.type_name:
        case "money":
            refuse("CAST({0} AS NUMERIC(18, 2))", "which arrives rounded")
        case "bool":
            return pa.bool_()
        case "numeric":
            # NaN would arrive as 0.
            return pa.decimal128(column.precision, column.scale)
        case "date":
            return pa.date32()
        case "timestamptz":
            return pa.timestamp("us", "UTC")
        case name if name.startswith("timestamp"):
            return pa.timestamp("us")
    return None


def rewritten(engine: str, query: str, columns: tuple[OdbcColumn, ...]) -> str:
    """The query, with what its driver would falsify made text by the server.

    psqlodbc reads infinity as a day of its own choice, drops the BC of a year, and changes a UUID's case.
    """
    if engine != "postgresql" or not any(_is_falsified(column) for column in columns):
        return query
    inner = [f"c{number}" for number in range(len(columns))]
    outer = ", ".join(
        f"{f'CAST({name} AS VARCHAR(40))' if _is_falsified(column) else name} AS {_quote(column.name)}"
        for name, column in zip(inner, columns, strict=True)
    )
    return f"SELECT {outer} FROM (\n{query}\n) AS q({', '.join(inner)})"


def unreadable_time(column: OdbcColumn, quoted: str) -> str | None:
    """The SQL condition under which MariaDB's driver could not fetch a value of a column with fractions."""
    if column.scale == 0:
        return None
    if column.type_name == "time":
        return f"{quoted} < '00:00:00' OR {quoted} >= '24:00:00'"
    if column.type_name in ("datetime", "timestamp"):
        return f"MONTH({quoted}) = 0 OR DAY({quoted}) = 0"
    return None


def _is_falsified(column: OdbcColumn) -> bool:
    return column.type_name in ("date", "uuid") or column.type_name.startswith("timestamp")


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def fetched_type(engine: str, column: OdbcColumn | None, announced: pa.DataType) -> pa.DataType:
    """The type to ask arrow-odbc for, given the one it would choose; `column` is None where unknown."""
    types = pa.types
    if types.is_integer(announced):
        if engine == "mysql" and column is None and announced == pa.int64():
            return pa.decimal128(20, 0)  # it may be unsigned: too large a value is then noticed
        return pa.int64()
    if types.is_boolean(announced) and engine in ("mysql", "sqlite"):
        return pa.int64()  # MariaDB's driver answers NULL for a BIT(1) fetched as a bit
    if types.is_floating(announced):
        # psqlodbc announces a double in such a way that arrow-odbc takes it for a float.
        return pa.float32() if column is not None and column.sql_type == REAL else pa.float64()
    if types.is_fixed_size_binary(announced):
        return pa.binary()  # arrow-odbc ends the process where a value is shorter
    if engine == "mysql" and types.is_temporal(announced) and column is not None and column.scale == 0:
        return pa.string()  # with fractions its driver reserves too little room, see `unreadable_time`
    if engine == "postgresql" and types.is_decimal(announced):
        return pa.string()
    return announced


class _Refusal:
    def __init__(self, conn_id: str, column: OdbcColumn) -> None:
        self._conn_id = conn_id
        self._column = column

    def __call__(self, instead: str | None, reason: str) -> NoReturn:
        name = self._column.name
        unsigned = " unsigned" if self._column.is_unsigned and self._column.sql_type == BIGINT else ""
        advice = f"; write {instead.format(name)} AS {name} in the query" if instead else ""
        raise UnsupportedType(
            f"connection '{self._conn_id}': column '{name}' is of type {self._column.type_name}{unsigned}, "
            f"{reason}{advice}"
        )
