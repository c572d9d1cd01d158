"""Values of cases as browsers and JSON carry them, and back in the types of their columns."""

from __future__ import annotations

import math
import re
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from mlops_plugin.databases.moments import utc_naive
from mlops_plugin.errors import CaseError
from mlops_plugin.formatting import format_value

_SPAN = re.compile(r"(?:(-?\d{1,6}) days?, )?(-?)(\d{1,4}):([0-5]\d)(?::([0-5]\d(?:\.\d{1,6})?))?", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

_SHOWN_CHARS = 200  # of a value in an error, which is recorded


def typed_value(name: str, value: Any, kind: pa.DataType) -> Any:
    """What a browser or JSON gives for a column, as a value of its type; raises `CaseError`."""
    if value is None or not isinstance(value, str):
        return value
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    try:
        value.encode()  # half a surrogate pair is no text
        if types.is_integer(kind):
            return _whole(value, 2**64 if types.is_uint64(kind) else 2**63)
        if types.is_floating(kind):
            return _double(value)
        if types.is_decimal(kind):
            return Decimal(value)
        if types.is_boolean(kind):
            return {"true": True, "1": True, "false": False, "0": False}[value.strip().lower()]
        if types.is_timestamp(kind):
            moment = datetime.fromisoformat(value)
            return moment.replace(tzinfo=UTC) if kind.tz and moment.tzinfo is None else moment
        if types.is_date(kind):
            return date.fromisoformat(value)
        if types.is_time(kind):
            return time.fromisoformat(value)
        if types.is_duration(kind):
            return _span(value)
        if types.is_binary(kind) or types.is_fixed_size_binary(kind) or types.is_large_binary(kind):
            return bytes.fromhex(value)
    except (ValueError, KeyError, InvalidOperation) as error:
        shown = value if len(value) <= _SHOWN_CHARS else f"{value[:_SHOWN_CHARS]}…"
        raise CaseError(f"column '{name}': '{shown}' is not a valid {kind}; correct the value") from error
    return value


def shown_value(name: str, text: str, kind: pa.DataType) -> Any | None:
    """The value that people see as this text, of a type whose text is another one in the database.

    None for other types, and if no value is written so.
    """
    types = pa.types
    is_other = types.is_timestamp(kind) or types.is_floating(kind) or types.is_binary(kind)
    try:
        value = typed_value(name, text.strip(), kind) if is_other else None
        if isinstance(value, datetime):
            value = utc_naive(value)
    except (CaseError, OverflowError):  # the year 1 of another zone
        return None
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _whole(text: str, end: int) -> int:
    value = int(text)
    if not -(2**63) <= value < end:
        raise ValueError("no column holds it")
    return value


def parameter_of(value: Any) -> Any:
    """The value as every driver takes it as a parameter: an integer of more than 63 bits as a decimal."""
    return Decimal(value) if isinstance(value, int) and value >= 2**63 else value


def _double(text: str) -> float:
    value = float(text)
    if math.isinf(value) and "inf" not in text.lower():
        raise ValueError("no double is so large")
    return value


def _span(text: str) -> timedelta:
    """`9:30:00`, as MySQL's TIME is shown, also with a sign, or days as Python writes them."""
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise ValueError("not hours, minutes and seconds")
    days, sign, hours, minutes, seconds = found.groups()
    clock = timedelta(hours=int(hours), minutes=int(minutes)) + timedelta(microseconds=_microseconds(seconds))
    return timedelta(days=int(days or 0)) + (-clock if sign else clock)


def _microseconds(seconds: str | None) -> int:
    whole, _, fraction = (seconds or "0").partition(".")
    return int(whole) * 1_000_000 + int(fraction.ljust(6, "0"))


def is_same_value(asked: Any, found: Any, *, is_padded: bool) -> bool:
    """Whether a key's value that the database takes for `asked` is the same value, only written otherwise.

    A number of another type, a UUID in other letters, an instant in another zone; and, if the engine fills a
    CHAR up with them (`is_padded`), a text with more blanks at its end. No text that a collation calls equal.
    """
    if asked == found or (asked != asked and found != found):  # the second of NaN
        return True
    if isinstance(asked, datetime) and isinstance(found, datetime):
        return utc_naive(asked) == utc_naive(found)
    if not (isinstance(asked, str) and isinstance(found, str)):
        return False
    if is_padded and found == asked.rstrip(" ").ljust(len(found)):
        return len(found) > len(asked)
    return _UUID.fullmatch(found) is not None and _uuid(asked) == uuid.UUID(found)


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def text_of(value: Any) -> str:
    """A value as text that `typed_value` understands; '' for NULL."""
    match value:
        case None:
            return ""
        case float():
            return repr(value)
        case _:
            return format_value(value)
