"""Code of the user's own sees dates, times and missing values as in training, or the dispatch stops."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from lightgbm import LGBMClassifier
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from mlops_plugin.config.schema import ArtifactConfig
from mlops_plugin.errors import FeatureError, InputUndecided
from mlops_plugin.formats.input_rules import StatedInput
from mlops_plugin.formats.scikit import ScikitRuntime
from support.native_models import as_queried

ROWS = 40
LABELS = np.resize([0, 1, 1, 0, 1], ROWS)
DAYS = pd.Series(pd.date_range("2024-01-01", periods=10).to_numpy()[np.arange(ROWS) % 10])
HOLIDAYS = pd.DatetimeIndex(["2024-01-03", "2024-01-10"])
CITIES = np.resize(np.array(["a", "b", None, "c"], object), ROWS)
STORES = pd.Series(np.resize([1, 2, None], ROWS))

OBJECTS = pd.Series([moment.date() for moment in DAYS], dtype=object)
PARSED = DAYS.astype("datetime64[us]")


def each(change: Callable[[pd.Series], Any]) -> Any:
    return FunctionTransformer(lambda rows: pd.DataFrame({name: change(rows[name]) for name in rows}))


def texts_of(change: Callable[[Any], Any]) -> Any:
    return make_pipeline(each(lambda column: column.map(change)), OneHotEncoder(handle_unknown="ignore"))


class Picks(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Hands one column on, as many of the users' own classes do."""

    def fit(self, rows: pd.DataFrame, _: Any = None) -> Picks:
        self.feature_names_in_ = np.array(list(rows), dtype=object)
        return self

    def transform(self, rows: pd.DataFrame) -> pd.DataFrame:
        return rows[["x"]]


def picked() -> Any:
    return make_pipeline(Picks(), OneHotEncoder(handle_unknown="ignore"))


def fitted(step: Any, column: Any, **others: Any) -> tuple[Any, pd.DataFrame]:
    train = pd.DataFrame({"x": column, **others})
    return make_pipeline(step, LogisticRegression(C=100)).fit(train, LABELS), train


def answers(model: Any, rows: pa.RecordBatch, **dtypes: str) -> list[float]:
    runtime = ScikitRuntime("m", "0" * 64, model, None, stated=StatedInput(dtypes=dtypes or None))
    return list(runtime.predict(rows).column("probability_1").to_pylist())


def right(model: Any, train: pd.DataFrame) -> Any:
    return pytest.approx(model.predict_proba(train)[:, 1].tolist(), rel=1e-9)


DATES = pa.RecordBatch.from_pydict({"x": pa.array(OBJECTS.tolist(), pa.date32())})


@pytest.mark.parametrize(("trained", "said"), [(OBJECTS, "date"), (PARSED, "datetime64[us]")])
def test_days_that_are_compared_with_moments_are_refused(trained: pd.Series, said: str) -> None:
    model, train = fitted(
        each(lambda column: column.isin(HOLIDAYS).astype(int) + column.isin([date.min])), trained
    )
    if trained is PARSED:  # else nothing is found in either type, and the answers are the same
        with pytest.raises(InputUndecided, match=r"'x'.*dtypes: \{x: date\}.*`datetime64\[us\]` instead of"):
            answers(model, DATES)
    assert answers(model, DATES, x=said) == right(model, train)


@pytest.mark.parametrize(
    ("step", "trained"),
    [
        (each(lambda column: column.dt.day_of_week), PARSED),
        (each(lambda column: pd.to_datetime(column).dt.day_of_week), PARSED),
        (each(lambda column: pd.to_datetime(column).dt.day_of_week), OBJECTS),
        (texts_of(str), PARSED),
        (texts_of(str), OBJECTS),
        (texts_of(lambda day: day.isoformat()), PARSED),
        (texts_of(lambda day: day.isoformat()), OBJECTS),
    ],
)
def test_days_reach_code_as_it_takes_or_has_written_them(step: Any, trained: pd.Series) -> None:
    model, train = fitted(step, trained)
    assert answers(model, DATES) == right(model, train)


