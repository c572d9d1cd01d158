"""The columns of a user's table as its engine declares them; `databases.column_fit` asks what they hold.

One query of the engine's catalogue or, of an engine that is not known, what its ODBC driver says. Types that
hold the same values in the same way share a kind, so that the rules about them stand once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_plugin.databases.database import Database, read_rows
from mlops_plugin.databases.dialects import parse_table

if TYPE_CHECKING:
    from mlops_plugin.databases.drivers.odbc.driver_manager import OdbcColumn

UNJUDGED = "unjudged"  # a kind: of a type for which ODBC has no word
_MICROSECONDS = 6
_MEMBER = re.compile(r"'((?:[^']|'')*)'")


@dataclass(frozen=True)
class TableColumn:
    """`declared` is the engine's own spelling; the rest is what of it decides whether values change."""

    name: str
    declared: str
    kind: str  # a value of one of the `_..._KINDS` below, for SQLite an affinity; '' for any other
    characters: int | None = None  # at most, of a text
    octets: int | None = None  # at most, of bytes or of a text in UTF-8
    digits: int = 0
    scale: int = 0  # digits after the point
    fraction: int = _MICROSECONDS  # digits of a second after the point
    members: tuple[str, ...] = ()  # of an enum

    @property
    def shown(self) -> str:
        """For messages: FLOAT, VARCHAR(3)."""
        return self.declared if self.members else self.declared.upper()


def table_columns(database: Database, table: str) -> dict[str, TableColumn]:
    """By folded name; `table` as the configuration writes it."""
    dialect = database.dialect
    parts = parse_table(table)
    schema = parts[-2] if len(parts) > 1 else None
    match dialect.name:
        case "mysql":
            found = [_of_mysql(*row) for row in read_rows(database, _MYSQL, [schema, parts[-1]])]
        case "postgresql":
            found = [
                _of_postgresql(*row) for row in read_rows(database, _POSTGRESQL, [dialect.quote_table(table)])
            ]
        case "sqlite":
            rows = read_rows(database, _SQLITE, [parts[-1], schema or "main"])
            found = [
                TableColumn(name, declared or "without a type", affinity(declared)) for name, declared in rows
            ]
        case _:
            found = [_of_driver(column) for column in database.driver_columns(dialect.quote_table(table))]
    return {dialect.fold(column.name): column for column in found}


def affinity(declared: str | None) -> str:
    """How SQLite converts what is put into a column: integer, text, none, real or numeric."""
    # https://www.sqlite.org/datatype3.html#determination_of_column_affinity
    name = (declared or "").upper()
    if "INT" in name:
        return "integer"
    if any(word in name for word in ("CHAR", "CLOB", "TEXT")):
        return "text"
    if "BLOB" in name or not name:
        return "none"
    return "real" if any(word in name for word in ("REAL", "FLOA", "DOUB")) else "numeric"


# Numbers are read as text: drivers differ in the type that they give to the catalogue's own.
_MYSQL = """
SELECT c.column_name AS name, c.column_type AS declared, c.data_type AS kind,
       CAST(c.character_maximum_length AS CHAR) AS characters,
       CAST(c.character_octet_length AS CHAR) AS octets,
       CAST(c.numeric_precision AS CHAR) AS digits, CAST(c.numeric_scale AS CHAR) AS scale,
       CAST(c.datetime_precision AS CHAR) AS fraction
FROM information_schema.columns c
WHERE c.table_schema = COALESCE(?, DATABASE()) AND c.table_name = ?
"""
_MYSQL_KINDS: Mapping[str, str] = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint"), "int"),
    **dict.fromkeys(("tinytext", "text", "mediumtext", "longtext"), "text"),
    **dict.fromkeys(("varbinary", "tinyblob", "blob", "mediumblob", "longblob"), "binary"),
    **dict.fromkeys(("datetime", "timestamp"), "timestamp"),
    **{kind: kind for kind in ("decimal", "bit", "year", "date", "time", "enum", "uuid", "varchar", "char")},
    "float": "float32",
    "double": "float64",
    "binary": "fixed binary",
}


