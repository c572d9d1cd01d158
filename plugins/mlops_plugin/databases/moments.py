"""Dates and times that every engine has (years 1 to 9999), and times in UTC; drivers and engines ask."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.compute as pc

# Metadata of a field of times without a zone that are instants in UTC all the same: MySQL's TIMESTAMP.
INSTANTS = {b"mlops_holds": b"instants"}
_EPOCH = date(1970, 1, 1)
_FIRST_DAY = (date.min - _EPOCH).days
_AFTER_LAST_DAY = (date.max - _EPOCH).days + 1
_PER_DAY = {unit: 86_400 * per_second for unit, per_second in (("s", 1), ("ms", 10**3), ("us", 10**6))}


def holds_other_years(column: pa.Array) -> bool:
    """Whether a column of dates or times has one outside the years 1 to 9999; False for other columns."""
    types = pa.types
    if types.is_date32(column.type):
        per_day, numbers = 1, column.view(pa.int32())
    elif types.is_timestamp(column.type) and column.type.unit != "ns":  # nanoseconds end in 2262
        per_day, numbers = _PER_DAY[column.type.unit], column.view(pa.int64())
    else:
        return False
    found = pc.min_max(numbers).as_py()
    if found["min"] is None:
        return False
    return not _FIRST_DAY * per_day <= found["min"] <= found["max"] < _AFTER_LAST_DAY * per_day


def holds_instants(field: pa.Field) -> bool:
    """Whether the times of a field of a query are instants in UTC, though their type has no zone."""
    return INSTANTS.items() <= (field.metadata or {}).items()


def utc_naive(value: datetime) -> datetime:
    """An aware time as the same instant in UTC, without zone; a naive one as it is."""
    return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