@pytest.mark.parametrize("zone", [None, "UTC"])
@pytest.mark.parametrize("unit", ["us", "ns"])
def test_moments_that_are_taken_for_numbers_are_refused(unit: str, zone: str | None) -> None:
    dtype = f"datetime64[{unit}, {zone}]" if zone else f"datetime64[{unit}]"
    moments = (DAYS + pd.Timedelta(hours=5)).dt.tz_localize(zone).astype(dtype)
    rows = pa.RecordBatch.from_pydict({"x": pa.array(moments).cast(pa.timestamp("us", zone))})
    model, train = fitted(each(lambda column: column.astype("int64") / 1e15), moments)
    with pytest.raises(InputUndecided, match=r"microseconds, or in nanoseconds"):
        answers(model, rows)
    assert answers(model, rows, x=dtype) == right(model, train)
    model, train = fitted(each(lambda column: column.dt.day_of_week), moments)
    assert answers(model, rows) == right(model, train)


def test_moments_are_asked_in_both_units_about_a_few_rows_only() -> None:
    asked = []

    def count(rows: pd.DataFrame) -> pd.DataFrame:
        asked.append(len(rows))
        return pd.DataFrame({"hour": rows["x"].dt.hour})

    moments = pd.Series(pd.date_range("2024-01-01", periods=2000, freq="7h"))
    model = make_pipeline(FunctionTransformer(count), LogisticRegression())
    model.fit(pd.DataFrame({"x": moments}), np.resize([0, 1], 2000))
    runtime = ScikitRuntime("m", "0" * 64, model, None)
    rows = pa.RecordBatch.from_pydict({"x": pa.array(moments)})
    runtime.predict(rows)
    asked.clear()
    runtime.predict(rows)
    assert asked == [2000]


JSON = ['{"a": 1}', '{"a": [1, 2]}', '["an a"]', '{"a": 1, "b": 2}', None]


