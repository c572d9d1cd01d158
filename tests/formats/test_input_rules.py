"""A model without a signature sees what it saw in training, by rules that read no row."""

from __future__ import annotations

import re
import warnings
from datetime import date, datetime
from typing import Any

import category_encoders
import feature_engine.encoding
import imblearn.over_sampling
import imblearn.pipeline
import lightgbm
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from catboost import CatBoostClassifier, CatBoostRegressor
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV, TunedThresholdClassifierCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder
from sklearn.svm import LinearSVC
from xgboost import XGBClassifier, XGBRegressor

from mlops_plugin.errors import FeatureError, InputUndecided
from mlops_plugin.formats.input_rules import StatedInput
from mlops_plugin.formats.scikit import ScikitRuntime
from support import shop_code
from support.ways_in import WayIn

REVIEWS = ["good film", "bad film", "great and good", "awful, bad"] * 10
LABELS = np.array(["positive", "negative"] * 20)
TEXTS = pa.RecordBatch.from_pydict({"review": REVIEWS[:4]})
SHOP = pd.DataFrame(
    {"city": ["Rome", "Oslo", "Bern"] * 20, "store": [30, 10, 20] * 20, "x": np.linspace(-1, 1, 60)}
)
ROWS = pa.RecordBatch.from_pandas(SHOP[:3], preserve_index=False)
HALVES = [0, 1] * 30
QUIET = {"iterations": 5, "verbose": False, "allow_writing_files": False, "thread_count": 1}


def runtime(model: Any, features: tuple[str, ...] | None = None, **stated: Any) -> ScikitRuntime:
    return ScikitRuntime("model.joblib", "0" * 64, model, features, stated=StatedInput(**stated))


def answers(model: Any, rows: pa.RecordBatch, *features: str, **stated: Any) -> list[Any]:
    found = runtime(model, features or None, **stated).predict(rows)
    return list(found.column("prediction").to_pylist())


def text_pipeline(vectorizer: Any = None, final: Any = None) -> Any:
    return make_pipeline(vectorizer or TfidfVectorizer(), final or LogisticRegression())


