"""Decides for each column how it is fetched over ODBC and in which type it is handed on, or refuses it.

Drivers pass some types on wrongly and say nothing (docs/databases.md lists them): such a column is
fetched in a wider type or as text that is then read strictly, and what nothing can repair is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from mlops_plugin.databases.drivers.odbc.driver_manager import BIGINT, BIT, REAL, OdbcColumn
from mlops_plugin.databases.engines.sqlite import stored_type
from mlops_plugin.databases.source_column import SourceColumn
from mlops_plugin.errors import UnsupportedType

_MOST_DIGITS = 38
# Types of SQLite's driver that arrive as stored, if the values are what the column declares.
SQLITE_INTEGERS = frozenset({-25, -7, -6, -5, 4, 5})
SQLITE_BYTES = "CASE WHEN {0} IS NOT NULL THEN hex({0}) END"  # of text, as text
_SQLITE_TEXTS = frozenset({"text", "varchar", "char", "clob", "nvarchar", "nchar"})


def delivered_type(source: SourceColumn, column: OdbcColumn) -> pa.DataType | None:
    """The type to hand on where it is not the fetched one. Raises `UnsupportedType`."""
    engine = source.engine.name
    if column.sql_type == BIGINT and column.is_unsigned:
        raise source.refusal(
            "arrives with its upper half as negative numbers", instead="CAST({0} AS DECIMAL(20, 0))"
        )
    is_exact = 0 <= column.scale <= column.precision <= _MOST_DIGITS
    if column.type_name in ("decimal", "numeric") and engine != "sqlite" and not is_exact:
        raise source.refusal(
            f"with {column.precision} digits, {column.scale} after the point, has no exact Arrow type",
            nearest="CAST({0} AS DOUBLE)" if engine == "mysql" else "CAST({0} AS DOUBLE PRECISION)",
        )
    match engine:
        case "mysql":
            return _from_mysql(source, column)
        case "postgresql":
            return _from_postgres(source, column)
        case "sqlite":
            is_text = column.type_name.partition("(")[0] in _SQLITE_TEXTS
            if column.sql_type not in SQLITE_INTEGERS and not is_text:
                raise source.refusal(
                    "is changed by SQLite's ODBC driver: use a connection of type sqlite instead"
                )
    return None


def _from_mysql(source: SourceColumn, column: OdbcColumn) -> pa.DataType | None:
    match column.type_name:
        case "bit" if column.sql_type != BIT:
            raise source.refusal("arrives as bytes", instead="CAST({0} AS DECIMAL(20, 0))")
        case "geometry":
            raise source.refusal("arrives as bytes of its engine's own", instead="ST_AsBinary({0})")
        case "decimal" if column.precision == column.scale:
            # For the sign and the zero before the point, there is room only where one more digit could be.
            if column.precision == _MOST_DIGITS:
                raise source.refusal("with no digit before the point arrives without the last one")
            return pa.decimal128(column.precision, column.scale)
        case "float":
            return pa.float32()  # what it holds; it is fetched as a double, see `fetched_type`
        # A date of zeros would end the process, a TIME beyond a day arrives as another.
        case "date":
            return pa.date32()
        case "datetime" | "timestamp":
            return pa.timestamp("us")
        case "time":
            return pa.time64("us")
    return None


def _from_postgres(source: SourceColumn, column: OdbcColumn) -> pa.DataType | None:
    match column.type_name:
        case "money":
            raise source.refusal("arrives rounded", instead="CAST({0} AS NUMERIC(22, 3))")
        case "bool":
            return pa.bool_()
        case "numeric":
            # NaN would arrive as 0.
            return pa.decimal128(column.precision, column.scale)
        case "date":
            return pa.date32()
        case "time":
            return pa.time64("us")
        case "timestamptz":
            return pa.timestamp("us", "UTC")
        case name if name.startswith("timestamp"):
            return pa.timestamp("us")
    return None


def rewritten(engine: str, query: str, columns: tuple[OdbcColumn, ...]) -> str:
    """The query, with what its driver would falsify made text by the server.

    psqlodbc reads infinity as a day of its own choice, drops the BC of a year, and changes a UUID's case.
    arrow-odbc takes 24:00:00 for midnight, and has no room for the sign of -0.5 as NUMERIC(1,1).
    """
    if engine != "postgresql" or not any(_is_falsified(column) for column in columns):
        return query
    inner = [f"c{number}" for number in range(len(columns))]
    outer = ", ".join(
        f"{f'CAST({name} AS VARCHAR(48))' if _is_falsified(column) else name} AS {_quote(column.name)}"
        for name, column in zip(inner, columns, strict=True)
    )
    return f"SELECT {outer} FROM (\n{query}\n) AS q({', '.join(inner)})"


@dataclass(frozen=True)
class Unreadable:
    """Values of a column that its driver would change, although it hands over others of that type."""

    condition: str  # SQL, true of such a value
    reason: str
    instead: str | None = None  # as in `SourceColumn.refusal`


def unreadable(source: SourceColumn, column: OdbcColumn) -> list[Unreadable]:
    """What to look for in a column before it is read."""
    name = source.engine.enclose(column.name)
    match source.engine.name:
        case "mysql" if condition := _unreadable_time(column, name):
            return [Unreadable(condition, "holds zeros for a date, or a time outside one day")]
        case "sqlite" if column.sql_type in SQLITE_INTEGERS:
            return [Unreadable(f"typeof({name}) NOT IN ('integer', 'null')", "holds what is no integer")]
        case "sqlite":
            return [
                Unreadable(f"typeof({name}) NOT IN ('text', 'null')", "holds what is no text"),
                Unreadable(
                    f"length(CAST({name} AS BLOB)) > {column.length}", f"is longer than {column.length} bytes"
                ),
                Unreadable(f"instr({name}, char(0)) > 0", "holds a NUL, where its driver ends", SQLITE_BYTES),
            ]
    return []


def _unreadable_time(column: OdbcColumn, quoted: str) -> str | None:
    # Only with fractions: others are fetched as text.
    if column.scale == 0:
        return None
    if column.type_name == "time":
        return f"{quoted} < '00:00:00' OR {quoted} >= '24:00:00'"
    if column.type_name in ("datetime", "timestamp"):
        return f"MONTH({quoted}) = 0 OR DAY({quoted}) = 0"
    return None


def _is_falsified(column: OdbcColumn) -> bool:
    if column.type_name == "numeric" and column.precision == column.scale:
        return True
    return column.type_name in ("date", "time", "uuid") or column.type_name.startswith("timestamp")


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
        # MariaDB's driver writes eight bytes where arrow-odbc makes room for the four of a float.
        is_single = column is not None and column.sql_type == REAL and engine != "mysql"
        return pa.float32() if is_single else pa.float64()
    if types.is_fixed_size_binary(announced):
        return pa.binary()  # arrow-odbc ends the process where a value is shorter
    if engine == "mysql" and types.is_temporal(announced) and column is not None and column.scale == 0:
        return pa.string()  # with fractions its driver reserves too little room, see `unreadable`
    if engine == "postgresql" and types.is_decimal(announced):
        return pa.string()
    if types.is_decimal(announced) and announced.scale == announced.precision < _MOST_DIGITS:
        return pa.decimal128(announced.precision + 1, announced.scale)
    return announced


def written_type(engine: str, conn_id: str, field: pa.Field) -> pa.DataType:
    """The type in which the driver takes a column unchanged. Raises `UnsupportedType` where there is none."""
    if engine == "mysql" and (pa.types.is_timestamp(field.type) or pa.types.is_date(field.type)):
        # MariaDB's driver forgets to free 48 bytes for each date or timestamp that it sends as one.
        return pa.string()
    if engine != "sqlite":
        # Sessions are in UTC. With a zone, arrow-odbc ends the process at a fraction before 1970.
        if pa.types.is_timestamp(field.type):
            return pa.timestamp(field.type.unit)
        # psqlodbc writes nine digits of a float: another double than it is.
        return pa.float64() if pa.types.is_floating(field.type) else field.type
    # SQLite's driver makes 128 of a byte -128, pads bytes with zeros and cuts microseconds.
    stored = stored_type(field.type)
    if pa.types.is_binary(stored):
        raise UnsupportedType(
            f"connection '{conn_id}': column '{field.name}' of type {field.type} is changed by SQLite's ODBC "
            "driver: use a connection of type sqlite instead, or make it text in the query, e.g. with hex()"
        )
    return pa.int64() if pa.types.is_integer(stored) else stored
