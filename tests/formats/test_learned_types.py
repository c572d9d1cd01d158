"""The type of an answer is learned from the first that is there, and no later answer is changed to fit it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mlops_plugin.errors import ArtifactError
from mlops_plugin.formats.scikit import ScikitRuntime
from support.workshop import FEATURES, Workshop

MANY = 1_100  # rows, more than types are learned from if rows cannot be rejected


class Looks:
    """Answers with what a function makes of its first feature."""

    feature_names_in_ = np.array(FEATURES)
    n_features_in_ = len(FEATURES)

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self.answer = answer

    def predict(self, rows: Any) -> Any:
        return self.answer(np.asarray(rows)[:, 0])


def _mapped(values: Any) -> Any:
    """What pandas makes of labels that most rows lack: floats if none is there, else objects."""
    return pd.Series(values).map({5.0: "high"}).to_numpy()


def _numbered(values: Any) -> Any:
    return np.array([7.5 if value == 5 else None for value in values], dtype=object)


def _both(values: Any) -> Any:
    found = np.full((len(values), 2), None, dtype=object)
    found[values == 0, 0] = "a"
    found[values == 5, 1] = 2.5
    return found


def _runtime(answer: Callable[[Any], Any], *first: float) -> ScikitRuntime:
    runtime = ScikitRuntime("m", "0" * 64, Looks(answer), None)
    runtime.learn_outputs(_rows(*first))
    return runtime


def _rows(*values: float) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(dict.fromkeys(FEATURES, np.array(values, float)))


@pytest.mark.parametrize(("answer", "expected"), [(_mapped, "high"), (_numbered, 7.5)])
def test_missing_answers_of_an_array_leave_the_type_open(answer: Any, expected: Any) -> None:
    runtime = _runtime(answer, 1, 2)
    assert not runtime.learn_outputs(_rows(3, 4))
    assert runtime.learn_outputs(_rows(5))
    assert runtime.predict(_rows(1, 5)).column("prediction").to_pylist() == [None, expected]


def test_each_of_several_outputs_is_learned_from_the_rows_that_tell_it() -> None:
    runtime = _runtime(_both, 0, 1)
    assert runtime.learn_outputs(_rows(5, 4))
    assert runtime.predict(_rows(0, 5)).to_pydict() == {
        "prediction_0": ["a", None],
        "prediction_1": [None, 2.5],
    }


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (np.array([1, 2]), np.array(["007", "08"])),
        (np.array([1, 2]), np.array([b"007", b"08"])),
        (np.array([1.5, 2]), np.array(["7.5", "8"])),
        (np.array([1, 2]), np.array([7.5, 8], dtype=object)),
        (np.array([1, 2]), np.array([Decimal("7.5"), 8], dtype=object)),
        (np.array([np.nan, np.nan]), np.array(["7.5", "8"])),
    ],
    ids=["text", "bytes", "text of a fraction", "fraction", "decimal", "text after nothing"],
)
def test_an_answer_of_another_type_is_refused_and_not_converted(first: Any, later: Any) -> None:
    runtime = _runtime(lambda values: (first if values[0] == 0 else later)[: len(values)], 0, 0)
    with pytest.raises(ArtifactError, match=r"answers 'prediction' with (int64|double), and now"):
        runtime.predict(_rows(1, 1))


@pytest.mark.parametrize("has_contract", [False, True])
def test_a_dispatch_whose_first_thousand_answers_are_missing_keeps_the_labels_of_the_others(
    workshop: Workshop, has_contract: bool
) -> None:
    file = workshop.folder / "mapped.joblib"
    joblib.dump(Looks(_mapped), file)
    workshop.add_rows(MANY)
    workshop.in_source("UPDATE customers SET a = 1", f"UPDATE customers SET a = 5 WHERE id > {MANY}")
    columns = "id, CAST(a AS TEXT) AS a, b, c" if has_contract else "id, a, b, c"
    contract = {"input": {"columns": {"a": {"type": "number"}}}} if has_contract else {}
    workshop.add_model(
        "churn",
        model={
            "format": "joblib",
            "uri": file.name,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "isolation": "none",
        },
        source={"query": f"SELECT {columns} FROM customers ORDER BY id", "batch_rows": 500},
        output={"on_violation": "reject"},
        error_threshold=MANY,
        **contract,
    )
    workshop.run(workshop.dispatch())
    found = [(row["id"], row["prediction"]) for row in workshop.predictions()]
    assert found == [(MANY + number, "high") for number in range(1, 6)]
