"""Where the ticks of an axis stand: at round numbers, durations or moments, as people would draw them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from mlops_plugin.web.languages.written_values import format_day, format_month

_MOST = 4  # steps of an axis of values
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
# Steps on a clock, in seconds: below a second and beyond a week they are 1, 2 or 5 times a power of ten.
_CLOCK_STEPS = (
    *(1, 2, 5, 10, 15, 30),
    *(each * _MINUTE for each in (1, 2, 5, 10, 15, 30)),
    *(each * _HOUR for each in (1, 2, 3, 6, 12)),
    *(each * _DAY for each in (1, 2, 7)),
)
_MONTH_STEPS = (1, 2, 3, 6, 12, 24, 60, 120, 1_200)
_LONGEST_IN_DAYS = 60  # beyond, ticks stand at the beginnings of months


def number_ticks(low: float, high: float) -> list[float]:
    """Round numbers that enclose the range, 0 among them if it is inside."""
    return _ticks(low, high, _decimal_step(_least_step(low, high)))


def duration_ticks(low: float, high: float) -> list[float]:
    """The same for seconds: 0, 5 min, 10 min rather than 0, 200 s, 400 s."""
    least = _least_step(low, high)
    if least < 1 or least > _CLOCK_STEPS[-1]:
        days = _DAY if least > _CLOCK_STEPS[-1] else 1
        return _ticks(low, high, _decimal_step(least / days) * days)
    return _ticks(low, high, next(float(step) for step in _CLOCK_STEPS if step >= least))


def time_ticks(start: datetime, end: datetime, at_most: int) -> list[datetime]:
    """Full minutes, hours, days or months between two moments (UTC), both included."""
    seconds = (end - start).total_seconds()
    if seconds > _LONGEST_IN_DAYS * _DAY:
        return _month_ticks(start, end, at_most)
    step = next(
        # A time with seconds is wide, and the first one has its date as well.
        (each for each in _CLOCK_STEPS if seconds / each < (at_most if each >= _MINUTE else at_most / 2)),
        _LONGEST_IN_DAYS * _DAY // max(1, at_most),
    )
    midnight = start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first = math.ceil((start - midnight).total_seconds() / step)
    last = math.floor((end - midnight).total_seconds() / step)
    return [midnight + timedelta(seconds=number * step) for number in range(first, last + 1)]


def tick_words(ticks: Sequence[datetime]) -> list[str]:
    """As much of each moment as tells it from the others: `14:30`, `Mar 1`, `Mar 2026`.

    The first tick, and the first of each day among ticks within days, have their date.
    """
    gaps = [(after - before).total_seconds() for before, after in pairwise(ticks)]
    step = min(gaps, default=0.0)
    if step >= 28 * _DAY:
        return [format_month(tick) for tick in ticks]
    if step >= _DAY:
        return [format_day(tick) for tick in ticks]
    clock = "%H:%M:%S" if any(tick.second for tick in ticks) else "%H:%M"
    words, day = [], None
    for tick in ticks:
        is_new_day, day = tick.date() != day, tick.date()
        words.append(f"{format_day(tick)}, {tick:{clock}}" if is_new_day else f"{tick:{clock}}")
    return words


def _month_ticks(start: datetime, end: datetime, at_most: int) -> list[datetime]:
    first, last = start.year * 12 + start.month - 1, end.year * 12 + end.month - 1
    step = next((each for each in _MONTH_STEPS if (last - first) / each < at_most), _MONTH_STEPS[-1])
    months = range(-(-first // step) * step, last + 1, step)
    ticks = (datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC) for month in months if month >= 12)
    return [tick for tick in ticks if start <= tick <= end]


def _least_step(low: float, high: float) -> float:
    # In halves: the range of two huge numbers would be infinite.
    return (high / 2 - low / 2) / _MOST * 2


def _decimal_step(least: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    if least <= 0 or not math.isfinite(least):
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    if power == 0:
        return least
    return next((factor * power for factor in (1, 2, 5, 10) if least <= factor * power * (1 + 1e-9)), least)


def _ticks(low: float, high: float, step: float) -> list[float]:
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    values = [_rounded(number * step, step) for number in range(first, max(last, first + 1) + 1)]
    return [value for value in values if math.isfinite(value)]


def _rounded(value: float, step: float) -> float:
    """Without the last digits of a product: 0.3 rather than 0.30000000000000004."""
    places = 1 - math.floor(math.log10(step)) if step else 0
    return round(value, places) if 0 < places < 300 else value
