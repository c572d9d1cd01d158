"""Plots as SVG for docs/performance.md: lines with logarithmic axes, and bars. For light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from mlops_plugin.web.svg import element, join

WIDTH, HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 150, 16, 44
_BAR, _BARS_LEFT, _BARS_RIGHT = 20, 200, 190
_COLOURS = ("#2f7ed8", "#d9730d", "#2e9e5b", "#a04ac0", "#808080", "#c0392b", "#1a9ba8", "#b8860b")
_STYLE = "text{font:12px sans-serif;fill:#888}line{stroke:#888;stroke-opacity:.35}"

Points = Sequence[tuple[float, float]]


def line_plot(title: str, x_name: str, y_name: str, series: Sequence[tuple[str, Points]]) -> str:
    """An SVG file's text; every value is above zero."""
    xs = [x for _, points in series for x, _ in points]
    ys = [y for _, points in series for _, y in points]
    x_axis, y_axis = _Axis(xs, _LEFT, WIDTH - _RIGHT), _Axis(ys, HEIGHT - _BOTTOM, _TOP)
    parts = [
        join([element("title", title), element("style", _STYLE)]),
        *_grid(x_axis, y_axis),
        element("text", x_name, x=(_LEFT + WIDTH - _RIGHT) // 2, y=HEIGHT - 6, text_anchor="middle"),
        element("text", y_name, x=6, y=_TOP - 3),
    ]
    labels: list[float] = []
    for number, (name, points) in enumerate(series):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [(x_axis.place(x), y_axis.place(y)) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(element("polyline", points=path, fill="none", stroke=colour, stroke_width=2))
        parts += [element("circle", cx=x, cy=y, r=3, fill=colour) for x, y in places]
        y = _free(places[-1][1] + 4, labels)
        parts.append(element("text", name, x=places[-1][0] + 8, y=y, style=f"fill:{colour}"))
    lines = join(["", *parts, ""], "\n")
    view = f"0 0 {WIDTH} {HEIGHT}"
    return element("svg", lines, xmlns="http://www.w3.org/2000/svg", viewBox=view, role="img") + "\n"


def bar_plot(title: str, groups: Sequence[tuple[str, Sequence[tuple[str, float]]]]) -> str:
    """Horizontal bars, in groups with a name each; a bar has a name and a value from zero on."""
    most = max((value for _, bars in groups for _, value in bars), default=1.0)
    names = list(dict.fromkeys(name for _, bars in groups for name, _ in bars))
    parts = [join([element("title", title), element("style", _STYLE)])]
    y = _TOP
    for group, bars in groups:
        parts.append(
            element("text", group, x=_BARS_LEFT - 8, y=y + _BAR * len(bars) // 2 + 4, text_anchor="end")
        )
        for name, value in bars:
            width = value / most * (WIDTH - _BARS_LEFT - _BARS_RIGHT)
            colour = _COLOURS[names.index(name) % len(_COLOURS)]
            parts.append(
                element("rect", x=_BARS_LEFT, y=y, width=f"{width:.1f}", height=_BAR - 3, fill=colour)
            )
            label = f"{value:.1f}" + (f"  {name}" if group == groups[0][0] else "")
            parts.append(element("text", label, x=f"{_BARS_LEFT + width + 6:.1f}", y=y + _BAR - 7))
            y += _BAR
        y += _BAR // 2
    lines = join(["", *parts, ""], "\n")
    view = f"0 0 {WIDTH} {y}"
    return element("svg", lines, xmlns="http://www.w3.org/2000/svg", viewBox=view, role="img") + "\n"


class _Axis:
    """Powers of ten around the values, from one place in the picture to another."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.low = math.floor(math.log10(min(values)))
        self.high = max(math.ceil(math.log10(max(values))), self.low + 1)
        self._start, self._end = start, end

    def place(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self._start + share * (self._end - self._start)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        powers = range(self.low, self.high + 1)
        return [(self.place(10.0**power), _power(power)) for power in powers]


def _power(power: int) -> str:
    """10,000 as `10 k`."""
    return f"{10.0**power:g}" if power < 3 else f"{10 ** (power % 3)} {'kMG'[power // 3 - 1]}"


def _grid(x_axis: _Axis, y_axis: _Axis) -> list[Markup]:
    parts = []
    for x, name in x_axis.ticks:
        parts.append(element("line", x1=x, x2=x, y1=_TOP, y2=HEIGHT - _BOTTOM))
        parts.append(element("text", name, x=x, y=HEIGHT - _BOTTOM + 16, text_anchor="middle"))
    for y, name in y_axis.ticks:
        parts.append(element("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y))
        parts.append(element("text", name, x=_LEFT - 6, y=y + 4, text_anchor="end"))
    return parts


def _free(wanted: float, taken: list[float]) -> float:
    """The next place for a label that no other label covers."""
    while any(abs(wanted - other) < 14 for other in taken):
        wanted -= 14
    taken.append(wanted)
    return wanted
