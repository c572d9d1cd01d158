"""A classifier is asked once, and says what its own `predict` says, ties and thresholds included."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import BernoulliNB, CategoricalNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from mlops_plugin.formats.outputs import ask

# Every place of a small lattice, four times: trees, neighbours and symmetric models have ties there.
LATTICE = np.array([*itertools.product((0.0, 1.0, 2.0), repeat=2)] * 4)
ROWS = np.vstack([LATTICE, LATTICE + 0.5, [[1.0, 1.0]], np.random.default_rng(3).normal(1, 2, (200, 2)) ** 2])
TREE = DecisionTreeClassifier(max_depth=2, random_state=0)
LINEAR = LogisticRegression()
ONCE = [
    TREE,
    RandomForestClassifier(6, max_depth=2, random_state=0),
    ExtraTreesClassifier(6, max_depth=2, random_state=0),
    GradientBoostingClassifier(n_estimators=5, random_state=0),
    GradientBoostingClassifier(n_estimators=5, random_state=0, init=LINEAR),
    GradientBoostingClassifier(n_estimators=1, max_depth=9, init="zero"),  # takes the second of equal classes
    HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=4),
    AdaBoostClassifier(n_estimators=5, random_state=0),
    BaggingClassifier(TREE, n_estimators=4, random_state=0),
    VotingClassifier([("tree", TREE), ("linear", LINEAR)], voting="soft"),
    StackingClassifier([("tree", TREE), ("linear", LINEAR)]),
    CalibratedClassifierCV(TREE, cv=3),
    CalibratedClassifierCV(SVC(), cv=3, method="isotonic"),
    GaussianNB(),
    BernoulliNB(binarize=0.5),
    MultinomialNB(),
    ComplementNB(),
    CategoricalNB(min_categories=2_000),
    LINEAR,
    LinearDiscriminantAnalysis(),
    QuadraticDiscriminantAnalysis(reg_param=0.1),
    KNeighborsClassifier(4, algorithm="kd_tree"),
    KNeighborsClassifier(4, algorithm="ball_tree", weights="distance"),
    MLPClassifier((4,), max_iter=30, random_state=0),
    GridSearchCV(TREE, {"max_depth": [1, 2]}, cv=3),
    make_pipeline(FunctionTransformer(), GridSearchCV(LINEAR, {"C": [0.1, 1.0]}, cv=3)),
]


def half(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Numbers of a class: at each place but one, as many rows of one class as of the other."""
    classes: np.ndarray[Any, Any] = np.where(rows.sum(axis=1) == 0, 1, np.arange(len(rows)) // 9 % 2)
    return classes


def thirds(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray((rows.sum(axis=1).astype(int) + half(rows)) % 3)


def sides(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Two classes on both sides of a line on which rows lie."""
    return np.asarray(np.where(rows[:, 0] == rows[:, 1], half(rows), rows[:, 0] > rows[:, 1]), int)


LABELS = [
    np.array(["ä", "no", "yes"]),
    np.array([-3, 7, 2**40]),
    np.array([False, True]),
    np.array([1.0, 2.0, 9.0]),
]


class Counting:
    """Hands rows on, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, rows: Any) -> Any:
        self.times += 1
        return rows


def trained(estimator: Any, labels: np.ndarray[Any, Any], way: Any) -> tuple[Pipeline, Counting]:
    counting = Counting()
    model = Pipeline([("count", FunctionTransformer(counting)), ("model", clone(estimator))])
    model.fit(LATTICE, labels[way(LATTICE)])
    return model, counting


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("labels", LABELS, ids=lambda labels: labels.dtype.name)
@pytest.mark.parametrize("way", [half, thirds, sides])
@pytest.mark.parametrize("estimator", ONCE, ids=lambda estimator: str(estimator)[:50])
def test_it_says_what_its_own_predict_says(estimator: Any, way: Any, labels: np.ndarray[Any, Any]) -> None:
    if way is thirds and len(labels) < 3:
        labels = np.array([False, True, True])
    model, counting = trained(estimator, labels, way)
    expected, probabilities = model.predict(ROWS), model.predict_proba(ROWS)
    counting.times = 0
    said = ask("m", model, lambda: ROWS, len(ROWS))
    assert counting.times <= 2  # once more at most, if some rows were close
    (predicted,) = said.predictions
    assert predicted.dtype == expected.dtype
    np.testing.assert_array_equal(predicted, expected)
    np.testing.assert_array_equal(said.probabilities[0], probabilities)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("estimator", ONCE, ids=lambda estimator: str(estimator)[:50])
def test_it_is_asked_once_if_no_row_is_close(estimator: Any) -> None:
    model, counting = trained(estimator, LABELS[0], sides)
    apart = ROWS[np.abs(np.diff(model.predict_proba(ROWS))[:, 0]) > 1e-6]
    assert len(apart) > 20
    counting.times = 0
    ask("m", model, lambda: apart, len(apart))
    assert counting.times == 1


class _Contrary(DecisionTreeClassifier):  # type: ignore[misc]
    """A class of the user's own, whose predictions are its own affair."""

    def predict(self, rows: Any) -> Any:
        return self.classes_[0].repeat(len(rows))


@pytest.mark.parametrize(
    "estimator",
    [
        SVC(probability=True, random_state=0),
        GaussianProcessClassifier(),
        SGDClassifier(loss="modified_huber", random_state=0),
        KNeighborsClassifier(4, algorithm="brute"),
        KNeighborsClassifier(4, weights=lambda distances: distances - 1.0),
        FixedThresholdClassifier(TREE, threshold=0.9),
        GridSearchCV(_Contrary(), {"max_depth": [1]}, cv=3),
        _Contrary(),
    ],
    ids=lambda estimator: str(estimator)[:40],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_whoever_decides_otherwise_is_asked_for_its_predictions(estimator: Any) -> None:
    model, counting = trained(estimator, LABELS[0][:2], sides)
    expected = model.predict(ROWS)
    counting.times = 0
    said = ask("m", model, lambda: ROWS, len(ROWS))
    assert counting.times == 2
    np.testing.assert_array_equal(said.predictions[0], expected)


def test_missing_values_and_a_method_of_the_objects_own_change_nothing() -> None:
    model = HistGradientBoostingClassifier(max_iter=3).fit(LATTICE, thirds(LATTICE))
    gaps = np.where(ROWS > 2, np.nan, ROWS)
    np.testing.assert_array_equal(
        ask("m", model, lambda: gaps, len(gaps)).predictions[0], model.predict(gaps)
    )
    model.predict = lambda rows: np.full(len(rows), 2)
    assert set(ask("m", model, lambda: gaps, len(gaps)).predictions[0].tolist()) == {2}


def test_several_outputs_are_asked_for_their_predictions() -> None:
    labels = np.column_stack([sides(LATTICE), thirds(LATTICE)])
    for estimator in (TREE, RandomForestClassifier(3), MultiOutputClassifier(LINEAR)):
        model = clone(estimator).fit(LATTICE, labels)
        said = ask("m", model, lambda: ROWS, len(ROWS)).predictions
        np.testing.assert_array_equal(np.column_stack(said), model.predict(ROWS))
    flags = np.column_stack([sides(LATTICE), half(LATTICE)])
    network = MLPClassifier((3,), max_iter=5, random_state=0)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        network.fit(LATTICE, flags)
    said = ask("m", network, lambda: ROWS, len(ROWS)).predictions
    np.testing.assert_array_equal(np.column_stack(said), network.predict(ROWS))
