"""How each column gets past an ODBC driver unchanged; one class per engine, because each has its own driver.

Drivers pass some types on wrongly and say nothing (docs/databases.md lists them): such a column is
fetched in a wider type or as text that is then read strictly, and what nothing can repair is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from mlops_plugin.databases.drivers.odbc.driver_manager import BIGINT, REAL, OdbcColumn
from mlops_plugin.databases.source_column import SourceColumn

MOST_DIGITS = 38
_DECIMALS = (2, 3)  # ODBC's types NUMERIC and DECIMAL


@dataclass(frozen=True)
class Unreadable:
    """Values of a column that its driver would change, although it hands over others of that type."""

    condition: str  # SQL, true of such a value
    reason: str
    instead: str | None = None  # as in `SourceColumn.refusal`


class OdbcRules:
    """For a driver that changes nothing that we know of."""

    text_bytes: ClassVar[str | None] = None  # SQL for a text that is not UTF-8, with {0} for the column

    def delivered_type(self, source: SourceColumn, column: OdbcColumn) -> pa.DataType | None:
        """The type to hand on if it is not the fetched one. Raises `UnsupportedType`."""
        if column.sql_type == BIGINT and column.is_unsigned:
            raise source.refusal(
                "arrives with its upper half as negative numbers", instead="CAST({0} AS DECIMAL(20, 0))"
            )
        if self.is_inexact(column):
            if source.is_feature:
                return pa.float64()
            raise source.refusal(f"{_size(column)}, has no exact Arrow type", is_number=True)
        return None

    def is_inexact(self, column: OdbcColumn) -> bool:
        """Whether a column is a decimal that no Arrow type holds for sure, by its type alone."""
        fits = column.sql_type in _DECIMALS and 0 <= column.scale <= column.precision <= MOST_DIGITS
        return column.type_name in ("decimal", "numeric") and not fits

    def metadata(self, column: OdbcColumn) -> dict[bytes, bytes] | None:
        """What else there is to say of a column's values; see `moments.INSTANTS`."""
        del column
        return None

    def fetched_type(self, column: OdbcColumn | None, announced: pa.DataType) -> pa.DataType:
        """The type to ask arrow-odbc for, given the one it would choose; `column` is None if unknown."""
        types = pa.types
        if types.is_integer(announced):
            return pa.int64()
        if types.is_floating(announced):
            # psqlodbc announces a double in such a way that arrow-odbc takes it for a float.
            return pa.float32() if column is not None and column.sql_type == REAL else pa.float64()
        if types.is_fixed_size_binary(announced):
            return pa.binary()  # arrow-odbc ends the process if a value is shorter
        if column is not None and self.is_inexact(column):
            return pa.string()
        if types.is_decimal(announced) and announced.scale == announced.precision < MOST_DIGITS:
            return pa.decimal128(announced.precision + 1, announced.scale)
        return announced

    def written_type(self, conn_id: str, field: pa.Field) -> pa.DataType:
        """The type in which the driver takes a column unchanged. Raises `UnsupportedType` without one."""
        del conn_id
        # Sessions are in UTC. With a zone, arrow-odbc ends the process at a fraction before 1970.
        if pa.types.is_timestamp(field.type):
            return pa.timestamp(field.type.unit)
        # psqlodbc writes nine digits of a float: another double than it is.
        return pa.float64() if pa.types.is_floating(field.type) else field.type

    def rewrite(self, query: str, columns: Sequence[OdbcColumn]) -> str:
        """The query, with what its driver would falsify made text by the server."""
        del columns
        return query

    def unreadable(self, source: SourceColumn, column: OdbcColumn) -> list[Unreadable]:
        """What to look for in a column before it is read."""
        del source, column
        return []


def _size(column: OdbcColumn) -> str:
    if column.sql_type not in _DECIMALS:  # as psqlodbc announces it, see `NumericAs` in the driver
        return "without a precision"
    return f"with {column.precision} digits, {column.scale} after the decimal point"
