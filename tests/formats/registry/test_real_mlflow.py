"""The whole way with the real MLflow: an environment of its own, its tracking server, its registry."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlops_plugin.cli import main
from mlops_plugin.errors import ArtifactError
from mlops_plugin.events.details.step_reports import LogReport, RegisteredVersion
from mlops_plugin.formats.mlflow_models.model_files import model_sha256
from support.mlflow_server import FOLDERS
from support.servers import HOST, free_port
from support.workshop import FEATURES, Workshop

_START_TIMEOUT_S = 180.0
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with MLflow."""
    folder = tmp_path_factory.mktemp("mlflow")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    requirements = FOLDERS / "requirements.txt"
    subprocess.run([folder / "bin" / "pip", "install", "--quiet", "-r", requirements], check=True)
    return folder / "bin" / "python"


@pytest.fixture
def url(python: Path, tmp_path: Path) -> Iterator[str]:
    """A tracking server with a registry, which hands out artifacts itself."""
    port = str(free_port())
    store = [
        f"--backend-store-uri=sqlite:///{tmp_path}/mlflow.db",
        f"--artifacts-destination={tmp_path}/files",
    ]
    command = [
        str(python),
        "-m",
        "mlflow",
        "server",
        "--host",
        HOST,
        "--port",
        port,
        "--workers",
        "1",
        *store,
    ]
    server = subprocess.Popen([*command, "--serve-artifacts"])
    deadline = time.monotonic() + _START_TIMEOUT_S
    try:
        while not _answers(f"http://{HOST}:{port}/health"):
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.5)
        yield f"http://{HOST}:{port}"
    finally:
        server.terminate()
        server.wait(30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url) as answer:  # noqa: S310 - this machine
            return bool(answer.status == 200)
    except OSError:
        return False


def registered(workshop: Workshop, dispatch_id: str) -> RegisteredVersion | None:
    (report,) = (e.details for e in workshop.events(dispatch_id) if isinstance(e.details, LogReport))
    return report.registered


def test_versions_of_a_real_registry_are_dispatched_by_alias(
    python: Path, url: str, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW", url)
    rows = workshop.frame(
        [list(row[1:]) for row in workshop.in_source("SELECT * FROM customers ORDER BY id")]
    )
    table = workshop.folder / "rows.json"
    rows[list(FEATURES)].to_json(table, double_precision=15)
    target = workshop.folder / "downloaded"
    script = [str(python), str(FOLDERS / "fill_registry.py"), url, str(table), str(target)]
    filled: dict[str, Any] = json.loads(subprocess.check_output(script, text=True).splitlines()[-1])
    entry = {"format": "mlflow", "uri": "models:/churn@champion", "connection": "mlflow"}
    workshop.add_model("churn", model=entry)
    assert main(["check", "--connect", "churn"]) == 0

    def dispatched(version: str) -> None:
        dispatch = workshop.dispatch()
        workshop.run(dispatch)
        told = filled["versions"][version]
        assert registered(workshop, dispatch.id) == RegisteredVersion(
            "churn", version, "champion", told["run"]
        )
        assert [row["prediction"] for row in workshop.predictions()] == told["answers"]

    dispatched("1")
    assert main(["sign", "churn"]) == 0
    assert (workshop.folder / "signatures" / "mlflow" / "churn-1.signature.json").is_file()
    dispatched("1")  # by its signature, from now on
    move = "import sys; from mlflow import MlflowClient as C; "
    move += "C(sys.argv[1]).set_registered_model_alias('churn', 'champion', '2')"
    subprocess.run([python, "-c", move, url], check=True)
    with pytest.raises(ArtifactError, match="sha256"):
        dispatched("2")
    # MLflow's client adds a file to what it downloads.
    workshop.add_model("churn", model={**entry, "sha256": [model_sha256(filled["downloaded"])]})
    dispatched("2")
