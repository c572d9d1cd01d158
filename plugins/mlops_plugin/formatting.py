"""Values as people read them: the one module that turns numbers, durations, shares and times into text.

Pages, messages of the Monitor and the command line write values with it. What programs read back is
serialized elsewhere (`config.durations`, `serving.case_values`).
"""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta
from typing import Any

MISSING = "\N{EN DASH}"
_UNITS = ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s"))


def format_count(number: int | None) -> str:
    """`1,234,567`"""
    return MISSING if number is None else f"{number:,}"


def format_number(value: float | None) -> str:
    """Four significant digits: `0.001234`, `1,234`, `123,457`, `1.234e+09`"""
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return str(value)
    is_whole = value == int(value) or abs(value) >= 1e3
    return f"{value:,.0f}" if is_whole and abs(value) < 1e6 else f"{value:.4g}"


def format_like(value: float, greatest: float) -> str:
    """With the decimals that give the greatest of several numbers three digits: `0.0123` beside `0.456`."""
    if not 1e-6 <= abs(greatest) < 1e9:
        return f"{value:.2e}" if greatest else "0"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(greatest))))}f}"


def format_duration(seconds: float | None) -> str:
    """A measured duration: `0.25 s`, `9.1 s`, `2 min 5 s`, `3 h 4 min`, `2 d 3 h`"""
    if seconds is None:
        return MISSING
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    return _two_units(round(seconds), most_with_rest=None)


def format_period(period: timedelta) -> str:
    """A duration in a sentence, rounded down: `40 s`, `2 h 5 min`, and from ten units on one unit: `12 h`."""
    return _two_units(max(0, int(period.total_seconds())), most_with_rest=9)


def format_distance(until: timedelta) -> str:
    """How far away a moment is: `in 5 min`, or `2 min ago` if it has passed."""
    return f"in {format_period(until)}" if until >= timedelta(0) else f"{format_period(-until)} ago"


def format_latency(seconds: float | None) -> str:
    """`1,234.5 ms`"""
    return MISSING if seconds is None else f"{seconds * 1000:,.1f} ms"


def format_share(share: float) -> str:
    """A share of 0 to 1: `12.3%`"""
    return f"{share:.1%}"


def format_availability(share: float) -> str:
    """A share of 0 to 1 that is never rounded up to `100 %`: `99.9 %`"""
    return "100 %" if share == 1 else f"{int(share * 1000) / 10:.1f} %"


def format_moment(at: datetime) -> str:
    """`2026-03-01 12:00:00 UTC`; `at` is UTC."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def format_minute(at: datetime) -> str:
    """`2026-03-01 12:00 UTC`; `at` is UTC."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def format_value(value: Any) -> str:
    """A value of a row: `NULL`, `true`, `0.123457`, `1234568`, `2026-03-01T12:00:00`"""
    match value:
        case None:
            return "NULL"
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:.0f}" if 1e6 <= abs(value) < 1e15 else f"{value:.6g}"
        case datetime() | date() | time():
            return value.isoformat()
        case bytes():
            return value.hex()
        case _:
            return str(value)


def _two_units(seconds: int, *, most_with_rest: int | None) -> str:
    for size, unit, smaller, lesser in _UNITS:
        if seconds >= size:
            count, rest = divmod(seconds, size)
            rest //= smaller
            is_short = most_with_rest is not None and count > most_with_rest
            return f"{count} {unit} {rest} {lesser}" if rest and not is_short else f"{count} {unit}"
    return f"{seconds} s"
