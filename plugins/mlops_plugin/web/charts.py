"""Plots as SVG, drawn by the server: no script, colours by CSS class, and the same figures as a table.

Every plot has a title and a description for those who cannot see it. Callers show `Chart.table` below it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from markupsafe import Markup, escape

WIDTH, HEIGHT = 640, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 10, 26
SERIES_COLOURS = 8  # classes `series-0` to `series-7` in dispatches/static/dispatches.css


@dataclass(frozen=True)
class Table:
    """The figures of a plot, each row with its label first; `has_times`: the labels are ISO 8601."""

    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    has_times: bool = True


@dataclass(frozen=True)
class Chart:
    """A plot. `legend` are (series number, name)."""

    title: str
    svg: Markup
    table: Table
    legend: tuple[tuple[int, str], ...] = ()


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
        tip = f"<title>{_moment(point.at)}: {escape(show(point.value))}, {escape(point.state)}</title>"
        mark = "dot-failed" if point.state == "failed" else "dot"
        marks.append(f'<circle class="{mark}" cx="{x:.1f}" cy="{y:.1f}" r="3">{tip}</circle>')
    said = f"{len(values)} values"
    if values:
        said += f" from {show(min(values))} to {show(max(values))}; the newest is {show(values[-1])}"
    body = f'{frame.axes(show)}<path class="line" d="{path}"/>{"".join(marks)}'
    rows = [
        (point.at.isoformat(), "" if point.value is None else show(point.value), point.state)
        for point in points
    ]
    return Chart(title, _svg(key, title, said, body), Table(("When", title, "State"), rows))


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
            tip = f"<title>{_moment(at)}: {escape(name)} {share:.1%}</title>"
            bars.append(
                f'<rect class="series-{series}" x="{x:.1f}" y="{y:.1f}" width="{max(step - 1, 0.5):.1f}" '
                f'height="{share * height:.1f}">{tip}</rect>'
            )
            y += share * height
        table.append((at.isoformat(), *(f"{known[name]:.1%}" for name in shown)))
    said = f"Shares of {len(names)} classes in {len(points)} dispatches"
    if points:
        said += ": the newest has " + ", ".join(
            f"{name} {share:.0%}" for name, share in points[-1][1].items()
        )
    frame = _Frame.around([at for at, _ in points], 0.0, 1.0)
    body = frame.axes(lambda value: f"{value:.0%}") + "".join(bars)
    legend = tuple(enumerate(shown))
    return Chart(title, _svg(key, title, said, body), Table(("When", *shown), table), legend)


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
            tip = f"<title>{escape(label)}, {escape(name)}: {values[place]:.1%}</title>"
            bars.append(
                f'<rect class="series-{number}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
                f'height="{HEIGHT - _BOTTOM - y:.1f}">{tip}</rect>'
            )
    said = f"Shares of {len(labels)} values for " + " and ".join(name for name, _ in series)
    body = frame.axes(lambda value: f"{value:.0%}", has_times=False) + "".join(bars) + _names(labels, step)
    rows = [(label, *(f"{values[place]:.1%}" for _, values in series)) for place, label in enumerate(labels)]
    names = tuple(name for name, _ in series)
    table = Table(("Prediction", *names), rows, has_times=False)
    return Chart(title, _svg(key, title, said, body), table, tuple(enumerate(names)))


@dataclass(frozen=True)
class _Frame:
    """The plotted range in seconds and values, and where it lies in the picture."""

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

    def axes(self, show: Callable[[float], str], *, has_times: bool = True) -> str:
        parts = []
        for share in (0.0, 0.5, 1.0):
            value = self.low * (1 - share) + self.high * share
            y = self.y(value)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(
                f'<text class="tick" text-anchor="end" x="{_LEFT - 6}" y="{y + 4:.1f}">'
                f"{escape(show(value))}</text>"
            )
        if has_times:
            for anchor, x, stamp in (("start", _LEFT, self.start), ("end", WIDTH - _RIGHT, self.end)):
                moment = _moment(datetime.fromtimestamp(stamp, UTC))
                parts.append(
                    f'<text class="tick" text-anchor="{anchor}" x="{x}" y="{HEIGHT - 8}">{moment}</text>'
                )
        return "".join(parts)


def _svg(key: str, title: str, said: str, body: str) -> Markup:
    ids = f"{key}-title {key}-desc"
    return Markup(  # noqa: S704 -- every text in it is escaped above
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{escape(ids)}">'
        f'<title id="{escape(key)}-title">{escape(title)}</title>'
        f'<desc id="{escape(key)}-desc">{escape(said)}</desc>{body}</svg>'
    )


def _names(labels: Sequence[str], step: float) -> str:
    """Names below the columns, as many as find room."""
    every = max(1, math.ceil(len(labels) * 70 / (WIDTH - _LEFT - _RIGHT)))
    chars = max(4, int(step * every / 7))
    return "".join(
        f'<text class="tick" text-anchor="middle" x="{_LEFT + (place + 0.5) * step:.1f}" y="{HEIGHT - 8}">'
        f"{escape(label if len(label) <= chars else label[: chars - 1] + '…')}</text>"
        for place, label in enumerate(labels)
        if place % every == 0
    )


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
