"""What parsing costs: this project (in one file, and in files of teams), dag-factory and hand-written code.

Every way makes the same N DAGs of four tasks in fresh interpreters, in turn. Two figures each, in seconds
of CPU on top of `import airflow.sdk`: parsing all of them, as the DAG processor does, and what a starting
task pays, for which Airflow says which one DAG it wants.

    python -m benchmarks.parsing [--models 1 10 100 1000] [--repeat 5] [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.report import results
from benchmarks.warehouse import Spent

REPOSITORY = Path(__file__).resolve().parent.parent
IN_ONE_FILE, IN_FILES = "this project", "this project in files of 20"
CONFIGS = {IN_ONE_FILE: "config.yaml", IN_FILES: "config_of_teams.yaml"}
MODELS_PER_FILE = 20

_MODEL = """\
  model_{n}:
    description: Predicts number {n} of the benchmark
    schedule: "{minute} * * * *"
    tags: [benchmark]
    key: [id]
    model:
      format: skops
      uri: models/model_{n}.skops
    source:
      connection: source
      query: SELECT id, a, b, c FROM rows_{n} WHERE at < '{{{{ data_interval_end }}}}'
    sink:
      connection: sink
      table: predictions_{n}
      mode: upsert
      create: true
"""

_FACTORY_DAG = """\
model_{n}:
  description: Predicts number {n} of the benchmark
  schedule: "{minute} * * * *"
  start_date: 2026-01-01
  catchup: false
  tags: [benchmark]
  tasks:
    - {{task_id: collect, operator: benchmark_operator.Step, query: "SELECT id, a, b, c FROM rows_{n}"}}
    - {{task_id: log, operator: benchmark_operator.Step, dependencies: [collect]}}
    - {{task_id: infer, operator: benchmark_operator.Step, dependencies: [log]}}
    - {{task_id: persist, operator: benchmark_operator.Step, dependencies: [infer]}}
"""

_HAND_WRITTEN_DAG = """\
with DAG(
    dag_id="model_{n}",
    description="Predicts number {n} of the benchmark",
    doc_md="Predicts number {n} of the benchmark",
    schedule=CronDataIntervalTimetable("{minute} * * * *", "UTC"),
    catchup=False,
    max_active_runs=1,
    tags=["mlops", "benchmark"],
    params={{
        "row_limit": Param(None, type=["null", "integer"], minimum=1, title="Row limit"),
        "dry_run": Param(False, type="boolean", title="Dry run"),
    }},
    default_args={{"owner": "mlops", "retries": 2, "retry_delay": timedelta(seconds=30)}},
):
    collect = Step(task_id="collect", query="SELECT id, a, b, c FROM rows_{n}")
    log = Step(task_id="log")
    infer = Step(task_id="infer")
    persist = Step(task_id="persist", outlets=[Asset(name="model_{n}.predictions", uri="x://sink/{n}")])
    collect >> log >> infer >> persist
"""

_OPERATOR = """\
from airflow.sdk import BaseOperator


class Step(BaseOperator):
    template_fields = ("query",)

    def __init__(self, *, query=None, **kwargs):
        super().__init__(**kwargs)
        self.query = query
