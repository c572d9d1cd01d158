"""Plots of the Dispatches view, drawn by the server: no script, and the same numbers as a table.

Every plot has a title and a description for people who cannot see it. Callers show `Chart.table` below it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup

from mlops_plugin.formatting import MISSING
from mlops_plugin.web import svg
from mlops_plugin.web.frame import (
    BOTTOM,
    HEIGHT,
    LEFT,
    NUMBERS,
    RIGHT,
    SHARES,
    TOP,
    WIDEST_BAR,
    WIDTH,
    WORDS,
    Frame,
    Scale,
)
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.languages.translation import ngettext, word_of
from mlops_plugin.web.languages.written_values import format_share
from mlops_plugin.web.time_zone import current_zone

SERIES_COLOURS = 8  # classes `series-0` to `series-7` in dispatches/static/dispatches.css


@dataclass(frozen=True)
class Table:
    """The numbers of a plot, each row with its label first; `has_times`: the labels are ISO 8601.

    `links` leads each row to its dispatch, None if it has none; empty without any.
    """

    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    has_times: bool = True
    links: Sequence[str | None] = ()


@dataclass(frozen=True)
class Chart:
    """A plot. `legend` are (a swatch of the colour, name)."""

    title: str
    svg: Markup
    table: Table
    legend: tuple[tuple[Markup, str], ...] = ()


@dataclass(frozen=True)
class Point:
    """One dispatch in a plot over time; `value` None leaves a gap. `state` marks failed ones.

    `link` is the address of its page.
    """

    at: datetime
    value: float | None
    state: str
    link: str | None = None


@dataclass(frozen=True)
class Shares:
    """How one dispatch's whole is shared among classes: name -> share, 0 to 1."""

    at: datetime
    shares: Mapping[str, float]
    link: str | None = None


def line_chart(key: str, title: str, points: Sequence[Point], scale: Scale = NUMBERS) -> Chart:
    """One value of each dispatch over time, from zero up; `key` makes ids unique on the page."""
    show = scale.show
    values = [point.value for point in points if point.value is not None]
    frame = Frame.around([point.at for point in points], values, scale)
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
        tip = f"{_moment(point.at)}: {show(point.value)}, {word_of(point.state)}"
        dot = svg.dot("dot-failed" if point.state == "failed" else "dot", x, y, tip=tip)
        marks.append(svg.link(point.link, tip, dot))
    description = _described(values, show)
    body = [*frame.axes(), svg.element("path", class_="line", d=path), *marks]
    rows = [
        (point.at.isoformat(), "" if point.value is None else show(point.value), word_of(point.state))
        for point in points
    ]
    links = [point.link for point in points]
    picture = _picture(key, title, description, body, frame, has_links=any(links))
    return Chart(title, picture, Table((_("When"), title, _("State")), rows, links=links))


def _described(values: Sequence[float], show: Callable[[float], str]) -> str:
    count = ngettext("%(number)s value", "%(number)s values", len(values))
    if not values:
        return count
    return _(
        "%(values)s from %(least)s to %(greatest)s; the newest is %(newest)s",
        values=count,
        least=show(min(values)),
        greatest=show(max(values)),
        newest=show(values[-1]),
    )


def share_chart(key: str, title: str, points: Sequence[Shares]) -> Chart:
    """How each dispatch's whole is shared among classes, as bars over time; the table has all of them."""
    names = _by_weight([point.shares for point in points])
    others = _("others")
    first = names if len(names) <= SERIES_COLOURS else names[: SERIES_COLOURS - 1]
    shown = list(dict.fromkeys([*first, *([others] if len(names) > len(first) else [])]))
    frame = Frame.around([point.at for point in points], [0.0, 1.0], SHARES, margin=WIDEST_BAR / 2)
    width = frame.bar_width([point.at for point in points])
    bars: list[Markup] = []
    table: list[tuple[str, ...]] = []
    for point in points:
        known = {name: point.shares.get(name, 0.0) for name in first}
        if len(names) > len(first):  # a class may be called so, too
            rest = sum(point.shares.values()) - sum(known.values())
            known[others] = known.get(others, 0.0) + max(0.0, rest)
        bars += _stack(frame, point, known, width)
        table.append((point.at.isoformat(), *(format_share(point.shares.get(name, 0.0)) for name in names)))
    newest = points[-1].shares.items() if points else ()
    description = _(
        "Shares of %(classes)s classes in %(dispatches)s dispatches: the newest has %(newest)s",
        classes=len(names),
        dispatches=len(points),
        newest=", ".join(f"{name} {share:.0%}" for name, share in newest) or MISSING,
    )
    links = [point.link for point in points]
    picture = _picture(key, title, description, [*frame.axes(), *bars], frame, has_links=any(links))
    return Chart(title, picture, Table((_("When"), *names), table, links=links), _legend(shown))


