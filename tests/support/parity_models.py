"""Models of each kind, trained and saved by each library, with what the library itself answers.

A label is a text, a whole number or a boolean; there are 2, 3 or 300 classes; rows are numbers alone, or have
missing values and categories, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
from catboost import CatBoostClassifier, CatBoostRanker, CatBoostRegressor
from lightgbm import LGBMClassifier, LGBMRanker, LGBMRegressor
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from xgboost import XGBClassifier, XGBRanker, XGBRegressor

_ROWS = 600
_GROUP_ROWS = 30  # of a ranking
_TREES = 3
_RANDOM = np.random.default_rng(41)
_ALL = _RANDOM.normal(size=(_ROWS, 3))
NUMBERS = pd.DataFrame(_ALL, columns=["a", "b", "c"])
# Texts with some missing, whole numbers, and numbers with some missing.
MIXED = NUMBERS.assign(
    a=NUMBERS.a.where(_RANDOM.random(_ROWS) > 0.1),
    city=pd.Series(_RANDOM.choice(["rio", "oslo", "bern"], _ROWS))
    .where(_RANDOM.random(_ROWS) > 0.1)
    .astype("category"),
    store=pd.Categorical(_RANDOM.choice([30, 7, 12], _ROWS)),
)
ROWS = {"numbers": NUMBERS, "mixed": MIXED}
_SCORE = NUMBERS.sum(axis=1).to_numpy() + (MIXED.city == "oslo").to_numpy()
_PLACES = {count: np.argsort(np.argsort(_SCORE)) * count // _ROWS for count in (2, 3, 300)}
LABELS: dict[str, tuple[Any, ...]] = {
    "two texts": ("leaves", "stays"),
    "three texts": ("high", "low", "mid"),
    "three numbers": (10, 20, 35),
    "booleans": (False, True),
    "300 texts": tuple(f"k{number:03}" for number in range(300)),
}
REGRESSOR, RANKER = "regressor", "ranker"
KINDS = (*LABELS, REGRESSOR, RANKER)


@dataclass(frozen=True)
class Case:
    """A saved model: its entry in the configuration, the rows as they are queried, the library's answers."""

    entry: dict[str, Any]
    rows: pd.DataFrame
    answers: list[list[Any]]  # by columns
    features: tuple[str, ...] | None = None


def _labels(kind: str) -> Any:
    return np.array(LABELS[kind])[_PLACES[len(LABELS[kind])]]


def _levels() -> Any:
    return np.digitize(_SCORE, [-0.5, 0.5])


def _columns(*answers: Any) -> list[list[Any]]:
    """One list for each column of the answers."""
    return [column.tolist() for each in answers for column in np.atleast_2d(np.asarray(each).T)]


def _of_classifier(model: Any, rows: Any) -> list[list[Any]]:
    return _columns(np.asarray(model.predict(rows)).reshape(-1), model.predict_proba(rows))


