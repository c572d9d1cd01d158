"""What psqlodbc changes on the way."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from mlops_plugin.databases.drivers.odbc.driver_manager import OdbcColumn
from mlops_plugin.databases.drivers.odbc.rules import OdbcRules
from mlops_plugin.databases.engines.registry import POSTGRESQL
from mlops_plugin.databases.source_column import SourceColumn


class PostgresqlRules(OdbcRules):
    def delivered_type(self, source: SourceColumn, column: OdbcColumn) -> pa.DataType | None:
        if found := super().delivered_type(source, column):
            return found
        match column.type_name:
            case "money":
                raise source.refusal("arrives rounded", instead="CAST({0} AS NUMERIC(22, 3))")
            case "bool":
                return pa.bool_()
            case "numeric":
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

    def fetched_type(self, column: OdbcColumn | None, announced: pa.DataType) -> pa.DataType:
        if pa.types.is_decimal(announced):
            return pa.string()  # NaN would arrive as 0
        return super().fetched_type(column, announced)

    def rewrite(self, query: str, columns: Sequence[OdbcColumn]) -> str:
        """As text: infinity, which psqlodbc turns into some day; a year's BC, which it drops.

        A UUID, whose case it changes; 24:00:00, which arrow-odbc takes for midnight; -0.5 as NUMERIC(1,1),
        for whose sign it has no room.
        """
        if not any(map(_is_falsified, columns)):
            return query
        inner = [f"c{number}" for number in range(len(columns))]
        outer = ", ".join(
            f"{f'CAST({name} AS VARCHAR(48))' if _is_falsified(column) else name} "
            f"AS {POSTGRESQL.enclose(column.name)}"
            for name, column in zip(inner, columns, strict=True)
        )
        return f"SELECT {outer} FROM (\n{query}\n) AS q({', '.join(inner)})"


def _is_falsified(column: OdbcColumn) -> bool:
    if column.type_name == "numeric" and column.precision == column.scale:
        return True
    return column.type_name in ("date", "time", "uuid") or column.type_name.startswith("timestamp")
