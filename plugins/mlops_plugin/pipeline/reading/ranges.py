"""Ranges of a column of numbers, dates or timestamps: its least and greatest value, and values between.

Bounds are computed as integers (days for a date, microseconds for a timestamp) and passed to the database as
values of the column's own type.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from mlops_plugin.databases.database import Database
from mlops_plugin.databases.selection import as_subquery
from mlops_plugin.errors import PartitionError

_EPOCH = datetime(1970, 1, 1)
_STEP = timedelta(microseconds=1)
_INT64 = range(-(2**63), 2**63)


def require_columns(columns: Sequence[str], known: Sequence[str], path: str) -> None:
    """Raise `PartitionError` if the query lacks a column."""
    for column in columns:
        if column not in known:
            named = ", ".join(f"'{name}'" for name in known)
            raise PartitionError(f"{path}: the query returns no column '{column}'; it returns {named}")


def ends_of(
    database: Database, query: str, column: str, arrow_type: pa.DataType, parameters: Sequence[object] = ()
) -> tuple[Any, Any]:
    """The least and the greatest value of a query's column; None and None if it has no value."""
    quoted = database.engine.quote(column)
    # PostgreSQL's MIN loses the column's precision; bounds are integers anyway.
    before, after = ("CAST(FLOOR(", ") AS DECIMAL(38, 0))") if pa.types.is_decimal(arrow_type) else ("", "")

    def end(function: str) -> Any:
        of_all = f"{before}{function}({quoted}){after}"
        statement = f"SELECT {of_all} AS bound FROM {as_subquery(query, database.engine.name)}"
        return database.read(statement, batch_rows=1, parameters=parameters).read_all().column(0)[0].as_py()

    # Two queries, not one: an engine answers each from one end of the index.
    return end("MIN"), end("MAX")


def as_numbers(least: Any, greatest: Any, what: str, instead: str) -> tuple[int, int]:
    """Two ends as integers.

    Raises `PartitionError` for values that have no ranges; `instead` is the advice in its message.
    """
    try:
        return _number(least), _number(greatest)
    except TypeError:
        raise PartitionError(
            f"{what} holds values such as {str(least)[:50]!r}; ranges need numbers, dates or timestamps; "
            f"{instead}"
        ) from None


def value_of(number: int, like: Any) -> Any:
    """An integer as a value of the type of `like`."""
    match like:
        case datetime():
            moment = _EPOCH + number * _STEP
            return moment if like.tzinfo is None else moment.replace(tzinfo=UTC)
        case date():
            return date.fromordinal(number)
        case float() if number not in _INT64:
            return float(number)  # SQLite knows no integers of more bits
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
            return math.floor(value)  # integers are precise enough for bounds
        case _:
            raise TypeError