def lightgbm_case(kind: str, rows: pd.DataFrame, path: Path) -> Case:
    few: dict[str, Any] = {"n_estimators": _TREES, "verbose": -1, "n_jobs": 1, "min_child_samples": 2}
    entry: dict[str, Any] = {"format": "lightgbm", "uri": path.name}
    model: Any
    if kind == REGRESSOR:
        model = LGBMRegressor(**few).fit(rows, _SCORE)
    elif kind == RANKER:
        model = LGBMRanker(**few).fit(rows, _levels(), group=[_GROUP_ROWS] * (_ROWS // _GROUP_ROWS))
    else:
        model = LGBMClassifier(**few).fit(rows, _labels(kind))
        entry["classes"] = model.classes_.tolist()
    model.booster_.save_model(path)
    found = _of_classifier(model, rows) if kind in LABELS else _columns(model.predict(rows))
    return Case(entry, rows, found)


def xgboost_case(kind: str, rows: pd.DataFrame, path: Path) -> Case:
    few: dict[str, Any] = {"n_estimators": _TREES, "n_jobs": 1, "enable_categorical": True}
    entry: dict[str, Any] = {"format": "xgboost", "uri": path.name}
    model: Any
    if kind == REGRESSOR:
        model = XGBRegressor(**few).fit(rows, _SCORE)
        found = _columns(model.predict(rows))
    elif kind == RANKER:
        model = XGBRanker(**few).fit(rows, _levels(), qid=np.arange(_ROWS) // _GROUP_ROWS)
        found = _columns(model.predict(rows))
    else:  # it takes the places of classes only
        labels = LABELS[kind]
        model = XGBClassifier(**few).fit(rows, _PLACES[len(labels)])
        entry["classes"] = list(labels)
        found = _columns(np.array(labels)[model.predict(rows)], model.predict_proba(rows))
    model.save_model(path)
    return Case(entry, rows, found)


def catboost_case(kind: str, rows: pd.DataFrame, path: Path) -> Case:
    few: dict[str, Any] = {"iterations": _TREES, "depth": 3, "thread_count": 1, "allow_writing_files": False}
    categories = [name for name in ("city", "store") if name in rows]
    rows = _filled(rows)
    few |= {"verbose": False, "cat_features": categories}
    model: Any
    if kind == REGRESSOR:
        model = CatBoostRegressor(**few).fit(rows, _SCORE)
    elif kind == RANKER:
        model = CatBoostRanker(**few).fit(rows, _SCORE, group_id=np.arange(_ROWS) // _GROUP_ROWS)
    else:
        model = CatBoostClassifier(**few).fit(rows, _labels(kind))
    model.save_model(str(path))
    found = _of_classifier(model, rows) if kind in LABELS else _columns(model.predict(rows))
    return Case({"format": "catboost", "uri": path.name}, rows, found)


def onnx_case(kind: str, rows: pd.DataFrame, path: Path) -> Case:
    """By scikit-learn's forests; what is equal to what is onnxruntime's own answer."""
    few: dict[str, Any] = {"n_estimators": _TREES, "max_depth": 6, "random_state": 0}
    forest = RandomForestRegressor(**few) if kind == REGRESSOR else RandomForestClassifier(**few)
    target = _SCORE if kind == REGRESSOR else _labels(kind)
    rows = _filled(rows)
    numbers = ["a", "b", "c"]
    if "city" in rows:
        steps = make_column_transformer((SimpleImputer(), numbers), (OneHotEncoder(), ["city", "store"]))
        types = [(name, FloatTensorType([None, 1])) for name in numbers]
        types += [("city", StringTensorType([None, 1])), ("store", Int64TensorType([None, 1]))]
        fed = {name: rows[[name]].to_numpy(np.float32) for name in numbers}
        fed |= {"city": rows[["city"]].to_numpy(object), "store": rows[["store"]].to_numpy(np.int64)}
        model = make_pipeline(steps, forest).fit(rows, target)
    else:
        types = [("X", FloatTensorType([None, len(numbers)]))]
        fed = {"X": rows.to_numpy(np.float32)}
        model = forest.fit(rows.to_numpy(np.float32), target)
    options = None if kind == REGRESSOR else {"zipmap": False}
    path.write_bytes(to_onnx(model, initial_types=types, options=options).SerializeToString())
    one_thread = onnxruntime.SessionOptions()
    one_thread.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path.read_bytes(), one_thread, providers=["CPUExecutionProvider"])
    features = None if "city" in rows else tuple(numbers)
    return Case({"format": "onnx", "uri": path.name}, rows, _columns(*session.run(None, fed)), features)


def _filled(rows: pd.DataFrame) -> pd.DataFrame:
    """Without what these libraries refuse: a category that is missing."""
    if "city" not in rows:
        return rows
    return rows.assign(city=rows.city.astype(object).fillna("none"), store=rows.store.astype(int))


LIBRARIES: dict[str, Callable[[str, pd.DataFrame, Path], Case]] = {
    "lightgbm": lightgbm_case,
    "xgboost": xgboost_case,
    "catboost": catboost_case,
    "onnx": onnx_case,
}
# A graph has no ranking of its own and no booleans: skl2onnx makes 0 and 1 of them.
LEFT_OUT = {("onnx", RANKER), ("onnx", "booleans")}
EXTENSIONS = {"lightgbm": "txt", "xgboost": "ubj", "catboost": "cbm", "onnx": "onnx"}
