"""What a task learns of a model's runs, from a supervisor that answers with Airflow's own messages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.api.datamodels._generated import DagRun
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import DagResult, GetDag, GetPreviousDagRun, PreviousDagRunResult

from mlops_plugin.orchestration.dags_seen import find_dags
from support.workshop import Workshop

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DRY = {"dry_run": True}


class Supervisor:
    """Answers as Airflow's does for one DAG with these runs."""

    def __init__(self, runs: Sequence[DagRun]) -> None:
        self._runs = runs

    def send(self, question: Any) -> Any:
        if isinstance(question, GetDag):
            return DagResult(
                dag_id=question.dag_id,
                is_paused=False,
                bundle_name=None,
                bundle_version=None,
                relative_fileloc=None,
                owners=None,
                tags=[],
                next_dagrun=None,
            )
        assert isinstance(question, GetPreviousDagRun)
        before = [run for run in self._runs if run.logical_date and run.logical_date < question.logical_date]
        newest = max(before, key=lambda run: run.run_after, default=None)
        return PreviousDagRunResult(dag_run=newest)


def a_run(run_id: str, state: str, age: timedelta, conf: dict[str, Any] | None = None) -> DagRun:
    at = NOW - age
    values: dict[str, Any] = dict.fromkeys(DagRun.model_fields)
    values |= {"dag_id": "churn", "run_id": run_id, "run_type": "manual", "state": state, "conf": conf}
    dates = dict.fromkeys(("logical_date", "run_after", "start_date"), at)
    return DagRun(**values | dates | {"consumed_asset_events": []})


@pytest.mark.parametrize(("dry_runs", "expected"), [(0, "first"), (1, "first"), (3, "first"), (100, None)])
def test_dry_runs_are_passed_over(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, dry_runs: int, expected: str | None
) -> None:
    """So that none that takes long counts as an overrun in the history; after very many, none is known."""
    runs = [a_run("first", "success", timedelta(days=1), {"dry_run": False})]
    runs += [a_run(f"dry {n}", "running", timedelta(minutes=n), DRY) for n in range(dry_runs)]
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(runs), raising=False)
    found = find_dags({"churn": workshop.loaded.config.models["churn"]}, {}, NOW)
    assert found["churn"].last_run_id == expected
    assert found["churn"].last_run_state == (expected and "success")