@pytest.mark.parametrize(
    "model",
    [
        CalibratedClassifierCV(text_pipeline(final=LinearSVC()), cv=3),
        VotingClassifier([("a", text_pipeline()), ("b", text_pipeline(CountVectorizer()))]),
        StackingClassifier([("a", text_pipeline())], cv=2),
        OneVsRestClassifier(text_pipeline()),
        TunedThresholdClassifierCV(text_pipeline(), scoring="balanced_accuracy", cv=2),
        FixedThresholdClassifier(text_pipeline(), pos_label="positive", threshold=0.3),
        GridSearchCV(text_pipeline(), {"logisticregression__C": [0.1, 1.0]}, cv=2),
        CalibratedClassifierCV(GridSearchCV(text_pipeline(), {}, cv=2), cv=2),
        text_pipeline(HashingVectorizer(n_features=64)),
        text_pipeline(
            FeatureUnion([("words", CountVectorizer()), ("letters", TfidfVectorizer(analyzer="char"))])
        ),
        imblearn.pipeline.make_pipeline(TfidfVectorizer(), LogisticRegression()),
    ],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.parametrize("rows", [1, 4])
def test_documents_reach_a_vectorizer_through_whatever_is_around_it(model: Any, rows: int) -> None:
    model = model.fit(REVIEWS, LABELS)
    assert answers(model, TEXTS.slice(0, rows), "review") == model.predict(REVIEWS[:rows]).tolist()


def test_documents_reach_a_frozen_vectorizer() -> None:
    model = FrozenEstimator(text_pipeline().fit(REVIEWS, LABELS))
    assert answers(model, TEXTS, "review") == LABELS[:4].tolist()


def test_several_outputs_of_documents() -> None:
    both = np.column_stack([LABELS, LABELS[::-1]])
    model = MultiOutputClassifier(text_pipeline()).fit(REVIEWS, both)
    found = runtime(model, ("review",)).predict(TEXTS)
    assert found.column("prediction_0").to_pylist() == LABELS[:4].tolist()
    assert found.column("prediction_1").to_pylist() == LABELS[::-1][:4].tolist()


@pytest.mark.parametrize(
    "step", [shop_code.Cleaner(), shop_code.SeriesCleaner(), shop_code.OneColumn("review")]
)
@pytest.mark.parametrize("rows", [1, 3, 4])
def test_a_step_of_the_users_own_before_a_vectorizer_sees_what_it_was_written_for(
    step: Any, rows: int
) -> None:
    trained_on = {"Cleaner": REVIEWS, "SeriesCleaner": pd.Series(REVIEWS)}.get(
        type(step).__name__, pd.DataFrame({"review": REVIEWS})
    )
    model = make_pipeline(step, *[step for _, step in text_pipeline().steps]).fit(trained_on, LABELS)
    assert answers(model, TEXTS.slice(0, rows), "review") == LABELS[:rows].tolist()


def test_a_vectorizer_of_one_column_among_others() -> None:
    train = pd.DataFrame({"review": REVIEWS, "x": range(40)})
    parts = [("text", TfidfVectorizer(), "review"), ("rest", "passthrough", ["x"])]
    model = make_pipeline(ColumnTransformer(parts), LogisticRegression()).fit(train, LABELS)
    rows = pa.RecordBatch.from_pandas(train[:4], preserve_index=False)
    assert answers(model, rows) == model.predict(train[:4]).tolist()


def test_dictionaries_reach_a_dict_vectorizer() -> None:
    records = SHOP[["city", "x"]].to_dict("records")
    model = make_pipeline(DictVectorizer(), Ridge()).fit(records, SHOP.store)
    assert answers(model, ROWS, "city", "x") == model.predict(records[:3]).tolist()


@pytest.mark.parametrize("missing", [None, np.nan], ids=["None", "NaN"])
@pytest.mark.parametrize("is_imputed", [False, True])
def test_a_missing_text_is_what_the_encoder_knows(missing: Any, is_imputed: bool) -> None:
    city = pd.Series(["Rome", "Oslo", missing] * 20, dtype=object)
    train = pd.DataFrame({"city": city, "x": [1.0, 2.0, 1.5] * 20})
    encoder: Any = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    if is_imputed:
        encoder = make_pipeline(
            SimpleImputer(missing_values=missing, strategy="constant", fill_value="none"), encoder
        )
    final = HistGradientBoostingClassifier(min_samples_leaf=2, max_iter=20)
    columns = make_column_transformer((encoder, ["city"]), remainder="passthrough")
    model = make_pipeline(columns, final).fit(train, [1, 0, 1] * 20)
    rows = pa.RecordBatch.from_pydict({"city": ["Rome", "Oslo", None], "x": [1, 2, 1.5]})
    found = runtime(model).predict(rows)
    assert found.column("probability_1").to_pylist() == model.predict_proba(train[:3])[:, 1].tolist()
    assert found.column("prediction").to_pylist() == [1, 0, 1]


def test_a_missing_text_of_a_voting_model_is_what_its_encoders_know() -> None:
    train = pd.DataFrame({"city": pd.Series(["Rome", "Oslo", None] * 20, dtype=object)})
    one = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    model = VotingClassifier([("a", one), ("b", one)], voting="soft").fit(train, [1, 0, 1] * 20)
    rows = pa.RecordBatch.from_pydict({"city": ["Rome", "Oslo", None]})
    assert answers(model, rows) == [1, 0, 1]


def test_a_missing_truth_is_what_the_encoder_knows() -> None:
    train = pd.DataFrame({"flag": pd.Series([True, False, None] * 20, dtype=object)})
    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()).fit(
        train, [1, 0, 2] * 20
    )
    assert answers(model, pa.RecordBatch.from_pydict({"flag": [True, False, None]})) == [1, 0, 2]


def test_texts_that_an_encoder_knows_are_not_looked_for_among_numbers() -> None:
    train = SHOP.astype({"store": str})[["store"]]
    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LinearRegression()).fit(train, SHOP.store)
    with pytest.raises(FeatureError, match="'store'"):
        answers(model, ROWS)


INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32()]


@pytest.mark.parametrize("arrow", INTEGERS, ids=str)
def test_integers_are_64_bits_whatever_the_column_is(arrow: pa.DataType) -> None:
    train = pd.DataFrame({"w": range(1, 200), "h": range(2, 201)})
    model = make_pipeline(FunctionTransformer(shop_code.products), LinearRegression()).fit(
        train, train.w * train.h
    )
    rows = pa.RecordBatch.from_arrays([pa.array([100, 3]).cast(arrow)] * 2, names=["w", "h"])
    assert np.round(answers(model, rows)).tolist() == [10_000, 9]


