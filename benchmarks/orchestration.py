"""What a small dispatch costs in Airflow, beside a DAG of four empty tasks in the same Airflow.

Both run by turns through scheduler and LocalExecutor; seconds from queued to the end of the run. What the
project adds is imports, reading a few hundred rows, predicting, and writing them, with every step recorded.
Then once more with the libraries loaded before Airflow forks the tasks (`mlops_plugin.preload`).

    python -m benchmarks.orchestration [--repeat 9] [--rows 300] [--quick]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from benchmarks.report import results
from benchmarks.warehouse import Spent
from mlops_plugin.events.migrating import upgrade
from support.airflow_process import REPOSITORY, RunningAirflow, running_airflow
from support.workshop import Workshop

EMPTY, SMALL, PRELOADED = "four empty tasks in Airflow", "small dispatch in Airflow", ", preloaded"
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

# A deployment writes this to have tasks forked from a process with the libraries loaded.
_PRELOAD = """\
from mlops_plugin.preload import preload

__all__ = []
preload()
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


def measure(workshop: Workshop, repeat: int) -> tuple[dict[str, list[float]], float]:
    """Seconds of each DAG's runs, by turns in one Airflow, and the MB of its scheduler with all workers."""
    seconds: dict[str, list[float]] = {"empty": [], "churn": []}
    settings = {"AIRFLOW__CORE__DAGS_FOLDER": str(workshop.folder / "dags")}
    with running_airflow(workshop, settings) as airflow:
        airflow.wait(lambda: set(seconds) <= airflow.api.dag_ids(), "parsing")
        for _ in range(repeat + 1):  # the first run is not counted
            for dag_id, spent in seconds.items():
                spent.append(seconds_of_a_run(airflow, dag_id))
        memory_mb = proportional_mb(workshop)
    return {dag_id: spent[1:] for dag_id, spent in seconds.items()}, memory_mb


def proportional_mb(workshop: Workshop) -> float:
    """Memory of the scheduler and the workers forked from it, shared pages counted once."""
    home = f"AIRFLOW_HOME={workshop.home}".encode()
    total_kb = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # a process may end meanwhile
            command = (folder / "cmdline").read_bytes()
            is_scheduler = b"scheduler" in command or b"LocalExecutor" in command
            if is_scheduler and home in (folder / "environ").read_bytes().split(b"\0"):
                lines = (folder / "smaps_rollup").read_text().splitlines()
                total_kb += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total_kb / 1024


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--quick", action="store_true", help="two runs; keeps nothing")
    options = parser.parse_args(arguments)
    repeat = 2 if options.quick else options.repeat
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
        plain = measure(workshop, repeat)
        settings = workshop.home / "config" / "airflow_local_settings.py"
        settings.parent.mkdir(exist_ok=True)
        settings.write_text(_PRELOAD)
        preloaded = measure(workshop, repeat)
    print(f"medians of {repeat} runs by turns, seconds from queued to end, LocalExecutor and SQLite")
    found = [*_results("", plain, options.rows), *_results(PRELOADED, preloaded, options.rows)]
    results.show(found)
    if not options.quick:
        results.store(found)


def _results(
    suffix: str, measured: tuple[dict[str, list[float]], float], rows: int
) -> Iterator[results.Result]:
    seconds, memory_mb = measured
    runs = {dag_id: [Spent(each, 0.0, memory_mb) for each in spent] for dag_id, spent in seconds.items()}
    empty = EMPTY + suffix
    yield results.result(empty, runs["empty"], rows=0, columns=0)
    peer = (empty, runs["empty"])
    yield results.result(SMALL + suffix, runs["churn"], rows=rows, columns=3, peer=peer)


if __name__ == "__main__":
    main()
