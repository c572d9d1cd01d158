"""Records in `recorded.json` how the real MLflow answers this product; `make_folders.py` says how to get it.

/tmp/mlflow/bin/python tests/support/mlflow_folders/record_answers.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import mlflow
from mlflow.tracking import MlflowClient

HERE = Path(__file__).parent
URL = "http://127.0.0.1:5917"


def ask(path: str, /, **asked: str) -> dict[str, Any]:
    """Status and JSON of an answer."""
    try:
        with urllib.request.urlopen(f"{URL}/api/2.0/{path}?{urlencode(asked)}") as answer:  # noqa: S310
            return {"status": answer.status, "answer": json.load(answer)}
    except urllib.error.HTTPError as error:
        return {"status": error.code, "answer": json.load(error)}


def register() -> None:
    """The model of the folder `skops`, as version 1 of `churn` with an alias."""
    import skops.io

    mlflow.set_tracking_uri(URL)
    with mlflow.start_run():
        model = skops.io.load(HERE / "skops" / "model" / "model.skops")
        mlflow.sklearn.log_model(
            model, name="model", registered_model_name="churn", serialization_format="skops"
        )
    MlflowClient().set_registered_model_alias("churn", "champion", "1")


def record() -> dict[str, Any]:
    """Each question of the product, and what it hears of names that do not exist."""
    one = {"name": "churn", "version": "1"}
    place = ask("mlflow/model-versions/get-download-uri", **one)
    path = place["answer"]["artifact_uri"].partition(":/")[2]
    return {
        "alias": ask("mlflow/registered-models/alias", name="churn", alias="champion"),
        "version": ask("mlflow/model-versions/get", **one),
        "place": place,
        "listing": ask("mlflow-artifacts/artifacts", path=path),
        "no listing": ask("mlflow-artifacts/artifacts", path="1/models/none"),
        "no alias": ask("mlflow/registered-models/alias", name="churn", alias="none"),
        "no version": ask("mlflow/model-versions/get", name="churn", version="99"),
        "no name": ask("mlflow/model-versions/get", name="none", version="1"),
        "mlflow": mlflow.__version__,
    }


def serve(folder: str) -> subprocess.Popen[bytes]:
    """A server that keeps everything in a folder and hands out artifacts itself."""
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        URL.rpartition(":")[2],
    ]
    store = [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        f"{folder}/files",
    ]
    server = subprocess.Popen([*command, *store, "--serve-artifacts", "--workers", "1"])
    for _ in range(120):
        time.sleep(1)
        try:
            urllib.request.urlopen(f"{URL}/health")  # noqa: S310
        except OSError:
            continue
        return server
    raise TimeoutError(URL)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        server = serve(scratch)
        try:
            register()
            (HERE / "recorded.json").write_text(json.dumps(record(), indent=1) + "\n")
        finally:
            server.terminate()
            server.wait()
