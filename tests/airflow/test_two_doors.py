"""One pipeline, two doors: a DAG run and the terminal do the same with the same rows."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import pytest

from support.airflow_process import REPOSITORY, airflow_environment
from support.metadata_database import fill_metadata
from support.workshop import Workshop

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

# What must differ between two dispatches of the same rows: who, when, how long and under which id.
OF_THE_DOOR = {
    "dispatch_id",
    "predicted_at",
    "origin",
    "requested_by",
    "dag_id",
    "run_id",
    "id",
    "at",
    "seconds",
}
OF_THE_TIME = {
    "created_at",
    "updated_at",
    "started_at",
    "finished_at",
    "data_interval_start",
    "data_interval_end",
}

_DAG_TEST = """
import runpy, sys
run = runpy.run_path(sys.argv[1])["churn"].test(run_conf={"row_limit": 4})
assert run.state == "success", run.state
"""


def run_in(workshop: Workshop, *command: str) -> str:
    """Run a Python program as a part of the deployment; returns what it printed."""
    environment = {**os.environ, **airflow_environment(workshop, 8080)}
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def outcome(workshop: Workshop) -> dict[str, Any]:
    """What the newest dispatch left, without what belongs to its door."""
    record = workshop.records()[0]
    left = OF_THE_DOOR | OF_THE_TIME
    events = [(event.step, event.kind, event.row_count) for event in workshop.events(record.dispatch_id)]
    return {
        "predictions": [without(row, left) for row in workshop.predictions()],
        "record": without(asdict(record), left),
        "events": events,
    }


def without(values: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def test_dag_run_and_terminal_give_equal_predictions_and_events(workshop: Workshop) -> None:
    fill_metadata(None, {**os.environ, **airflow_environment(workshop, 8080)})
    run_in(workshop, "-c", _DAG_TEST, str(REPOSITORY / "dags" / "mlops_dags.py"))
    of_the_dag = outcome(workshop)
    (workshop.folder / "sink.db").unlink()
    workshop.add_model("churn", execution="together")
    run_in(workshop, "-c", _DAG_TEST, str(REPOSITORY / "dags" / "mlops_dags.py"))
    of_one_task = outcome(workshop)
    assert of_one_task["record"].pop("config_sha256") != of_the_dag["record"]["config_sha256"]
    assert of_one_task == {**of_the_dag, "record": without(of_the_dag["record"], {"config_sha256"})}
    workshop.add_model("churn")
    (workshop.folder / "sink.db").unlink()
    shown = run_in(workshop, "-m", "mlops_plugin.cli", "dispatch", "churn", "--limit", "4")
    assert "persisted 4" in shown
    assert len(shown.splitlines()) < 10, shown  # no library's warnings in between
    assert [record.origin for record in workshop.records()] == ["terminal", "manual", "manual"]
    assert outcome(workshop) == of_the_dag
    assert len(of_the_dag["predictions"]) == 4
