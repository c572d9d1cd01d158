"""The frame of a chart: a range of times and values mapped to the picture, with its axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from markupsafe import Markup

from mlops_plugin.web import svg
from mlops_plugin.web.axes import duration_ticks, number_ticks, tick_words, time_ticks
from mlops_plugin.web.languages.written_values import format_duration, format_number
from mlops_plugin.web.time_zone import current_zone

WIDTH, HEIGHT = 640, 214
LEFT, RIGHT, TOP, BOTTOM = 76, 12, 10, 40
WORDS = 24  # from the lower end of the picture to the words below the plotted part
_TIMES = 6  # ticks of a time axis; more would not fit
WIDEST_BAR = 8.0  # the widest bar over time


@dataclass(frozen=True)
class Scale:
    """What an axis of values shows: how a value is written, and where ticks stand."""

    show: Callable[[float], str]
    ticks: Callable[[float, float], list[float]]


NUMBERS = Scale(format_number, number_ticks)
DURATIONS = Scale(lambda seconds: format_duration(seconds) if seconds else "0 s", duration_ticks)
SHARES = Scale(lambda share: f"{share:.0%}", number_ticks)


@dataclass(frozen=True)
class Frame:
    """The plotted range in seconds and values, mapped to the picture; `margin` is kept free at both ends."""

    start: float
    end: float
    ticks: list[float]
    low: float
    high: float
    show: Callable[[float], str]
    margin: float
    height: int = HEIGHT

    @classmethod
    def around(
        cls,
        times: Sequence[datetime],
        values: Sequence[float],
        scale: Scale,
        *,
        margin: float = 0.0,
        height: int = HEIGHT,
    ) -> Frame:
        stamps = [time.timestamp() for time in times] or [0.0]
        start, end = min(stamps), max(stamps)
        if start == end:
            start, end = start - 1, end + 1
        low, high = min(0.0, *values, 0.0), max(0.0, *values, 0.0)
        ticks = scale.ticks(low, high if high > low else 1.0)
        return cls(start, end, ticks, min(low, ticks[0]), max(high, ticks[-1]), scale.show, margin, height)

    def x(self, time: datetime) -> float:
        share = (time.timestamp() - self.start) / (self.end - self.start)
        return LEFT + self.margin + share * (WIDTH - LEFT - RIGHT - 2 * self.margin)

    def y(self, value: float) -> float:
        height = self.height - TOP - BOTTOM
        # In halves: the range of two huge numbers would be infinite.
        span = (self.high / 2 - self.low / 2) or 1.0
        return self.height - BOTTOM - (value / 2 - self.low / 2) / span * height

    @property
    def data(self) -> dict[str, str | float]:
        """For charts.js: the plotted times, and where in the picture they begin and end."""
        start, end = (datetime.fromtimestamp(stamp, UTC) for stamp in (self.start, self.end))
        return {
            "data_start": start.isoformat(),
            "data_end": end.isoformat(),
            "data_left": self.x(start),
            "data_right": self.x(end),
        }

    def bar_width(self, times: Sequence[datetime]) -> float:
        """As wide as the two closest dispatches allow, within reason: bars may touch, and stay visible."""
        gaps = [self.x(after) - self.x(before) for before, after in pairwise(times)]
        return max(2.0, min([WIDEST_BAR, *(gap - 1 for gap in gaps)]))

    def axes(self, *, has_times: bool = True) -> list[Markup]:
        parts = []
        for value in self.ticks:
            y = self.y(value)
            parts.append(svg.level("grid", LEFT, WIDTH - RIGHT, y))
            parts.append(svg.label(self.show(value), LEFT - 6, y + 4, anchor="end"))
        return parts + (self._time_axis() if has_times else [])

    def _time_axis(self) -> list[Markup]:
        start, end = (datetime.fromtimestamp(stamp, UTC) for stamp in (self.start, self.end))
        ticks = time_ticks(start, end, _TIMES, current_zone())
        parts = []
        for tick, words in zip(ticks, tick_words(ticks), strict=True):
            x = self.x(tick)
            anchor = "start" if x < LEFT + 40 else "end" if x > WIDTH - RIGHT - 40 else "middle"
            parts.append(svg.upright("grid", x, self.height - BOTTOM, self.height - BOTTOM + 4))
            day, _comma, time = words.rpartition(", ")
            lines = [time, day] if day else [time]
            parts.append(svg.lines(lines, x, self.height - WORDS, anchor=anchor))
        return parts
