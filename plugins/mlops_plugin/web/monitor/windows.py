"""The past of a target in windows of time, as its page shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from mlops_plugin.events.health.probes import ProbeRecord, Span, hour_of, spans
from mlops_plugin.monitoring.recording import model_of
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.languages.written_values import format_availability, format_latency, format_period
from mlops_plugin.web.monitor.bars import (
    availability_bars,
    describe_availability,
    describe_latency,
    latency_bars,
)
from mlops_plugin.web.monitor.records import FAILED_PROBES, FailedProbe, IncidentStatus, Window

_LENGTHS: dict[Window, timedelta] = {
    "24 hours": timedelta(minutes=30),
    "7 days": timedelta(hours=2),
    "30 days": timedelta(hours=12),
}
_COUNTS: dict[Window, int] = {"24 hours": 48, "7 days": 84, "30 days": 60}


@dataclass(frozen=True)
class TargetPast:
    """What is recorded of a target, each window in its spans."""

    target: str
    name: str
    is_watched: bool
    windows: dict[Window, list[Span]]
    incidents: list[IncidentStatus]
    failed_probes: list[FailedProbe]
    now: datetime


def whole_day(
    single: Sequence[ProbeRecord], hours: Sequence[Span], kept_since: datetime
) -> list[ProbeRecord | Span]:
    """The probes of a day, and before the first hour whose probes are all kept still, sums of hours."""
    first = hour_of(kept_since) + timedelta(hours=1)
    return [
        *(hour for hour in hours if hour.start < first),
        *(probe for probe in single if probe.at >= first),
    ]


def spans_of(window: Window, found: Sequence[ProbeRecord | Span], now: datetime) -> list[Span]:
    """The window up to now."""
    return spans(found, _start(window, now), _LENGTHS[window], _COUNTS[window])


def shown_past(recorded: TargetPast) -> dict[str, Any]:
    """What the template shows."""
    return {
        "name": recorded.name,
        "target": recorded.target,
        "is_watched": recorded.is_watched,
        "is_model": model_of(recorded.target) is not None,
        "windows": [_shown(window, found) for window, found in recorded.windows.items()],
        "incidents": [
            (incident, format_period((incident.ended_at or recorded.now) - incident.began_at))
            for incident in recorded.incidents
        ],
        "failed_probes": recorded.failed_probes,
        "most_failed": FAILED_PROBES,
    }


def _start(window: Window, now: datetime) -> datetime:
    """The start of the first span: the last one contains `now`, and all start at full or half hours."""
    length, count = _LENGTHS[window], _COUNTS[window]
    if window == "24 hours":
        end = hour_of(now) + (length if now.minute < 30 else 2 * length)
    else:
        end = hour_of(now) + timedelta(hours=1)
    return end - count * length


def _shown(window: Window, found: list[Span]) -> dict[str, object]:
    titles: dict[Window, str] = {
        "24 hours": _("Last 24 hours"),
        "7 days": _("Last 7 days"),
        "30 days": _("Last 30 days"),
    }
    key = window.replace(" ", "-")
    label = titles[window][:1].lower() + titles[window][1:]
    return {
        "title": titles[window],
        "availability": describe_availability(found),
        "latency": describe_latency(found),
        "availability_bars": availability_bars(found, key, label),
        "latency_bars": latency_bars(found, key, label),
        "rows": [
            (
                span.start,
                span.count,
                "" if span.availability is None else format_availability(span.availability),
                format_latency(span.seconds),
            )
            for span in reversed(found)
            if span.count
        ],
    }
