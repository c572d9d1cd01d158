"""What a task can learn of other DAGs: through the task SDK, since tasks do not see Airflow's tables.

The only module that uses the SDK's messages: the SDK has no public way to read another DAG's runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

from airflow.sdk import timezone

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.events.records import DispatchRecord
from mlops_plugin.orchestration.data_intervals import interval_end

_AHEAD = timedelta(days=36_500)  # no run has a logical date beyond it
_BACKFILL = "backfill"
_DRY_RUNS = 20  # one after the other, at most so many are passed over


@dataclass(frozen=True)
class DagFound:
    """A model's DAG as `monitor.model_state` asks for it; times are aware. Dry runs do not count as runs."""

    is_paused: bool
    is_stale: bool
    next_data_interval_start: datetime | None
    next_data_interval_end: datetime | None
    next_run_after: datetime | None
    last_run_id: str | None = None
    last_run_state: str | None = None
    last_run_after: datetime | None = None
    last_run_start: datetime | None = None
    last_run_end: datetime | None = None
    resumed_at: datetime | None = None  # tasks cannot read Airflow's audit log


def find_dags(
    models: Mapping[str, ModelConfig], last: Mapping[str, DispatchRecord], now: datetime
) -> dict[str, DagFound]:
    """The DAG of each model that Airflow has, asked for by a running task; `last` are their last dispatches.

    A run without a logical date is found by its dispatch, so not before its first step.
    """
    found = {}
    for name, model in models.items():
        dag = _find_dag(name)
        if dag is not None:
            found[name] = _seen(model, dag, _last_run(name, last.get(name), now))
    return found


def is_dry_run(conf: Mapping[str, Any] | None) -> bool:
    """Whether a run with these parameters of its own writes no predictions."""
    return bool((conf or {}).get("dry_run", False))


def _seen(model: ModelConfig, dag: Any, run: Any | None) -> DagFound:
    start = dag.next_dagrun
    due = start and interval_end(model, start)
    found = DagFound(dag.is_paused, False, start if due else None, due, due)
    if run is None:
        return found
    return replace(
        found,
        last_run_id=run.run_id,
        last_run_state=str(getattr(run.state, "value", run.state)),
        last_run_after=run.run_after,
        last_run_start=run.start_date,
        last_run_end=run.end_date,
    )


def _find_dag(dag_id: str) -> Any | None:
    from airflow.sdk.execution_time.comms import GetDag

    return _ask(GetDag(dag_id=dag_id))


def _last_run(dag_id: str, dispatch: DispatchRecord | None, now: datetime) -> Any | None:
    from airflow.sdk.execution_time.comms import GetDagRun

    newest = _newest_run(dag_id, now)
    runs = [] if newest is None else [newest]
    if dispatch is not None and dispatch.run_id and all(dispatch.run_id != run.run_id for run in runs):
        runs += [_ask(GetDagRun(dag_id=dag_id, run_id=dispatch.run_id))]
    own = [run for run in runs if run is not None and run.run_type != _BACKFILL]
    return max(own, key=lambda run: run.run_after, default=None)


def _newest_run(dag_id: str, now: datetime) -> Any | None:
    """The run with the newest logical date that is no dry run."""
    from airflow.sdk.execution_time.comms import GetPreviousDagRun

    date = timezone.coerce_datetime(now + _AHEAD)
    for _ in range(_DRY_RUNS + 1):
        answer = _ask(GetPreviousDagRun(dag_id=dag_id, logical_date=date))
        run = answer and answer.dag_run
        if not run or not is_dry_run(run.conf):
            return run
        date = run.logical_date
    return None


def _ask(question: Any) -> Any | None:
    """Airflow's answer; None if it has no such DAG or run."""
    from airflow.sdk.exceptions import AirflowRuntimeError
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    try:
        return SUPERVISOR_COMMS.send(question)
    except AirflowRuntimeError as error:
        if (error.error.detail or {}).get("status_code") != HTTPStatus.NOT_FOUND:
            raise
        return None
