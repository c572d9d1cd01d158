"""What a small dispatch costs in Airflow, beside a DAG of four empty tasks in the same Airflow.

Both run by turns through scheduler and LocalExecutor; seconds from queued to the end of the run. What the
project adds is imports, reading a few hundred rows, predicting, and writing them, with every step recorded.

    python -m benchmarks.orchestration [--repeat 9] [--rows 300]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from airflow_process import REPOSITORY, RunningAirflow, running_airflow
from mlops_plugin.events.migrating import upgrade
from workshop import Workshop

_EMPTY_DAG = """\
from airflow.sdk import DAG, BaseOperator


class Nothing(BaseOperator):
    def execute(self, context):
        return None


with DAG("empty", schedule=None, catchup=False):
    tasks = [Nothing(task_id=name) for name in ("collect", "log", "infer", "persist")]
    for before, after in zip(tasks, tasks[1:]):
        before >> after
"""


def seconds_of_a_run(airflow: RunningAirflow, dag_id: str) -> float:
    """Trigger a run and wait for it; seconds from queued to its end."""
    run_id = airflow.trigger(dag_id)
    state = airflow.wait_for_run(dag_id, run_id)
    if state != "success":
        raise SystemExit(f"the run of {dag_id} ended as {state}\n{airflow.logs()}")
    run = airflow.call("GET", f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}")
    queued, ended = (datetime.fromisoformat(run[name]) for name in ("queued_at", "end_date"))
    return (ended - queued).total_seconds()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--rows", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        workshop = Workshop(Path(name))
        workshop.add_rows(options.rows - 5)
        os.environ.update(workshop.environment)
        with workshop.deployment.event_store() as store:
            upgrade(store.address)
        dags = workshop.folder / "dags"
        dags.mkdir()
        (dags / "empty.py").write_text(_EMPTY_DAG)
        (dags / "mlops_dags.py").write_text((REPOSITORY / "dags" / "mlops_dags.py").read_text())
        seconds: dict[str, list[float]] = {"empty": [], "churn": []}
        with running_airflow(workshop, {"AIRFLOW__CORE__DAGS_FOLDER": str(dags)}) as airflow:
            airflow.wait(lambda: set(seconds) <= airflow.api.dag_ids(), "parsing")
            for _ in range(options.repeat + 1):
                for dag_id, spent in seconds.items():
                    spent.append(seconds_of_a_run(airflow, dag_id))
    medians = {dag_id: statistics.median(spent[1:]) for dag_id, spent in seconds.items()}
    print(f"medians of {options.repeat} runs by turns, seconds from queued to end, LocalExecutor and SQLite")
    for dag_id, spent in seconds.items():
        what = "four empty tasks" if dag_id == "empty" else f"a dispatch of {options.rows} rows"
        print(f"{what:24} {medians[dag_id]:6.2f}   (from {min(spent[1:]):.2f} to {max(spent[1:]):.2f})")
    print(f"{'ratio':24} {medians['churn'] / medians['empty']:6.2f}")


if __name__ == "__main__":
    main()
