"""A step loads what it needs: only `infer` scikit-learn and pandas, only `collect` the SQL parser."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlops_plugin.pipeline.dispatch import Dispatch
from support.servers import ServerDatabase
from support.workshop import Workshop

REPOSITORY = Path(__file__).resolve().parents[2]
_STEP = """
import os, sys
from pathlib import Path
from mlops_plugin.config.loader import load_config
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.runner import run_step

loaded = load_config(Path(os.environ["AIRFLOW__MLOPS__CONFIG_FILE"]))
model = loaded.model("churn")
dispatch = Dispatch(id=sys.argv[2], model=model, origin="terminal")
deployment = Deployment.of_airflow(loaded.config.events, loaded.config.staging)
run_step(sys.argv[1], dispatch, deployment, query=lambda: model.source.query)
print(sorted({"pandas", "sklearn", "scipy", "skops", "sqlglot"} & set(sys.modules)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("connection_type", ["odbc", "mysql"])
def test_only_infer_loads_pandas_and_scikit_learn(
    connection_type: str, workshop: Workshop, mariadb_database: ServerDatabase
) -> None:
    mariadb_database.execute(
        "CREATE TABLE customers (id INT PRIMARY KEY, a DOUBLE, b DOUBLE, c DOUBLE)",
        "INSERT INTO customers VALUES (1, 0.5, 0.25, -1), (2, 0.125, 2, 1)",
    )
    workshop.connections |= dict.fromkeys(("source", "sink"), mariadb_database.airflow_uri(connection_type))
    dispatch = workshop.dispatch()
    light = {step: loaded_by(step, dispatch, workshop) for step in ("collect", "log")}
    by_infer = loaded_by("infer", dispatch, workshop)
    assert "sklearn" in by_infer
    assert "sqlglot" not in by_infer
    light["persist"] = loaded_by("persist", dispatch, workshop)
    assert light == {"collect": "['sqlglot']", "log": "[]", "persist": "[]"}
    assert mariadb_database.rows("SELECT id FROM churn_predictions ORDER BY id") == [(1,), (2,)]


def loaded_by(step: str, dispatch: Dispatch, workshop: Workshop) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _STEP, step, dispatch.id],
        env={**workshop.environment, "PYTHONPATH": str(REPOSITORY / "plugins")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]