"""

# Runs in the measured interpreter. What Airflow itself costs is paid before the clock starts.
_MEASURE = """
import runpy, sys, time, json, warnings
warnings.simplefilter("ignore")
import airflow.sdk
from airflow.sdk import DAG, Asset, BaseOperator, CronDataIntervalTimetable
began = time.process_time()
names = runpy.run_path(sys.argv[1])
spent = time.process_time() - began
print(json.dumps({"seconds": spent, "dags": sum(isinstance(value, DAG) for value in names.values())}))
"""


def write_ways(folder: Path, models: int) -> dict[str, Path]:
    """Write the same DAGs in each way; returns the DAG file of each."""
    (folder / "benchmark_operator.py").write_text(_OPERATOR)
    minutes = [(n, n % 60) for n in range(models)]

    entries = [_MODEL.format(n=n, minute=minute) for n, minute in minutes]
    (folder / CONFIGS[IN_ONE_FILE]).write_text("models:\n" + "".join(entries))
    teams = folder / "teams"
    teams.mkdir()
    (folder / CONFIGS[IN_FILES]).write_text("include: [teams/*.yaml]\n")
    for first in range(0, models, MODELS_PER_FILE):
        text = "models:\n" + "".join(entries[first : first + MODELS_PER_FILE])
        (teams / f"from_{first}.yaml").write_text(text)
    ours = REPOSITORY / "dags" / "mlops_dags.py"

    factory_yaml = folder / "factory.yaml"
    factory_yaml.write_text("".join(_FACTORY_DAG.format(n=n, minute=minute) for n, minute in minutes))
    factory = folder / "factory_dags.py"
    factory.write_text(
        "from dagfactory import load_yaml_dags\n"
        f"load_yaml_dags(globals_dict=globals(), config_filepath={str(factory_yaml)!r})\n"
    )

    by_hand = folder / "hand_written_dags.py"
    by_hand.write_text(
        "from datetime import timedelta\n"
        "from airflow.sdk import DAG, Asset, CronDataIntervalTimetable, Param\n"
        "from benchmark_operator import Step\n"
        + "".join(
            _HAND_WRITTEN_DAG.format(n=n, minute=minute) + f"globals()['model_{n}'] = collect.dag\n"
            for n, minute in minutes
        )
    )
    return {IN_ONE_FILE: ours, IN_FILES: ours, "hand-written": by_hand, "dag-factory": factory}


def measure(folder: Path, way: str, dag_file: Path, wanted: str | None) -> tuple[float, int]:
    """CPU seconds of executing a way's DAG file in a fresh interpreter, and how many DAGs it makes."""
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__MLOPS__CONFIG_FILE": str(folder / CONFIGS.get(way, CONFIGS[IN_ONE_FILE])),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "plugins"), str(folder)]),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "PYTHONDONTWRITEBYTECODE": "",  # compiling at every import would be timed
    }
    if wanted is not None:  # what Airflow's task runner sets
        environment["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = wanted
    run = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(dag_file)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise SystemExit(f"{dag_file}: {run.stderr[-2000:]}")
    result = json.loads(run.stdout.splitlines()[-1])
    return result["seconds"], result["dags"]


def _results(models: int, seconds: dict[tuple[str, bool], list[float]]) -> Iterator[results.Result]:
    runs = {way: [Spent(each, each, 0.0) for each in spent[1:]] for way, spent in seconds.items()}
    for (way, is_task), spent in runs.items():
        what = "a starting task among" if is_task else "parsing"
        name = f"{what} {models:,} models"
        peer = None if way == "hand-written" else (f"{name}, hand-written", runs["hand-written", is_task])
        yield results.result(f"{name}, {way}", spent, rows=models, columns=0, peer=peer)


def measure_all(models: int, repeat: int) -> dict[tuple[str, bool], list[float]]:
    """CPU seconds of each way, of parsing all and of a task's start, by turns."""
    seconds: dict[tuple[str, bool], list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ways = write_ways(folder, models)
        for _ in range(repeat + 1):  # the first fills the bytecode caches
            for way, dag_file in ways.items():
                for is_task in (False, True):
                    spent, count = measure(folder, way, dag_file, "model_0" if is_task else None)
                    assert is_task or count == models, f"{way} made {count} DAGs of {models}"
                    seconds.setdefault((way, is_task), []).append(spent)
    return seconds


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", type=int, nargs="*", default=[1, 10, 100, 1000])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="10 models, once; keeps nothing")
    options = parser.parse_args(arguments)
    print("models of four tasks, seconds of CPU")
    for models in [10] if options.quick else options.models:
        repeat = 1 if options.quick else options.repeat
        found = list(_results(models, measure_all(models, repeat)))
        results.show(found)
        if not options.quick:
            results.store(found)


if __name__ == "__main__":
    main()
