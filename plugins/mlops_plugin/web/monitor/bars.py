"""Bars of availability and latency over time, drawn by the server; their description says the same."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from markupsafe import Markup

from mlops_plugin.events.health.probes import Span, added_up
from mlops_plugin.web import svg
from mlops_plugin.web.axes import number_ticks
from mlops_plugin.web.frame import SHARES, WIDTH, Frame, Scale
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.languages.translation import ngettext
from mlops_plugin.web.languages.written_values import (
    format_availability,
    format_count,
    format_latency,
    format_number,
)

_STEP, _WIDTH, _HEIGHT = 6, 5, 32
_LEAST = 2.0  # so that a small share is visible
_CHART_HEIGHT = 154


def availability_bars(spans: Sequence[Span], window: str, label: str) -> Markup:
    """One bar for each span: successful probes below, failed ones above; grey if nothing was probed."""
    frame = _frame(spans, [1.0], SHARES)
    bars = [bar for span in spans for bar in _availability_bar(frame, span, _width(frame, spans))]
    title = _("Availability, %(label)s", label=label)
    return _picture(f"availability-{window}", title, describe_availability(spans), [*frame.axes(), *bars])


def latency_bars(spans: Sequence[Span], window: str, label: str) -> Markup:
    """One bar for each span, as high as its mean latency."""
    frame = _frame(spans, [span.seconds or 0.0 for span in spans], Scale(_short_latency, number_ticks))
    bars = []
    for span in spans:
        if span.seconds is not None:
            height = max(_LEAST, frame.y(0.0) - frame.y(span.seconds))
            place = (frame.x(span.start), frame.y(0.0) - height, _width(frame, spans), height)
            bars.append(_bar("latency", place, span, describe_latency([span])))
    title = _("Latency, %(label)s", label=label)
    return _picture(f"latency-{window}", title, describe_latency(spans), [*frame.axes(), *bars])


def day_bars(day: Sequence[float | None], availability: float | None) -> Markup:
    """A bar for each hour of a day by its availability alone, small enough for a table.

    `availability` is that of the whole day: hours are not probed equally often.
    """
    bars = []
    for number, share in enumerate(day):
        x = number * _STEP
        if share is None:
            bars.append(svg.rectangle("none", x, _HEIGHT - _LEAST, _WIDTH, _LEAST))
            continue
        failed = max(_LEAST, _HEIGHT * (1 - share)) if share < 1 else 0.0
        bars.append(svg.rectangle("up", x, failed, _WIDTH, _HEIGHT - failed))
        bars.append(svg.rectangle("down", x, 0.0, _WIDTH, failed))
    words = _("not probed")
    if availability is not None:
        words = _("%(share)s of probes succeeded in 24 hours", share=format_availability(availability))
    return svg.strip(bars, len(day) * _STEP, _HEIGHT, description=words)


def describe_availability(spans: Sequence[Span]) -> str:
    """`99.3 % of 288 probes`"""
    whole = added_up(spans)
    if whole.availability is None:
        return _("not probed")
    return ngettext(
        "%(share)s of %(count)s probe",
        "%(share)s of %(count)s probes",
        whole.count,
        share=format_availability(whole.availability),
        count=format_count(whole.count),
    )


def describe_latency(spans: Sequence[Span]) -> str:
    """`1.5 ms on average, 20.1 ms at most`"""
    whole = added_up(spans)
    if whole.seconds is None:
        return _("not known")
    return _(
        "%(mean)s on average, %(most)s at most",
        mean=format_latency(whole.seconds),
        most=format_latency(whole.seconds_max),
    )


def _frame(spans: Sequence[Span], values: Sequence[float], scale: Scale) -> Frame:
    """From the beginning of the first span to the end of the last."""
    return Frame.around(
        [spans[0].start, spans[-1].start + _length(spans)], values, scale, height=_CHART_HEIGHT
    )


def _short_latency(seconds: float) -> str:
    """`20 ms`, `1.5 s`: narrow enough for an axis."""
    return f"{format_number(seconds)} s" if seconds >= 1 else f"{format_number(seconds * 1_000)} ms"


def _length(spans: Sequence[Span]) -> timedelta:
    return spans[1].start - spans[0].start if len(spans) > 1 else timedelta(hours=1)


def _width(frame: Frame, spans: Sequence[Span]) -> float:
    return frame.x(spans[0].start + _length(spans)) - frame.x(spans[0].start) - 1


def _availability_bar(frame: Frame, span: Span, width: float) -> list[Markup]:
    words, x = describe_availability([span]), frame.x(span.start)
    top, bottom = frame.y(1.0), frame.y(0.0)
    if span.availability is None:
        return [_bar("none", (x, bottom - _LEAST, width, _LEAST), span, words)]
    failed = max(_LEAST, (bottom - top) * (1 - span.availability)) if span.down else 0.0
    look = "partly" if span.partly else "up"
    whole = bottom - top
    below = [_bar(look, (x, top + failed, width, whole - failed), span, words)] if failed < whole else []
    return below + ([_bar("down", (x, top, width, failed), span, words)] if failed else [])


def _bar(look: str, place: tuple[float, float, float, float], span: Span, words: str) -> Markup:
    """With the span's beginning and words about it, which charts.js shows."""
    return svg.rectangle(look, *place, tip=words, at=span.start.isoformat())


def _picture(key: str, title: str, description: str, body: Sequence[Markup]) -> Markup:
    return svg.picture(
        body, WIDTH, _CHART_HEIGHT, key=key, title=title, description=description, data_crosshair=""
    )
