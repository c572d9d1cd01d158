"""DuckDB: one file, and one process at a time that may write to it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import ClassVar

from mlops_plugin.databases.database import Database, read_rows
from mlops_plugin.databases.engines.engine import CursorValue, Engine, IndexColumn
from mlops_plugin.databases.engines.merge import Merge
from mlops_plugin.databases.engines.table_column import MICROSECONDS, TableColumn
from mlops_plugin.databases.table_name import TableName

_KINDS: Mapping[str, str] = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"), "int"),
    **dict.fromkeys(("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"), "int"),
    **dict.fromkeys(("TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMP_MS", "TIMESTAMP_S"), "timestamp"),
    **dict.fromkeys(("TIME", "TIME_NS"), "time"),
    "BOOLEAN": "bool",
    "FLOAT": "float32",
    "DOUBLE": "float64",
    "DECIMAL": "decimal",
    "VARCHAR": "text",
    "BLOB": "blob",  # it reads \\x.. in a text as bytes
    "DATE": "date",
    "TIMESTAMP WITH TIME ZONE": "timestamp_utc",
    "UUID": "uuid",
    "JSON": "json",
    "ENUM": "enum",
}
_FRACTIONS = {"TIMESTAMP_MS": 3, "TIMESTAMP_S": 0}
_LARGEST_SIGNED = 2**63 - 1
_NAME = re.compile(r"\w+")
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")

# Of this process: by database and table.
_writing: dict[tuple[str, ...], threading.Lock] = {}
_held: dict[int, threading.Lock] = {}  # by the `id` of the database whose dispatch writes


class Duckdb(Engine):
    name = "duckdb"
    parser = "duckdb"
    name_limit = 1000  # it has none of its own
    ignores_case = True
    column_types: ClassVar[Mapping[str, str]] = {
        **Engine.column_types,
        "int8": "TINYINT",
        "float32": "FLOAT",
        "float64": "DOUBLE",
        "text": "VARCHAR",
        "key_text": "VARCHAR",
        "binary": "BLOB",
        "key_binary": "BLOB",
        "time": "TIME",
        "timestamp": "TIMESTAMP",
        "timestamp_utc": "TIMESTAMP WITH TIME ZONE",
    }
    stores_nan = True
    stores_infinity = True
    stores_nul = True
    double_type = "DOUBLE"
    text_type = "VARCHAR"
    cast_types = ("BIGINT", "DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")
    # Every transaction sees the data as it was when it began; NULL comes last, in both directions.
    snapshot = ("SELECT 1",)
    session_settings = "SET TimeZone = 'UTC'"
    has_limit = True
    supports_upsert = True
    is_file = True

    def write_time(self, value: datetime) -> str:
        # As in PostgreSQL: a column without a zone drops the offset, one with a zone needs it.
        return self.as_plain(value).isoformat(" ")

    def typed_mark(self, value: CursorValue) -> tuple[str, str]:
        if isinstance(value, int) and value > _LARGEST_SIGNED:
            return "CAST(? AS UBIGINT)", str(value)
        return super().typed_mark(value)

    def row_hash(self, columns: Sequence[str], count: int) -> str | None:
        return f"CAST(HASH(CONCAT_WS('|', {', '.join(columns)})) % {count:d} AS BIGINT)"

    def alteration(self, table: str, column: str, wanted: str, view: str | None = None) -> str:
        del view
        return f"run ALTER TABLE {table} ALTER COLUMN {column} TYPE {wanted}"

    def table_columns(self, database: Database, table: TableName) -> list[TableColumn]:
        return [_column(*row) for row in read_rows(database, _COLUMNS, place(table))]

    def unique_columns(self, database: Database, table: TableName) -> Iterator[IndexColumn]:
        for index, columns in read_rows(database, _CONSTRAINTS, place(table)):
            for column in columns.split("\0"):
                yield index, column, False
        for index, expressions in read_rows(database, _INDEXES, place(table)):
            # A list as text; what is no plain name counts as an expression.
            for part in expressions.strip("[]").split(", "):
                yield index, part if _NAME.fullmatch(part) else None, False

    def text_conversions(self, database: Database, table: TableName) -> dict[str, str]:
        columns = self.table_columns(database, table)
        return {self.fold(column.name): "{}" for column in columns if column.kind == "text"}

    def key_bytes(self, value: str) -> str | None:
        return f"encode(CAST({value} AS VARCHAR))"

    def take_lock(self, database: Database, table: TableName, owner: str, wait_s: float) -> bool:
        """By a lock of this process, which is the only one that has the file open.

        Without it the second of two transactions that change a row fails.
        """
        del owner
        ((name,),) = read_rows(database, "SELECT current_database() AS name")
        database.commit()  # the transaction that writes must see what the dispatch before it has written
        lock = _writing.setdefault((name, *table.parts), threading.Lock())
        if not lock.acquire(timeout=wait_s):
            return False
        _held[id(database)] = lock
        return True

    def release_lock(self, database: Database, table: TableName) -> None:
        del table
        _held.pop(id(database)).release()

    def lock_holder(self, database: Database, table: TableName) -> str:
        del database, table
        return "another thread of this process"

    def stage_name(self, table: TableName, name: str) -> TableName:
        del table
        return TableName(name, "main", "temp")

    def merge(self, merge: Merge) -> list[str]:
        return [merge.insert_on_conflict()] if merge.is_unique else super().merge(merge)


def place(table: TableName) -> list[str | None]:
    """The parameters of a query of the catalogue."""
    return [table.catalog, table.schema, table.name]


def _column(name: str, declared: str, is_nullable: bool) -> TableColumn:
    base = declared.partition("(")[0]
    kind = "" if declared.endswith("]") else _KINDS.get(base, "")
    sizes = _DECIMAL.match(declared)
    digits, scale = map(int, sizes.groups()) if sizes else (0, 0)
    return TableColumn(
        name,
        declared,
        kind,
        digits=digits,
        scale=scale,
        fraction=_FRACTIONS.get(base, MICROSECONDS),
        refuses_null=not is_nullable,
    )


_PLACE = (
    "database_name = COALESCE(?, current_database()) AND schema_name = COALESCE(?, current_schema())"
    " AND lower(table_name) = lower(?)"
)
NAMES = f"SELECT column_name AS name FROM duckdb_columns() WHERE {_PLACE} ORDER BY column_index"
_COLUMNS = (
    "SELECT column_name AS name, data_type AS declared, is_nullable FROM duckdb_columns()"
    f" WHERE {_PLACE} ORDER BY column_index"
)
_CONSTRAINTS = (
    "SELECT CAST(constraint_index AS VARCHAR) AS name,"
    " array_to_string(constraint_column_names, chr(0)) AS cols"
    f" FROM duckdb_constraints() WHERE {_PLACE} AND constraint_type IN ('PRIMARY KEY', 'UNIQUE')"
)
_INDEXES = (
    "SELECT index_name AS name, CAST(expressions AS VARCHAR) AS cols FROM duckdb_indexes()"
    f" WHERE {_PLACE} AND is_unique"
)
