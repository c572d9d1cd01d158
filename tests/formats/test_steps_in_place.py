"""Steps that change the table they are given, in place: each question gets a table of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from catboost import CatBoostRegressor
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from mlops_plugin.formats.scikit import ScikitRuntime

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({"a": RNG.normal(50, 20, 300), "b": RNG.normal(size=300)})


class Tenths(BaseEstimator, TransformerMixin):  # type: ignore[misc]
    """Divides the first column by ten, in the caller's own table."""

    def fit(self, rows: Any, y: Any = None) -> Tenths:  # noqa: ARG002 - of the protocol
        self.columns_ = rows.columns
        return self

    def transform(self, rows: Any) -> Any:
        rows["a"] /= 10
        return rows


def _rows(frame: pd.DataFrame) -> pa.RecordBatch:
    return pa.RecordBatch.from_pandas(frame, preserve_index=False)


def _tenths(rows: Any) -> Any:
    rows["a"] /= 10
    return rows


@pytest.mark.parametrize(
    "step",
    [StandardScaler(copy=False), Tenths(), FunctionTransformer(_tenths)],
    ids=["scaler", "own step", "own function"],
)
def test_probabilities_and_labels_are_those_of_the_same_rows(step: Any) -> None:
    model = make_pipeline(step, KNeighborsClassifier(5, algorithm="brute"))
    model.fit(FRAME.copy(), np.where(FRAME.a > 50, "high", "low"))
    expected = model.predict(FRAME.copy()), model.predict_proba(FRAME.copy())
    runtime = ScikitRuntime("m", "0" * 64, model, ("a", "b"))
    for start in range(0, len(FRAME), 100):
        found = runtime.predict(_rows(FRAME[start : start + 100]))
        assert found.column("prediction").to_pylist() == expected[0][start : start + 100].tolist()
        np.testing.assert_allclose(found.column("probability_low"), expected[1][start : start + 100, 1])


def test_categories_are_looked_at_in_another_table_than_the_model_gets() -> None:
    frame = FRAME.assign(c=np.resize(["red", "blue", "green"], len(FRAME)))
    trees = CatBoostRegressor(
        iterations=20, verbose=False, thread_count=1, allow_writing_files=False, cat_features=["c"]
    )
    model = make_pipeline(Tenths(), trees).fit(frame.copy(), FRAME.a * 3)
    runtime = ScikitRuntime("m", "0" * 64, model, ("a", "b", "c"))
    found = runtime.predict(_rows(frame)).column("prediction").to_pylist()
    assert found == pytest.approx(model.predict(frame.copy()), rel=1e-9)
