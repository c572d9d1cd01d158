"""A model whose answer about a row depends on the rows beside it is refused, unless a signature says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeRegressor

from mlops_plugin.errors import AnswersOfNeighbours
from mlops_plugin.formats.model_input import SignedSpec
from mlops_plugin.formats.scikit import ScikitRuntime
from mlops_plugin.formats.signature.signature import parse_signature
from mlops_plugin.formats.signature.signature_writer import dump_signature, make_signature
from mlops_plugin.formats.signature.signed_input import input_spec, missing_in_golden_rows
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
    with pytest.raises(AnswersOfNeighbours, match=r"\b(2 rows|among 512)"):  # noqa: PT012 - of either row
        loaded.predict(ROWS.slice(0, 1))
        loaded.predict(ROWS.slice(1, 1))


MANY = pd.DataFrame({"x": np.arange(300.0) ** 2 // 99, "y": np.arange(300.0) % 7})


def of_many(step: Any, frame: pd.DataFrame = MANY) -> tuple[ScikitRuntime, pa.RecordBatch]:
    model = make_pipeline(FunctionTransformer(step), LinearRegression()).fit(frame, np.arange(300.0) % 11)
    return runtime(model), pa.RecordBatch.from_pandas(frame, preserve_index=False)


@pytest.mark.parametrize(
    "step", [shop_code.clipped, shop_code.greatest, shop_code.repeated, shop_code.counted, shop_code.numbered]
)
def test_it_is_refused_if_few_answers_change(step: Any) -> None:
    loaded, rows = of_many(step)
    with pytest.raises(AnswersOfNeighbours, match="'prediction' of one row"):
        loaded.predict(rows)


@pytest.mark.parametrize("step", [shop_code.sizes_of_groups, shop_code.shares_of_sum])
@pytest.mark.parametrize("size", [1, 7])
def test_it_is_refused_if_few_rows_are_all_alike_to_it(step: Any, size: int) -> None:
    """A tree that was trained on counts of fifty and more answers alike to all smaller ones."""
    train = MANY.assign(x=MANY.x + 1, y=np.repeat([1.0, 2.0, 3.0], [50, 100, 150]))
    model = make_pipeline(FunctionTransformer(step), DecisionTreeRegressor()).fit(train, train.x * train.y)
    rows = pa.RecordBatch.from_pandas(train, preserve_index=False)
    with pytest.raises(AnswersOfNeighbours, match="among 512"):
        runtime(model).predict(rows.slice(0, size))


def with_null_at(place: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pandas(MANY.assign(y=MANY.y.mask(MANY.index == place)), preserve_index=False)


@pytest.mark.parametrize("step", [shop_code.filled_with_means, shop_code.filled_forward])
@pytest.mark.parametrize("at", [1, 150, 299])
def test_what_fills_in_a_value_of_other_rows_is_refused_at_the_first_null(step: Any, at: int) -> None:
    loaded, rows = of_many(step)
    assert loaded.predict(rows).num_rows == 300  # of rows without NULL, nothing is to be said
    with pytest.raises(AnswersOfNeighbours):
        loaded.predict(with_null_at(at))


def test_a_null_that_has_no_row_before_it_tells_nothing_of_the_next() -> None:
    loaded, _ = of_many(shop_code.filled_forward)
    assert loaded.predict(with_null_at(0)).num_rows == 300
    with pytest.raises(AnswersOfNeighbours):
        loaded.predict(with_null_at(150))


def averages(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(x=frame.groupby("y")["x"].transform("mean"))


def filled(frame: pd.DataFrame) -> pd.DataFrame:
    return shop_code.filled_with_means(frame).fillna(0)


@pytest.mark.parametrize("step", [averages, filled, shop_code.greatest, shop_code.clipped])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_rows_of_small_batches_are_asked_together(step: Any, size: int) -> None:
    loaded, _ = of_many(step)
    rows = with_null_at(20)
    with pytest.raises(AnswersOfNeighbours):  # noqa: PT012 - whichever batch tells
        for start in range(0, 60, size):
            loaded.predict(rows.slice(start, size))


def test_a_rare_text_that_gets_a_number_in_its_batch_is_found() -> None:
    cities = pd.DataFrame({"city": np.where(np.arange(300) == 137, "Rome", "Oslo").astype(object)})
    codes = FunctionTransformer(shop_code.codes_of_categories)
    model = make_pipeline(codes, LinearRegression()).fit(cities, np.arange(300) == 137)
    rows = pa.RecordBatch.from_pandas(cities, preserve_index=False)
    with pytest.raises(AnswersOfNeighbours):
        ScikitRuntime("m", "0" * 64, model, ("city",)).predict(rows)


def of_tied_neighbours() -> Any:
    """Each row of training comes twice, with two labels: rounding decides which of them is near."""
    random = np.random.default_rng(0)
    table = np.repeat(random.normal(size=(150, 2)), 2, axis=0)
    return KNeighborsClassifier(1, algorithm="brute").fit(table, np.arange(300) % 2)


def with_imputer(imputer: Any) -> Any:
    holes = MANY.mask(np.random.default_rng(0).random(MANY.shape) < 0.2)
    return make_pipeline(imputer, KNeighborsClassifier(3)).fit(holes, np.arange(300) % 2)


@pytest.mark.parametrize(
    "model",
    [
        of_tied_neighbours(),
        with_imputer(KNNImputer(n_neighbors=3)),
        with_imputer(IterativeImputer(max_iter=3)),
        with_imputer(FunctionTransformer(shop_code.filled_with_zeros)),
    ],
    ids=["tied", "KNNImputer", "IterativeImputer", "own"],
)
def test_rounding_and_ties_are_no_neighbours(model: Any) -> None:
    holes = MANY.mask(np.random.default_rng(1).random(MANY.shape) < 0.2)
    asked = MANY if model.__class__ is KNeighborsClassifier else holes
    rows = pa.RecordBatch.from_pandas(asked, preserve_index=False)
    loaded = runtime(model)
    for size in (300, 40, 7):
        assert loaded.predict(rows.slice(0, size)).num_rows == size


def test_codes_of_the_categories_of_a_batch_are_found() -> None:
    train = pd.DataFrame({"city": ["Rome", "Oslo", "Bern"] * 8})
    codes = FunctionTransformer(shop_code.codes_of_categories)
    model = make_pipeline(codes, LinearRegression()).fit(train, TRAIN.y)
    rows = pa.RecordBatch.from_pandas(train, preserve_index=False)
    with pytest.raises(AnswersOfNeighbours):
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
        # A column behind the other in memory, as in a DataFrame, may change the last bit.
        assert found == pytest.approx(model.predict(TRAIN[: part.num_rows]).tolist(), rel=1e-12)


def test_a_model_that_squeezes_the_answer_about_one_row_is_served_in_batches() -> None:
    class Squeezes:
        n_features_in_ = 2

        def predict(self, table: Any) -> Any:
            return np.squeeze(table[:, :1])

    assert runtime(Squeezes()).predict(ROWS).column(0).to_pylist() == TRAIN.x.tolist()


def test_a_model_that_refuses_the_rows_of_the_second_question_has_answered_the_first() -> None:
    model = shop_code.Raises(ValueError, at=3.0, least_rows=20)
    assert ScikitRuntime("m", "0" * 64, model, ("x",)).predict(ROWS).column(0).to_pylist() == [0.0] * 24


@pytest.mark.parametrize("missing", [None, float("nan")], ids=str)
@pytest.mark.parametrize("is_signed", [False, True])
def test_what_fills_in_a_mean_is_refused_at_the_first_missing_value(missing: Any, is_signed: bool) -> None:
    """Training had none, so that neither its rows nor a signature tell of it."""
    model = make_pipeline(FunctionTransformer(filled), DecisionTreeRegressor()).fit(TRAIN, TRAIN.y)
    signature = parse_signature("m", dump_signature(make_signature(model, TRAIN)))
    spec = SignedSpec(input_spec(signature), signature.sha256, missing_in_golden_rows(signature))
    loaded = runtime(model, signed=spec if is_signed else None)
    assert loaded.predict(ROWS).num_rows == 24
    holed = ROWS.set_column(1, "y", pa.array([missing, *TRAIN.y.tolist()[1:]]))
    with pytest.raises(AnswersOfNeighbours):
        loaded.predict(holed)


def test_missing_values_of_golden_rows_are_asked_about_no_more() -> None:
    model = with_imputer(IterativeImputer(max_iter=3))
    holes = MANY.mask(np.random.default_rng(0).random(MANY.shape) < 0.2)
    signature = parse_signature("m", dump_signature(make_signature(model, holes)))
    assert missing_in_golden_rows(signature) == frozenset({"x", "y"})
