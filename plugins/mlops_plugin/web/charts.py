"""Plots of the Dispatches view, drawn by the server: no script, and the same numbers as a table.

Every plot has a title and a description for people who cannot see it. Callers show `Chart.table` below it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from markupsafe import Markup

from mlops_plugin.formatting import format_share
from mlops_plugin.web import svg

WIDTH, HEIGHT = 640, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 10, 26
SERIES_COLOURS = 8  # classes `series-0` to `series-7` in dispatches/static/dispatches.css


@dataclass(frozen=True)
class Table:
    """The numbers of a plot, each row with its label first; `has_times`: the labels are ISO 8601."""

    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    has_times: bool = True


@dataclass(frozen=True)
class Chart:
    """A plot. `legend` are (a swatch of the colour, name)."""

    title: str
    svg: Markup
    table: Table
    legend: tuple[tuple[Markup, str], ...] = ()


@dataclass(frozen=True)
class Point:
    """One dispatch in a plot over time; `value` None leaves a gap. `state` marks failed ones."""

    at: datetime
    value: float | None
    state: str


def line_chart(key: str, title: str, points: Sequence[Point], show: Callable[[float], str]) -> Chart:
    """One value of each dispatch over time, from zero up; `key` makes ids unique on the page."""
    values = [point.value for point in points if point.value is not None]
    frame = _Frame.around([point.at for point in points], min(values, default=0.0), max(values, default=0.0))
    marks = []
    path = ""
    is_down = False
    for point in points:
        if point.value is None:
            is_down = False
            continue
        x, y = frame.x(point.at), frame.y(point.value)
        path += f"{'L' if is_down else 'M'}{x:.1f} {y:.1f}"
        is_down = True
        tip = f"{_moment(point.at)}: {show(point.value)}, {point.state}"
        marks.append(svg.dot("dot-failed" if point.state == "failed" else "dot", x, y, tip=tip))
    description = f"{len(values)} values"
    if values:
        description += f" from {show(min(values))} to {show(max(values))}; the newest is {show(values[-1])}"
    body = [*frame.axes(show), svg.element("path", class_="line", d=path), *marks]
    rows = [
        (point.at.isoformat(), "" if point.value is None else show(point.value), point.state)
        for point in points
    ]
    return Chart(title, _picture(key, title, description, body), Table(("When", title, "State"), rows))


def share_chart(key: str, title: str, points: Sequence[tuple[datetime, dict[str, float]]]) -> Chart:
    """How each dispatch's whole is shared among classes (name -> share, 0 to 1), as stacked bars in order."""
    names = _by_weight([shares for _, shares in points])
    shown = names if len(names) <= SERIES_COLOURS else [*names[: SERIES_COLOURS - 1], "others"]
    bars = []
    step = (WIDTH - _LEFT - _RIGHT) / max(len(points), 1)
    height = HEIGHT - _TOP - _BOTTOM
    table: list[tuple[str, ...]] = []
    for place, (at, shares) in enumerate(points):
        known = {name: shares.get(name, 0.0) for name in shown}
        if len(names) > len(shown):
            known["others"] = max(0.0, sum(shares.values()) - sum(known.values()))
        x, y = _LEFT + place * step, float(_TOP)
        for series, (name, share) in enumerate(known.items()):
            tip = f"{_moment(at)}: {name} {format_share(share)}"
            width = max(step - 1, 0.5)
            bars.append(svg.rectangle(f"series-{series}", x, y, width, share * height, tip=tip))
            y += share * height
        table.append((at.isoformat(), *(format_share(known[name]) for name in shown)))
    description = f"Shares of {len(names)} classes in {len(points)} dispatches"
    if points:
        description += ": the newest has " + ", ".join(
            f"{name} {share:.0%}" for name, share in points[-1][1].items()
        )
    frame = _Frame.around([at for at, _ in points], 0.0, 1.0)
    body = [*frame.axes(lambda value: f"{value:.0%}"), *bars]
    picture = _picture(key, title, description, body)
    return Chart(title, picture, Table(("When", *shown), table), _legend(shown))


