"""The wheel in an Airflow of its own that has nothing else, set up as docs/install.md says."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from local_stack import processes
from local_stack.progress import LocalStackError
from release.build import CHECKOUT
from support.airflow_process import (
    COMPONENTS,
    REQUEST_TIMEOUT_S,
    RunningAirflow,
    airflow_environment,
)
from support.built_wheel import BuiltWheel
from support.metadata_database import FAB
from support.servers import free_port
from support.workshop import Workshop

SIMPLE = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
ROWS = 5
OF_A_CHECKOUT = ("PYTHONPATH", "AIRFLOW__CORE__DAGS_FOLDER", "AIRFLOW__CORE__PLUGINS_FOLDER")
LOCKED = re.compile(
    r"^(?P<name>[\w.-]+)(\[[\w,-]+\])?==(?P<version>[^ ]+)(?P<marker> ;[^\\]+)?", re.MULTILINE
)


class BareAirflow:
    """A virtual environment with Airflow, its FAB provider, and the wheel."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = str(folder / "bin" / "python")

    def run(self, environment: Mapping[str, str], program: str, *arguments: str) -> str:
        command = [str(self.folder / "bin" / program), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def bare(built: BuiltWheel, tmp_path_factory: pytest.TempPathFactory) -> BareAirflow:
    """The lock stands for the constraints that Airflow publishes: they name versions of far more packages."""
    folder = tmp_path_factory.mktemp("bare")
    found = LOCKED.finditer((CHECKOUT / "requirements-dev.txt").read_text())
    constraints = folder / "constraints.txt"
    lines = (f"{m['name']}=={m['version']}{m['marker'] or ''}" for m in found)
    constraints.write_text("\n".join(lines))
    uv = str(Path(sys.executable).parent / "uv")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder / "env")], check=True)
    wanted = ["apache-airflow", "apache-airflow-providers-fab", f"{built.wheel}[sqlite]"]
    options = ["--quiet", "--only-binary", ":all:", "--constraint", str(constraints)]
    bare = BareAirflow(folder / "env")
    subprocess.run([uv, "pip", "install", "--python", bare.python, *options, *wanted], check=True)
    return bare


def dag_files() -> list[str]:
    """The DAG files that docs/install.md shows."""
    page = (CHECKOUT / "docs" / "install.md").read_text()
    blocks = re.findall(r"^ *```python\n(.*?)^ *```$", page, re.MULTILINE | re.DOTALL)
    return [re.sub(r"^ +", "", block, flags=re.MULTILINE) for block in blocks]


@pytest.fixture(params=[SIMPLE, FAB], ids=["simple", "fab"])
def airflow(request: pytest.FixtureRequest, bare: BareAirflow, tmp_path: Path) -> Iterator[RunningAirflow]:
    """Set up by the commands of docs/install.md, with the configuration where it is looked for by default."""
    home = tmp_path / "home"
    (home / "dags").mkdir(parents=True)
    (home / "include").mkdir()
    workshop = Workshop(home / "include")
    workshop.add_model("unsound", sink={"mode": "nonsense"})
    for number, text in enumerate(dag_files()):
        (home / "dags" / f"models_{number}.py").write_text(text)
    users = home / "passwords.json"
    users.write_text(json.dumps({"admin": "admin"}))
    port = free_port()
    outside = {
        name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON"))
    }
    stated = {**outside, **airflow_environment(workshop, port)}
    environment = {
        **{name: value for name, value in stated.items() if name not in OF_A_CHECKOUT},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__AUTH_MANAGER": request.param,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(users),
    }
    del environment["AIRFLOW__MLOPS__CONFIG_FILE"]
    bare.run(environment, "airflow", "db", "migrate")
    assert "version" in bare.run(environment, "mlops", "db", "upgrade")
    if request.param == FAB:
        assert "Viewer" in bare.run(environment, "mlops", "roles", "sync")
        person = ["--username", "admin", "--password", "admin", "--role", "Admin", "--email", "a@localhost"]
        bare.run(environment, "airflow", "users", "create", *person, "--firstname", "A", "--lastname", "B")
    assert "1 of 1 models OK" in bare.run(environment, "mlops", "check", "--connect", "churn")
    with _started(RunningAirflow(workshop, port, environment, bare.python)) as running:
        yield running


@contextlib.contextmanager
def _started(running: RunningAirflow) -> Iterator[RunningAirflow]:
    begun = []
    try:
        begun = [running.start(component) for component in COMPONENTS]
        running.wait(lambda: _is_ready(running), "a healthy Airflow with the DAG of the model")
        yield running
    finally:
        processes.stop(running.workshop.folder, logging.getLogger(__name__).debug)
        for process in begun:
            process.wait()


def _is_ready(running: RunningAirflow) -> bool:
    try:
        running.api.sign_in("admin")
        return "churn" in running.api.dag_ids()
    except LocalStackError:
        return False


def page(airflow: RunningAirflow, path: str) -> str:
    person = {"username": "admin", "password": "admin"}
    token = airflow.api.call("POST", "/auth/token", person)["access_token"]
    connection = http.client.HTTPConnection(airflow.api.host, airflow.api.port, timeout=REQUEST_TIMEOUT_S)
    with contextlib.closing(connection):
        connection.request("GET", f"/mlops/{path}", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        text = answer.read().decode()
    assert answer.status == 200, text
    return text


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_an_airflow_with_nothing_but_the_wheel_dispatches_and_shows_the_views(
    airflow: RunningAirflow,
) -> None:
    run = airflow.trigger("churn")
    assert airflow.wait_for_run("churn", run) == "success", airflow.logs()
    assert len(airflow.workshop.predictions()) == ROWS

    (ours,) = (found for found in airflow.call("GET", "/plugins")["plugins"] if found["name"] == "mlops")
    assert ours["source"].startswith("mlops-plugin==")
    assert airflow.call("GET", "/plugins/importErrors")["total_entries"] == 0
    assert airflow.api.dag_ids() == {"churn"}  # the Monitor has no schedule here
    assert [
        error for error in airflow.api.import_errors() if "unsound" in error
    ] == airflow.api.import_errors()

    for path in ("showroom", "dispatches", "monitor"):
        assert "churn" in page(airflow, path), path
    assert "{" in page(airflow, "static/mlops.css")
    (told,) = airflow.api.call("GET", "/mlops/api/v1/dispatches")["dispatches"]
    assert told["rows_persisted"] == ROWS
    assert "not loaded before tasks are forked" not in (airflow.workshop.folder / "scheduler.log").read_text()
