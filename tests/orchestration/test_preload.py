"""A process that forks tasks has their libraries loaded, unless the deployment says no; no other has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
_SETTINGS = CHECKOUT / "local_stack" / "airflow_local_settings.py"
# What Airflow does in every process of its own, with the command that the process is for.
_START = """
import sys
sys.argv = ["airflow", *sys.argv[1:]]
import airflow.settings
airflow.settings.initialize()
odbc = "mlops_plugin.databases.drivers.odbc.driver"
names = "sklearn", "skops", "mlops_plugin.orchestration.dag_factory", odbc
loaded = set(names) & set(sys.modules)
print(len(loaded))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "expected"),
    [("scheduler", 4), ("celery worker", 4), ("api-server", 0), ("celery flower", 0), ("tasks test a b", 0)],
)
def test_only_a_process_that_forks_tasks_loads_their_libraries(
    command: str, expected: int, tmp_path: Path
) -> None:
    assert loaded(command, tmp_path).splitlines()[-1] == str(expected)


@pytest.mark.slow
def test_one_switch_turns_it_off(tmp_path: Path) -> None:
    assert loaded("scheduler", tmp_path, AIRFLOW__MLOPS__PRELOAD="False").splitlines()[-1] == "0"


@pytest.mark.slow
def test_what_cannot_be_imported_is_logged_and_left_out(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "arrow_odbc.py").write_text("raise OSError('libodbc.so.2: cannot open shared object file')")
    said = loaded("scheduler", tmp_path, PYTHONPATH=f"{broken}{os.pathsep}{CHECKOUT / 'plugins'}")
    assert said.splitlines()[-1] == "4"  # all but that one
    assert "OSError: libodbc.so.2" in said


def loaded(command: str, folder: Path, **changes: str) -> str:
    """What a process of Airflow says, and last how many of the libraries it has loaded."""
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
        [sys.executable, "-c", _START, *command.split()],
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
