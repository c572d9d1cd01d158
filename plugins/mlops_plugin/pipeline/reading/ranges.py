"""Ranges of a column of numbers, dates or timestamps: where it begins and ends, and values between.

Bounds are found as whole numbers (of days for a date, of microseconds for a timestamp) and handed to the
database as values of the column's own type.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from mlops_plugin.databases.database import Database
from mlops_plugin.databases.sql_text import bare
from mlops_plugin.errors import PartitionError

_EPOCH = datetime(1970, 1, 1)
_STEP = timedelta(microseconds=1)


def require_columns(columns: Sequence[str], known: Sequence[str], path: str) -> None:
    """Raise `PartitionError` for a column that the query does not have."""
    for column in columns:
        if column not in known:
            named = ", ".join(f"'{name}'" for name in known)
            raise PartitionError(f"{path}: the query returns no column '{column}'; it returns {named}")


def ends_of(
    database: Database, query: str, column: str, arrow_type: pa.DataType, parameters: Sequence[object] = ()
) -> tuple[Any, Any]:
    """The least and the greatest value of a query's column; None and None where it has none."""
    quoted = database.engine.quote(column)
    # PostgreSQL's MIN forgets how many digits its column has; bounds are whole numbers anyway.
    before, after = ("CAST(FLOOR(", ") AS DECIMAL(38, 0))") if pa.types.is_decimal(arrow_type) else ("", "")

    def end(function: str) -> Any:
        of_all = f"{before}{function}({quoted}){after}"
        statement = f"SELECT {of_all} AS bound FROM (\n{bare(query, database.engine.name)}\n) selected"
        return database.read(statement, batch_rows=1, parameters=parameters).read_all().column(0)[0].as_py()

    # Two questions, not one: an engine answers each from an end of the index.
    return end("MIN"), end("MAX")


def as_numbers(least: Any, greatest: Any, what: str, instead: str) -> tuple[int, int]:
    """Two ends as whole numbers.

    Raises `PartitionError` for values that no ranges are made of; `instead` says what to use for them.
    """
    try:
        return _number(least), _number(greatest)
    except TypeError:
        raise PartitionError(
            f"{what} holds values like {str(least)[:50]!r}; ranges are made of numbers, dates and "
            f"timestamps; {instead}"
        ) from None


def value_of(number: int, like: Any) -> Any:
    """A whole number as a value of the type that `like` has."""
    match like:
        case datetime():
            moment = _EPOCH + number * _STEP
            return moment if like.tzinfo is None else moment.replace(tzinfo=UTC)
        case date():
            return date.fromordinal(number)
        case _:
            return number


def _number(value: Any) -> int:
    match value:
        case bool():
            raise TypeError
        case int():
            return value
        case datetime():
            return (value - (_EPOCH if value.tzinfo is None else _EPOCH.replace(tzinfo=UTC))) // _STEP
        case date():
            return value.toordinal()
        case Decimal() | float() if math.isfinite(value):
            return math.floor(value)  # whole numbers are bounds fine enough
        case _:
            raise TypeError
