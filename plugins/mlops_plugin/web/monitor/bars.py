"""Bars of availability and latency over time, drawn by the server; their description says the same."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from mlops_plugin.events.health.probes import Span, added_up
from mlops_plugin.web import svg
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.languages.translation import ngettext
from mlops_plugin.web.languages.written_values import format_availability, format_count, format_latency

_STEP, _WIDTH, _HEIGHT = 6, 5, 32
_LEAST = 2.0  # so that a small share is visible


def availability_bars(spans: Sequence[Span], label: str) -> Markup:
    """One bar for each span: successful probes below, failed ones above; grey if nothing was probed."""
    bars = [bar for number, span in enumerate(spans) for bar in _availability_bar(number * _STEP, span)]
    return _strip(
        bars,
        len(spans),
        _("Availability, %(label)s: %(value)s", label=label, value=describe_availability(spans)),
        data_crosshair="",
    )


def latency_bars(spans: Sequence[Span], label: str) -> Markup:
    """One bar for each span, as high as its mean latency; the highest fills the height."""
    highest = max((span.seconds or 0.0 for span in spans), default=0.0)
    bars = []
    for number, span in enumerate(spans):
        if span.seconds is not None and highest > 0:
            height = max(_LEAST, _HEIGHT * span.seconds / highest)
            words = describe_latency([span])
            bars.append(_bar(number * _STEP, _HEIGHT - height, height, "latency", span, words))
    words = _("Latency, %(label)s: %(value)s", label=label, value=describe_latency(spans))
    return _strip(bars, len(spans), words, data_crosshair="")


def day_bars(day: Sequence[float | None], availability: float | None) -> Markup:
    """A bar for each hour of a day by its availability alone, small enough for a table.

    `availability` is that of the whole day: hours are not probed equally often.
    """
    bars = []
    for number, share in enumerate(day):
        x = number * _STEP
        if share is None:
            bars.append(_bar(x, _HEIGHT - _LEAST, _LEAST, "none"))
            continue
        failed = max(_LEAST, _HEIGHT * (1 - share)) if share < 1 else 0.0
        bars += [_bar(x, failed, _HEIGHT - failed, "up"), _bar(x, 0.0, failed, "down")]
    words = _("not probed")
    if availability is not None:
        words = _("%(share)s of probes succeeded in 24 hours", share=format_availability(availability))
    return _strip(bars, len(day), words)


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


def _availability_bar(x: int, span: Span) -> list[Markup]:
    words = describe_availability([span])
    if span.availability is None:
        return [_bar(x, _HEIGHT - _LEAST, _LEAST, "none", span, words)]
    failed = max(_LEAST, _HEIGHT * (1 - span.availability)) if span.down else 0.0
    look = "partly" if span.partly else "up"
    below = [_bar(x, failed, _HEIGHT - failed, look, span, words)] if failed < _HEIGHT else []
    return below + ([_bar(x, 0.0, failed, "down", span, words)] if failed else [])


def _bar(
    x: int, y: float, height: float, look: str, span: Span | None = None, words: str | None = None
) -> Markup:
    """With the span's beginning and words about it, which charts.js shows."""
    at = None if span is None else span.start.isoformat()
    return svg.rectangle(look, x, y, _WIDTH, height, tip=words, at=at)


def _strip(bars: Sequence[Markup], count: int, description: str, **data: str) -> Markup:
    return svg.strip(bars, count * _STEP, _HEIGHT, description=description, **data)
