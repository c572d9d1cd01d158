"""Every scikit-learn estimator with `predict` answers a runtime as it answers a direct call."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import skops.io
from sklearn import datasets
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - makes them known
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.utils import all_estimators

from mlops_plugin.config.schema import ArtifactConfig
from mlops_plugin.formats.runtime import artifact_sha256, load_runtime

Matrix = np.ndarray[Any, Any]

# Left out, because they have no prediction for a row that was not in the training data:
NO_PREDICTION = {
    "AgglomerativeClustering": "clusters the training rows only",
    "DBSCAN": "clusters the training rows only",
    "FeatureAgglomeration": "clusters features, not rows",
    "HDBSCAN": "clusters the training rows only",
    "OPTICS": "clusters the training rows only",
    "SpectralClustering": "clusters the training rows only",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "ClassifierChain": {"estimator": LogisticRegression()},
    "FixedThresholdClassifier": {"estimator": LogisticRegression()},
    "GridSearchCV": {"estimator": LogisticRegression(), "param_grid": {"C": [0.1, 1.0]}},
    "HalvingGridSearchCV": {
        "estimator": LogisticRegression(),
        "param_grid": {"C": [0.1, 1.0]},
        "random_state": 0,
    },
    "HalvingRandomSearchCV": {
        "estimator": LogisticRegression(),
        "param_distributions": {"C": [0.1, 1.0]},
        "random_state": 0,
    },
    "IsotonicRegression": {"out_of_bounds": "clip"},
    "LocalOutlierFactor": {"novelty": True},
    "MultiOutputClassifier": {"estimator": LogisticRegression()},
    "MultiOutputRegressor": {"estimator": Ridge()},
    "OneVsOneClassifier": {"estimator": LogisticRegression()},
    "OneVsRestClassifier": {"estimator": LogisticRegression()},
    "OutputCodeClassifier": {"estimator": LogisticRegression(), "random_state": 0},
    "RFE": {"estimator": LogisticRegression()},
    "RFECV": {"estimator": LogisticRegression()},
    "RadiusNeighborsRegressor": {"radius": 100.0},
    "RadiusNeighborsClassifier": {"radius": 100.0},
    "RandomizedSearchCV": {
        "estimator": LogisticRegression(),
        "param_distributions": {"C": [0.1, 1.0]},
        "n_iter": 2,
    },
    "RegressorChain": {"estimator": Ridge()},
    "SelfTrainingClassifier": {"estimator": LogisticRegression()},
    "StackingClassifier": {"estimators": [("lr", LogisticRegression())]},
    "StackingRegressor": {"estimators": [("ridge", Ridge())]},
    "TunedThresholdClassifierCV": {"estimator": LogisticRegression()},
    "VotingClassifier": {"estimators": [("lr", LogisticRegression())], "voting": "soft"},
    "VotingRegressor": {"estimators": [("ridge", Ridge())]},
    "Pipeline": {"steps": [("lr", LogisticRegression())]},
    "FrozenEstimator": {"estimator": None},  # filled in below: it wants a fitted one
}
SMALL = {"n_estimators": 5, "max_iter": 20}
OWN_MAX_ITER = {"OrthogonalMatchingPursuitCV"}  # its max_iter counts features


NAMES = [name for name, kind in all_estimators() if hasattr(kind, "predict") and name not in NO_PREDICTION]
NAMELESS = {"IsotonicRegression"}  # it reads one column and keeps no names
NOT_IN_SKOPS = {"Birch": "skops refuses to save its tree of clusters"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Class PassiveAggressive:FutureWarning")
@pytest.mark.parametrize("name", NAMES)
def test_infer_equals_calling_the_estimator(name: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about training on so little; not what this test is about
        model, rows = fit(name)
    features = tuple(f"x{number}" for number in range(rows.shape[1]))
    # The columns arrive in another order than the model's, with one more that is none of its features.
    columns = {name: rows[:, number] for number, name in enumerate(features)}
    batch = pa.RecordBatch.from_pydict({"id": range(len(rows)), **dict(reversed(columns.items()))})

    artifacts = [save_joblib(model, tmp_path)]
    if name not in NOT_IN_SKOPS:
        artifacts.append(save_skops(model, tmp_path))
    for artifact in artifacts:
        runtime = load_runtime(artifact, features=features)
        found = runtime.predict(batch)
        assert found.schema == runtime.outputs
        assert_same(found, direct(model, rows))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Class PassiveAggressive:FutureWarning")
@pytest.mark.parametrize("name", [name for name in NAMES if name not in NAMELESS])
def test_infer_equals_calling_an_estimator_that_knows_names(name: str, tmp_path: Path) -> None:
    """Also where it is handed a matrix, and then without a warning about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, rows = fit(name, is_named=True)
        expected = direct(model, rows)
        runtime = load_runtime(save_joblib(model, tmp_path), features=None)
    batch = pa.RecordBatch.from_pandas(rows[rows.columns[::-1]], preserve_index=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "X does not have valid feature names")
        assert_same(runtime.predict(batch), expected)


