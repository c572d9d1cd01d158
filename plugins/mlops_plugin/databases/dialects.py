"""What differs between SQL engines in names and types; `sink`, the readers and `mlops check` ask here.

Names are always quoted, so an engine keeps the case that the configuration writes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from mlops_plugin.errors import SinkError, UnsupportedType

_PART = re.compile(r'"((?:[^"]|"")+)"|([^".]+)')


@dataclass(frozen=True, eq=False)
class Dialect:
    """One engine's way to write names and column types, and which values it can hold."""

    name: str
    types: Mapping[str, str]  # kind of value (see `kind_of`) -> column type
    opening: str = '"'
    closing: str = '"'
    name_limit: int = 128
    limit_counts_bytes: bool = False
    names_beyond_bmp: bool = True
    max_precision: int = 38  # digits of a decimal
    ignores_case: bool = False  # of column names, even quoted ones
    stores_nan: bool = False
    stores_infinity: bool = False
    stores_nul: bool = True  # a character of code 0 in a text
    first_rows: str = "ORDER BY 1 OFFSET 0 ROWS FETCH FIRST {rows} ROWS ONLY"  # ends a query
    exact_text: str = "CAST({0} AS VARCHAR(4000))"  # of a value of any type, with no digit lost
    # What, said first in a transaction, lets all its queries see the same data; none: not known.
    snapshot: tuple[str, ...] = ()

    def quote(self, identifier: str) -> str:
        """One name, quoted. Raises `SinkError` for a name that the engine would refuse or cut short."""
        length = len(identifier.encode() if self.limit_counts_bytes else identifier)
        if not identifier or "\0" in identifier:
            raise SinkError(f"{identifier!r} is no name for a table or column: it is empty or holds a NUL")
        if length > self.name_limit:
            unit = "bytes" if self.limit_counts_bytes else "characters"
            raise SinkError(
                f"the name {identifier!r} has {length} {unit}; {self.name} allows {self.name_limit}"
            )
        if not self.names_beyond_bmp and any(ord(character) > 0xFFFF for character in identifier):
            raise SinkError(f"the name {identifier!r} holds a character that {self.name} allows in no name")
        return self.enclose(identifier)

    def enclose(self, identifier: str) -> str:
        """A name that the engine gave us, quoted: a query's column may have a longer one than a table's."""
        return self.opening + identifier.replace(self.closing, self.closing * 2) + self.closing

    def quote_table(self, name: str) -> str:
        """`schema.table` as the configuration writes it, each part quoted."""
        return ".".join(self.quote(part) for part in parse_table(name))

    def fold(self, identifier: str) -> str:
        """A column name in the form in which this engine compares it with others."""
        return identifier.casefold() if self.ignores_case else identifier

    @property
    def keeps_time_zone(self) -> bool:
        """Whether a time's zone has a place in the table; else UTC is written without it."""
        return self.types["timestamp_utc"] != self.types["timestamp"]

    def column_type(self, arrow_type: pa.DataType, *, is_key: bool) -> str:
        """The column type that holds every value of an Arrow type; `is_key`: it must take an index.

        Raises `UnsupportedType` where the engine has none.
        """
        kind = kind_of(arrow_type)
        if is_key:
            kind = {"text": "key_text", "binary": "key_binary"}.get(kind, kind)
        if kind not in self.types:
            raise UnsupportedType(
                f"{self.name} has no column type for {arrow_type}; cast it in the query, e.g. to text"
            )
        if kind != "decimal":
            return self.types[kind]
        precision, scale = digits_of(arrow_type)
        if not 0 <= scale <= precision <= self.max_precision:
            raise UnsupportedType(
                f"{self.name} has no decimal of {precision} digits, {scale} of them after the point "
                f"(at most {self.max_precision}); cast it in the query, e.g. to text"
            )
        return self.types[kind].format(precision=precision, scale=scale)


def parse_table(name: str) -> tuple[str, ...]:
    """The parts of `table`, `schema.table` or `catalog.schema.table`, without quotes.

    A part with a dot or a quote is written in double quotes, a quote inside them twice. Raises
    `SinkError` for anything else.
    """
    parts: list[str] = []
    position = 0
    while match := _PART.match(name, position):
        quoted, plain = match.groups()
        parts.append(quoted.replace('""', '"') if quoted else plain)
        position = match.end()
        if position == len(name) or name[position] != ".":
            break
        position += 1
    if position != len(name) or name.endswith(".") or not 1 <= len(parts) <= 3 or "\0" in name:
        raise SinkError(
            f"{name!r} is no table name; write table or schema.table, and a part that holds a dot or "
            'a quote in double quotes, e.g. sales."2026.predictions"'
        )
    if any(part != part.strip() for part in parts):
        raise SinkError(f"the table name {name!r} begins or ends with a space; remove it")
    return tuple(parts)


def dialect_named(name: str) -> Dialect:
    """The dialect of a connection type or of what an ODBC driver calls its engine; else `ANSI`."""
    known = {
        "mysql": MYSQL,
        "mariadb": MYSQL,
        "postgres": POSTGRESQL,
        "postgresql": POSTGRESQL,
        "sqlite": SQLITE,
        "sqlite3": SQLITE,
        "mssql": MSSQL,
        "microsoft sql server": MSSQL,
        "ansi": ANSI,
    }
    return known.get(name.strip().lower(), ANSI)


