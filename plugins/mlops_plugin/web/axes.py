"""Where the ticks of an axis stand: at round numbers, durations or moments, as people would draw them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
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
_LONGEST_WITHIN_DAYS = 12 * _HOUR  # of the steps; the next one is a day


_NARROW, _WIDER = 1e-12, 1e-9  # of the greatest number: no range to draw, and what is drawn around it


def number_ticks(low: float, high: float) -> list[float]:
    """Round numbers that enclose the range, 0 among them if it is inside; at least two."""
    if high - low <= _NARROW * max(abs(low), abs(high)):
        margin = max(1.0, _WIDER * abs(high))  # what doubles of this size can tell apart
        low, high = low - margin, high + margin
    return _ticks(low, high, _decimal_step(_least_step(low, high)))


def duration_ticks(low: float, high: float) -> list[float]:
    """The same for seconds: 0, 5 min, 10 min rather than 0, 200 s, 400 s."""
    least = _least_step(low, high)
    if least < 1 or least > _CLOCK_STEPS[-1]:
        days = _DAY if least > _CLOCK_STEPS[-1] else 1
        return _ticks(low, high, _decimal_step(least / days) * days)
    return _ticks(low, high, next(float(step) for step in _CLOCK_STEPS if step >= least))


def time_ticks(start: datetime, end: datetime, at_most: int, zone: tzinfo = UTC) -> list[datetime]:
    """Full minutes, hours, days or months between two moments, both included, by the clocks of `zone`."""
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    if (end - start).total_seconds() > _LONGEST_IN_DAYS * _DAY:
        moments = [_first_moment(month, zone) for month in _months(start, end, at_most, zone)]
    else:
        moments = _clock_moments(start, end, at_most, zone)
    return [moment.astimezone(zone) for moment in moments if start <= moment <= end]


def tick_words(ticks: Sequence[datetime]) -> list[str]:
    """As much of each moment as tells it from the others: `14:30`, `Mar 1`, `Mar 2026`.

    The first tick, and the first of each day among ticks within days, have their date. What a clock shows
    twice, because it was set back, has the name of its time.
    """
    gaps = [(after - before).total_seconds() for before, after in pairwise(ticks)]
    step = min(gaps, default=0.0)  # by the clock; a day or a month without a midnight is an hour shorter
    if step > 27 * _DAY:
        return [format_month(tick) for tick in ticks]
    if step > _LONGEST_WITHIN_DAYS:
        return [format_day(tick) for tick in ticks]
    clock = "%H:%M:%S" if any(tick.second for tick in ticks) else "%H:%M"
    shown = Counter(tick.replace(tzinfo=None, fold=0) for tick in ticks)
    words, day = [], None
    for tick in ticks:
        is_new_day, day = tick.date() != day, tick.date()
        time = f"{tick:{clock}}" if shown[tick.replace(tzinfo=None, fold=0)] == 1 else f"{tick:{clock} %Z}"
        words.append(f"{format_day(tick)}, {time}" if is_new_day else time)
    return words


def _clock_moments(start: datetime, end: datetime, at_most: int, zone: tzinfo) -> list[datetime]:
    """Moments (UTC) at which clocks show a round time; some lie outside of the range."""
    offsets = [_offset(start, zone), _offset(end, zone)]
    # If clocks are set forward meanwhile, they show more than has passed.
    seconds = (end - start + max(timedelta(0), offsets[1] - offsets[0])).total_seconds()
    step = next(
        # A time with seconds is wide, and the first one has its date as well.
        (each for each in _CLOCK_STEPS if seconds / each < (at_most if each >= _MINUTE else at_most / 2)),
        _LONGEST_IN_DAYS * _DAY // max(1, at_most),
    )
    clocks = start.replace(tzinfo=None) + offsets[0]
    midnight = clocks.replace(hour=0, minute=0, second=0, microsecond=0)
    low = start.replace(tzinfo=None) + min(offsets)
    high = end.replace(tzinfo=None) + max(offsets)
    first, last = (
        math.ceil((low - midnight) / timedelta(seconds=step)),
        (high - midnight) // timedelta(seconds=step),
    )
    times = [midnight + timedelta(seconds=number * step) for number in range(first, last + 1)]
    if step >= _DAY:
        return [_first_moment(time, zone) for time in times]
    return sorted({moment for time in times for moment in _moments(time, zone, is_each=step <= _HOUR)})


def _offset(moment: datetime, zone: tzinfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta(0)


def _moments(time: datetime, zone: tzinfo, *, is_each: bool) -> Iterator[datetime]:
    """When clocks show a time: never if they are set forward over it, and twice if they are set back.

    Without `is_each` only the first time.
    """
    for fold in (0, 1) if is_each else (0,):
        moment = time.replace(tzinfo=zone, fold=fold).astimezone(UTC)
        if moment.astimezone(zone).replace(tzinfo=None, fold=0) == time:
            yield moment


def _first_moment(midnight: datetime, zone: tzinfo) -> datetime:
    """When a day or a month begins; where clocks were set forward over midnight, an hour later by them."""
    return midnight.replace(tzinfo=zone).astimezone(UTC)


def _months(start: datetime, end: datetime, at_most: int, zone: tzinfo) -> list[datetime]:
    """The midnights at which months begin, as clocks show them."""
    local = [moment.astimezone(zone) for moment in (start, end)]
    first, last = (each.year * 12 + each.month - 1 for each in local)
    step = next((each for each in _MONTH_STEPS if (last - first) / each < at_most), _MONTH_STEPS[-1])
    months = range(-(-first // step) * step, last + 1, step)
    return [datetime(month // 12, month % 12 + 1, 1) for month in months if month >= 12]


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
