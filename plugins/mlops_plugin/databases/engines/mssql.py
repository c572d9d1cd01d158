"""SQL Server. Experimental: none of this SQL has met a server of its engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import ClassVar

from mlops_plugin.databases.engines.engine import Engine
from mlops_plugin.databases.engines.merge import Merge
from mlops_plugin.databases.table_name import TableName


class Mssql(Engine):
    name = "mssql"
    parser = "tsql"
    is_experimental = True
    opening = "["
    closing = "]"
    ignores_case = True
    column_types: ClassVar[Mapping[str, str]] = {
        **Engine.column_types,
        "bool": "BIT",
        "float64": "FLOAT(53)",
        "text": "NVARCHAR(MAX)",
        "key_text": "NVARCHAR(255) COLLATE Latin1_General_100_BIN2",
        "binary": "VARBINARY(MAX)",
        "timestamp": "DATETIME2(6)",
        "timestamp_utc": "DATETIMEOFFSET(6)",
    }
    cast_types = ("BIGINT", "DATE", "DATETIME2(6)", "DATETIMEOFFSET(6)")
    text_type = "NVARCHAR(4000)"
    orders_subqueries = False
    null_order = "least"
    like_wildcards = "%_["
    supports_upsert = True
    default_port = 1433

    def write_time(self, value: datetime) -> str:
        # With the blank, a DATETIME's day and month would follow the session's language.
        return super().write_time(value).replace(" ", "T")

    def row_hash(self, columns: Sequence[str], count: int) -> str | None:
        return f"ABS(CAST(CHECKSUM({', '.join(columns)}) AS BIGINT)) % {count:d}"

    def alteration(self, table: str, column: str, wanted: str, view: str | None = None) -> str:
        del view
        return f"run ALTER TABLE {table} ALTER COLUMN {column} {wanted}"

    def begin_write(self, table: str) -> list[str]:
        return [f"DELETE FROM {table} WITH (TABLOCKX) WHERE 1 = 0"]

    def key_bytes(self, value: str) -> str | None:
        return f"CAST({value} AS VARBINARY(8000))"

    def stage_name(self, table: TableName, name: str) -> TableName:
        del table
        return TableName(f"#{name}")

    def create_stage(self, merge: Merge) -> str:
        return f"SELECT {', '.join(merge.columns)} INTO {merge.stage} FROM {merge.table} WHERE 1 = 0"
