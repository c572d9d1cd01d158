"""A model whose answer about a row depends on the rows beside it is refused, unless a signature says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from mlops_plugin.errors import AnswersOfNeighbours
from mlops_plugin.formats.model_input import SignedSpec
from mlops_plugin.formats.scikit import ScikitRuntime
from mlops_plugin.formats.signature.signature import parse_signature
from mlops_plugin.formats.signature.signature_writer import dump_signature, make_signature
from mlops_plugin.formats.signature.signed_input import input_spec
from support import shop_code

TRAIN = pd.DataFrame({"x": [3.0, 1.0, 2.0, 5.0, 4.0, 9.0, 7.0, 8.0] * 3, "y": np.arange(24.0)})
ROWS = pa.RecordBatch.from_pandas(TRAIN, preserve_index=False)


def of_neighbours(step: Any) -> Any:
    return make_pipeline(FunctionTransformer(step), LinearRegression()).fit(TRAIN, TRAIN.y)


def runtime(model: Any, **more: Any) -> ScikitRuntime:
    return ScikitRuntime("m", "0" * 64, model, ("x", "y"), **more)


@pytest.mark.parametrize(
    "step", [shop_code.differences, shop_code.ranks, shop_code.rolling_means, shop_code.standardized]
)
@pytest.mark.parametrize("rows", [2, 7, 24])
def test_a_model_that_looks_at_other_rows_is_refused(step: Any, rows: int) -> None:
    with pytest.raises(AnswersOfNeighbours, match="'prediction'"):
        runtime(of_neighbours(step)).predict(ROWS.slice(0, rows))


@pytest.mark.parametrize(
    "step", [shop_code.differences, shop_code.ranks, shop_code.rolling_means, shop_code.standardized]
)
def test_it_is_refused_with_batches_of_one_row_too(step: Any) -> None:
    loaded = runtime(of_neighbours(step))
    loaded.predict(ROWS.slice(0, 1))
    with pytest.raises(AnswersOfNeighbours, match=r"\b2 rows"):
        loaded.predict(ROWS.slice(1, 1))


def test_codes_of_the_categories_of_a_batch_are_found_by_a_row_alone() -> None:
    train = pd.DataFrame({"city": ["Rome", "Oslo", "Bern"] * 8})
    codes = FunctionTransformer(shop_code.codes_of_categories)
    model = make_pipeline(codes, LinearRegression()).fit(train, TRAIN.y)
    rows = pa.RecordBatch.from_pandas(train, preserve_index=False)
    with pytest.raises(AnswersOfNeighbours, match=r"\b24 rows"):
        ScikitRuntime("m", "0" * 64, model, ("city",)).predict(rows)


def test_a_signature_tells_of_answers_that_depend_on_other_rows() -> None:
    model = of_neighbours(shop_code.ranks)
    signature = parse_signature("m", dump_signature(make_signature(model, TRAIN)))
    assert signature.golden.unstable["predict"].why == "the answer depends on the other rows"
    signed = runtime(model, signed=SignedSpec(input_spec(signature), signature.sha256))
    assert signed.predict(ROWS).column(0).to_pylist() == model.predict(TRAIN).tolist()


def test_a_model_that_samples_gives_answers_of_its_own() -> None:
    assert runtime(shop_code.Samples()).predict(ROWS).num_rows == 24


@pytest.mark.parametrize("model", [LinearRegression(), KNeighborsClassifier(3)], ids=str)
def test_a_model_that_looks_at_each_row_by_itself_is_asked_as_before(model: Any) -> None:
    model.fit(TRAIN, TRAIN.x.astype(int))
    loaded = runtime(model)
    for part in (ROWS.slice(0, 1), ROWS):
        found = loaded.predict(part).column(0).to_pylist()
        assert found == model.predict(TRAIN[: part.num_rows]).tolist()


def test_a_model_that_squeezes_the_answer_about_one_row_is_served_in_batches() -> None:
    class Squeezes:
        n_features_in_ = 2

        def predict(self, table: Any) -> Any:
            return np.squeeze(table[:, :1])

    assert runtime(Squeezes()).predict(ROWS).column(0).to_pylist() == TRAIN.x.tolist()


def test_a_model_that_refuses_the_rows_of_the_second_question_has_answered_the_first() -> None:
    model = shop_code.Raises(ValueError, at=3.0, least_rows=20)
    assert ScikitRuntime("m", "0" * 64, model, ("x",)).predict(ROWS).column(0).to_pylist() == [0.0] * 24
