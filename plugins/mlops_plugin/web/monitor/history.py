"""The history of a host, a database or a model: availability, latency, incidents; as a page and as JSON."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, get_args

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse

from mlops_plugin.events.health.probes import ProbeHistory, Span, added_up
from mlops_plugin.monitoring.recording import model_of, model_target
from mlops_plugin.monitoring.targets import targets_of
from mlops_plugin.monitoring.timing import timing_target
from mlops_plugin.web.access import reads
from mlops_plugin.web.error_status import refusals
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.monitor.records import (
    FAILED_PROBES,
    FailedProbe,
    History,
    IncidentStatus,
    SpanStatus,
    Window,
    WindowStatus,
)
from mlops_plugin.web.monitor.windows import TargetPast, shown_past, spans_of, whole_day
from mlops_plugin.web.pages import pages
from mlops_plugin.web.visible import Visible, VisibleDep

router = APIRouter()


def past(seen: VisibleDep, target: str) -> TargetPast:
    """What is recorded of a target; 404 if it is not watched now, nor was within a month."""
    name = _names(seen).get(target)
    store = seen.site.event_store()
    now, history = store.now(), ProbeHistory(store)
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
    day = whole_day(single, hours, now - seen.site.loaded().config.monitor.keep_probes)
    return TargetPast(
        target,
        name or target,
        name is not None,
        {
            window: spans_of(window, day if window == "24 hours" else hours, now)
            for window in get_args(Window)
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


Recorded = Annotated[TargetPast, Depends(past)]


@router.get(
    "/monitor/history", response_class=HTMLResponse, dependencies=[reads("Monitor")], include_in_schema=False
)
def history_page(request: Request, recorded: Recorded) -> HTMLResponse:
    """The past of one target."""
    return pages(request).render(request, "monitor/history.html", **shown_past(recorded))


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


def _span(span: Span) -> SpanStatus:
    return SpanStatus(
        start=span.start,
        up=span.up,
        partly=span.partly,
        down=span.down,
        seconds_mean=span.seconds,
        seconds_max=span.seconds_max,
    )