@pytest.mark.parametrize(
    ("value_of", "said"), [(len, "json"), (len, "text"), (lambda value: "a" in value, "json")]
)
def test_json_that_training_may_have_had_parsed_is_refused(value_of: Callable[[Any], Any], said: str) -> None:
    parsed = [None if text is None else json.loads(text) for text in JSON]
    trained = pd.Series((parsed if said == "json" else JSON) * (ROWS // len(JSON)), dtype=object)
    step = each(lambda column: column.map(lambda value: -1 if value is None else float(value_of(value))))
    model, train = fitted(step, trained)
    rows = pa.RecordBatch.from_pydict({"x": pa.array(JSON * (ROWS // len(JSON)))})
    with pytest.raises(InputUndecided, match=r"'x'.*dtypes: \{x: text\}.*`json` instead of `text`"):
        answers(model, rows)
    assert answers(model, rows, x="json" if said == "json" else "object") == right(model, train)
    assert ArtifactConfig.model_validate({"format": "skops", "uri": "m", "dtypes": {"x": "json"}}).dtypes


def test_json_reaches_code_as_it_takes_it() -> None:
    texts = ['{"a": 1}', '{"a": 2}', None, '{"a": 4}', '{"a": 2}'] * (ROWS // 5)
    rows = pa.RecordBatch.from_pydict({"x": pa.array(texts)})
    parsed = pd.Series([None if text is None else json.loads(text) for text in texts], dtype=object)
    taken = each(lambda column: column.map(lambda value: 0 if value is None else value["a"]))
    model, train = fitted(taken, parsed)
    assert answers(model, rows) == right(model, train)
    loaded = each(lambda column: column.map(lambda text: 0 if pd.isna(text) else json.loads(text)["a"]))
    model, train = fitted(loaded, pd.Series(texts))
    assert answers(model, rows) == right(model, train)


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_code_that_tells_none_from_nan_is_refused(missing: Any) -> None:
    trained = pd.Series([missing if city is None else city for city in CITIES], dtype=object)
    model, train = fitted(each(lambda column: [int(value is None) for value in column]), trained)
    rows = pa.RecordBatch.from_pydict({"x": CITIES.tolist()})
    if missing is None:  # else it is 0 for all rows of training, and of no effect
        with pytest.raises(InputUndecided, match=r"dtypes: \{x: text\}.*`object` instead of `text`"):
            answers(model, rows)
        with pytest.raises(InputUndecided):
            answers(model, rows.slice(2, 1))
    assert answers(model, rows, x="object" if missing is None else "text") == right(model, train)


@pytest.mark.parametrize("others", [{}, {"y": np.resize(["u", "v"], ROWS)}], ids=["alone", "beside another"])
@pytest.mark.parametrize(
    ("missing", "change"),
    [
        (None, str),
        (float("nan"), str),
        (pd.NA, str),
        (None, lambda value: value),
        (float("nan"), lambda value: value),
    ],
)
def test_the_missing_text_that_an_encoder_behind_code_knows_is_answered(
    missing: Any, change: Any, others: dict[str, Any]
) -> None:
    trained = pd.Series([missing if city is None else city for city in CITIES], dtype=object)
    model, train = fitted(texts_of(change), trained, **others)
    rows = pa.RecordBatch.from_pydict({"x": CITIES.tolist(), **others})
    assert answers(model, rows) == right(model, train)


@pytest.mark.parametrize("dtype", ["Int64", "float64", "object"])
def test_missing_numbers_are_written_as_in_training(dtype: str) -> None:
    trained = STORES.astype(dtype)
    if dtype == "object":
        trained = pd.Series([None if pd.isna(store) else int(store) for store in STORES], dtype=object)
    model, train = fitted(texts_of(str), trained)
    assert answers(model, as_queried(train)) == right(model, train)


def test_columns_of_text_side_by_side_tell_what_is_missing() -> None:
    step = FunctionTransformer(lambda rows: rows.to_numpy(dtype=object).astype(str))
    encoder = OneHotEncoder(handle_unknown="ignore")
    train = pd.DataFrame({"x": pd.Series(CITIES, dtype="str"), "y": np.resize(["u", "v"], ROWS)})
    first = make_column_transformer((make_pipeline(step, encoder), ["x", "y"]))
    model = make_pipeline(first, LogisticRegression()).fit(train, LABELS)
    assert answers(model, as_queried(train)) == right(model, train)


NUMBERS = np.resize([0.1, 0.2, 0.7], ROWS)


@pytest.mark.parametrize(
    "trained", [np.resize([1, 2, 3], ROWS), NUMBERS, np.resize([True, False], ROWS), OBJECTS, PARSED]
)
def test_texts_are_no_categories_behind_code_that_hands_a_column_on(trained: Any) -> None:
    model, train = fitted(picked(), trained)
    texts = train["x"].astype(str).tolist()
    refusals = (
        r"encoder behind .* code .* 'x' as .*dtypes: \{x: text\}|encoder .* 'x' .*dtypes: \{x: number\}"
    )
    for rows in (texts, texts[:1], ["other", *texts]):
        with pytest.raises((FeatureError, InputUndecided), match=refusals):
            answers(model, pa.RecordBatch.from_pydict({"x": rows}))
    assert answers(model, as_queried(train.assign(x=OBJECTS) if trained is PARSED else train)) == right(
        model, train
    )


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        (lambda column: column.astype(int), np.resize(["1", "2"], ROWS)),
        (lambda column: column.map({"man": 0, "woman": 1}), np.resize(["man", "woman"], ROWS)),
    ],
)
def test_numbers_that_code_makes_of_texts_are_answered(change: Any, texts: Any) -> None:
    model, train = fitted(make_pipeline(each(change), picked()), texts)
    assert answers(model, as_queried(train)) == right(model, train)
    assert answers(model, as_queried(train), x="text") == right(model, train)


def test_doubles_for_numbers_of_four_bytes_behind_code_are_refused() -> None:
    model, train = fitted(picked(), NUMBERS.astype("float32"))
    rows = pa.RecordBatch.from_pydict({"x": NUMBERS})
    with pytest.raises(InputUndecided, match=r"dtypes: \{x: float32\}"):
        answers(model, rows)
    assert answers(model, rows, x="float32") == right(model, train)


def test_numbers_of_four_bytes_for_doubles_behind_code_are_refused() -> None:
    model, _ = fitted(picked(), NUMBERS)
    with pytest.raises(FeatureError, match=r"encoder behind .* code .* float, .*dtypes: \{x: number\}"):
        answers(model, pa.RecordBatch.from_pydict({"x": pa.array(NUMBERS, pa.float32())}))


def test_days_that_code_has_written_of_another_column_tell_nothing() -> None:
    step = make_pipeline(
        FunctionTransformer(lambda rows: rows.assign(x=rows["x"].isin(HOLIDAYS).astype(int))),
        make_column_transformer((OneHotEncoder(), ["y"]), remainder="passthrough"),
    )
    model, train = fitted(step, PARSED, y=OBJECTS.astype(str))
    rows = DATES.append_column("y", pa.array(train["y"]))
    with pytest.raises(InputUndecided, match="'x'"):
        answers(model, rows)
    assert answers(model, rows, x="datetime64[us]", y="text") == right(model, train)


CODES = np.where(np.arange(ROWS) % 7 == 0, 3, LABELS + 1)


def boosting_by(write: Callable[[pd.Series], Any], train: pd.DataFrame) -> Any:
    few: dict[str, Any] = {"min_child_samples": 2, "min_data_per_group": 2, "cat_smooth": 1, "verbose": -1}
    return make_pipeline(each(write), LGBMClassifier(n_estimators=5, **few)).fit(train, LABELS)


@pytest.mark.parametrize(
    ("trained", "queried", "said"), [(CODES, CODES.astype(str), "number"), (CODES.astype(str), CODES, "text")]
)
def test_categories_that_code_makes_for_lightgbm_are_those_of_training(
    trained: Any, queried: Any, said: str
) -> None:
    train = pd.DataFrame({"x": trained})
    model = boosting_by(lambda column: column.astype("category"), train)
    assert answers(model, as_queried(train)) == right(model, train)
    with pytest.raises(InputUndecided, match=rf"knows 'x' .*dtypes: \{{x: {said}\}}"):
        answers(model, as_queried(pd.DataFrame({"x": queried})))


@pytest.mark.parametrize("size", [1, ROWS])
def test_truths_that_code_makes_categories_of_are_those_of_training(size: int) -> None:
    train = pd.DataFrame({"x": LABELS == 1})
    model = boosting_by(lambda column: column.astype("category"), train)
    rows = as_queried(pd.DataFrame({"x": LABELS}))
    assert answers(model, rows.slice(0, size)) == right(model, train[:size])


def test_categories_that_code_writes_as_texts_for_lightgbm_are_answered() -> None:
    train = pd.DataFrame({"x": CODES})
    model = boosting_by(lambda column: column.astype(str).astype("category"), train)
    assert len(set(right(model, train).expected)) > 1
    assert answers(model, as_queried(train)) == right(model, train)


@pytest.mark.parametrize("trained", [np.resize([1, 2, 3], ROWS), NUMBERS])
def test_boosting_with_an_encoder_of_its_own_behind_code_is_given_what_it_knows(trained: Any) -> None:
    boosting = HistGradientBoostingClassifier(categorical_features=["x"], min_samples_leaf=5, max_iter=5)
    train = pd.DataFrame({"x": trained})
    model = make_pipeline(Picks(), boosting).fit(train, LABELS)
    assert answers(model, as_queried(train)) == right(model, train)
    with pytest.raises(InputUndecided, match=r"encoder .* 'x' .*dtypes: \{x: number\}"):
        answers(model, pa.RecordBatch.from_pydict({"x": train["x"].astype(str).tolist()}))
    if trained is NUMBERS:
        with pytest.raises(FeatureError, match=r"encoder behind .* code .*dtypes: \{x: number\}"):
            answers(model, pa.RecordBatch.from_pydict({"x": pa.array(NUMBERS, pa.float32())}))