def comparison_chart(
    key: str, title: str, labels: Sequence[str], series: Sequence[tuple[str, Sequence[float]]]
) -> Chart:
    """Shares (0 to 1) of the same `labels` in each series, side by side: one group of columns per label."""
    highest = max((value for _, values in series for value in values), default=0.0)
    frame = _Frame(0.0, 1.0, 0.0, _round_up(highest) or 1.0)
    step = (WIDTH - _LEFT - _RIGHT) / max(len(labels), 1)
    width = step * 0.86 / max(len(series), 1)
    bars = []
    for place, label in enumerate(labels):
        for number, (name, values) in enumerate(series):
            x, y = _LEFT + place * step + step * 0.07 + number * width, frame.y(values[place])
            tip = f"{label}, {name}: {format_share(values[place])}"
            bars.append(svg.rectangle(f"series-{number}", x, y, width, HEIGHT - _BOTTOM - y, tip=tip))
    description = f"Shares of {len(labels)} values for " + " and ".join(name for name, _ in series)
    body = [*frame.axes(lambda value: f"{value:.0%}", has_times=False), *bars, *_names(labels, step)]
    rows = [
        (label, *(format_share(values[place]) for _, values in series)) for place, label in enumerate(labels)
    ]
    names = tuple(name for name, _ in series)
    table = Table(("Prediction", *names), rows, has_times=False)
    return Chart(title, _picture(key, title, description, body), table, _legend(names))


@dataclass(frozen=True)
class _Frame:
    """The plotted range in seconds and values, mapped to the picture."""

    start: float
    end: float
    low: float
    high: float

    @classmethod
    def around(cls, times: Sequence[datetime], low: float, high: float) -> _Frame:
        stamps = [time.timestamp() for time in times] or [0.0]
        start, end = min(stamps), max(stamps)
        if start == end:
            start, end = start - 1, end + 1
        low, high = min(low, 0.0), max(high, 0.0)
        return cls(start, end, -_round_up(-low), _round_up(high) if high or low else 1.0)

    def x(self, time: datetime) -> float:
        return _LEFT + (time.timestamp() - self.start) / (self.end - self.start) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        height = HEIGHT - _TOP - _BOTTOM
        # In halves: the range of two huge numbers would be infinite.
        span = (self.high / 2 - self.low / 2) or 1.0
        return HEIGHT - _BOTTOM - (value / 2 - self.low / 2) / span * height

    def axes(self, show: Callable[[float], str], *, has_times: bool = True) -> list[Markup]:
        parts = []
        for share in (0.0, 0.5, 1.0):
            value = self.low * (1 - share) + self.high * share
            y = self.y(value)
            parts.append(svg.level("grid", _LEFT, WIDTH - _RIGHT, y))
            parts.append(svg.label(show(value), _LEFT - 6, y + 4, anchor="end"))
        if has_times:
            for anchor, x, stamp in (("start", _LEFT, self.start), ("end", WIDTH - _RIGHT, self.end)):
                moment = _moment(datetime.fromtimestamp(stamp, UTC))
                parts.append(svg.label(moment, x, HEIGHT - 8, anchor=anchor))
        return parts


def _picture(key: str, title: str, description: str, body: Sequence[Markup]) -> Markup:
    return svg.picture(body, WIDTH, HEIGHT, key=key, title=title, description=description)


def _legend(names: Sequence[str]) -> tuple[tuple[Markup, str], ...]:
    return tuple((svg.swatch(f"series-{number}"), name) for number, name in enumerate(names))


def _names(labels: Sequence[str], step: float) -> list[Markup]:
    """Names below the columns, as many as there is room for."""
    every = max(1, math.ceil(len(labels) * 70 / (WIDTH - _LEFT - _RIGHT)))
    chars = max(4, int(step * every / 7))
    return [
        svg.label(
            label if len(label) <= chars else label[: chars - 1] + "…",
            _LEFT + (place + 0.5) * step,
            HEIGHT - 8,
            anchor="middle",
        )
        for place, label in enumerate(labels)
        if place % every == 0
    ]


def _by_weight(wholes: Sequence[dict[str, float]]) -> list[str]:
    weights: dict[str, float] = {}
    for shares in wholes:
        for name, share in shares.items():
            weights[name] = weights.get(name, 0.0) + share
    return sorted(weights, key=lambda name: (-weights[name], name))


def _round_up(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten; 0 stays 0."""
    if value == 0:
        return 0.0
    power = 10.0 ** math.floor(math.log10(value))
    return next((factor * power for factor in (1, 2, 5, 10) if value <= factor * power < math.inf), value)


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} {at:%Z}".strip()
