"""A process that forks tasks has their libraries loaded, unless the deployment says no; no other has."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import joblib
import pytest

from support.servers import Server
from support.workshop import Workshop

CHECKOUT = Path(__file__).resolve().parents[2]
_SETTINGS = CHECKOUT / "local_stack" / "airflow_local_settings.py"
# What Airflow does in every process of its own, with the command that the process is for: each in a process
# that was forked before it looked for a deployment's settings.
_START = """
import os, sys
os.environ["_AIRFLOW__AS_LIBRARY"] = "1"  # so that importing it is not yet looking
import airflow.settings
del os.environ["_AIRFLOW__AS_LIBRARY"]
odbc = "mlops_plugin.databases.drivers.odbc.driver"
names = "sklearn", "skops", "mlops_plugin.orchestration.dag_factory", odbc, "mysql.connector"
assert not set(names) & set(sys.modules)
for command in sys.argv[1:]:
    if os.fork() == 0:
        if command.startswith("off "):
            os.environ["AIRFLOW__MLOPS__PRELOAD"] = "False"
        sys.argv = ["airflow", *command.removeprefix("off ").split()]
        airflow.settings.initialize()
        loaded = set(names) & set(sys.modules)
        print("LOADED", command, len(loaded), sep=": ")
        break
    assert os.wait()[1] == 0, command
"""
_EXPECTED = {
    "scheduler": 5,
    "celery worker": 5,
    "api-server": 0,
    "celery flower": 0,
    "tasks test a b": 0,
    "off scheduler": 0,
}


@pytest.mark.slow
def test_only_a_process_that_forks_tasks_loads_their_libraries_unless_a_switch_is_off(tmp_path: Path) -> None:
    said = loaded(tmp_path, *_EXPECTED)
    assert counted(said) == _EXPECTED


@pytest.mark.slow
def test_what_cannot_be_imported_is_logged_and_left_out(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "arrow_odbc.py").write_text("raise OSError('libodbc.so.2: cannot open shared object file')")
    said = loaded(tmp_path, "scheduler", PYTHONPATH=f"{broken}{os.pathsep}{CHECKOUT / 'plugins'}")
    assert counted(said) == {"scheduler": 5}  # all but that one
    assert "OSError: libodbc.so.2" in said


# Runs a dispatch of each model as tasks of a preloaded process do, and prints what was loaded only then.
_DISPATCHES = """
import os, sys
from pathlib import Path
import airflow.sdk
from mlops_plugin.preload import preload
assert preload(["scheduler"])
from mlops_plugin.config.loader import load_config
from mlops_plugin.config.schema.section import Section
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.dispatch import STEPS, Dispatch
from mlops_plugin.pipeline.runner import run_step

def built(of):
    kinds = {kind for each in of.__subclasses__() for kind in (each, *built(each))}
    return {kind for kind in kinds if kind.__pydantic_complete__}

before, built_before, searches = set(sys.modules), built(Section), []
def hear(event, arguments):  # of a search through all installed packages
    if event == "open" and str(arguments[0]).endswith("entry_points.txt"):
        searches.append(arguments[0])
sys.addaudithook(hear)
loaded = load_config(Path(os.environ["AIRFLOW__MLOPS__CONFIG_FILE"]))
deployment = Deployment.of_airflow(loaded.config.events, loaded.config.staging)
for name, model in loaded.config.models.items():
    for step in STEPS:
        dispatch = Dispatch(id=f"of-{name}", model=model, origin="terminal")
        run_step(step, dispatch, deployment, query=lambda: model.source.query)
new = [name for name in set(sys.modules) - before if name.startswith(("mlops_plugin", "sqlglot"))]
print(*new, *(built(Section) - built_before), *searches)
"""


@pytest.mark.slow
def test_tasks_of_a_preloaded_process_load_nothing_of_ours(workshop: Workshop, mariadb: Server) -> None:
    artifact = workshop.folder / "churn.joblib"
    joblib.dump(workshop.classifier, artifact)
    sha256 = hashlib.sha256(artifact.read_bytes()).hexdigest()
    workshop.add_model("isolated", model={"format": "joblib", "uri": artifact.name, "sha256": sha256})
    workshop.add_model("judged", input={"columns": {"a": {"type": "number", "min": -100}}})
    workshop.add_model(
        "increment", source={"query": "SELECT id, a, b, c FROM customers", "cursor": {"column": "id"}}
    )
    workshop.connections["server"] = mariadb.new_database().airflow_uri()
    rows = {"connection": "server", "query": "SELECT 1 AS id, 0.5 AS a, 0.5 AS b, 0.5 AS c"}
    workshop.add_model("served", source=rows, sink={"connection": "server"})
    command = [sys.executable, "-c", _DISPATCHES]
    environment = {**workshop.environment, "PYTHONPATH": str(CHECKOUT / "plugins")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == ""
    assert workshop.record("of-judged").state == "succeeded"


def counted(said: str) -> dict[str, int]:
    """How many of the libraries the process of each command has loaded."""
    lines = [line.split(": ") for line in said.splitlines() if line.startswith("LOADED")]
    return {command: int(count) for _, command, count in lines}


def loaded(folder: Path, *commands: str, **changes: str) -> str:
    """What processes of Airflow say, and how many of the libraries they have loaded."""
    config = folder / "config"
    config.mkdir()
    (config / _SETTINGS.name).write_text(_SETTINGS.read_text())
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(CHECKOUT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": str(CHECKOUT / "plugins"),
        **changes,
    }
    done = subprocess.run(
        [sys.executable, "-c", _START, *commands],
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