@pytest.mark.parametrize(
    ("known", "column", "expected"),
    [
        ([1, 2, 3], [1, 3, 2, None], [10, 30, 20]),
        ([True, False, True], [True, False, True, None], [20, 20, 20]),
        ([True, False, False], [True, False, False, None], [10, 25, 25]),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_row_is_answered_alike_whatever_rows_are_beside_it(
    known: list[Any], column: list[Any], expected: list[float], size: int
) -> None:
    texts = FunctionTransformer(shop_code.as_texts)
    model = make_pipeline(texts, OneHotEncoder(handle_unknown="ignore"), Ridge(alpha=1e-6))
    model = model.fit(pd.DataFrame({"store": known * 20}), [10.0, 20.0, 30.0] * 20)
    rows = pa.RecordBatch.from_pydict({"store": column})
    loaded = runtime(model)
    found = [
        value
        for start in range(0, 4, size)
        for value in loaded.predict(rows.slice(start, size)).column("prediction").to_pylist()
    ]
    assert np.round(found[:3], 3).tolist() == expected


def test_an_encoder_behind_code_of_the_users_own_tells_that_integers_were_floats() -> None:
    texts = FunctionTransformer(shop_code.as_texts)
    model = make_pipeline(texts, OneHotEncoder(handle_unknown="ignore"), Ridge(alpha=1e-6))
    train = pd.DataFrame({"store": [1.0, 2.0, np.nan] * 20})  # integers with NULLs, as pandas reads them
    model = model.fit(train, [10.0, 20.0, 30.0] * 20)
    rows = pa.RecordBatch.from_pydict({"store": [1, 2, None]})
    assert np.round(answers(model, rows.slice(0, 2)), 3).tolist() == [10, 20]
    assert np.round(answers(model, rows), 3).tolist() == [10, 20, 30]


@pytest.mark.parametrize(("known", "value"), [(str, 30), (int, "30")])
def test_a_dict_vectorizer_is_never_given_what_it_would_pass_over(known: Any, value: Any) -> None:
    records = SHOP.assign(store=SHOP.store.astype(known))[["store", "x"]].to_dict("records")
    model = make_pipeline(DictVectorizer(), Ridge()).fit(records, SHOP.x)
    rows = pa.RecordBatch.from_pydict({"store": [value], "x": [1.0]})
    with pytest.raises(FeatureError, match=r"DictVectorizer.*'store'"):
        answers(model, rows, "store", "x")


def test_numbers_of_four_bytes_are_rounded_as_a_user_says() -> None:
    single = SHOP[["x", "store"]].to_numpy(np.float32)
    model = LinearRegression().fit(single, SHOP.store)
    stated = {"x": "float32", "store": "float32"}
    assert answers(model, ROWS, "x", "store", dtypes=stated) == model.predict(single[:3]).tolist()
    # One of the two: the matrix of both has eight bytes, of what four could hold.
    half = np.column_stack([SHOP.x.astype(np.float32), SHOP.store.astype(float)])
    found = answers(shop_code.Formula(), ROWS, "x", "store", container="matrix", dtypes={"x": "float32"})
    assert found == (half[:3, 0] * 2.0 + half[:3, 1]).tolist()


def test_an_encoder_behind_code_tells_of_each_column_by_its_name() -> None:
    train = pd.DataFrame({"store": [1.0, 2.0, np.nan] * 20, "number": range(60)})
    model = make_pipeline(
        FunctionTransformer(shop_code.as_texts),
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2),
        LinearRegression(),
    ).fit(train, SHOP.store)
    rows = pa.RecordBatch.from_pydict({"store": [1, 2, None], "number": [0, 1, 2]})
    assert answers(model, rows) == model.predict(train[:3]).tolist()


@pytest.mark.parametrize("first", ["passthrough", None])
def test_a_step_that_does_nothing_hides_no_names(first: str | None) -> None:
    steps = [("nothing", first), ("city", OneHotEncoder()), ("final", LinearRegression())]
    model = Pipeline(steps).fit(SHOP[["city"]], SHOP.store)
    assert answers(model, ROWS) == model.predict(SHOP[["city"]][:3]).tolist()


@pytest.mark.parametrize("rows", [1, 4])
def test_documents_reach_a_model_in_a_class_that_keeps_nothing(rows: int) -> None:
    model = shop_code.TextWrapper(text_pipeline().fit(REVIEWS, LABELS))
    assert answers(model, TEXTS.slice(0, rows), "review") == LABELS[:rows].tolist()


def test_a_user_says_the_type_of_training() -> None:
    steps = [FunctionTransformer(shop_code.as_texts), FunctionTransformer(shop_code.text_lengths)]
    model = make_pipeline(*steps, LinearRegression())
    model = model.fit(pd.DataFrame({"store": [1.0, 20.0, np.nan] * 20}), SHOP.store)
    rows = pa.RecordBatch.from_pydict({"store": [1, 20, None]})
    expected = model.predict(pd.DataFrame({"store": [1.0, 20.0, np.nan]})).tolist()
    assert answers(model, rows, dtypes={"store": "number"}) == expected
    assert answers(model, rows, dtypes={"store": "integer"}) != expected
    with pytest.raises(FeatureError, match=r"\bshop\b"):
        runtime(model, dtypes={"shop": "number"})


@pytest.mark.parametrize("column", [[1.0, 20.0, np.nan], [1, 20, 3]], ids=["floats", "integers"])
@pytest.mark.parametrize("size", [1, 3])
def test_what_nothing_tells_is_refused_if_the_answer_depends_on_it(column: list[Any], size: int) -> None:
    steps = [FunctionTransformer(shop_code.as_texts), FunctionTransformer(shop_code.text_lengths)]
    model = make_pipeline(*steps, LinearRegression()).fit(pd.DataFrame({"store": column * 20}), SHOP.store)
    rows = pa.RecordBatch.from_pydict({"store": [1, 20, 3], "x": [1, 2, 3]}).slice(0, size)
    with pytest.raises(InputUndecided, match=r"'store'.*dtypes: \{store: integer\}.*signature"):
        answers(model, rows)


@pytest.mark.parametrize("column", [[1.0, 20.0, np.nan], [1, 20, 3]], ids=["floats", "integers"])
def test_what_nothing_tells_is_answered_if_no_answer_depends_on_it(column: list[Any]) -> None:
    doubles = FunctionTransformer(shop_code.squares)
    model = make_pipeline(doubles, SimpleImputer(), LinearRegression())
    train = pd.DataFrame({"store": column * 20})
    model = model.fit(train, SHOP.store)
    rows = pa.RecordBatch.from_pydict({"store": [1, 20, None]})
    expected = model.predict(pd.DataFrame({"store": [1.0, 20.0, np.nan]}))
    for size in (1, 2, 3):
        assert answers(model, rows.slice(0, size)) == pytest.approx(expected[:size].tolist(), rel=1e-12)


def test_one_column_that_nothing_tells_is_named_among_others() -> None:
    parts = [
        (
            "texts",
            make_pipeline(*map(FunctionTransformer, (shop_code.as_texts, shop_code.text_lengths))),
            ["n"],
        ),
        ("squares", FunctionTransformer(shop_code.squares), ["store"]),
    ]
    train = pd.DataFrame({"n": [1.0, 20.0, np.nan] * 20, "store": SHOP.store})
    model = make_pipeline(ColumnTransformer(parts), LinearRegression()).fit(train, SHOP.store)
    rows = pa.RecordBatch.from_pydict({"n": [1, 20], "store": [3, 4]})
    with pytest.raises(InputUndecided, match=r"'n'.*dtypes: \{n: integer\}"):
        answers(model, rows)
    assert len(answers(model, rows, dtypes={"n": "number"})) == 2


def test_a_model_that_takes_integers_only_was_trained_on_them() -> None:
    model = make_pipeline(FunctionTransformer(shop_code.bits), LinearRegression()).fit(
        SHOP[["store"]], SHOP.x
    )
    assert answers(model, ROWS) == model.predict(SHOP[["store"]][:3]).tolist()


def test_a_model_that_takes_floats_only_was_trained_on_them() -> None:
    """An imputer of several columns keeps one type for all; of integers alone it cannot fill in its float."""
    train = pd.DataFrame({"whole": [1, 2, 3, 4], "hole": [1.0, np.nan, 3.0, 4.0]})
    squares = FunctionTransformer(shop_code.squares)
    model = make_pipeline(SimpleImputer(strategy="constant"), squares, LinearRegression())
    model.fit(train, [1.0, 2.0, 30.0, 4.0])
    rows = pa.RecordBatch.from_pydict({"whole": [1, 2, 3], "hole": pa.array([1, None, 3], pa.int64())})
    expected = model.predict(train[:3]).tolist()
    for some in (rows, rows.slice(0, 1), rows.slice(1, 1)):
        place = 1 if some.num_rows == 1 and some.column("hole").null_count else 0
        wanted = pytest.approx(expected[place : place + some.num_rows], rel=1e-12)
        assert answers(model, some, "whole", "hole") == wanted


MIXED = pd.DataFrame({"whole": [1, 2, 3, 4], "hole": [1.0, np.nan, 3.0, 4.0]})
WITH_HOLE = pa.RecordBatch.from_pydict({"whole": [1, 2, 3], "hole": pa.array([1, None, 3], pa.int64())})


def test_a_model_that_takes_integers_here_and_floats_there_was_trained_on_them() -> None:
    model = make_pipeline(FunctionTransformer(shop_code.of_integers_and_floats), LinearRegression())
    model.fit(MIXED, [1.0, 2.0, 30.0, 4.0])
    expected = model.predict(MIXED[:3]).tolist()
    loaded = runtime(model)
    for some, wanted in ((WITH_HOLE, expected), *((WITH_HOLE.slice(n, 1), [expected[n]]) for n in range(3))):
        assert loaded.predict(some).column(0).to_pylist() == pytest.approx(wanted, rel=1e-12)


def said_in(error: BaseException) -> dict[str, str]:
    """The types that an error tells the user to write, as YAML reads them."""
    (text,) = re.findall(r"`(model: \{dtypes: \{.*?\}\})`", str(error))
    stated: dict[str, str] = yaml.safe_load(text)["model"]["dtypes"]
    return stated


def test_two_mixtures_of_types_with_two_answers_are_refused_with_what_to_write() -> None:
    model = make_pipeline(FunctionTransformer(shop_code.halves_of_one), LinearRegression())
    model.fit(MIXED, [1.0, 2.0, 30.0, 4.0])
    rows = WITH_HOLE.take(pa.array([0, 2]))
    with pytest.raises(InputUndecided, match=r"write_signature.*mlops sign MODEL --rows FILE") as refused:
        answers(model, rows, "whole", "hole")
    stated = said_in(refused.value)
    assert stated == {"whole": "integer", "hole": "integer"}
    found = answers(model, rows, "whole", "hole", dtypes=stated | {"hole": "number"})
    assert found == pytest.approx(model.predict(MIXED[:3:2]).tolist(), rel=1e-12)


def test_a_mixture_of_many_columns_is_refused_with_what_to_write() -> None:
    names = ["whole", *(f"hole_{number}" for number in range(5))]
    train = pd.DataFrame({name: np.arange(8.0) + (name == "hole_1") for name in names})
    train = train.astype({"whole": "int64"})
    model = make_pipeline(FunctionTransformer(shop_code.of_integers_and_floats), LinearRegression())
    model.fit(train, np.arange(8.0))
    rows = pa.RecordBatch.from_pandas(train.astype("int64"), preserve_index=False)
    with pytest.raises(FeatureError, match=r"'whole', 'hole_0'.*write_signature") as refused:
        answers(model, rows, *names)
    stated = said_in(refused.value)
    assert stated == dict.fromkeys(names, "integer")
    right = dict.fromkeys(names, "number") | {"whole": "integer"}
    assert answers(model, rows, *names, dtypes=right) == pytest.approx(model.predict(train).tolist())


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("more", [[], ["c", "d", "e"]], ids=["two", "five"])
def test_code_that_compares_two_columns_is_asked_in_mixtures(size: int, more: list[str]) -> None:
    """Its answer is the same for integers alone and for floats alone, but not for the two of training."""
    names = ["a", *more, "b"]
    train = pd.DataFrame(dict.fromkeys(names, [1, 2, 3] * 20)).assign(b=[1, 2, 4] * 20)
    model = make_pipeline(FunctionTransformer(shop_code.same_texts), Ridge()).fit(train, [1, 1, 5] * 20)
    rows = pa.RecordBatch.from_pandas(train[:3], preserve_index=False).slice(0, size)
    with pytest.raises(InputUndecided, match=r"\{a: integer, b: integer\}"):
        answers(model, rows, *names)
    stated = dict.fromkeys(names, "integer")
    assert answers(model, rows, *names, dtypes=stated) == model.predict(train[:size]).tolist()


def test_an_array_of_integers_is_one_if_the_answer_depends_on_it() -> None:
    rows = pa.RecordBatch.from_pydict({"a": [2**60 + 1, 5], "b": [1, 1]})
    with pytest.raises(InputUndecided, match=r"'a'"):
        answers(shop_code.LastDigit(), rows, "a", "b")
    stated = {"a": "integer", "b": "integer"}
    assert answers(shop_code.LastDigit(), rows, "a", "b", container="matrix", dtypes=stated) == [7.0, 5.0]
    assert answers(shop_code.LastDigit(), rows.slice(1), "a", "b") == [5.0]
    floats = pa.RecordBatch.from_pydict({"a": [1.5, 5.0], "b": [1, 1]})
    assert answers(shop_code.LastDigit(), floats, "a", "b") == [1.5, 5.0]


def test_a_model_that_never_answers_the_same_twice_is_not_taken_for_undecided() -> None:
    noise = FunctionTransformer(shop_code.with_noise)
    model = make_pipeline(noise, LinearRegression()).fit(SHOP[["store"]], SHOP.store)
    assert len(answers(model, ROWS)) == 3


@pytest.mark.parametrize("missing", [[], [np.nan]], ids=["integers", "floats"])
def test_an_imputer_tells_what_it_was_fitted_on(missing: list[float]) -> None:
    train = pd.DataFrame({"store": [1, 2, *missing] * 20})
    imputer = SimpleImputer(strategy="constant", fill_value=7).set_output(transform="pandas")
    texts = FunctionTransformer(shop_code.as_texts)
    model = make_pipeline(imputer, texts, FunctionTransformer(shop_code.text_lengths), LinearRegression())
    model = model.fit(train, range(len(train)))
    rows = pa.RecordBatch.from_pydict({"store": [1, 20]})
    expected = model.predict(pd.DataFrame({"store": [1, 20]}).astype(train.store.dtype)).tolist()
    assert answers(model, rows) == expected


def test_accessors_of_pandas_find_texts_and_moments() -> None:
    lengths = make_pipeline(FunctionTransformer(shop_code.text_lengths), LogisticRegression())
    lengths.fit(SHOP[["city"]], HALVES)
    assert answers(lengths, ROWS) == lengths.predict(SHOP[["city"]][:3]).tolist()
    signup = pd.DataFrame({"signup": pd.date_range("2025-01-01", periods=60, unit="us")})
    parts = make_pipeline(FunctionTransformer(shop_code.parts_of_moments), LinearRegression()).fit(
        signup, SHOP.x
    )
    rows = pa.RecordBatch.from_pydict({"signup": [datetime(2025, 1, 5), datetime(2025, 1, 6)]})
    for unit in ("s", "ms", "us"):
        cast = rows.set_column(0, "signup", rows.column(0).cast(pa.timestamp(unit)))
        assert answers(parts, cast) == parts.predict(signup[4:6]).tolist()


def test_an_accessor_that_a_column_does_not_have_is_told_what_to_say() -> None:
    signup = pd.DataFrame({"signup": pd.date_range("2025-01-01", periods=60, unit="us")})
    parts = make_pipeline(FunctionTransformer(shop_code.parts_of_moments), LinearRegression())
    parts.fit(signup, SHOP.x)
    rows = pa.RecordBatch.from_pydict({"signup": ["2025-01-05", "2025-01-06 00:00:00"]})
    with pytest.raises(FeatureError, match=r"dtypes: \{NAME: timestamp\}"):
        answers(parts, rows)
    found = answers(parts, rows, dtypes={"signup": "timestamp"})
    assert found == parts.predict(signup[4:6]).tolist()
    lengths = make_pipeline(FunctionTransformer(shop_code.text_lengths), LinearRegression())
    lengths.fit(SHOP[["city"]], SHOP.x)
    with pytest.raises(FeatureError, match="cast it in the query"):
        answers(lengths, pa.RecordBatch.from_pydict({"city": [1, 2]}))


def test_days_that_an_encoder_knows() -> None:
    days = [date(2025, 1, 1), date(2025, 1, 2), date(2025, 1, 3)]
    train = pd.DataFrame({"day": pd.Series(days * 20, dtype=object)})
    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LinearRegression()).fit(train, SHOP.store)
    assert answers(model, pa.RecordBatch.from_pydict({"day": days})) == model.predict(train[:3]).tolist()


