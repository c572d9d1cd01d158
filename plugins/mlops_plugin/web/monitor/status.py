"""Finds out what the Monitor knows now: of models, hosts and databases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from mlops_plugin.config.schedules import AssetSchedule, CronSchedule, FixedSchedule
from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.events.health.probes import ProbeHistory, Span, added_up, hour_of, spans
from mlops_plugin.events.latest import latest_dispatches
from mlops_plugin.events.records import DispatchRecord
from mlops_plugin.events.tries import openings_of, read_moments, retry_of
from mlops_plugin.monitoring.board import Reading
from mlops_plugin.monitoring.model_state import (
    DagSeen,
    ModelState,
    as_far_as_known,
    last_dispatch,
    model_state,
    retry_words,
)
from mlops_plugin.monitoring.targets import targets_of
from mlops_plugin.monitoring.watch import Past
from mlops_plugin.orchestration.dag_states import AirflowState
from mlops_plugin.sentences import Sentence
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.languages.translation import translate, word_of
from mlops_plugin.web.languages.written_values import describe_cron, format_distance, format_period
from mlops_plugin.web.monitor.records import LastDispatch, ModelStatus, MonitorStatus, ProbeStatus, StepStatus
from mlops_plugin.web.shared_site import Site
from mlops_plugin.web.visible import Visible

_WAIT_S = 0.25  # how long a page waits for fresh results
_READ_TIMEOUT_S = 10.0


def status_of(seen: Visible, airflow: AirflowState) -> MonitorStatus:
    """What is known now. Slow databases and hosts delay it by half a second at most."""
    site, watch, loaded = seen.site, seen.site.watch, seen.site.loaded()
    monitor = loaded.config.monitor
    targets = targets_of(monitor, loaded.config.events, site.deployment().airflow_home)
    names = [*loaded.config.models, *loaded.broken]
    watched = [target.id for target in targets]
    past = watch.past.look(
        lambda: _read_past(site, names, watched), wait_s=_WAIT_S, timeout_s=_READ_TIMEOUT_S
    )
    known = past.value or Past({}, (), timedelta(0))
    is_read = past.value is not None
    readings = watch.board.look(
        targets,
        refresh_s=monitor.refresh.total_seconds(),
        timeout_s=monitor.timeout.total_seconds(),
        wait_s=_WAIT_S,
    )
    now = datetime.now(UTC)
    start = hour_of(now + known.ahead) - timedelta(hours=23)
    days: dict[str, list[Span]] = {reading.target.id: [] for reading in readings}
    for hour in known.hours:
        if hour.target in days:
            days[hour.target].append(hour)
    probes = [
        _probe(reading, spans(days[reading.target.id], start, timedelta(hours=1), 24)) for reading in readings
    ]
    return MonitorStatus(
        at=now,
        store_at=now + known.ahead,
        refresh_seconds=monitor.refresh.total_seconds(),
        models=_models(seen, airflow.dags(seen.names), known, now + known.ahead, is_read=is_read),
        hosts=[probe for probe in probes if probe.kind == "host"],
        databases=[probe for probe in probes if probe.kind == "database"],
        problem=past.error,
    )


def _read_past(site: Site, models: Sequence[str], targets: Sequence[str]) -> Past:
    store = site.event_store()
    now = store.now()
    hours = ProbeHistory(store).hours(*targets, since=now - timedelta(hours=24))
    latest = latest_dispatches(store, models)
    running = [dispatch.dispatch_id for dispatch in latest.values() if dispatch.state == "running"]
    found = read_moments(store, running)
    retries = {name: retry for name, moments in found.items() if (retry := retry_of(moments))}
    return Past(latest, hours, now - datetime.now(UTC), retries, openings_of(found))


def _models(
    seen: Visible, dags: Mapping[str, DagSeen], known: Past, now: datetime, *, is_read: bool
) -> list[ModelStatus]:
    late_after = seen.site.loaded().config.monitor.late_after
    broken = seen.broken
    configured: Sequence[tuple[str, ModelConfig | None]] = [
        *seen.models.items(),
        *((name, None) for name in broken),
    ]
    found = []
    for name, model in configured:
        dag = dags.get(name)
        dispatch = last_dispatch(dag, known.dispatches.get(name))
        problem = None if model else "; ".join(map(str, broken[name]))
        limit = model.dispatch_timeout if model else None
        opened = known.opened.get(dispatch.dispatch_id) if dispatch else None
        state = model_state(
            dag, dispatch, now, late_after=late_after, limit=limit, problem=problem, opened_at=opened
        )
        state = as_far_as_known(state, is_read=is_read)
        state = _with_retry(state, model, dispatch, known)
        due = dag.next_run_after if dag and not dag.is_paused else None
        found.append(
            ModelStatus(
                name=name,
                state=state.word,
                why=translate(state.why),
                schedule=schedule_in_words(model) if model else _("unknown"),
                tags=list(model.tags) if model else [],
                owner=model.owner if model else None,
                is_paused=None if dag is None or dag.is_stale else dag.is_paused,
                may_pause=seen.rights.may_pause(name),
                may_trigger=seen.rights.may_trigger(name),
                last=_last(dispatch),
                next_at=due,
                next_in=format_distance(due - now) if due else None,
            )
        )
    return found


def _with_retry(
    state: ModelState, model: ModelConfig | None, dispatch: DispatchRecord | None, known: Past
) -> ModelState:
    """The state with what is being retried."""
    retry = known.retries.get(dispatch.dispatch_id) if dispatch and dispatch.state == "running" else None
    if retry is None or model is None or state.word not in ("running", "overrun"):
        return state
    why = Sentence("%(why)s; %(retry)s", why=state.why, retry=retry_words(retry, model.retries))
    return ModelState(state.word, why)


def _last(dispatch: DispatchRecord | None) -> LastDispatch | None:
    if dispatch is None:
        return None
    return LastDispatch(
        dispatch_id=dispatch.dispatch_id,
        state=dispatch.state,
        at=dispatch.finished_at or dispatch.created_at,
        error=dispatch.error,
    )


def _probe(reading: Reading, day: list[Span]) -> ProbeStatus:
    target, result = reading.target, reading.result
    return ProbeStatus(
        id=target.id,
        kind=target.kind,
        name=target.name,
        address=target.address,
        state=result.state if result else "unknown",
        is_probing=reading.is_probing,
        at=result.at if result else None,
        seconds=result.seconds if result else None,
        day=[span.availability for span in day],
        availability=added_up(day).availability,
        steps=[
            StepStatus(
                name=step.name,
                address=step.address,
                outcome=step.outcome,
                seconds=step.seconds,
                said=step.message,
            )
            for step in (result.steps if result else ())
        ],
    )


def schedule_in_words(model: ModelConfig) -> str:
    """The schedule of a model for people."""
    match model.schedule:
        case None:
            return _("manual only")
        case AssetSchedule(names):
            return _("after %(assets)s", assets=_(" and ").join(names))
        case FixedSchedule(length=length):
            return _("every %(time)s", time=format_period(length))
        case CronSchedule(expression) if not expression.startswith("@"):
            return f"{describe_cron(expression)} ({model.timezone})"
    return word_of(str(model.schedule).removeprefix("@"))
