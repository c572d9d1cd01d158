"""Bars for many classes: a row for each, so that every name can be read, where colours would not suffice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from mlops_plugin.web import svg
from mlops_plugin.web.axes import number_ticks
from mlops_plugin.web.charts import Chart, Table
from mlops_plugin.web.frame import WIDTH
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.languages.written_values import format_share

MOST_ROWS = 40  # more classes are drawn as one row of others; the table has them all
_LEFT, _RIGHT, _TOP, _BOTTOM = 168, 56, 4, 24
_CHARS = 24  # of a name
_BAR, _GAP = 9, 6


def class_bars(
    key: str, title: str, series: Sequence[tuple[str, Mapping[str, float]]], *, head: str
) -> Chart:
    """Shares (0 to 1) of classes in each series, the largest in the first series at the top.

    `head` names the classes in the table.
    """
    first = series[0][1]
    names = sorted(
        {name for _name, shares in series for name in shares}, key=lambda name: (-first.get(name, 0.0), name)
    )
    drawn = names if len(names) <= MOST_ROWS else names[: MOST_ROWS - 1]
    rows = [(name, [shares.get(name, 0.0) for _name, shares in series]) for name in drawn]
    if len(names) > len(drawn):
        rest = [sum(shares.get(name, 0.0) for name in names[len(drawn) :]) for _name, shares in series]
        rows.append((_("%(number)s others", number=len(names) - len(drawn)), rest))
    greatest = max((share for _name, shares in rows for share in shares), default=0.0)
    ticks = number_ticks(0.0, greatest or 1.0)
    step = _BAR * len(series) + _GAP
    height = _TOP + step * len(rows) + _BOTTOM
    scale = (WIDTH - _LEFT - _RIGHT) / ticks[-1]
    body = list(_axis(ticks, scale, height))
    for row, (name, shares) in enumerate(rows):
        body += _row(name, shares, [each for each, _shares in series], _TOP + row * step, scale)
    description = _(
        "Shares of %(number)s values for %(series)s",
        number=len(names),
        series=", ".join(name for name, _shares in series),
    )
    table = Table(
        (head, *(name for name, _shares in series)),
        [(name, *(format_share(shares.get(name, 0.0)) for _name, shares in series)) for name in names],
        has_times=False,
    )
    legend = tuple((svg.swatch(f"series-{number}"), name) for number, (name, _shares) in enumerate(series))
    picture = svg.picture(body, WIDTH, height, key=key, title=title, description=description)
    return Chart(title, picture, table, legend)


def _axis(ticks: Sequence[float], scale: float, height: int) -> list[Markup]:
    parts = []
    for tick in ticks:
        x = _LEFT + tick * scale
        parts.append(svg.upright("grid", x, _TOP, height - _BOTTOM))
        parts.append(svg.label(f"{tick:.0%}", x, height - 8, anchor="middle"))
    return parts


def _row(name: str, shares: Sequence[float], series: Sequence[str], top: int, scale: float) -> list[Markup]:
    """The name, a bar for each series, and the first share in figures."""
    short = name if len(name) <= _CHARS else f"{name[: _CHARS - 1]}…"
    middle = top + _BAR * len(shares) / 2 + 4
    parts = [svg.label(short, _LEFT - 8, middle, anchor="end")]
    for number, share in enumerate(shares):
        tip = f"{name}, {series[number]}: {format_share(share)}"
        parts.append(
            svg.rectangle(f"series-{number}", _LEFT, top + number * _BAR, share * scale, _BAR - 1, tip=tip)
        )
    end = _LEFT + max(shares) * scale + 4
    return [*parts, svg.label(format_share(shares[0]), end, middle)]
