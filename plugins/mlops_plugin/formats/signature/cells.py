"""One value of a signature, from JSON; `encode_value` of the writer is the way back."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_MOST_DIGITS = 20_000  # PostgreSQL's NUMERIC has 16,383 after the point


@dataclass(frozen=True)
class Duration:
    """A span of time, which Python's own keeps in microseconds."""

    nanoseconds: int


@dataclass(frozen=True)
class Instant:
    """A time, and the nanoseconds of its second: Python's own times keep only microseconds."""

    moment: datetime
    nanosecond: int


class MissingLook(str):
    """NaT or pd.NA in training; NaN and None are Python's own."""

    __slots__ = ()


def decode_cell(value: Any) -> Any:
    """The value that was encoded: Python's own types, NaN for `nan`, `MissingLook` for NaT and pd.NA.

    Raises `ValueError` for what `encode_value` does not write.
    """
    if not isinstance(value, dict):
        if isinstance(value, list):
            raise ValueError("a list is not a value")  # noqa: TRY004 - the reader expects it
        return value
    for name, decode in _DECODERS.items():
        if name in value:
            try:
                return decode(value)
            except (TypeError, AttributeError, ArithmeticError) as error:
                raise ValueError(f"what is no {name}") from error
    raise ValueError(f"a value of an unknown type: {', '.join(value)}")


def is_missing(value: Any) -> bool:
    """Whether a decoded value is None, NaN, NaT or pd.NA."""
    return value is None or isinstance(value, MissingLook) or (isinstance(value, float) and value != value)


def _instant(value: dict[str, Any]) -> Instant:
    """Fractions beyond six digits go to `nanosecond`; the zone is the named one if this machine knows it."""
    text = str(value["timestamp"] if "timestamp" in value else value["datetime"])
    main, _, rest = text.partition(".")
    digits = re.match(r"\d*", rest)[0]  # type: ignore[index]  # it matches every text
    moment = datetime.fromisoformat(main + (f".{digits[:6]:0<6}" if digits else "") + rest[len(digits) :])
    if moment.tzinfo is not None:
        moment = moment.astimezone(_zone(value.get("zone"), moment))
    return Instant(moment, int(f"{digits:0<9}"[:9]) if digits else 0)


def _zone(name: str | None, moment: datetime) -> Any:
    try:
        return ZoneInfo(name or "")
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder of zones, or a name too long for a file
        return moment.tzinfo


def _decimal(value: dict[str, Any]) -> Decimal:
    """No greater than any database's: a billion digits of one would stop the process that compares it."""
    number = Decimal(value["decimal"])
    if number.is_finite() and (
        abs(number.adjusted()) > _MOST_DIGITS or len(number.as_tuple().digits) > _MOST_DIGITS
    ):
        raise ValueError(f"a decimal number of more than {_MOST_DIGITS:,} digits")
    return number


_DECODERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "missing": lambda value: MissingLook(value["missing"]),
    "float": lambda value: float(value["float"]),
    "timestamp": _instant,
    "datetime": _instant,
    "duration": lambda value: Duration(int(value["duration"])),
    "date": lambda value: date.fromisoformat(value["date"]),
    "time": lambda value: time.fromisoformat(value["time"]),
    "decimal": _decimal,
    "uuid": lambda value: uuid.UUID(value["uuid"]),
    "bytes": lambda value: bytes.fromhex(value["bytes"]),
}