@pytest.mark.parametrize(
    "model", [shop_code.Formula(), shop_code.RowByRow()], ids=lambda model: type(model).__name__
)
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_class_that_was_written_for_an_array_gets_one(model: Any, rows: int) -> None:
    expected = model.predict(SHOP[["x", "store"]].to_numpy()[:rows])
    assert answers(model, ROWS.slice(0, rows), "x", "store") == list(expected)


def test_a_user_says_the_container() -> None:
    assert answers(shop_code.Formula(), ROWS, "x", "store", container="matrix") == [
        28.0,
        10 - 2 * 57 / 59,
        20 - 2 * 55 / 59,
    ]
    model = text_pipeline().fit(REVIEWS, LABELS)
    assert answers(model, TEXTS, "review", container="documents") == LABELS[:4].tolist()
    with pytest.raises(FeatureError, match="exactly one text column"):
        answers(shop_code.Formula(), ROWS, "x", "store", container="documents")


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(category_encoders.TargetEncoder(), LogisticRegression()),
        make_pipeline(category_encoders.OneHotEncoder(cols=["city"]), LogisticRegression()),
        make_pipeline(feature_engine.encoding.OneHotEncoder(), LogisticRegression()),
        make_pipeline(feature_engine.encoding.CountFrequencyEncoder(), LogisticRegression()),
        imblearn.pipeline.make_pipeline(
            imblearn.over_sampling.RandomOverSampler(random_state=0),
            make_column_transformer((OneHotEncoder(), ["city"])),
            LogisticRegression(),
        ),
        make_pipeline(shop_code.CityCodes(), LogisticRegression()),
        make_pipeline(
            make_column_transformer(
                (make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()), ["city"]),
                remainder="passthrough",
            ),
            LogisticRegression(),
        ),
    ],
    ids=lambda model: type(model[0]).__module__,
)
def test_steps_of_other_packages_that_take_text(model: Any) -> None:
    columns = SHOP[["city", "x"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = model.fit(columns, HALVES)
        found = runtime(model).predict(ROWS)
        expected = model.predict_proba(columns[:3])[:, 1].tolist()
    assert found.column("probability_1").to_pylist() == expected


def test_an_imputer_of_text_before_an_encoder() -> None:
    model = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(), LinearRegression())
    model = model.fit(SHOP[["city"]], SHOP.store)
    assert answers(model, ROWS) == model.predict(SHOP[["city"]][:3]).tolist()


@pytest.mark.parametrize("names", [("store", "x"), None], ids=["named", "unnamed"])
def test_a_booster_of_lightgbm_itself(names: tuple[str, ...] | None) -> None:
    table = SHOP[["store", "x"]].assign(store=SHOP.store.astype("category") if names else SHOP.store)
    data = lightgbm.Dataset(table if names else table.to_numpy(), SHOP.x)
    model = lightgbm.train({"verbose": -1, "num_threads": 1, "min_data_in_leaf": 2}, data, 3)
    found = answers(model, ROWS, *(() if names else ("store", "x")))
    assert found == list(model.predict(table[:3]))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("column", ["city", "store"])
@pytest.mark.parametrize("kind", [LGBMRegressor, XGBRegressor, LGBMClassifier, XGBClassifier])
def test_categories_of_boosting_are_those_of_training(kind: type[Any], column: str) -> None:
    table = SHOP[[column, "x"]].astype({column: "category"})
    options = {"verbose": -1} if kind.__name__.startswith("LGBM") else {"enable_categorical": True}
    target = SHOP.x if "Regressor" in kind.__name__ else HALVES
    model = kind(n_estimators=3, n_jobs=1, **options).fit(table, target)
    # Only some of the categories, and in another order: their codes must not change.
    for places in ([0, 1, 2], [2], [1, 0]):
        rows = ROWS.take(pa.array(places))
        assert answers(model, rows) == pytest.approx(model.predict(table.iloc[places]).tolist(), abs=0)


def test_an_ordered_category_of_lightgbm_is_found_by_its_texts() -> None:
    table = SHOP[["city", "x"]].assign(code=np.resize([4, 1], len(SHOP)))
    table["city"] = pd.Categorical(table.city, ordered=True)  # LightGBM does not call it categorical
    settings: dict[str, Any] = {"verbose": -1, "n_jobs": 1, "n_estimators": 3, "min_child_samples": 1}
    model = LGBMRegressor(**settings).fit(table, SHOP.x, categorical_feature=["code"])
    rows = pa.RecordBatch.from_pydict({name: table[name].tolist() for name in table})
    assert answers(model, rows) == list(model.predict(table))


@pytest.mark.filterwarnings("ignore")
def test_a_category_that_xgboost_does_not_know_is_named() -> None:
    table = SHOP[["city", "x"]].astype({"city": "category"})
    model = XGBRegressor(n_estimators=3, enable_categorical=True, n_jobs=1).fit(table, SHOP.x)
    with pytest.raises(FeatureError, match=r"'city'.*'Lima' .* 3 categories"):
        answers(model, pa.RecordBatch.from_pydict({"city": ["Lima"], "x": [0.5]}))


@pytest.mark.parametrize("features", [(), ("store", "x")])
def test_catboost_knows_its_columns(features: tuple[str, ...]) -> None:
    model = CatBoostRegressor(**QUIET).fit(SHOP[["store", "x"]], SHOP.x)
    assert answers(model, ROWS, *features) == model.predict(SHOP[["store", "x"]][:3]).tolist()


@pytest.mark.parametrize("column", ["city", "store"])
@pytest.mark.parametrize("is_behind", [False, True])
def test_catboost_gets_its_categories_as_texts_or_integers(column: str, is_behind: bool) -> None:
    model: Any = CatBoostClassifier(cat_features=[column], **QUIET)
    if is_behind:
        model = make_pipeline(FunctionTransformer(), model)
    model = model.fit(SHOP[[column, "x"]], HALVES)
    found = runtime(model).predict(ROWS)
    assert (
        found.column("probability_1").to_pylist()
        == model.predict_proba(SHOP[[column, "x"]][:3])[:, 1].tolist()
    )


def test_numbers_that_only_pass_an_imputer_keep_their_type() -> None:
    texts = FunctionTransformer(shop_code.as_texts)
    imputer = SimpleImputer(strategy="most_frequent").set_output(transform="pandas")
    model = make_pipeline(imputer, texts, OneHotEncoder(handle_unknown="ignore"), Ridge(alpha=1e-6))
    model = model.fit(SHOP[["store"]], SHOP.store)
    assert np.round(answers(model, ROWS), 3).tolist() == [30, 10, 20]


def test_a_forest_of_integers_still_reads_a_matrix() -> None:
    model = RandomForestRegressor(3, random_state=0).fit(SHOP[["store", "x"]], SHOP.x)
    loaded = runtime(model)
    loaded.check(ROWS.schema)
    (spec,) = loaded._specs
    assert (spec.container, spec.matrix_dtype) == ("matrix", "float64")


def test_the_same_values_give_the_same_answers_over_every_way(way: WayIn) -> None:
    types = {
        "mysql": ("TINYINT UNSIGNED", "SMALLINT", "VARCHAR(9)"),
        "postgres": ("SMALLINT", "INTEGER", "VARCHAR(9)"),
        "sqlite": ("INTEGER", "INTEGER", "TEXT"),
    }[way.engine]
    way.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, w {}, h {}, city {})".format(*types))
    way.fill("t", [(1, 200, 200, "Rome"), (2, 3, 5, "Oslo"), (3, 7, 1, None), (4, None, 2, "Rome")])
    train = pd.DataFrame(
        {"w": range(1, 200), "h": range(2, 201), "city": ["Rome", "Oslo", None] * 66 + ["Rome"]}
    )
    train = train.astype({"city": object})
    parts = [
        ("area", FunctionTransformer(shop_code.products), ["w", "h"]),
        ("city", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["city"]),
    ]
    model = make_pipeline(ColumnTransformer(parts), SimpleImputer(), LinearRegression())
    model = model.fit(train, train.w * train.h + 1000 * train.city.isna())
    for size in (1, 3, 4):
        with way.open() as database:
            rows = database.read("SELECT * FROM t ORDER BY id", batch_rows=size)
            loaded = runtime(model)
            found = [value for batch in rows for value in loaded.predict(batch).column(0).to_pylist()]
        assert np.round(found[:3]).tolist() == [40_000, 15, 1007]


def test_columns_of_one_name_are_refused() -> None:
    with pytest.raises(FeatureError, match="several columns called 'x'"):
        ScikitRuntime("m", "0" * 64, _Named(("x", "y", "x")), None)


class _Named:
    """A model that was trained on these columns."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.feature_names_in_ = np.array(names)

    def predict(self, rows: Any) -> Any:
        return np.zeros(len(rows))
