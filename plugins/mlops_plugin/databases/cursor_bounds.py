"""Conditions on a cursor column: the rows from a value on, and those of an interval.

Values travel as text and are cast to the column's type by the engine itself: a driver that takes every
parameter for text would otherwise compare a large integer as a float, or a time without its microseconds.
"""

from __future__ import annotations

import contextlib
from datetime import date, datetime, timedelta

from mlops_plugin.databases.dialects import Dialect
from mlops_plugin.databases.drivers.row_stream import utc_naive
from mlops_plugin.databases.selection import Condition

Value = int | date | datetime

_LARGEST_SIGNED = 2**63 - 1
# Dialect -> type to cast an integer, a date, a time and a time with zone to.
_CASTS = {
    "mysql": ("SIGNED", "DATE", "DATETIME(6)", "DATETIME(6)"),
    "postgresql": ("BIGINT", "DATE", "TIMESTAMP(6)", "TIMESTAMP(6) WITH TIME ZONE"),
    "mssql": ("BIGINT", "DATE", "DATETIME2(6)", "DATETIMEOFFSET(6)"),
}
_STANDARD = ("BIGINT", "DATE", "TIMESTAMP(6)", "TIMESTAMP(6) WITH TIME ZONE")
# SQLite keeps times as text of many forms, and its functions know milliseconds only.
_SQLITE_FORM = "%Y-%m-%d %H:%M:%f"
_SQLITE_DATE = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*"
_SQLITE_STEP = timedelta(milliseconds=1)


def from_on(dialect: Dialect, column: str, value: Value) -> Condition:
    """The rows at or after `value`, and those whose place nobody can tell: whoever reads them has to refuse.

    On SQLite a time up to two milliseconds before `value` passes as well.
    """
    name = dialect.quote(column)
    if dialect.name == "sqlite":
        if isinstance(value, int):
            return Condition(f"{name} >= CAST(? AS INTEGER) OR typeof({name}) <> 'integer'", (value,))
        unknown = (
            f"typeof({name}) <> 'text' OR {name} NOT GLOB '{_SQLITE_DATE}'"
            f" OR strftime('{_SQLITE_FORM}', {name}) IS NULL"
        )
        least = _sqlite_text(value, -_SQLITE_STEP)
        return Condition(f"strftime('{_SQLITE_FORM}', {name}) >= ? OR {unknown}", (least,))
    mark, text = _parameter(dialect, value)
    return Condition(f"{name} >= {mark} OR {name} IS NULL", (text,))


def between(dialect: Dialect, column: str, start: Value, end: Value) -> Condition:
    """The rows at or after `start` and before `end`, on SQLite rounded to the millisecond."""
    name = dialect.quote(column)
    if dialect.name == "sqlite" and isinstance(start, date) and isinstance(end, date):
        name = f"strftime('{_SQLITE_FORM}', {name})"
        texts = _sqlite_text(start, timedelta()), _sqlite_text(end, timedelta())
        return Condition(f"{name} >= ? AND {name} < ?", texts)
    (first_mark, first), (end_mark, last) = _parameter(dialect, start), _parameter(dialect, end)
    return Condition(f"{name} >= {first_mark} AND {name} < {end_mark}", (first, last))


def _parameter(dialect: Dialect, value: Value) -> tuple[str, str]:
    """A typed mark, and the text that fills it."""
    integer, day, time, time_with_zone = _CASTS.get(dialect.name, _STANDARD)
    if isinstance(value, int):
        if dialect.name == "mysql" and value > _LARGEST_SIGNED:
            integer = "UNSIGNED"
        return f"CAST(? AS {integer})", str(value)
    if not isinstance(value, datetime):
        return f"CAST(? AS {day})", value.isoformat()
    if value.tzinfo is None or dialect.name == "mysql":
        return f"CAST(? AS {time})", _text(value)
    return f"CAST(? AS {time_with_zone})", _text(value) + "+00:00"


def _text(value: datetime) -> str:
    return utc_naive(value).isoformat(" ", "microseconds")


def _sqlite_text(value: date, shift: timedelta) -> str:
    moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
    utc = utc_naive(moment)
    with contextlib.suppress(OverflowError):  # the first or the last moment there is
        utc += shift
    return utc.isoformat(" ", "milliseconds")
