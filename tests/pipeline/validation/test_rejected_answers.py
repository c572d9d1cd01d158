"""What a model answers: with no number or an unknown class, the dispatch fails or the row is rejected."""

from __future__ import annotations

import hashlib
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from mlops_plugin.errors import ContractError
from support.rejected_rows import counts, ids, quarantined, tables
from support.workshop import Workshop

pytestmark = pytest.mark.slow  # a pickled model has a process of its own


class Odd(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Answers with its first feature, and with no number where that is 777 or 778."""

    feature_names_in_ = np.array(["a", "b", "c"])
    n_features_in_ = 3

    def predict(self, rows: Any) -> Any:
        values = np.asarray(rows)[:, 0]
        return np.select([values == 777, values == 778], [np.nan, -np.inf], values)


class OddClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Knows two classes and answers with a third one where its first feature is above 700."""

    feature_names_in_ = np.array(["a", "b", "c"])
    n_features_in_ = 3
    classes_ = np.array(["low", "high"])

    def predict(self, rows: Any) -> Any:
        values = np.asarray(rows)[:, 0]
        return np.select([values > 700, values > 0], ["third", "high"], "low")


class Silent(BaseEstimator):  # type: ignore[misc]
    """Has no answer for its first row, and a number for each other."""

    feature_names_in_ = np.array(["a", "b", "c"])
    n_features_in_ = 3

    def predict(self, rows: Any) -> Any:
        return np.array([None if value == 777 else value for value in np.asarray(rows)[:, 0]], dtype=object)


def odd(workshop: Workshop, model: Any, **changes: Any) -> None:
    file = workshop.folder / "odd.joblib"
    joblib.dump(model, file)
    workshop.in_source(
        "UPDATE customers SET a = 777 WHERE id = 2",
        "UPDATE customers SET a = 778 WHERE id = 3",
    )
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    artifact = {"format": "joblib", "uri": "odd.joblib", "sha256": sha256}
    workshop.add_model("churn", model=artifact, **changes)


def test_an_answer_that_is_no_number_fails_the_dispatch(workshop: Workshop) -> None:
    odd(workshop, Odd())
    expected = r"'prediction' .*NaN \(1\), 'prediction' .*\(1\)"
    with pytest.raises(ContractError, match=expected):
        workshop.run(workshop.dispatch())
    assert tables(workshop) == set()


def test_or_is_quarantined_where_the_configuration_says_so(workshop: Workshop) -> None:
    odd(workshop, Odd(), output={"on_violation": "reject"}, error_threshold=2)
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    assert ids(workshop) == [1, 4, 5]
    assert quarantined(workshop) == [
        (2, "prediction", "the model answers NaN", "nan"),
        (3, "prediction", "the model answers an infinite number", "-inf"),
    ]
    assert counts(workshop, dispatch) == (5, 3, 2, 3)


def test_a_class_that_the_model_does_not_have_fails_the_dispatch(workshop: Workshop) -> None:
    odd(workshop, OddClassifier())
    with pytest.raises(ContractError, match=r"class.*\(2\)"):
        workshop.run(workshop.dispatch())


def test_or_is_quarantined_with_the_class(workshop: Workshop) -> None:
    odd(workshop, OddClassifier(), output={"on_violation": "reject"}, error_threshold=2)
    workshop.run(workshop.dispatch())
    assert [(row[0], row[3]) for row in quarantined(workshop)] == [(2, "third"), (3, "third")]


@pytest.mark.parametrize("batch_rows", [1, 2, 100])
def test_numbers_behind_a_missing_answer_stay_numbers_in_batches_of_any_size(
    workshop: Workshop, batch_rows: int
) -> None:
    query = "SELECT id, a, b, c FROM customers WHERE id <> 3 ORDER BY id = 2 DESC, id"
    source = {"query": query, "batch_rows": batch_rows}
    odd(workshop, Silent(), source=source, output={"on_violation": "reject"}, error_threshold=1)
    workshop.run(workshop.dispatch())
    values = dict(workshop.in_source("SELECT id, a FROM customers"))
    found = {row["id"]: row["prediction"] for row in workshop.predictions()}
    assert found == {row: values[row] for row in (1, 4, 5)}