def save_joblib(model: Any, folder: Path) -> ArtifactConfig:
    path = str(folder / "model.joblib")
    joblib.dump(model, path)
    return ArtifactConfig(format="joblib", uri=path, sha256=artifact_sha256(path))


def save_skops(model: Any, folder: Path) -> ArtifactConfig:
    path = str(folder / "model.skops")
    skops.io.dump(model, path)
    return ArtifactConfig(format="skops", uri=path, trusted=tuple(skops.io.get_untrusted_types(file=path)))


def direct(model: Any, rows: Matrix) -> list[Matrix]:
    """What the estimator says itself, column by column."""
    answers = [np.asarray(model.predict(rows))]
    if hasattr(model, "predict_proba"):
        proba = model.predict_proba(rows)
        answers += proba if isinstance(proba, list) else [proba]
    if model.__sklearn_tags__().estimator_type == "outlier_detector":
        answers.append(model.decision_function(rows))
    return [column for each in answers for column in each.reshape(len(rows), -1).T]


def assert_same(found: pa.RecordBatch, expected: list[Matrix]) -> None:
    assert found.num_columns == len(expected), found.schema
    for name, column in zip(found.schema.names, expected, strict=True):
        assert found.column(name).null_count == 0
        np.testing.assert_array_equal(found.column(name).to_numpy(zero_copy_only=False), column, err_msg=name)


def fit(name: str, *, is_named: bool = False) -> tuple[Any, Any]:
    """A fitted estimator, and rows that it has not seen: a matrix, or a DataFrame that gives names."""
    rows, answers = _data(name)
    if is_named:
        rows = pd.DataFrame(rows, columns=[f"x{number}" for number in range(rows.shape[1])], copy=False)
    estimator = dict(all_estimators())[name]
    options = dict(OPTIONS.get(name, {}))
    if name == "FrozenEstimator":
        options["estimator"] = LogisticRegression().fit(rows[::2], answers[::2])
    accepted = estimator().get_params() if not options else {}
    options |= {key: value for key, value in SMALL.items() if key in accepted and name not in OWN_MAX_ITER}
    if "random_state" in accepted:
        options["random_state"] = 0
    unseen = rows[1::2] if is_named else np.ascontiguousarray(rows[1::2])
    return estimator(**options).fit(rows[::2], answers[::2]), unseen


def _data(name: str) -> tuple[Matrix, Matrix]:
    iris, flowers = datasets.load_iris(return_X_y=True)
    if name in {"FixedThresholdClassifier", "TunedThresholdClassifierCV"}:
        return iris[:100], flowers[:100]  # two classes
    if name == "IsotonicRegression":
        return iris[:, :1], iris[:, 3]
    if name.startswith("MultiTask") or name in {
        "PLSRegression",
        "CCA",
        "PLSCanonical",
        "MultiOutputRegressor",
        "RegressorChain",
    }:
        return iris[:, :2], iris[:, 2:]
    if name in {"MultiOutputClassifier", "ClassifierChain"}:
        return iris, np.column_stack([flowers > 0, flowers > 1]).astype(int)
    if name == "SelfTrainingClassifier":
        return iris, flowers  # takes no text, it marks rows without a label by -1
    if dict(all_estimators(type_filter="regressor")).get(name):
        return iris[:, :3], iris[:, 3]
    return iris, np.array(["setosa", "versicolor", "virginica"])[flowers]
