"""Bars of availability and latency over time, drawn by the server as SVG; a text says the same."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from mlops_plugin.events.probes import Span, added_up

_STEP, _WIDTH, _HEIGHT = 6, 5, 32
_LEAST = 2.0  # so that a small share is seen


def availability_bars(spans: Sequence[Span], label: str) -> Markup:
    """One bar for each span: what got through below, what did not above; grey where nothing was probed."""
    return _svg(
        "".join(_availability_bar(number * _STEP, span) for number, span in enumerate(spans)),
        len(spans),
        f"Availability, {label}: {availability_in_words(spans)}",
    )


def latency_bars(spans: Sequence[Span], label: str) -> Markup:
    """One bar for each span, as high as its mean latency; the highest fills the height."""
    highest = max((span.seconds or 0.0 for span in spans), default=0.0)
    bars = []
    for number, span in enumerate(spans):
        if span.seconds is not None and highest > 0:
            height = max(_LEAST, _HEIGHT * span.seconds / highest)
            bars.append(_bar(number * _STEP, _HEIGHT - height, height, "latency"))
    return _svg("".join(bars), len(spans), f"Latency, {label}: {latency_in_words(spans)}")


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
        bars += [_bar(x, failed, _HEIGHT - failed, "up"), _bar(x, 0, failed, "down")]
    said = (
        "not probed" if availability is None else f"{percent(availability)} of probes got through in 24 hours"
    )
    return _svg("".join(bars), len(day), said)


def availability_in_words(spans: Sequence[Span]) -> str:
    """`99.3 % of 288 probes`"""
    whole = added_up(spans)
    if whole.availability is None:
        return "not probed"
    return f"{percent(whole.availability)} of {whole.count:,} probe{'s' if whole.count != 1 else ''}"


def latency_in_words(spans: Sequence[Span]) -> str:
    """`1.5 ms on average, 20.1 ms at most`"""
    whole = added_up(spans)
    if whole.seconds is None:
        return "not known"
    return f"{milliseconds(whole.seconds)} on average, {milliseconds(whole.seconds_max)} at most"


def percent(share: float) -> str:
    """Never 100 % where something failed."""
    return "100 %" if share == 1 else f"{int(share * 1000) / 10:.1f} %"


def milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1000:,.1f} ms"  # noqa: RUF001


def _availability_bar(x: int, span: Span) -> str:
    if span.availability is None:
        return _bar(x, _HEIGHT - _LEAST, _LEAST, "none")
    failed = max(_LEAST, _HEIGHT * (1 - span.availability)) if span.down else 0.0
    look = "partly" if span.partly else "up"
    below = _bar(x, failed, _HEIGHT - failed, look) if failed < _HEIGHT else ""
    return below + (_bar(x, 0, failed, "down") if failed else "")


def _bar(x: int, y: float, height: float, look: str) -> str:
    return f'<rect class="{look}" x="{x}" y="{y:.1f}" width="{_WIDTH}" height="{height:.1f}"/>'


def _svg(bars: str, count: int, said: str) -> Markup:
    return (
        Markup(
            '<svg class="bars" role="img" aria-label="{}" preserveAspectRatio="none" viewBox="0 0 {} {}">'
        ).format(said, count * _STEP, _HEIGHT)
        + Markup(bars)  # noqa: S704 -- numbers and words of ours only
        + Markup("</svg>")
    )