def _of_mysql(name: str, declared: str, data_type: str, *sizes: str | None) -> TableColumn:
    characters, octets, digits, scale, fraction = (None if size is None else int(size) for size in sizes)
    kind = _MYSQL_KINDS.get(data_type, "")
    if kind in ("float32", "float64") and scale is not None:
        kind = ""  # FLOAT(7,4) and DOUBLE(7,4) round to decimal places
    members = _MEMBER.findall(declared) if kind == "enum" else []
    return TableColumn(
        name,
        declared,
        kind,
        characters=characters if kind in ("char", "varchar") else None,
        octets=octets if kind in ("text", "binary", "fixed binary") else None,
        digits=digits or 0,
        scale=scale or 0,
        fraction=_MICROSECONDS if fraction is None else fraction,
        members=tuple(member.replace("''", "'") for member in members),
    )


# A domain counts as the type that it is made of.
_POSTGRESQL = """
SELECT CAST(a.attname AS text) AS name, format_type(a.atttypid, a.atttypmod) AS declared,
       CAST(b.typname AS text) AS kind, CAST(b.typtype AS text) AS of_users,
       CAST(CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END AS text) AS modifier
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
WHERE a.attrelid = to_regclass(?) AND a.attnum > 0 AND NOT a.attisdropped
"""
_POSTGRESQL_KINDS: Mapping[str, str] = {
    **dict.fromkeys(("int2", "int4", "int8"), "int"),
    **dict.fromkeys(("text", "citext"), "text"),
    **{kind: kind for kind in ("bool", "date", "time", "timestamp", "uuid", "varchar", "json")},
    "timestamptz": "timestamp_utc",
    "numeric": "decimal",
    "float4": "float32",
    "float8": "float64",
    "bpchar": "char",
    "bytea": "binary",
}
_ENUM = "e"
_HEADER = 4  # what type modifiers of texts and numbers count in
_MOST_DIGITS = 1000


def _of_postgresql(name: str, declared: str, type_name: str, of_users: str, modifier: str) -> TableColumn:
    kind = "enum" if of_users == _ENUM else _POSTGRESQL_KINDS.get(type_name, "")
    limit = int(modifier)
    is_limited = limit >= 0
    # make_numeric_typmod in PostgreSQL's src/backend/utils/adt/numeric.c
    digits, scale = (limit - _HEADER) >> 16 & 0xFFFF, (limit - _HEADER) & 0x7FF
    if kind == "decimal" and is_limited and scale > digits:
        kind = ""  # a negative scale, or one beyond the digits
    return TableColumn(
        name,
        declared,
        kind,
        characters=limit - _HEADER if is_limited and kind in ("char", "varchar") else None,
        digits=digits if is_limited else _MOST_DIGITS,
        scale=scale if is_limited else _MOST_DIGITS,
        fraction=limit if is_limited and kind in ("time", "timestamp", "timestamp_utc") else _MICROSECONDS,
    )


_SQLITE = "SELECT name, type AS declared FROM pragma_table_info(?, ?)"


# https://learn.microsoft.com/sql/odbc/reference/appendixes/sql-data-types, and two of SQL Server's own.
_ODBC_KINDS: Mapping[int, str] = {
    **dict.fromkeys((-6, -5, 4, 5), "int"),
    **dict.fromkeys((2, 3), "decimal"),
    **dict.fromkeys((6, 8), "float64"),
    **dict.fromkeys((-10, -9, -8, -1, 1, 12), "text"),
    **dict.fromkeys((-4, -3), "binary"),
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


def _of_driver(column: OdbcColumn) -> TableColumn:
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
    said = column.scale or column.precision
    if 0 < said <= _MOST_FRACTION:
        return said
    return 0 if 0 < column.length <= _WHOLE_SECONDS.get(kind, 0) else _MICROSECONDS
