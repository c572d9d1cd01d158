"""The history of a host, a database or a model: availability, latency, incidents; as a page and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from mlops_plugin.events.health.incidents import IncidentState
from mlops_plugin.events.health.probes import ProbeHistory, ProbeState, Span, added_up, hour_of, spans
from mlops_plugin.monitoring.recording import model_of, model_target
from mlops_plugin.monitoring.targets import targets_of
from mlops_plugin.monitoring.timing import timing_target
from mlops_plugin.web.access import reads
from mlops_plugin.web.error_status import refusals
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.languages.written_values import format_availability, format_latency, format_period
from mlops_plugin.web.monitor.bars import (
    availability_bars,
    describe_availability,
    describe_latency,
    latency_bars,
)
from mlops_plugin.web.pages import pages
from mlops_plugin.web.visible import Visible, VisibleDep

FAILED_PROBES = 100  # shown; enough to see what they have in common

router = APIRouter()

Window = Literal["24 hours", "7 days", "30 days"]
_LENGTHS: dict[Window, timedelta] = {
    "24 hours": timedelta(minutes=30),
    "7 days": timedelta(hours=2),
    "30 days": timedelta(hours=12),
}
_COUNTS: dict[Window, int] = {"24 hours": 48, "7 days": 84, "30 days": 60}


class SpanStatus(BaseModel):
    """A stretch of time. Of each probe, `partly` means that some addresses of the host worked."""

    start: datetime
    up: int
    partly: int
    down: int
    seconds_mean: float | None = Field(description="Of the probes that succeeded.")
    seconds_max: float


class IncidentStatus(BaseModel):
    """`ended_at` is null while it lasts."""

    state: IncidentState = Field(description="Of a model also `late`, `missed` and `overrun`.")
    began_at: datetime
    ended_at: datetime | None
    ended_as: str | None = Field(description="The next state, or `no longer watched`; null while it lasts.")
    error: str | None


class FailedProbe(BaseModel):
    """A single probe that found its target down, or partly up; too few in a row make no incident."""

    at: datetime
    state: ProbeState
    error: str | None


class WindowStatus(BaseModel):
    window: Window
    availability: float | None = Field(description="Share of probes that succeeded, 0 to 1.")
    spans: list[SpanStatus]


class History(BaseModel):
    target: str
    name: str
    is_watched: bool = Field(description="False: it was removed from the configuration.")
    windows: list[WindowStatus]
    incidents: list[IncidentStatus]
    failed_probes: list[FailedProbe] = Field(
        description=f"The newest {FAILED_PROBES} that are still kept, newest first; none of a model."
    )


@dataclass(frozen=True)
class _Past:
    target: str
    name: str
    is_watched: bool
    windows: dict[Window, list[Span]]
    incidents: list[IncidentStatus]
    failed_probes: list[FailedProbe]
    now: datetime


def past(seen: VisibleDep, target: str) -> _Past:
    """What is recorded of a target; 404 if it is not watched now, nor was within a month."""
    name = _names(seen).get(target)
    now = datetime.now(UTC)
    history = ProbeHistory(seen.site.event_store())
    month = now - timedelta(days=31)
    hours = history.hours(target, since=month)
    model = model_of(target)
    may_read = model is None or seen.rights.may_read(model)
    if not may_read or (name is None and not hours):
        raise HTTPException(
            404,
            _(
                "nothing is recorded about '%(target)s', or it is a model whose DAG you may not read",
                target=target[:100],
            ),
        )
    single = history.probes(target, since=now - timedelta(hours=24.5))
    return _Past(
        target,
        name or target,
        name is not None,
        {
            window: spans(
                single if window == "24 hours" else hours, _start(window, now), length, _COUNTS[window]
            )
            for window, length in _LENGTHS.items()
        },
        [
            IncidentStatus(
                state=incident.state,
                began_at=incident.began_at,
                ended_at=incident.ended_at,
                ended_as=incident.ended_as,
                error=incident.error,
            )
            for incident in history.incidents(*_with_its_timing(target), since=month)
        ],
        _failed_probes(history, target),
        now,
    )


def _failed_probes(history: ProbeHistory, target: str) -> list[FailedProbe]:
    # Of a model each round repeats the outcome of the same dispatch.
    found = [] if model_of(target) else history.failed_probes(target, limit=FAILED_PROBES)
    return [FailedProbe(at=probe.at, state=probe.state, error=probe.error) for probe in found]


Recorded = Annotated[_Past, Depends(past)]


@router.get(
    "/monitor/history", response_class=HTMLResponse, dependencies=[reads("Monitor")], include_in_schema=False
)
def history_page(request: Request, recorded: Recorded) -> HTMLResponse:
    """The past of one target."""
    return pages(request).render(
        request,
        "monitor/history.html",
        name=recorded.name,
        target=recorded.target,
        is_watched=recorded.is_watched,
        is_model=model_of(recorded.target) is not None,
        windows=[_shown(window, found) for window, found in recorded.windows.items()],
        incidents=[
            (incident, format_period((incident.ended_at or recorded.now) - incident.began_at))
            for incident in recorded.incidents
        ],
        failed_probes=recorded.failed_probes,
        most_failed=FAILED_PROBES,
    )


@router.get(
    "/api/v1/monitor/history", responses=refusals(404), dependencies=[reads("Monitor")], tags=["Monitor"]
)
def history(recorded: Recorded) -> History:
    """Of `target`, which is a probe's `id` in `/api/v1/monitor` or `model NAME`."""
    return History(
        target=recorded.target,
        name=recorded.name,
        is_watched=recorded.is_watched,
        windows=[
            WindowStatus(
                window=window,
                availability=added_up(found).availability,
                spans=[_span(span) for span in found],
            )
            for window, found in recorded.windows.items()
        ],
        incidents=recorded.incidents,
        failed_probes=recorded.failed_probes,
    )


def _names(seen: Visible) -> dict[str, str]:
    config = seen.site.loaded().config
    targets = targets_of(config.monitor, config.events, seen.site.deployment().airflow_home)
    models = {model_target(name): _("Model %(name)s", name=name) for name in seen.names}
    return {target.id: target.name for target in targets} | models


def _with_its_timing(target: str) -> list[str]:
    """Incidents of a model are those of its outcomes and those of its timing."""
    model = model_of(target)
    return [target] if model is None else [target, timing_target(model)]


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
    label = titles[window][:1].lower() + titles[window][1:]
    return {
        "title": titles[window],
        "start": found[0].start,
        "middle": found[len(found) // 2].start,
        "availability": describe_availability(found),
        "latency": describe_latency(found),
        "availability_bars": availability_bars(found, label),
        "latency_bars": latency_bars(found, label),
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


def _span(span: Span) -> SpanStatus:
    return SpanStatus(
        start=span.start,
        up=span.up,
        partly=span.partly,
        down=span.down,
        seconds_mean=span.seconds,
        seconds_max=span.seconds_max,
    )
