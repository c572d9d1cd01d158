"""Makes the folders beside this file with the real MLflow, and what its own loader answers about some rows.

MLflow does not install beside our lock, so it runs in an environment of its own:

    python3.11 -m venv /tmp/mlflow
    /tmp/mlflow/bin/pip install -r tests/support/mlflow_folders/requirements.txt
    /tmp/mlflow/bin/python tests/support/mlflow_folders/make_folders.py [NAME ...]
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import mlflow
import mlflow.catboost
import mlflow.lightgbm
import mlflow.onnx
import mlflow.sklearn
import mlflow.xgboost
import numpy as np
import pandas as pd
from catboost import CatBoostClassifier
from lightgbm import Dataset, LGBMClassifier
from lightgbm import train as train_lightgbm
from mlflow.models import infer_signature
from skl2onnx import to_onnx
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
from xgboost import XGBClassifier

HERE = Path(__file__).parent
ROWS, SHOWN = 60, 8
_RANDOM = np.random.default_rng(14)
NUMBERS = pd.DataFrame({name: _RANDOM.normal(size=ROWS) for name in ("a", "b", "c")})
NUMBERS["c"] = NUMBERS.c.astype("float32")
LABELS = np.where(NUMBERS.a + NUMBERS.b > 0, "stays", "leaves")
# A column of each type that MLflow has for tables, but bytes.
TYPED = NUMBERS.assign(
    small=_RANDOM.integers(0, 5, ROWS).astype("int32"),
    large=_RANDOM.integers(0, 5, ROWS),
    member=_RANDOM.random(ROWS) < 0.5,
    city=_RANDOM.choice(["rio", "oslo", "bern"], ROWS),
    since=pd.date_range("2026-01-01", periods=ROWS, freq="17h"),
)


def save(name: str, module: Any, model: Any, rows: pd.DataFrame, **options: Any) -> None:
    """One folder, with the rows that were asked and what `mlflow.pyfunc` answers."""
    if sys.argv[1:] and name not in sys.argv[1:]:
        return
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    signature = infer_signature(rows)
    if module is mlflow.pyfunc:
        module.save_model(folder / "model", python_model=model, signature=signature, **options)
    else:
        module.save_model(model, folder / "model", signature=signature, **options)
    shown = rows.head(SHOWN)
    answers = mlflow.pyfunc.load_model(str(folder / "model")).predict(shown)
    answers = answers if isinstance(answers, dict) else {"prediction": np.asarray(answers).tolist()}
    asked = {column: [_as_json(value) for value in shown[column].tolist()] for column in shown}
    expected = {"rows": asked, "answers": {key: np.asarray(each).tolist() for key, each in answers.items()}}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def _as_json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, pd.Timestamp) else value


def make() -> None:
    """All folders."""
    linear = make_pipeline(FunctionTransformer(), LogisticRegression()).fit(NUMBERS, LABELS)
    save("skops", mlflow.sklearn, linear, NUMBERS, serialization_format="skops")
    encoder = make_column_transformer(
        (OneHotEncoder(), ["city", "member", "small"]),
        (FunctionTransformer(lambda rows: rows.apply(lambda column: column.dt.day_of_year)), ["since"]),
        remainder="passthrough",
    )
    typed = make_pipeline(encoder, Ridge()).fit(TYPED, NUMBERS.a * 2 + TYPED.large)
    save("cloudpickle", mlflow.sklearn, typed, TYPED, serialization_format="cloudpickle")
    settings: dict[str, Any] = {"n_estimators": 3, "n_jobs": 1}
    places = (LABELS == "stays").astype(int)
    save("xgboost", mlflow.xgboost, XGBClassifier(**settings, max_depth=2).fit(NUMBERS, places), NUMBERS)
    data = Dataset(NUMBERS, places)
    quiet = {"objective": "binary", "verbose": -1, "num_threads": 1, "num_leaves": 4}
    save("lightgbm", mlflow.lightgbm, train_lightgbm(quiet, data, 3), NUMBERS)
    wrapper = LGBMClassifier(**settings, verbose=-1, num_leaves=4).fit(NUMBERS, LABELS)
    save("lightgbm_wrapper", mlflow.lightgbm, wrapper, NUMBERS)
    save("lightgbm_pickled", mlflow.lightgbm, wrapper, NUMBERS, serialization_format="cloudpickle")
    cat = CatBoostClassifier(iterations=3, depth=2, verbose=False, allow_writing_files=False, thread_count=1)
    save("catboost", mlflow.catboost, cat.fit(NUMBERS, LABELS), NUMBERS)
    matrix = NUMBERS.astype("float32")
    converted = to_onnx(Ridge().fit(matrix.to_numpy(), NUMBERS.a), matrix.to_numpy()[:1])
    save("onnx", mlflow.onnx, converted, matrix)
    save("pyfunc", mlflow.pyfunc, Doubler(), NUMBERS)


class Doubler(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """A model of MLflow's own kind."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:  # noqa: ARG002
        return (model_input["a"] * 2).to_numpy()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        mlflow.set_tracking_uri(f"sqlite:///{scratch}/mlflow.db")
        make()
    print("made with mlflow", mlflow.__version__, "python", sys.version.split()[0])
