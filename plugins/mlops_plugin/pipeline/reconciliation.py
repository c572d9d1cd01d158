"""Closes dispatches that nobody closed: their tasks were killed, their runs deleted or ended by hand.

Airflow knows how a run ended; a dispatch that is still "running" after that is closed likewise. Called when a
run fails (a DAG callback), before every `collect`, by the terminal, and in each round of `mlops_monitor`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from mlops_plugin.config.durations import format_duration
from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.events.records import DispatchIdentity, DispatchRecord
from mlops_plugin.events.store import EventStore
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.dispatch import dispatch_id, origin_of

# A dispatch without a DAG run (terminal, Showroom) has nobody to ask: silent for so long, it is not running.
_LONGEST_WITHOUT_RUN = timedelta(days=1)
# Of other models' dispatches only those that said nothing for so long are asked after, and not all at once.
_SILENT = timedelta(minutes=10)
_MOST_ASKED = 20

# Whether Airflow has that run of that DAG in one of those states.
HasRun = Callable[[str, str, list[str]], bool]


def close_failed_run(model: ModelConfig, run_id: str, reason: str | None, deployment: Deployment) -> None:
    """Close the dispatch of a run that Airflow has declared failed; nothing to do where it is closed."""
    wanted = dispatch_id(model.name, run_id)
    with deployment.event_store() as store:
        dispatch = store.get(wanted)
        if dispatch is None:  # not even `collect` came so far as to say that it began
            run_type = run_id.partition("__")[0]
            identity = DispatchIdentity(wanted, model.name, origin_of(run_type), None, model.name, run_id)
            dispatch = store.begin(identity)
        if dispatch.state == "running":
            store.reconcile(wanted, "failed", f"Airflow: the run failed: {reason or 'no reason given'}")


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
    """Close dispatches that no DAG run stands behind and of which nothing was heard for a day.

    Of the Showroom's for `showroom_after`, which is to be longer than a run can take (`serving.patience`).
    """
    silent = store.unfinished(older_than=min(showroom_after, _LONGEST_WITHOUT_RUN))
    abandoned = [record for record in silent if record.run_id is None]
    return sum(_close_without_run(record, store, showroom_after) for record in abandoned)


def _close_if_over(record: DispatchRecord, store: EventStore, has_run: HasRun) -> bool:
    if record.dag_id is None or record.run_id is None:
        return _close_without_run(record, store)
    if has_run(record.dag_id, record.run_id, ["queued", "running"]):
        return False
    if has_run(record.dag_id, record.run_id, ["success"]):
        return store.reconcile(
            record.dispatch_id,
            "succeeded",
            "Airflow: the run ended in success, by hand or after a cleared task",
        )
    return store.reconcile(
        record.dispatch_id, "failed", "Airflow: the run failed or was deleted before its tasks could report"
    )


def _close_without_run(
    record: DispatchRecord, store: EventStore, showroom_after: timedelta = _LONGEST_WITHOUT_RUN
) -> bool:
    longest = showroom_after if record.origin == "showroom" else _LONGEST_WITHOUT_RUN
    if datetime.now(UTC) - record.updated_at < longest:
        return False
    silence = format_duration(longest)
    reason = f"nothing was heard of it for {silence}; its process has ended without a word"
    return store.reconcile(record.dispatch_id, "failed", reason)
