"""The tries of a dispatch as bars over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from markupsafe import Markup

from mlops_plugin.web import svg
from mlops_plugin.web.axes import duration_ticks
from mlops_plugin.web.dispatches.story import FAILED, RUNNING, SUCCEEDED, Try, steps_of
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.languages.translation import word_of
from mlops_plugin.web.languages.written_values import format_duration

_WIDTH, _LEFT, _ROW, _BAR = 640, 72, 30, 18
_LOOKS = {SUCCEEDED: "bar-ok", FAILED: "bar-bad", RUNNING: "bar-info"}


def timeline(tries: Sequence[Try], now: datetime) -> Markup | None:
    """The tries of the last pass as bars over time, a line for each step; None if there are none."""
    last = [each for each in tries if each.pass_number == tries[-1].pass_number] if tries else []
    if not last:
        return None
    start = min(each.started_at for each in last)
    end = max(each.ended_at or (now if each.outcome == RUNNING else each.started_at) for each in last)
    span = max((end - start).total_seconds(), 0.001)
    scale = (_WIDTH - _LEFT - 8) / span
    parts = []
    steps = steps_of(last)
    lanes = max((each.partition or 0) for each in last) + 1
    for row, step in enumerate(steps):
        y = row * _ROW + 6
        parts.append(svg.label(step, 0, y + 14))
        parts.append(svg.level("grid", _LEFT, _WIDTH - 8, y + 22))
        parts += [_bar(each, start, scale, now, y, lanes) for each in last if each.step == step]
    height = len(steps) * _ROW + 24
    parts += _time_axis(span, scale, height)
    description = "; ".join(map(_describe, last))
    return svg.picture(
        parts, _WIDTH, height, key="timeline", title=_("Steps over time"), description=description
    )


def _time_axis(span: float, scale: float, height: int) -> Iterator[Markup]:
    """Round durations since the first try, as far as the bars reach."""
    for seconds in duration_ticks(0.0, span):
        x = _LEFT + seconds * scale
        if x > _WIDTH - 8:
            break
        anchor = "start" if not seconds else "end" if x > _WIDTH - 40 else "middle"
        yield svg.upright("grid", x, 6, height - 18)
        yield svg.label(format_duration(seconds) if seconds else "0 s", x, height - 4, anchor=anchor)


def _describe(each: Try) -> str:
    text = _(
        "%(step)s, try %(number)s: %(outcome)s",
        step=each.what,
        number=each.number,
        outcome=word_of(each.outcome),
    )
    if each.seconds is None:
        return text
    return _("%(text)s in %(time)s", text=text, time=format_duration(each.seconds))


def _bar(each: Try, start: datetime, scale: float, now: datetime, y: int, lanes: int) -> Markup:
    ended = each.ended_at or (now if each.outcome == RUNNING else each.started_at)
    x = _LEFT + (each.started_at - start).total_seconds() * scale
    width = max((ended - each.started_at).total_seconds() * scale, 2.0)
    top, height = float(y), float(_BAR)
    if each.partition is not None:
        top, height = y + _BAR * each.partition / lanes, _BAR / lanes
    tip = _(
        "%(step)s, try %(number)s: %(outcome)s, %(time)s",
        step=each.what,
        number=each.number,
        outcome=word_of(each.outcome),
        time=format_duration(each.seconds),
    )
    return svg.rectangle(_LOOKS.get(each.outcome, "bar-warn"), x, top, width, height, tip=tip)
