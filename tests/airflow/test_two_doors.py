"""One pipeline, two doors: a DAG run and the terminal do the same with the same rows."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import pytest

from support.airflow_process import REPOSITORY, airflow_environment
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

# Makes the metadata database, reads the DAG and runs it again for each line: to import Airflow and make its
# API takes half of the time.
_DAG_TEST = """
import runpy, sys
from airflow.__main__ import main

file, sys.argv[1:] = sys.argv[1], ["db", "migrate"]
main()
for line in sys.stdin:
    run = runpy.run_path(file)["churn"].test(run_conf={"row_limit": 4})
    print("\\nended:", run.state, flush=True)
"""


def environment_of(workshop: Workshop) -> dict[str, str]:
    """Of the programs that are a part of the deployment."""
    return {**os.environ, **airflow_environment(workshop, 8080)}


@contextlib.contextmanager
def dag_runs(workshop: Workshop) -> Iterator[Callable[[], str]]:
    """A process with the DAG: each call runs it as it is then, and returns its state or why it has none."""
    command = [sys.executable, "-c", _DAG_TEST, str(REPOSITORY / "dags" / "mlops_dags.py")]
    with (
        (workshop.folder / "dag.log").open("w+") as errors,
        subprocess.Popen(
            command,
            env=environment_of(workshop),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        asked, printed = process.stdin, process.stdout

        def run() -> str:
            print(file=asked, flush=True)
            lines = []
            for line in printed:
                lines.append(line)
                if line.startswith("ended: "):
                    return line.removeprefix("ended: ").strip()
            return "".join(lines)[-3000:] + (workshop.folder / "dag.log").read_text()[-3000:]

        yield run


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
    with dag_runs(workshop) as run:
        assert run() == "success"
        of_the_dag = outcome(workshop)
        (workshop.folder / "sink.db").unlink()
        workshop.add_model("churn", execution="together")
        assert run() == "success"
        of_one_task = outcome(workshop)
    assert of_one_task["record"].pop("config_sha256") != of_the_dag["record"]["config_sha256"]
    assert of_one_task == {**of_the_dag, "record": without(of_the_dag["record"], {"config_sha256"})}
    workshop.add_model("churn")
    (workshop.folder / "sink.db").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "mlops_plugin.cli", "dispatch", "churn", "--limit", "4"],
        env=environment_of(workshop),
        capture_output=True,
        text=True,
        check=False,
    )
    shown = done.stdout + done.stderr
    assert done.returncode == 0, shown
    assert "persisted 4" in shown
    assert len(shown.splitlines()) < 10, shown  # no library's warnings in between
    assert [record.origin for record in workshop.records()] == ["terminal", "manual", "manual"]
    assert outcome(workshop) == of_the_dag
    assert len(of_the_dag["predictions"]) == 4