def kind_of(arrow_type: pa.DataType) -> str:
    """Which of the kinds of value in `Dialect.types` an Arrow type is; '' for none.

    Unsigned integers take the next wider signed type: not every engine has them, and ODBC drivers
    read their upper half as negative numbers.
    """
    types = pa.types
    if types.is_dictionary(arrow_type):
        return kind_of(arrow_type.value_type)
    if isinstance(arrow_type, pa.UuidType):
        return "text"
    if types.is_unsigned_integer(arrow_type):
        return {8: "int16", 16: "int32", 32: "int64", 64: "decimal"}[arrow_type.bit_width]
    if types.is_integer(arrow_type):
        return f"int{arrow_type.bit_width}"
    if types.is_timestamp(arrow_type):
        return "timestamp" if arrow_type.tz is None else "timestamp_utc"
    tests = {
        "bool": types.is_boolean,
        "float32": lambda value: types.is_float16(value) or types.is_float32(value),
        "float64": types.is_float64,
        "decimal": types.is_decimal,
        "text": lambda v: types.is_string(v) or types.is_large_string(v) or types.is_string_view(v),
        "binary": lambda v: types.is_binary(v) or types.is_large_binary(v) or types.is_fixed_size_binary(v),
        "date": types.is_date,
        "time": types.is_time,
    }
    return next((kind for kind, test in tests.items() if test(arrow_type)), "")


def digits_of(arrow_type: pa.DataType) -> tuple[int, int]:
    """Digits of a decimal, and how many of them stand after the point."""
    if pa.types.is_dictionary(arrow_type):
        return digits_of(arrow_type.value_type)
    if pa.types.is_uint64(arrow_type):
        return 20, 0
    return arrow_type.precision, arrow_type.scale


_STANDARD = {
    "int8": "SMALLINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "bool": "BOOLEAN",
    "float32": "REAL",
    "float64": "DOUBLE PRECISION",
    "decimal": "DECIMAL({precision},{scale})",
    "text": "VARCHAR(4000)",
    "key_text": "VARCHAR(255)",
    "binary": "VARBINARY(4000)",
    "key_binary": "VARBINARY(255)",
    "date": "DATE",
    "time": "TIME(6)",
    "timestamp": "TIMESTAMP(6)",
    "timestamp_utc": "TIMESTAMP(6)",
}

# What SQL itself defines, for an engine behind ODBC that we do not know.
ANSI = Dialect(name="ansi", types=_STANDARD)

MYSQL = Dialect(
    name="mysql",  # and MariaDB
    opening="`",
    closing="`",
    name_limit=64,
    names_beyond_bmp=False,
    max_precision=65,
    ignores_case=True,
    first_rows="LIMIT {rows}",
    exact_text="CAST({0} AS CHAR)",
    snapshot=(
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT",
    ),
    types=_STANDARD
    | {
        "int8": "TINYINT",
        # Its text protocol shows a FLOAT with six digits only; a DOUBLE holds every float32.
        "float32": "DOUBLE",
        "float64": "DOUBLE",
        "text": "TEXT CHARACTER SET utf8mb4",
        # An index takes no TEXT, and the default collation takes 'a' and 'A' for the same key.
        "key_text": "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        "binary": "LONGBLOB",
        # TIMESTAMP ends in 2038 and follows the session's time zone; UTC in a DATETIME does not.
        "timestamp": "DATETIME(6)",
        "timestamp_utc": "DATETIME(6)",
    },
)

POSTGRESQL = Dialect(
    name="postgresql",
    name_limit=63,  # a longer name is cut without an error
    limit_counts_bytes=True,
    max_precision=1000,
    stores_nan=True,
    stores_infinity=True,
    stores_nul=False,  # and over ODBC the rest of the text would be lost
    first_rows="LIMIT {rows}",
    exact_text="CAST({0} AS TEXT)",
    snapshot=("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",),
    types=_STANDARD
    | {
        "decimal": "NUMERIC({precision},{scale})",
        "text": "TEXT",
        "key_text": "TEXT",
        "binary": "BYTEA",
        "key_binary": "BYTEA",
        "timestamp_utc": "TIMESTAMP(6) WITH TIME ZONE",
    },
)

SQLITE = Dialect(
    name="sqlite",
    name_limit=1000,  # it has none of its own
    max_precision=1000,
    ignores_case=True,
    stores_infinity=True,  # but makes NULL of a NaN
    first_rows="LIMIT {rows}",
    # As TEXT, a real would have 15 digits; even with 17, some come out as a neighbour.
    exact_text="CASE typeof({0}) WHEN 'real' THEN printf('%!.20g', {0}) WHEN 'blob' THEN hex({0}) "
    "ELSE CAST({0} AS TEXT) END",
    types=_STANDARD
    | {
        "decimal": "TEXT",  # a NUMERIC would become a double and lose digits
        "text": "TEXT",
        "key_text": "TEXT",
        "binary": "BLOB",
        "key_binary": "BLOB",
        "timestamp": "TIMESTAMP",
        "timestamp_utc": "TIMESTAMP",
    },
)

MSSQL = Dialect(
    name="mssql",
    opening="[",
    closing="]",
    ignores_case=True,
    exact_text="CAST({0} AS NVARCHAR(4000))",
    types=_STANDARD
    | {
        "bool": "BIT",
        "float64": "FLOAT(53)",
        "text": "NVARCHAR(MAX)",
        "key_text": "NVARCHAR(255) COLLATE Latin1_General_100_BIN2",
        "binary": "VARBINARY(MAX)",
        "timestamp": "DATETIME2(6)",
        "timestamp_utc": "DATETIMEOFFSET(6)",
    },
)
