"""What a fitted encoder knows decides in which type a value reaches it, or the query is refused.

Else the encoder would take each value for one that training did not have, and say nothing.
"""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta
from decimal import Decimal
from ipaddress import IPv4Address
from typing import Any
from uuid import UUID

import pandas as pd
import pyarrow as pa
import pytest
from sklearn.ensemble import BaggingClassifier, BaggingRegressor
from sklearn.impute import SimpleImputer
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder
from sklearn.tree import DecisionTreeRegressor

from mlops_plugin.errors import FeatureError
from mlops_plugin.formats.scikit import ScikitRuntime

INTERVAL = pa.month_day_nano_interval()


def answers(model: Any, asked: pa.Array) -> list[Any]:
    found = ScikitRuntime("m", "0" * 64, model, None).predict(
        pa.RecordBatch.from_arrays([asked], names=["x"])
    )
    return list(found.column("prediction").to_pylist())


def ranks(known: list[Any]) -> tuple[Any, pd.DataFrame]:
    """A model that answers with the place of a value among those of training, -1 for another one."""
    train = pd.DataFrame({"x": pd.Series(known)})
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)
    return make_pipeline(encoder, DecisionTreeRegressor()).fit(train, range(len(known))), train


SPANS = [timedelta(days=1, hours=2), timedelta(hours=9, microseconds=1), timedelta(0)]
LARGE = [2**53, 2**53 + 1, 2**53 + 2]
UUIDS = [UUID(int=number) for number in (7, 3, 5)]


@pytest.mark.parametrize(
    ("known", "asked"),
    [
        (SPANS, pa.array(SPANS)),
        (SPANS, pa.array([(0, 1, 7_200 * 10**9), (0, 0, 32_400_000_001_000), (0, 0, 0)], INTERVAL)),
        (SPANS, pa.array(["1 day 02:00:00", "09:00:00.000001", "00:00:00"])),
        (SPANS[1:], pa.array([time(9, 0, 0, 1), time(0)])),
        (UUIDS, pa.array(list(map(str, UUIDS)))),
        ([0.25, 0.5], pa.array([0.25, 0.5], pa.float32())),
        (LARGE, pa.array([Decimal(number) for number in LARGE], pa.decimal128(20, 0))),
    ],
    ids=["spans", "intervals", "texts of spans", "times of day", "texts of UUIDs", "floats", "decimals"],
)
def test_a_category_is_found_in_whatever_type_a_query_returns_it(known: list[Any], asked: pa.Array) -> None:
    model, train = ranks(known)
    assert len(set(model.predict(train))) == len(known)
    assert answers(model, asked) == model.predict(train).tolist()


TRUTHS = pd.Series([True, False, float("nan")], dtype=object)  # as pandas reads them from CSV


@pytest.mark.parametrize("kind", [pa.bool_(), pa.int8()], ids=["booleans", "TINYINT"])
@pytest.mark.parametrize("imputed", [True, False])
def test_a_missing_truth_beside_objects_is_found(kind: pa.DataType, *, imputed: bool) -> None:
    train = pd.DataFrame({"x": [*TRUTHS, *TRUTHS]})
    first = [SimpleImputer(strategy="most_frequent")] if imputed else []
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    model = make_pipeline(*first, encoder, DecisionTreeRegressor()).fit(train, [1, 2, 3] * 2)
    found = answers(model, pa.array([True, False, None]).cast(kind))
    assert found == model.predict(train[:3]).tolist()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("upcast", [True, False])
def test_categories_of_fewer_bytes_are_found_by_doubles(dtype: str, *, upcast: bool) -> None:
    fractions = [0.1, 0.7, 2.0]
    known = pd.Series(fractions, dtype=dtype)
    model, train = ranks(known.astype("float64") if upcast else known)
    expected = [*model.predict(train), *model.predict(pd.DataFrame({"x": [0.5]}))]
    assert answers(model, pa.array([*fractions, 0.5])) == expected


def test_whole_numbers_and_halves_say_nothing_of_fewer_bytes() -> None:
    model, _ = ranks([123456792.0, 123456800.0, 0.5])
    other = [123456793.0]
    assert answers(model, pa.array(other)) == model.predict(pd.DataFrame({"x": other})).tolist()


def test_a_missing_time_beside_objects_is_found() -> None:
    known = pd.Series([datetime(2026, 1, 1, 12), datetime(2026, 1, 2), None], dtype=object)
    model, train = ranks(known)
    assert answers(model, pa.array(known.tolist(), pa.timestamp("us"))) == model.predict(train).tolist()
    with pytest.raises(FeatureError, match="AS TIMESTAMP"):
        answers(model, pa.array(["2026-01-01 12:00:00"]))


def test_a_decimal_is_no_category_beside_none() -> None:
    model, _ = ranks(pd.Series([0.1, 0.5, None], dtype=object))
    with pytest.raises(FeatureError, match="eight bytes"):
        answers(model, pa.array([Decimal("0.10")]))


BAGGED = pd.DataFrame(
    {
        "city": pd.Series(["Rome", "Oslo", None] * 20, dtype=object),
        "is_new": pd.Series([True, None, False, True] * 15, dtype=object),
    }
)


@pytest.mark.parametrize("bagging", [BaggingClassifier, BaggingRegressor])
@pytest.mark.parametrize("features", [2, 1])
def test_encoders_inside_of_bagging_see_what_they_know(bagging: Any, features: int) -> None:
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)
    inner = make_pipeline(encoder, DecisionTreeRegressor() if bagging is BaggingRegressor else GaussianNB())
    model = bagging(inner, 3, max_features=features, random_state=0).fit(BAGGED, [0, 1, 2] * 20)
    rows = pa.RecordBatch.from_pandas(BAGGED[:12], preserve_index=False)
    found = ScikitRuntime("m", "0" * 64, model, None).predict(rows).column("prediction").to_pylist()
    assert found == model.predict(BAGGED[:12]).tolist()
    assert len(set(found)) > 1


NOON = pd.Timestamp("2026-01-01 12:00")


@pytest.mark.parametrize(
    ("known", "asked", "says"),
    [
        ([NOON, NOON.ceil("D")], pa.array([NOON.tz_localize("UTC")]), "AS TIMESTAMP)"),
        ([NOON.tz_localize("UTC"), NOON.ceil("D").tz_localize("UTC")], pa.array([NOON]), "AS TIMESTAMPTZ)"),
        (SPANS, pa.array([(1, 0, 0)], INTERVAL), "months"),
        (SPANS, pa.array(["1 mon"]), "months"),
        (SPANS, pa.array([7200.0]), "timedelta64"),
        ([IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")], pa.array(["10.0.0.1"]), "no query returns"),
        (UUIDS, pa.array(["7"]), "uuid"),
        ([0.1, 0.5], pa.array([0.1], pa.float32()), "eight bytes"),
        (LARGE, pa.array([2.0**53]), "AS DECIMAL(20, 0))"),
        (LARGE, pa.array([Decimal("9007199254740993.00")]), "AS DECIMAL(20, 0))"),
    ],
)
def test_a_value_that_no_category_could_equal_is_refused(
    known: list[Any], asked: pa.Array, says: str
) -> None:
    model, _ = ranks(known)
    with pytest.raises(FeatureError, match=re.escape(says)):
        answers(model, asked)
