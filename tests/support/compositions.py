"""Draws pipelines of scikit-learn's own parts over the columns of a mixed table.

Each is drawn by itself. Hypothesis would copy parts within an example and try it again: of 500, half would
read the same columns as another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from random import Random
from typing import Any

import numpy as np
import pandas as pd
from sklearn import (
    calibration,
    cluster,
    compose,
    discriminant_analysis,
    dummy,
    ensemble,
    feature_extraction,
    feature_selection,
    impute,
    linear_model,
    mixture,
    model_selection,
    multiclass,
    naive_bayes,
    neighbors,
    preprocessing,
    tree,
)
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import FeatureUnion, make_pipeline

from support import shop_code

Part = tuple[str, Any, Any]  # of a ColumnTransformer

_INTEGERS = ("tiny", "small", "whole", "big", "tiny_or_null", "whole_or_null", "big_or_null")
_NUMBERS = (*_INTEGERS, "price", "ratio", "price_or_null", "ratio_or_null")
_FLAGS = ("flag", "flag_or_null")
_TEXTS = ("city", "city_or_null", "review", "review_or_null")
_SOME_TRANSFORMERS: tuple[Callable[[], Any], ...] = (
    preprocessing.StandardScaler,
    preprocessing.MinMaxScaler,
    preprocessing.MaxAbsScaler,
    preprocessing.RobustScaler,
    preprocessing.FunctionTransformer,
    lambda: preprocessing.FunctionTransformer(shop_code.squares),
    lambda: preprocessing.PolynomialFeatures(2),
    lambda: preprocessing.KBinsDiscretizer(3, strategy="uniform"),
    lambda: preprocessing.SplineTransformer(3, extrapolation="constant"),
    lambda: preprocessing.QuantileTransformer(n_quantiles=5),
    preprocessing.PowerTransformer,
    preprocessing.Normalizer,
    preprocessing.Binarizer,
    lambda: feature_selection.SelectKBest(feature_selection.f_regression, k=1),
    lambda: feature_selection.SelectPercentile(feature_selection.f_regression, percentile=60),
    feature_selection.VarianceThreshold,
)
_CLASSIFIERS: tuple[Callable[[], Any], ...] = (
    linear_model.LogisticRegression,
    linear_model.RidgeClassifier,
    lambda: linear_model.SGDClassifier(loss="log_loss", random_state=0, max_iter=20, tol=None),
    lambda: tree.DecisionTreeClassifier(random_state=0, max_depth=3),
    lambda: ensemble.RandomForestClassifier(3, random_state=0),
    lambda: ensemble.ExtraTreesClassifier(3, random_state=0),
    lambda: ensemble.HistGradientBoostingClassifier(max_iter=2, min_samples_leaf=2, early_stopping=False),
    lambda: neighbors.KNeighborsClassifier(3),
    naive_bayes.GaussianNB,
    lambda: discriminant_analysis.LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.5),
    lambda: dummy.DummyClassifier(strategy="prior"),
    lambda: ensemble.AdaBoostClassifier(n_estimators=2, random_state=0),
)
_REGRESSORS: tuple[Callable[[], Any], ...] = (
    linear_model.LinearRegression,
    linear_model.Ridge,
    linear_model.BayesianRidge,
    lambda: linear_model.ElasticNet(alpha=0.1),
    lambda: tree.DecisionTreeRegressor(random_state=0, max_depth=3),
    lambda: ensemble.RandomForestRegressor(3, random_state=0),
    lambda: ensemble.GradientBoostingRegressor(n_estimators=2, random_state=0),
    lambda: ensemble.HistGradientBoostingRegressor(max_iter=2, min_samples_leaf=2, early_stopping=False),
    lambda: neighbors.KNeighborsRegressor(3),
)
_OTHERS: tuple[Callable[[], Any], ...] = (
    lambda: cluster.KMeans(2, n_init=1, random_state=0),
    lambda: ensemble.IsolationForest(n_estimators=3, random_state=0),
    lambda: mixture.GaussianMixture(2, random_state=0, reg_covar=1e-2, max_iter=5),
)


@dataclass(frozen=True)
class Composition:
    """A model to be fitted, the columns that it reads, and how they are handed to it."""

    model: Any
    features: list[str]
    container: str  # frame, matrix or documents
    answers: Any  # one for each row of the table; None if it learns without

    @property
    def reads_moments(self) -> bool:
        return any(name.startswith("moment") for name in self.features)

    @property
    def kinds(self) -> set[str]:
        """What it is made of: steps with their settings, columns, the container, the type of answers."""
        labels = set() if self.answers is None else set(self.answers.tolist())
        learned = "none" if self.answers is None else f"{self.answers.dtype}, {min(len(labels), 4)} or more"
        return {*_kinds_of(self.model), *self.features, self.container, f"answers: {learned}"}

    @property
    def pairs(self) -> set[tuple[str, str]]:
        """The kinds that it brings together."""
        return set(combinations(sorted(self.kinds), 2))

    def fitted(self, frame: pd.DataFrame) -> Any:
        return clone(self.model).fit(self.table(frame), self.answers)

    def table(self, frame: pd.DataFrame) -> Any:
        """What a notebook hands over of these rows: columns of training, arrays in C order."""
        chosen = frame[self.features]
        if self.container == "documents":
            return chosen[self.features[0]].tolist()
        if self.container == "matrix":
            return np.ascontiguousarray(chosen.to_numpy(dtype=np.float64))
        return chosen

    def __str__(self) -> str:
        return f"{self.container} of {self.features}: {' '.join(str(self.model).split())}"


def _kinds_of(part: Any) -> Iterator[str]:
    """The names of estimators made of others, and the others with their settings."""
    if isinstance(part, BaseEstimator):
        settings = part.get_params(deep=False)
        inner = [kind for setting in settings.values() for kind in _kinds_of(setting)]
        own_code = settings.get("func")
        yield type(part).__name__ if inner else f"{part} {getattr(own_code, '__name__', '')}".strip()
        yield from inner
    elif isinstance(part, list | tuple):
        for each in part:
            yield from _kinds_of(each)
    elif isinstance(part, str) and part == "passthrough":
        yield part


def composition(draw: Random, frame: pd.DataFrame) -> Composition:
    """A model of any shape over columns of a mixed table, of which `frame` has the numbers."""
    shape = draw.choice(["columns"] * 6 + ["numbers", "numbers", "documents", "encoder", "union"])
    kind = draw.choice(["classifier", "classifier", "regressor", "other"])
    container = "frame"
    if shape == "documents":
        features, first, container = ["review"], _vectorizer(draw), "documents"
    elif shape == "numbers":
        features = _some(draw, _NUMBERS, 3)
        first = make_pipeline(*_number_steps(draw, features))
        container = draw.choice(["frame", "matrix"])
    elif shape == "encoder":
        choice = (*_TEXTS, *_FLAGS, *_INTEGERS, "day", "day_or_null")
        features = _some(draw, choice, 3)
        first = _encoder(draw)
    else:
        parts = _parts(draw)
        features = sorted({name for _, _, columns in parts for name in _listed(columns)})
        first = compose.ColumnTransformer(parts, sparse_threshold=0, remainder="drop")
        if shape == "union":
            again = compose.ColumnTransformer(parts[:1], sparse_threshold=0)
            first = FeatureUnion([("a", first), ("b", again)])
    features = draw.sample(features, len(features))
    final = _final(draw, kind)
    if draw.choice([False, True]):
        model = make_pipeline(first, _wrapped(draw, kind, final))
    else:
        model = _wrapped(draw, kind, make_pipeline(first, final))
    if draw.randrange(10) == 7 and kind != "other":
        model = model_selection.GridSearchCV(model, {}, cv=2)
    return Composition(model, features, container, _answers(draw, kind, frame))


def _parts(draw: Random) -> list[Part]:
    makers = [_number_part, _text_part, _flag_part, _own_text_part, _document_part, _integer_part]
    makers += [_day_part, _moment_part]
    chosen = draw.sample(makers, draw.randint(1, 4))
    return [(f"part{number}", *make(draw)) for number, make in enumerate(chosen)]


def _number_part(draw: Random) -> tuple[Any, Any]:
    names = _some(draw, _NUMBERS, 3)
    return make_pipeline(*_number_steps(draw, names)), names


def _number_steps(draw: Random, names: list[str]) -> list[Any]:
    steps: list[Any] = []
    if any(name.endswith("_or_null") for name in names):
        strategy = draw.choice(["mean", "median", "most_frequent", "constant"])
        has_indicator = draw.choice([False, True])
        steps.append(impute.SimpleImputer(strategy=strategy, add_indicator=has_indicator))
    steps += [make() for make in draw.choices(_SOME_TRANSFORMERS, k=draw.randint(1, 2))]
    return steps


def _integer_part(draw: Random) -> tuple[Any, Any]:
    """Integers to code that tells 1 from 1.0, or multiplies narrow numbers."""
    names = _some(draw, _INTEGERS, 2, least=2)
    if draw.choice([False, True]):
        return preprocessing.FunctionTransformer(shop_code.products), names
    encoder = preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return make_pipeline(preprocessing.FunctionTransformer(shop_code.as_texts), encoder), names


def _text_part(draw: Random) -> tuple[Any, Any]:
    names = _some(draw, _TEXTS, 3)
    steps = [impute.SimpleImputer(strategy="most_frequent")] if draw.choice([False, True]) else []
    return make_pipeline(*steps, _encoder(draw)), names


def _flag_part(draw: Random) -> tuple[Any, Any]:
    names = _some(draw, _FLAGS, 2)
    is_passed = names == ["flag"] and draw.choice([False, True])
    return ("passthrough" if is_passed else _encoder(draw)), names


def _own_text_part(draw: Random) -> tuple[Any, Any]:
    return preprocessing.FunctionTransformer(shop_code.text_lengths), _some(draw, _TEXTS, 2)


def _document_part(draw: Random) -> tuple[Any, Any]:
    return _vectorizer(draw), "review"


def _day_part(draw: Random) -> tuple[Any, Any]:
    return _encoder(draw, is_target=False), _some(draw, ("day",), 1)


def _moment_part(draw: Random) -> tuple[Any, Any]:
    names = _some(draw, ("moment", "moment_or_null"), 2)
    return preprocessing.FunctionTransformer(shop_code.parts_of_moments), names


def _encoder(draw: Random, *, is_target: bool = True) -> Any:
    one_hot, ordinal = preprocessing.OneHotEncoder, preprocessing.OrdinalEncoder
    made: list[Any] = [
        one_hot(handle_unknown="ignore", sparse_output=False),
        one_hot(handle_unknown="infrequent_if_exist", min_frequency=6, sparse_output=False),
        ordinal(handle_unknown="use_encoded_value", unknown_value=-9, encoded_missing_value=-1),
    ]
    if is_target:
        made.append(preprocessing.TargetEncoder(cv=2, random_state=0))
    return draw.choice(made)


def _vectorizer(draw: Random) -> Any:
    text = feature_extraction.text
    made = [text.TfidfVectorizer(), text.CountVectorizer(binary=True), text.HashingVectorizer(n_features=8)]
    return draw.choice(made)


def _final(draw: Random, kind: str) -> Any:
    makers = {"classifier": _CLASSIFIERS, "regressor": _REGRESSORS, "other": _OTHERS}
    return draw.choice(makers[kind])()


def _wrapped(draw: Random, kind: str, model: Any) -> Any:
    """The model inside of a meta-estimator, or as it is."""
    makers: dict[str, list[Callable[[], Any]]] = {
        "classifier": [
            lambda: calibration.CalibratedClassifierCV(model, cv=2),
            lambda: ensemble.VotingClassifier([("a", model), ("b", model)]),
            lambda: ensemble.StackingClassifier([("a", model)], linear_model.LogisticRegression(), cv=2),
            lambda: multiclass.OneVsRestClassifier(model),
            lambda: model_selection.TunedThresholdClassifierCV(model, cv=2),
            lambda: model_selection.FixedThresholdClassifier(model, threshold=0.4),
        ],
        "regressor": [
            lambda: compose.TransformedTargetRegressor(model),
            lambda: ensemble.VotingRegressor([("a", model), ("b", model)]),
            lambda: ensemble.StackingRegressor([("a", model)], linear_model.Ridge(), cv=2),
        ],
        "other": [],
    }
    makers[kind] += [lambda: model] * 4
    return draw.choice(makers[kind])()


def _answers(draw: Random, kind: str, frame: pd.DataFrame) -> Any:
    if kind == "other":
        return None
    if kind == "regressor":
        return (frame["ratio"] + frame["tiny"]).to_numpy()
    is_high = (frame["ratio"] + frame["tiny"] > frame["tiny"].mean()).to_numpy()
    labels: list[Any] = [
        is_high,
        is_high.astype(int),
        np.where(is_high, "high", "low"),
        np.where(is_high, 2.0, -1.0),
        np.where(frame["small"] == 10, "mid", np.where(is_high, "high", "low")),
    ]
    return draw.choice(labels)


def _some(draw: Random, names: tuple[str, ...], most: int, least: int = 1) -> list[str]:
    return draw.sample(names, draw.randint(least, min(most, len(names))))


def _listed(columns: Any) -> list[str]:
    return [columns] if isinstance(columns, str) else list(columns)
