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


def test_a_layer_imports_only_layers_below_it() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": "plugins"}
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", LIGHT)
def test_a_module_that_airflow_loads_all_the_time_imports_nothing_heavy(module: str, tmp_path: Path) -> None:
    # jinja2 and others belong to airflow.sdk itself: only what the module adds counts.
    assert imported_by(module, tmp_path) & HEAVY == set()


def test_the_import_check_sees_a_heavy_import(tmp_path: Path) -> None:
    assert "sklearn" in imported_by("sklearn", tmp_path)


def test_the_local_stack_needs_the_standard_library_only() -> None:
    # It runs before anything is installed: isolated, without site-packages.
    modules = ("installation", "stack", "__main__")
    script = "; ".join(f"import local_stack.{module}" for module in modules)
    command = [sys.executable, "-S", "-c", script]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(CHECKOUT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def imported_by(module: str, airflow_home: Path) -> set[str]:
    """Top-level packages that importing a module adds to `import airflow.sdk`, in a fresh interpreter."""
    script = (
        "import json, sys, airflow.sdk; before = set(sys.modules); "
        f"import {module}; print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(airflow_home),
        "PYTHONPATH": str(CHECKOUT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}
