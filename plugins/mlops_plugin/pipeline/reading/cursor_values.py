"""Values of a cursor column: the types it may have, their text form, and their arithmetic."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import pyarrow as pa

from mlops_plugin.config.durations import format_duration
from mlops_plugin.errors import CursorError
from mlops_plugin.events.details.step_reports import CursorKind

Value = int | date | datetime
_LEAST = -(2**63)
Kind = CursorKind
# SQLite has no type for times: its texts are parsed as times, with or without a zone.
Column = Kind | Literal["text"]


def column_kind(where: str, name: str, columns: pa.Schema, *, may_be_text: bool) -> Column:
    """The type of the cursor column. Raises `CursorError` if it is missing or its type cannot be used.

    `where` is the path of the model's cursor. `may_be_text`: the engine keeps times as text.
    """
    if name not in columns.names:
        raise CursorError(
            f"{where}.column: the query returns no column '{name}'; it returns {', '.join(columns.names)}"
        )
    kind = columns.field(name).type
    if pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_date(kind):
        return "date"
    if pa.types.is_timestamp(kind):
        return "timestamp" if kind.tz is None else "timestamp with time zone"
    if may_be_text and pa.types.is_string(kind):
        return "text"
    raise CursorError(
        f"{where}.column: '{name}' is of type {kind}; a cursor is a timestamp, a date or an integer: "
        "cast it in the query or choose another column"
    )


def kind_of(value: Value) -> Kind:
    if isinstance(value, datetime):
        return "timestamp" if value.tzinfo is None else "timestamp with time zone"
    return "date" if isinstance(value, date) else "integer"


def serialize(value: Value) -> str:
    """A value as it is stored; `parse` reads it."""
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).isoformat(" ")
    return value.isoformat() if isinstance(value, date) else str(value)


def parse(text: str, kind: Kind) -> Value:
    """A value that `serialize` stored."""
    if kind == "integer":
        return int(text)
    return date.fromisoformat(text) if kind == "date" else datetime.fromisoformat(text)


def parse_input(where: str, text: str, column: Column, zone: str = "UTC") -> Value:
    """A value that a person wrote, for a column of this type. Raises `CursorError`.

    If the column's times have a zone, one that is written without is in the time zone of this name.
    """
    try:
        if column == "integer":
            return int(text)
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        sought = "a whole number" if column == "integer" else "a date or time, e.g. 2026-01-31T06:00:00"
        raise CursorError(
            f"{where}: '{text}' does not fit the cursor column, which holds values of type "
            f"{'text with a time' if column == 'text' else column}; write {sought}"
        ) from error
    if column == "date":
        if moment.timetz() != time():
            raise CursorError(f"{where}: '{text}' has a time of day, but the cursor column holds dates")
        return moment.date()
    if column == "timestamp" and moment.tzinfo is not None:
        raise CursorError(
            f"{where}: '{text}' has a time zone, but the times of the cursor column have none; write it "
            "without a time zone"
        )
    if column == "timestamp with time zone":
        aware = moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))
        return aware.astimezone(UTC)
    return moment


def check_lag(where: str, lag: int | timedelta, column: Column) -> None:
    """Raise `CursorError` for a duration with an integer column, or for a number with any other."""
    if isinstance(lag, timedelta) and column == "integer" and lag:
        raise CursorError(
            f"{where}.lag: the column holds integers, but the lag is the duration {format_duration(lag)}; "
            "write a whole number"
        )
    if isinstance(lag, int) and column != "integer" and lag:
        raise CursorError(
            f"{where}.lag: the column holds values of type {column}, but the lag is the number {lag}; write "
            "a duration, e.g. 15m"
        )


def subtract_lag(value: Value, lag: int | timedelta) -> Value:
    """The value that is `lag` earlier; the smallest possible value if that would be out of range."""
    if not lag:
        return value
    if isinstance(value, int):
        return max(value - lag, _LEAST) if isinstance(lag, int) else value
    assert isinstance(lag, timedelta)  # noqa: S101 -- `check_lag` refuses anything else
    try:
        if isinstance(value, datetime):
            return value - lag
        return (datetime(value.year, value.month, value.day) - lag).date()
    except OverflowError:
        return datetime.min.replace(tzinfo=value.tzinfo) if isinstance(value, datetime) else date.min


def from_moment(moment: datetime, column: Column, zone: str) -> Value:
    """The end of a data interval (aware) as a value of the column.

    A time without a zone, and a date's midnight, are in the time zone of this name. Aware for texts.
    """
    local = moment.astimezone(ZoneInfo(zone))
    match column:
        case "timestamp":
            return local.replace(tzinfo=None, fold=0)
        case "text":
            return local  # each text says itself whether it has a zone
        case "timestamp with time zone":
            return moment.astimezone(UTC)
        case "date":
            # The first day whose midnight is not before the moment.
            return local.date() if local.time() == time() else local.date() + timedelta(days=1)
        case _:
            raise CursorError("a data interval is a range of time, but the cursor column holds integers")
