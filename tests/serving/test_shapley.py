"""Shapley values, compared with their definition: the average over all orders, one by one."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from mlops_plugin.serving.shapley import MOST_ROWS, Amounts, Mixtures, mixtures_of

Rows = npt.NDArray[np.float64]
Answers = Callable[[Rows], Rows]

DICE = np.random.default_rng(7)


def _by_definition(answer: Answers, case: Rows, reference: Rows) -> Rows:
    """What each feature adds, on average over all orders."""
    orders = list(permutations(range(len(case))))
    added = np.zeros(len(case))
    for order in orders:
        row = reference.copy()
        before = answer(row[None, :])[0]
        for feature in order:
            row[feature] = case[feature]
            after = answer(row[None, :])[0]
            added[feature] += after - before
            before = after
    return added / len(orders)


def _asked(mixtures: Mixtures, answer: Answers, case: Rows, reference: Rows) -> tuple[Rows, Amounts]:
    outcomes = answer(np.where(mixtures.masks, case, reference))
    return outcomes, mixtures.amounts(outcomes)


def _training(features: int) -> tuple[Rows, Rows]:
    rows = DICE.normal(size=(200, features))
    return rows, rows[:, 0] * rows[:, 1] + np.sin(rows[:, 2]) + rows.sum(axis=1)


def _models(features: int) -> dict[str, Answers]:
    rows, numbers = _training(features)
    classes = (numbers > 0).astype(int)
    forest = RandomForestClassifier(5, max_depth=4, random_state=0).fit(rows, classes)
    logistic = LogisticRegression().fit(rows, classes)
    tree = DecisionTreeRegressor(max_depth=5, random_state=0).fit(rows, numbers)
    return {
        "forest": lambda asked: forest.predict_proba(asked)[:, 1],
        "logistic": lambda asked: logistic.predict_proba(asked)[:, 1],
        "tree": lambda asked: tree.predict(asked),
    }


@pytest.mark.parametrize("name", ["forest", "logistic", "tree"])
@pytest.mark.parametrize("features", [3, 4])
def test_amounts_of_few_features_are_those_of_the_definition(name: str, features: int) -> None:
    answer = _models(features)[name]
    case, reference = DICE.normal(size=features) * 2, DICE.normal(size=features)
    mixtures = mixtures_of(features)
    assert mixtures is not None
    assert mixtures.orders is None
    _, found = _asked(mixtures, answer, case, reference)
    assert found.errors is None
    assert found.values == pytest.approx(_by_definition(answer, case, reference), abs=1e-12)


@pytest.mark.parametrize("name", ["forest", "logistic", "tree"])
@pytest.mark.parametrize("features", [3, 13, 14, 64])
def test_amounts_add_up_from_the_reference_to_the_case(name: str, features: int) -> None:
    answer = _models(features)[name]
    case, reference = DICE.normal(size=features) * 2, DICE.normal(size=features)
    mixtures = mixtures_of(features)
    assert mixtures is not None
    assert len(mixtures.masks) <= MOST_ROWS
    _, found = _asked(mixtures, answer, case, reference)
    whole = answer(case[None, :])[0] - answer(reference[None, :])[0]
    assert float(found.values.sum()) == pytest.approx(whole, abs=1e-9)


def test_amounts_of_a_linear_model_behind_a_scaler_are_exact_however_many_features_it_has() -> None:
    rows, numbers = _training(40)
    halves = ColumnTransformer([("scaled", StandardScaler(), list(range(20)))], remainder="passthrough")
    model = make_pipeline(halves, LinearRegression()).fit(rows, numbers)
    case, reference = DICE.normal(size=40), DICE.normal(size=40)
    mixtures = mixtures_of(40)
    assert mixtures is not None
    assert mixtures.orders is not None
    _, found = _asked(mixtures, model.predict, case, reference)
    slopes = model[-1].coef_ / np.concatenate([model[0].named_transformers_["scaled"].scale_, np.ones(20)])
    assert found.errors is None
    assert found.values == pytest.approx(slopes * (case - reference), abs=1e-9)


def test_sampled_amounts_lie_within_their_errors() -> None:
    """Of 14 features whose amounts are known: products of pairs are shared by halves."""
    case, reference = DICE.normal(size=14) + 1, np.zeros(14)
    mixtures = mixtures_of(14)
    assert mixtures is not None

    def product_pairs(asked: Rows) -> Rows:
        gate = np.where(asked[:, 0] != 0, 3.0, 1.0)
        return np.asarray(gate * (asked[:, 1:] ** 2).sum(axis=1) + asked[:, 1] * asked[:, 2] * asked[:, 3])

    _, found = _asked(mixtures, product_pairs, case, reference)
    assert found.errors is not None
    squares = case**2
    triple = case[1] * case[2] * case[3] / 3
    true = np.concatenate([[squares[1:].sum()], 2 * squares[1:]])
    true[1:4] += triple
    off = np.abs(found.values - true)
    assert (off <= 5 * found.errors + 1e-9).all()
    assert found.errors.max() > 0
    assert off.max() < 0.1 * np.abs(true).max()


def test_a_feature_that_changes_nothing_gets_nothing_and_equal_ones_get_the_same() -> None:
    mixtures = mixtures_of(4)
    assert mixtures is not None
    case, reference = np.ones(4), np.zeros(4)
    _, found = _asked(
        mixtures, lambda asked: np.asarray(np.maximum(asked[:, 0], asked[:, 1])), case, reference
    )
    assert found.values == pytest.approx([0.5, 0.5, 0.0, 0.0], abs=1e-12)


def test_each_step_of_an_order_adds_one_feature() -> None:
    mixtures = mixtures_of(20)
    assert mixtures is not None
    assert mixtures.orders is not None
    steps = mixtures.masks[2:].reshape(len(mixtures.orders), 19, 20)
    assert (steps.sum(axis=2) == np.arange(1, 20)).all()
    assert (steps[:, 1:] >= steps[:, :-1]).all()
    assert (mixtures.orders[::2] == mixtures.orders[1::2, ::-1]).all()


@pytest.mark.parametrize(("features", "rows"), [(0, 1), (1, 2), (13, MOST_ROWS)])
def test_all_mixtures_are_asked_about_if_they_are_few(features: int, rows: int) -> None:
    mixtures = mixtures_of(features)
    assert mixtures is not None
    assert len({row.tobytes() for row in mixtures.masks}) == rows
    assert len(mixtures.amounts(np.zeros(rows)).values) == features


def test_too_many_features_for_a_few_orders_get_no_mixtures() -> None:
    assert mixtures_of(math.ceil(MOST_ROWS / 16) + 1) is None
