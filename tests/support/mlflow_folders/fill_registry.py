"""Fills a real registry for `test_real_mlflow.py`: run by the Python of MLflow's environment, with a URL.

Prints as JSON what MLflow itself answers with each version, and where its client has downloaded the second.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import mlflow
import mlflow.sklearn
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from mlflow.tracking import MlflowClient
from sklearn.linear_model import LogisticRegression


def fill(url: str, rows: pd.DataFrame, folder: str) -> dict[str, Any]:
    """Versions 1 (skops) and 2 (cloudpickle) of `churn`; `champion` is the first."""
    mlflow.set_tracking_uri(url)
    labels = np.where(rows.a > rows.a.median(), "stays", "leaves")
    answers = {}
    for version, serialization in enumerate(("skops", "cloudpickle"), 1):
        model = LogisticRegression(C=version / 10).fit(rows, labels)
        with mlflow.start_run() as run:
            mlflow.sklearn.log_model(
                model,
                name="model",
                registered_model_name="churn",
                serialization_format=serialization,
                signature=infer_signature(rows),
            )
        answered = mlflow.pyfunc.load_model(f"models:/churn/{version}").predict(rows)
        answers[str(version)] = {"run": run.info.run_id, "answers": np.asarray(answered).tolist()}
    MlflowClient().set_registered_model_alias("churn", "champion", "1")
    downloaded = mlflow.artifacts.download_artifacts("models:/churn/2", dst_path=folder)
    return {"versions": answers, "downloaded": downloaded}


if __name__ == "__main__":
    _, address, table, target = sys.argv
    print(json.dumps(fill(address, pd.read_json(table), target)))
