"""Code that writes a column as text, before an encoder: another type in the query is noticed, not unknown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from mlops_plugin.errors import InputUndecided
from mlops_plugin.formats.input_rules import StatedInput
from mlops_plugin.formats.scikit import ScikitRuntime
from support.native_models import as_queried

FLAGS = np.resize([0, 1, 1], 60)
STORES = np.resize([30, 20, 10, 20], 60)
BIT, WHOLE, DOUBLE = (pd.Series(FLAGS).astype(kind) for kind in ("bool", "int64", "float64"))


def _as_text(rows: Any) -> Any:
    return rows.astype(str)


def _named(columns: list[str], write: Any) -> Any:
    texts = FunctionTransformer(write, feature_names_out="one-to-one")
    encoded = make_pipeline(texts, OneHotEncoder(handle_unknown="ignore"))
    return make_pipeline(make_column_transformer((encoded, columns)), LogisticRegression())


def _fitted(trained: pd.DataFrame, write: Any = _as_text) -> Any:
    return _named(list(trained), write).fit(trained, FLAGS)


def _probabilities(model: Any, rows: pa.RecordBatch, **dtypes: str) -> list[float]:
    runtime = ScikitRuntime("m", "0" * 64, model, None, stated=StatedInput(dtypes=dtypes or None))
    return list(runtime.predict(rows).column("probability_1").to_pylist())


@pytest.mark.parametrize("others", [{}, {"store": STORES}], ids=["alone", "beside another"])
@pytest.mark.parametrize(
    ("trained", "queried", "advice"),
    [
        (BIT, WHOLE, "boolean"),
        (BIT, DOUBLE, "boolean"),
        (WHOLE, BIT, "integer"),
        (WHOLE, DOUBLE, "integer"),
    ],
    ids=["boolean as integer", "boolean as double", "integer as boolean", "integer as double"],
)
def test_another_type_than_that_of_the_texts_is_refused_with_the_right_one(
    trained: Any, queried: Any, advice: str, others: dict[str, Any]
) -> None:
    train = pd.DataFrame({"flag": trained, **others})
    model = _fitted(train)
    rows = as_queried(train.assign(flag=queried))
    with pytest.raises(InputUndecided, match=rf"dtypes: \{{flag: {advice}\}}"):
        _probabilities(model, rows)
    if queried is not DOUBLE or advice == "integer":  # a double is no boolean in any case
        expected = model.predict_proba(train)[:, 1]
        assert _probabilities(model, rows, flag=advice) == pytest.approx(expected)


@pytest.mark.parametrize("trained", [BIT, WHOLE, DOUBLE])
def test_the_type_of_the_texts_is_answered(trained: Any) -> None:
    train = pd.DataFrame({"flag": trained})
    model = _fitted(train)
    assert _probabilities(model, as_queried(train)) == pytest.approx(model.predict_proba(train)[:, 1])


def _in_tens(rows: Any) -> Any:
    return (rows // 10).astype(int).astype(str)


def _is_large(rows: Any) -> Any:
    return (rows > 15).astype(str)


@pytest.mark.parametrize("write", [_in_tens, _is_large])
@pytest.mark.parametrize("offset", [0, 0.5])
def test_texts_that_are_made_of_numbers_of_any_type_are_answered(write: Any, offset: float) -> None:
    train = pd.DataFrame({"store": STORES + offset})
    model = _fitted(train, write)
    for queried in (train, train.astype({"store": "int64"})):
        expected = model.predict_proba(queried)[:, 1]
        assert _probabilities(model, as_queried(queried)) == pytest.approx(expected)


def _lengths(rows: Any) -> Any:
    return rows.assign(store=rows["store"].astype(str).str.len())


def test_texts_of_another_column_tell_nothing() -> None:
    trained = pd.DataFrame({"store": pd.Series(STORES * 1.0), "zip": np.resize(["10", "20"], 60)})
    encoded = make_column_transformer((OneHotEncoder(), ["zip"]), remainder="passthrough")
    model = make_pipeline(FunctionTransformer(_lengths), encoded, LogisticRegression())
    model.fit(trained.assign(store=trained["store"].where(FLAGS == 1, 123.0)), FLAGS)
    with pytest.raises(InputUndecided, match="'store' had in training"):
        _probabilities(model, as_queried(trained.astype({"store": "int64"})))
