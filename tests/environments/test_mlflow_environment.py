"""A model that MLflow has logged runs with libraries of its own, which need neither YAML nor pydantic."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlops_plugin.events.details.step_reports import InferReport
from mlops_plugin.formats.mlflow_models.model_files import model_sha256
from support.mlflow_server import FOLDERS, MlflowStandIn, mlflow_stand_in
from support.own_environments import PYTHON, require, sync
from support.small_wheels import write_wheel
from support.workshop import Workshop

__all__ = ["mlflow_stand_in"]
LOGGED = FOLDERS / "lightgbm_pickled"
EXPECTED: dict[str, Any] = json.loads((LOGGED / "expected.json").read_text())
OWN = {"requirements": "churn.txt", "python": PYTHON}
# Of a library that is found here; a file `.pth` runs whenever Python starts.
_WITHOUT = "import sys; sys.modules.update(dict.fromkeys(('yaml', 'pydantic', 'pydantic_core')))\n"


@pytest.fixture
def logged(workshop: Workshop, wheels: Path) -> Workshop:
    """A deployment with the model's rows, and an environment in which there is no YAML and no pydantic."""
    write_wheel(wheels, "plain", "1.0", {"plain.pth": _WITHOUT})
    require(workshop, "plain==1.0")
    values = ", ".join(
        str((number, *row)) for number, row in enumerate(zip(*EXPECTED["rows"].values(), strict=True))
    )
    workshop.in_source(
        "DROP TABLE customers",
        "CREATE TABLE customers (id INTEGER, a REAL, b REAL, c REAL)",
        f"INSERT INTO customers VALUES {values}",
    )
    return workshop


def _dispatched(workshop: Workshop) -> None:
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    found = [row["prediction"] for row in workshop.predictions()]
    assert found == EXPECTED["answers"]["prediction"]
    reports = [event.details for event in workshop.events(dispatch.id)]
    (report,) = [report for report in reports if isinstance(report, InferReport)]
    assert report.libraries["numpy"] == "99.0"  # as the environment says


@pytest.mark.long  # as the next one
@pytest.mark.parametrize("name", ["shop", "shop.zip"])
def test_a_folder_and_an_archive_are_dispatched(logged: Workshop, wheels: Path, name: str) -> None:
    target = logged.folder / "shop"
    if name == "shop":
        shutil.copytree(LOGGED / "model", target)
    else:
        shutil.make_archive(str(target), "zip", LOGGED / "model")
    sha256 = model_sha256(str(logged.folder / name))
    artifact = {"format": "mlflow", "uri": name, "sha256": sha256, "environment": OWN}
    logged.add_model("churn", model=artifact)
    assert sync(logged, wheels) == 0
    _dispatched(logged)


def test_a_version_of_a_registry_is_dispatched(
    logged: Workshop, wheels: Path, mlflow_stand_in: MlflowStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW", mlflow_stand_in.airflow_uri)
    mlflow_stand_in.versions["1"] = LOGGED / "model"
    artifact = {
        "format": "mlflow",
        "uri": "models:/churn@champion",
        "connection": "mlflow",
        "sha256": model_sha256(str(LOGGED / "model")),
        "environment": OWN,
    }
    logged.add_model("churn", model=artifact)
    assert sync(logged, wheels) == 0
    _dispatched(logged)