def _stack(frame: Frame, point: Shares, known: Mapping[str, float], width: float) -> Iterator[Markup]:
    """The classes of one dispatch, the first at the top."""
    y, height = float(TOP), HEIGHT - TOP - BOTTOM
    for series, (name, share) in enumerate(known.items()):
        tip = f"{_moment(point.at)}: {name} {format_share(share)}"
        x = frame.x(point.at) - width / 2
        bar = svg.rectangle(f"series-{series}", x, y, width, share * height, tip=tip)
        yield svg.link(point.link, tip, bar)
        y += share * height


def comparison_chart(
    key: str, title: str, labels: Sequence[str], series: Sequence[tuple[str, Sequence[float]]]
) -> Chart:
    """Shares (0 to 1) of the same `labels` in each series, side by side: one group of columns per label."""
    frame = Frame.around([], [0.0, *(value for _name, values in series for value in values)], SHARES)
    step = (WIDTH - LEFT - RIGHT) / max(len(labels), 1)
    width = step * 0.86 / max(len(series), 1)
    bars = []
    for place, label in enumerate(labels):
        for number, (name, values) in enumerate(series):
            x, y = LEFT + place * step + step * 0.07 + number * width, frame.y(values[place])
            tip = f"{label}, {name}: {format_share(values[place])}"
            bars.append(svg.rectangle(f"series-{number}", x, y, width, HEIGHT - BOTTOM - y, tip=tip))
    description = _(
        "Shares of %(number)s values for %(series)s",
        number=len(labels),
        series=", ".join(name for name, _values in series),
    )
    body = [*frame.axes(has_times=False), *bars, *_names(labels, step)]
    rows = [
        (label, *(format_share(values[place]) for _name, values in series))
        for place, label in enumerate(labels)
    ]
    names = tuple(name for name, _values in series)
    table = Table((_("Prediction"), *names), rows, has_times=False)
    picture = svg.picture(
        body, WIDTH, HEIGHT, key=key, title=title, description=description, data_crosshair=""
    )
    return Chart(title, picture, table, _legend(names))


def _picture(
    key: str, title: str, description: str, body: Sequence[Markup], over_time: Frame, *, has_links: bool
) -> Markup:
    return svg.picture(
        body,
        WIDTH,
        HEIGHT,
        key=key,
        title=title,
        description=description,
        has_links=has_links,
        **over_time.data,
    )


def _legend(names: Sequence[str]) -> tuple[tuple[Markup, str], ...]:
    return tuple((svg.swatch(f"series-{number}"), name) for number, name in enumerate(names))


def _names(labels: Sequence[str], step: float) -> list[Markup]:
    """Names below the columns, as many as there is room for."""
    every = max(1, math.ceil(len(labels) * 70 / (WIDTH - LEFT - RIGHT)))
    chars = max(4, int(step * every / 7))
    return [
        svg.label(
            label if len(label) <= chars else label[: chars - 1] + "…",
            LEFT + (place + 0.5) * step,
            HEIGHT - WORDS,
            anchor="middle",
        )
        for place, label in enumerate(labels)
        if place % every == 0
    ]


def _by_weight(wholes: Sequence[Mapping[str, float]]) -> list[str]:
    weights: dict[str, float] = {}
    for shares in wholes:
        for name, share in shares.items():
            weights[name] = weights.get(name, 0.0) + share
    return sorted(weights, key=lambda name: (-weights[name], name))


def _moment(at: datetime) -> str:
    return f"{at.astimezone(current_zone()):%Y-%m-%d %H:%M %Z}"
