"""A process that forks tasks has their libraries loaded, where the deployment asks for it; no other has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
_SETTINGS = """
from mlops_plugin.preload import preload

__all__ = []
preload()
"""
# What Airflow does in every process of its own, with the command that the process is for.
_START = """
import sys
sys.argv = ["airflow", *sys.argv[1:]]
import airflow.settings
airflow.settings.initialize()
names = "sklearn", "skops", "mlops_plugin.orchestration.dag_factory", "mlops_plugin.databases.sink.writer"
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
    config = tmp_path / "config"
    config.mkdir()
    (config / "airflow_local_settings.py").write_text(_SETTINGS)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(CHECKOUT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": str(CHECKOUT / "plugins"),
    }
    done = subprocess.run(
        [sys.executable, "-c", _START, *command.split()],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.stdout.splitlines()[-1:] == [str(expected)], done.stdout + done.stderr
