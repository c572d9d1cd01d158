"""The house keeps its layers, and what Airflow loads all the time stays light."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
HEAVY = frozenset(
    (
        "pandas",
        "numpy",
        "sklearn",
        "skops",
        "joblib",
        "pyarrow",
        "sqlalchemy",
        "fastapi",
        "jinja2",
        "alembic",
        "rich",
    )
)
LIGHT = (
    "mlops_plugin.errors",
    "mlops_plugin.connections",
    "mlops_plugin.config.loader",
    "mlops_plugin.orchestration.dag_factory",
    "mlops_plugin.plugin",
    "mlops_plugin_entry",
)
# Each module in a process that was forked when only `airflow.sdk` had been imported.
_IMPORTS = """
import importlib, json, os, sys
import airflow.sdk

for module in sys.argv[1:]:
    if os.fork() == 0:
        before = set(sys.modules)
        importlib.import_module(module)
        print(json.dumps([module, sorted(set(sys.modules) - before)]))
        break
    assert os.wait()[1] == 0, module
"""


def test_a_layer_imports_only_layers_below_it() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": "plugins"}
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Top-level packages that importing each module adds to `import airflow.sdk`, in a fresh interpreter."""
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path_factory.mktemp("imports")),
        "PYTHONPATH": str(CHECKOUT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    command = [sys.executable, "-c", _IMPORTS, *LIGHT, "sklearn"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    return {module: {name.partition(".")[0] for name in added} for module, added in lines}


@pytest.mark.parametrize("module", LIGHT)
def test_a_module_that_airflow_loads_all_the_time_imports_nothing_heavy(
    module: str, imported: dict[str, set[str]]
) -> None:
    # jinja2 and others belong to airflow.sdk itself: only what the module adds counts.
    assert imported[module] & HEAVY == set()


def test_the_import_check_sees_a_heavy_import(imported: dict[str, set[str]]) -> None:
    assert "sklearn" in imported["sklearn"]


def test_the_local_stack_needs_the_standard_library_only() -> None:
    # It runs before anything is installed: isolated, without site-packages.
    modules = ("installation", "stack", "__main__")
    script = "; ".join(f"import local_stack.{module}" for module in modules)
    command = [sys.executable, "-S", "-c", script]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(CHECKOUT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
