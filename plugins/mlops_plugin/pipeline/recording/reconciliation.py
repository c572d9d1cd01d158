"""Closes dispatches that nobody closed: their tasks were killed, their runs deleted or ended by hand.

Airflow knows how a run ended; a dispatch that is still "running" after that is closed in the same way. One
without a run is closed when its process has ended. Called when a run fails (a DAG callback), before every
`collect`, by the terminal, and in each round of `mlops_monitor`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Literal

from mlops_plugin.config.durations import format_duration
from mlops_plugin.config.loader import LoadedConfig
from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import MlopsError
from mlops_plugin.events.details.milestones import TryStart
from mlops_plugin.events.details.process_identity import ProcessIdentity
from mlops_plugin.events.records import DispatchIdentity, DispatchRecord, EventRecord
from mlops_plugin.events.store import EventStore
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.dispatch import dispatch_id, origin_of

_log = logging.getLogger(__name__)

# A dispatch without a DAG run (terminal, Showroom) whose process runs elsewhere: no longer running by then.
_LONGEST_WITHOUT_RUN = timedelta(days=1)
# Other models' dispatches are looked at only if they were silent for so long, and not all at once.
_SILENT = timedelta(minutes=10)
_MOST_ASKED = 20
_COUNTING_S = 10.0  # so long the sink may take to count a dispatch's rows

# Whether Airflow has that run of that DAG in one of those states.
HasRun = Callable[[str, str, list[str]], bool]


def close_failed_run(
    model: ModelConfig, run_id: str, reason: str | None, deployment: Deployment, clears: int | None = None
) -> None:
    """Close the dispatch of a run that Airflow has declared failed, unless it is closed already.

    `clears`: how often its tasks had been cleared by then. Airflow may say so late: a try that began after a
    further clear goes on.
    """
    wanted = dispatch_id(model.name, run_id)
    with deployment.event_store() as store:
        dispatch = store.get(wanted)
        if dispatch is None:  # not even `collect` got as far as recording its start
            run_type = run_id.partition("__")[0]
            identity = DispatchIdentity(wanted, model.name, origin_of(run_type), None, model.name, run_id)
            dispatch = store.begin(identity)
        if dispatch.state == "running":
            events = store.events(wanted)
            if any(_is_after(event, clears) for event in events):
                return
            left = _rows_left(model, wanted, store, deployment)
            cause = f"Airflow: the run failed: {reason or 'no reason given'}{left}"
            store.reconcile(wanted, "failed", cause, last_event=_last_event(events))


def _last_event(events: Sequence[EventRecord]) -> int:
    return max((event.id or 0 for event in events), default=0)


def _is_after(event: EventRecord, clears: int | None) -> bool:
    """Whether a try began after a later clear than `clears`."""
    begun_after = event.details.clears if isinstance(event.details, TryStart) else None
    return clears is not None and begun_after is not None and begun_after > clears


def _rows_left(model: ModelConfig, dispatch_id: str, store: EventStore, deployment: Deployment) -> str:
    """What a `persist` that was killed has committed before it could record it, for the reason."""
    started = (event for event in store.events(dispatch_id) if event.step == "persist")
    if next(started, None) is None:
        return ""
    from mlops_plugin.pipeline.writing.predictions import count_predictions

    try:
        rows = count_predictions(deployment, model, dispatch_id, timeout_s=_COUNTING_S)
    except MlopsError as error:
        _log.warning("counting the rows of dispatch %s failed: %s", dispatch_id, error)
        return f"; whether {model.sink.table} has rows of it could not be checked"
    return f"; {rows} rows of it are in {model.sink.table}" if rows else ""


def close_forgotten(model: str, current_run_id: str, deployment: Deployment, has_run: HasRun) -> int:
    """Close dispatches, of this model or silent ones of any, whose runs are over; returns how many."""
    closed = 0
    with deployment.event_store() as store:
        own = store.unfinished(model=model, older_than=timedelta(0))
        others = [record for record in store.unfinished(older_than=_SILENT) if record.model != model]
        for record in [*own, *others[:_MOST_ASKED]]:
            if record.run_id != current_run_id:
                closed += _close_if_over(record, store, has_run)
    return closed


def close_abandoned(store: EventStore, showroom_after: timedelta = _LONGEST_WITHOUT_RUN) -> int:
    """Close dispatches without a DAG run whose process has ended, or that were silent for a day.

    The Showroom's after `showroom_after`, which must be longer than a run can take (`workers.patience`).
    """
    running = store.unfinished(older_than=timedelta(0))
    without_run = [record for record in running if record.run_id is None]
    return sum(_close_without_run(record, store, showroom_after) for record in without_run)


def close_removed(store: EventStore, loaded: LoadedConfig) -> int:
    """Close dispatches of models that are no longer in the configuration; returns how many.

    None while an included file cannot be read, because their models may be in it.

    One whose process still works on a step is left alone until it has ended. If that cannot be seen from
    here, until it was silent for ten minutes.
    """
    if not loaded.is_complete:
        return 0
    models = {*loaded.config.models, *loaded.broken}
    running = store.unfinished(older_than=timedelta(0))
    return sum(_close_if_removed(record, store) for record in running if record.model not in models)


def _close_if_removed(record: DispatchRecord, store: EventStore) -> bool:
    events = store.events(record.dispatch_id)
    worker = _last_worker(events)
    is_gone = worker.is_gone if worker else None
    if is_gone is None:
        is_gone = store.now() - record.updated_at >= _SILENT
    reason = f"the model '{record.model}' was removed from the configuration while it was dispatched"
    return is_gone and store.reconcile(record.dispatch_id, "failed", reason, last_event=_last_event(events))


def _last_worker(events: Sequence[EventRecord]) -> ProcessIdentity | None:
    """The process that started the last step of a dispatch; None if that was not recorded."""
    for event in reversed(events):
        if event.step is not None and event.kind == "started":
            return event.details.process if isinstance(event.details, TryStart) else None
    return None


def _close_if_over(record: DispatchRecord, store: EventStore, has_run: HasRun) -> bool:
    if record.dag_id is None or record.run_id is None:
        return _close_without_run(record, store)
    last = _last_event(store.events(record.dispatch_id))  # before Airflow is asked: it may go on meanwhile
    if has_run(record.dag_id, record.run_id, ["queued", "running"]):
        return False
    if has_run(record.dag_id, record.run_id, ["success"]):
        return _close_after_success(record, store, last)
    reason = "Airflow: the run failed or was deleted before its tasks could report"
    return store.reconcile(record.dispatch_id, "failed", reason, last_event=last)


def _close_after_success(record: DispatchRecord, store: EventStore, last: int) -> bool:
    """Airflow calls a run a success also if a person has marked it; only `persist` makes a dispatch one."""
    reason = "Airflow: the run ended with success, set by hand or after a cleared task"
    if record.rows_persisted is not None:
        return store.reconcile(record.dispatch_id, "succeeded", reason, last_event=last)
    unmet = "but 'persist' has not succeeded since rows were last collected or inferred; clear the run"
    return store.reconcile(record.dispatch_id, "failed", f"{reason}, {unmet}", last_event=last)


def _close_without_run(
    record: DispatchRecord, store: EventStore, showroom_after: timedelta = _LONGEST_WITHOUT_RUN
) -> bool:
    events = store.events(record.dispatch_id)
    last, state = _last_event(events), _state_left(events)
    # The Showroom's processes keep their runs' events for a moment: only silence shows that one has ended.
    worker = _last_worker(events) if record.origin != "showroom" else None
    if worker is not None and worker.is_gone is not None:
        reason = (
            f"its process {worker.pid} on {worker.host} ended without recording the outcome of the dispatch"
        )
        return worker.is_gone and store.reconcile(record.dispatch_id, state, reason, last_event=last)
    longest = showroom_after if record.origin == "showroom" else _LONGEST_WITHOUT_RUN
    if store.now() - record.updated_at < longest:
        return False
    silence = format_duration(longest)
    reason = (
        f"nothing was recorded for {silence}: its process ended without recording the outcome of the dispatch"
    )
    return store.reconcile(record.dispatch_id, state, reason, last_event=last)


def _state_left(events: Sequence[EventRecord]) -> Literal["succeeded", "failed"]:
    """What a process has left that ended before it recorded the outcome: `persist` is the last step."""
    left = [(event.step, event.kind) for event in events[-1:]]
    return "succeeded" if left == [("persist", "succeeded")] else "failed"
