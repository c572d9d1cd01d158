"""Reading the configuration happens at every parse and every task start; it loads nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAVY = (
    "airflow",
    "pandas",
    "numpy",
    "sklearn",
    "pyarrow",
    "sqlalchemy",
    "fastapi",
    "jinja2",
    "skops",
    "joblib",
)


def test_reading_the_demos_configuration_imports_neither_airflow_nor_anything_heavy() -> None:
    code = (
        "import sys; from mlops_plugin.config.loader import find_config_file, load_config; "
        "assert len(load_config(find_config_file()).config.models) == 5; "
        "assert load_config(find_config_file(), only='wine').config.models; "
        "print(*sys.modules)"
    )
    environment = {
        "PYTHONPATH": str(ROOT / "plugins"),
        "AIRFLOW__MLOPS__CONFIG_FILE": str(ROOT / "include" / "config.yaml"),
    }
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in result.stdout.split()}

    assert "pydantic" in loaded
    assert not loaded & set(HEAVY)
