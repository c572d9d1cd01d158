"""The one file that is copied into notebooks: what it writes down, which rows it keeps, what it refuses."""

from __future__ import annotations

import ast
import hashlib
import json
import math
import struct
import sys
import uuid
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from mlops_plugin.formats.signature import signature_writer
from mlops_plugin.formats.signature.cells import Duration, Instant, MissingLook, decode_cell
from mlops_plugin.formats.signature.signature import Signature, parse_signature
from mlops_plugin.formats.signature.signature_writer import (
    dump_signature,
    encode_value,
    make_signature,
    write_signature,
)
from mlops_plugin.pipeline.validation.baseline import FeatureBaseline, baseline_in_signature, make_baseline

SHOP = pd.DataFrame(
    {
        "city": pd.Series(["Rome", "Oslo", None, "Bern"] * 30, dtype=object),
        "spend": np.linspace(-5, 5, 120),
        "visits": np.arange(120),
    }
)


class Constant:
    """Answers 1 to everything."""

    def predict(self, rows: Any) -> Any:
        return np.ones(len(rows))


class OfColumn:
    """A model of one of the columns."""

    def __init__(self, model: Any, column: str) -> None:
        self.model, self.column, self.classes_ = model, column, model.classes_

    def predict(self, rows: Any) -> Any:
        return self.model.predict(rows[[self.column]])


def held(kind: pa.DataType) -> Any:
    """The type of a pandas column that Arrow holds."""
    return pd.ArrowDtype(kind)


def signed(model: Any, data: Any, **options: Any) -> Signature:
    return parse_signature("a file", dump_signature(make_signature(model, data, **options)))


def through_json(value: Any) -> Any:
    return decode_cell(json.loads(json.dumps(encode_value(value), allow_nan=False)))


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


@given(st.floats(allow_nan=False))
def test_every_float_is_read_back_bit_for_bit(value: float) -> None:
    assert bits(through_json(value)) == bits(value)
    assert bits(through_json(np.float64(value))) == bits(value)


@given(st.text(st.characters(blacklist_categories=())))
def test_every_text_is_read_back(value: str) -> None:
    assert through_json(value) == value


@given(
    st.integers(-(2**63), 2**64 - 1)
    | st.binary()
    | st.dates()
    | st.times()
    | st.uuids()
    | st.none()
    | st.booleans()
)
def test_every_plain_value_is_read_back_with_its_type(value: Any) -> None:
    found = through_json(value)
    assert (found, type(found)) == (value, type(value))


@given(st.decimals(allow_nan=False))
def test_every_decimal_is_read_back_with_its_digits(value: Decimal) -> None:
    assert through_json(value).as_tuple() == value.as_tuple()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            pd.Timestamp("2026-03-29 01:59:59.123456789"),
            Instant(datetime(2026, 3, 29, 1, 59, 59, 123456), 123456789),
        ),
        (np.datetime64("2026-01-01T00:00:00.5"), Instant(datetime(2026, 1, 1, 0, 0, 0, 500000), 500000000)),
        (datetime(2026, 1, 1), Instant(datetime(2026, 1, 1), 0)),
        (pd.Timestamp(1, unit="ns"), Instant(datetime(1970, 1, 1), 1)),
        (timedelta(days=-1, microseconds=1), Duration(-86_399_999_999_000)),
        (pd.Timedelta(1, unit="ns"), Duration(1)),
        (pd.NaT, MissingLook("nat")),
        (pd.NA, MissingLook("pd.NA")),
        (math.inf, math.inf),
        (Decimal("-0.00"), Decimal("-0.00")),
        (np.int8(-1), -1),
        (np.True_, True),
        (uuid.UUID(int=7), uuid.UUID(int=7)),
        (time(1, 2, 3, 4), time(1, 2, 3, 4)),
        (date(1, 1, 1), date(1, 1, 1)),
    ],
)
def test_values_that_json_does_not_know_are_read_back(value: Any, expected: Any) -> None:
    found = through_json(value)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Sao_Paulo"])
@pytest.mark.parametrize("hour", [0, 1, 2])  # 1 and 2 come twice in the night when Berlin's clocks go back
def test_times_keep_their_zone_and_their_offset(zone: str, hour: int) -> None:
    moment = pd.Timestamp(datetime(2026, 10, 25, hour, 30, tzinfo=UTC)).tz_convert(zone)
    found = through_json(moment)
    assert found.moment == moment
    assert found.moment.tzinfo == ZoneInfo(zone)
    assert found.moment.utcoffset() == moment.utcoffset()


def test_nan_and_none_stay_two() -> None:
    assert math.isnan(through_json(math.nan))
    assert through_json(None) is None


@pytest.mark.parametrize(
    ("values", "dtype", "kind", "missing"),
    [
        (pd.Series([1, 2], dtype="int8"), "int8", "integer", None),
        (pd.Series([1.5, None]), "float64", "number", "nan"),
        (pd.Series([True, False]), "bool", "boolean", None),
        (pd.Series(["a", None], dtype=object), "object", "text", "none"),
        (pd.Series(["a", np.nan], dtype=object), "object", "text", "nan"),
        (pd.Series(["a", None], dtype="str"), "str", "text", "nan"),
        (pd.Series(["a", None], dtype="string"), "string", "text", "pd.NA"),
        (pd.Series([1, None], dtype="Int64"), "Int64", "integer", "pd.NA"),
        (pd.Series([True, None], dtype="boolean"), "boolean", "boolean", "pd.NA"),
        (
            pd.Series(pd.to_datetime(["2026-01-01", None])).astype("datetime64[ns]"),
            "datetime64[ns]",
            "timestamp",
            "nat",
        ),
        (pd.Series([Decimal("1.10"), None], dtype=object), "object", "decimal", "none"),
        (pd.Series([date(2026, 1, 1), pd.NaT], dtype=object), "object", "date", "nat"),
        (pd.Series([1, 2.5, None], dtype=object), "object", "number", "none"),
        (pd.Series([b"a", b"b"], dtype=object), "object", "binary", None),
        (pd.Series(["a", "b"], dtype="category"), "category", "text", None),
        (pd.Series([None, None], dtype=object), "object", "unknown", "none"),
        (pd.Series([1, None], dtype="int8[pyarrow]"), "int8[pyarrow]", "integer", "pd.NA"),
        (pd.Series([date(2026, 1, 1)], dtype=held(pa.date32())), "date32[day][pyarrow]", "date", None),
        (pd.Series(["a", None], dtype=held(pa.string())), "string[pyarrow]", "text", "pd.NA"),
    ],
)
def test_a_column_is_described_as_in_training(
    values: Any, dtype: str, kind: str, missing: str | None
) -> None:
    (column,) = signed(Constant(), pd.DataFrame({"x": values})).input.columns
    assert (column.dtype, column.kind, column.missing) == (dtype, kind, missing)


def test_categories_keep_their_order_and_those_that_no_row_has() -> None:
    sizes = pd.Categorical(["S", "L"], categories=["S", "M", "L"], ordered=True)
    (column,) = signed(Constant(), pd.DataFrame({"size": sizes})).input.columns
    assert (column.categories, column.ordered) == (("S", "M", "L"), True)


@pytest.mark.parametrize(
    ("rows", "container", "holder"),
    [
        (SHOP[["spend"]], "frame", None),
        (SHOP[["spend"]].to_numpy(), "matrix", None),
        (["a", "b"], "documents", "list"),
        (np.array(["a", "b"]), "documents", "array"),
        (pd.Series(["a", "b"]), "documents", "series"),
    ],
)
def test_the_container_of_training_is_known(rows: Any, container: str, holder: str | None) -> None:
    found = signed(Constant(), rows, names=["spend"]).input
    assert (found.container, found.holder) == (container, holder)


def test_golden_rows_show_every_category_missing_values_and_extremes() -> None:
    found = signed(Constant(), SHOP, rows=12).golden
    cities, spends, visits = (set(values) for values in zip(*found.rows, strict=True))
    assert len(found.rows) == 12
    assert cities == {"Rome", "Oslo", "Bern", None}
    assert {-5.0, 5.0} <= spends
    assert {0, 119} <= visits


@pytest.mark.parametrize(
    "values",
    [
        [date(2026, 1, 1) + timedelta(days=n) for n in range(100)],
        [Decimal(n) / 8 for n in range(100)],
        [time(n % 24, n // 24) for n in range(100)],
        [f"{n:03}" * (n % 7 + 1) for n in range(100)],
        [bytes([n]) * (n + 1) for n in range(100)],
        [datetime(2026, 1, 1) + timedelta(hours=n) for n in range(100)],
    ],
)
def test_golden_rows_show_extremes_of_columns_with_many_values(values: list[Any]) -> None:
    rows = pd.DataFrame({"x": pd.Series(values, dtype=object)})
    found = signed(Constant(), rows, rows=5).golden
    shown = [getattr(row[0], "moment", row[0]) for row in found.rows]
    size: Any = len if isinstance(values[0], str | bytes) else lambda value: value
    assert {min(map(size, values)), max(map(size, values))} <= set(map(size, shown))
    assert len(shown) == 5


def test_golden_rows_show_every_class_that_the_model_predicts() -> None:
    rows = pd.DataFrame({"x": np.arange(1000.0)})
    model = DecisionTreeClassifier().fit(rows, np.where(rows["x"] == 500, "rare", "common"))
    found = signed(model, rows, rows=10)
    assert {row[0] for row in found.golden.answers["predict"]} == {"rare", "common"}
    assert found.outputs[0].classes == (("common", "rare"),)
    assert [(output.method, output.kind, output.width) for output in found.outputs] == [
        ("predict", "label", 1),
        ("predict_proba", "number", 2),
    ]


def test_no_row_has_the_rarer_of_two_missing_values() -> None:
    cities = pd.Series(["Rome", None, None, np.nan], dtype=object)
    found = signed(Constant(), pd.DataFrame({"city": cities}))
    (column,) = found.input.columns
    assert (column.missing, column.also_missing) == ("none", ("nan",))
    assert [row for row in found.golden.rows if row[0] != row[0]] == []


def test_the_score_of_an_outlier_detector_is_an_answer() -> None:
    model = IsolationForest(random_state=0).fit(SHOP[["spend"]])
    assert [output.method for output in signed(model, SHOP[["spend"]]).outputs] == [
        "predict",
        "decision_function",
    ]


def test_a_regressor_of_two_outputs_has_both_answers_for_each_row() -> None:
    model = LinearRegression().fit(SHOP[["spend"]], np.column_stack([SHOP["spend"], SHOP["visits"]]))
    found = signed(model, SHOP[["spend"]])
    assert (found.outputs[0].kind, found.outputs[0].width) == ("number", 2)


class Sampling:
    def predict(self, rows: Any) -> Any:
        return np.random.default_rng().normal(size=len(rows))


class Counting:
    """Another answer at each call: what a clock does."""

    calls = 0

    def predict(self, rows: Any) -> Any:
        self.calls += 1
        return np.full(len(rows), self.calls)


class Ranking:
    def predict(self, rows: Any) -> Any:
        return rows["spend"].rank().to_numpy()


class FillsWithTheMean:
    """Only rows without the value depend on the others."""

    def predict(self, rows: Any) -> Any:
        return rows["spend"].fillna(rows["spend"].mean()).fillna(0).to_numpy()


@pytest.mark.parametrize("model", [Sampling(), Counting()])
def test_answers_that_change_from_call_to_call_are_marked(model: Any) -> None:
    unstable = signed(model, SHOP).golden.unstable
    assert unstable["predict"].rows is None
    assert "each time" in unstable["predict"].why


def test_answers_that_depend_on_the_other_rows_are_marked() -> None:
    assert "other rows" in signed(Ranking(), SHOP).golden.unstable["predict"].why


def test_only_the_rows_that_depend_on_others_are_marked() -> None:
    rows = SHOP.assign(spend=SHOP["spend"].where(SHOP["visits"] % 40 != 7))
    found = signed(FillsWithTheMean(), rows).golden
    missing = {place for place, row in enumerate(found.rows) if math.isnan(row[1])}
    assert missing
    assert found.unstable["predict"].rows == frozenset(missing)


def test_a_stable_model_has_nothing_marked() -> None:
    model = LogisticRegression().fit(SHOP[["spend", "visits"]], SHOP["spend"] > 0)
    assert signed(model, SHOP[["spend", "visits"]]).golden.unstable == {}


class InSinglePrecision:
    def predict(self, rows: Any) -> Any:
        return rows["spend"].to_numpy().astype(np.float32)


def test_answers_of_32_bits_are_compared_less_closely() -> None:
    assert signed(InSinglePrecision(), SHOP).outputs[0].tolerance == 1e-5
    assert signed(Constant(), SHOP).outputs[0].tolerance == 1e-9


class NeedsTwoRows:
    def predict(self, rows: Any) -> Any:
        if len(rows) < 2:
            raise ValueError("too few")
        return np.ones(len(rows))


def test_a_model_that_takes_no_single_row_is_asked_for_all_of_them() -> None:
    found = signed(NeedsTwoRows(), SHOP).golden
    assert not found.alone
    assert len(found.rows) > 2


def test_rows_that_the_model_refuses_are_no_golden_rows() -> None:
    model = LinearRegression().fit([[1.0], [2.0]], [1.0, 2.0])
    found = signed(model, np.array([[1.0], [np.nan], [3.0]]), names=["x"]).golden
    assert [row[0] for row in found.rows] == [1.0, 3.0]


def test_synthetic_rows_are_nobodys() -> None:
    rows = pd.DataFrame(
        {
            "name": [f"person {n}" for n in range(300)],
            "city": ["Rome", "Oslo", "Bern"] * 100,
            "pay": np.arange(300.0),
        }
    )
    found = signed(Constant(), rows, synthetic=True).golden
    assert found.origin == "synthetic"
    assert len(found.rows) == 50
    names, cities, pays = (set(values) for values in zip(*found.rows, strict=True))
    assert not names & set(rows["name"])
    assert cities == {"Rome", "Oslo", "Bern"}
    assert pays <= set(rows["pay"])
    assert 0.0 not in pays
    assert 299.0 not in pays


def test_synthetic_rows_have_missing_values_and_types_as_in_training() -> None:
    rows = SHOP.assign(spend=SHOP["spend"].where(SHOP["visits"] % 5 != 0))
    found = signed(Constant(), rows, synthetic=True)
    assert None in [row[0] for row in found.golden.rows]
    assert any(math.isnan(row[1]) for row in found.golden.rows)
    assert all(isinstance(row[2], int) for row in found.golden.rows)


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        (pd.DataFrame({"x": pd.Series([1, "a"], dtype=object)}), {}, "column 'x' holds int, str"),
        (pd.DataFrame({"x": pd.Series([[1], [2]], dtype=object)}), {}, "column 'x' holds list"),
        (pd.DataFrame([[1, 2]], columns=["x", "x"]), {}, "twice"),
        (np.ones((3, 2)), {}, "names"),
        (np.ones((3, 2)), {"names": ["a"]}, "1 names, but the matrix has 2 columns"),
        (pd.DataFrame({"x": []}), {}, "no row"),
        ([1.0, 2.0], {}, "give a DataFrame"),
        (pd.DataFrame({"x": pd.arrays.SparseArray([0, 1])}), {}, "sparse.to_dense"),
        (pd.DataFrame({"x": pd.period_range("2026-01", periods=2, freq="M")}), {}, "dt.to_timestamp"),
        (pd.DataFrame({"x": pd.interval_range(0, 2)}), {}, "cut them inside"),
        (pd.DataFrame({"x": pd.cut(pd.Series([1, 2]), [0, 1, 2])}), {}, "cut them inside"),
        (pd.DataFrame({"x": pd.array(["a"], held(pa.dictionary(pa.int8(), pa.string())))}), {}, "category"),
    ],
)
def test_what_no_database_could_hold_is_refused(rows: Any, options: Any, says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        make_signature(Constant(), rows, **options)


class Broadcasts:
    def predict(self, rows: Any) -> Any:
        return np.asarray(rows["spend"])[:1]


def test_one_answer_for_all_rows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rows with 1"):
        make_signature(Broadcasts(), SHOP)


def test_the_file_lies_beside_the_model_with_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "shop.joblib"
    joblib.dump(LinearRegression().fit(SHOP[["spend"]], SHOP["visits"]), file)
    sha256 = write_signature(joblib.load(file), SHOP[["spend"]], file)
    written = tmp_path / "shop.joblib.signature.json"
    found = parse_signature(str(written), written.read_bytes())
    assert sha256 == hashlib.sha256(written.read_bytes()).hexdigest() == found.sha256
    assert found.artifact_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert {path.name for path in tmp_path.iterdir()} == {"shop.joblib", "shop.joblib.signature.json"}
    assert {"python", "numpy", "pandas", "sklearn"} <= set(found.libraries)


@pytest.mark.parametrize(("synthetic", "others"), [(False, 0), (True, 0o4)])
def test_only_made_up_rows_may_be_read_by_everybody(tmp_path: Path, synthetic: bool, others: int) -> None:
    write_signature(Constant(), SHOP, tmp_path / "shop.joblib", synthetic=synthetic)
    assert (tmp_path / "shop.joblib.signature.json").stat().st_mode & 0o7 == others


def test_a_baseline_of_the_same_model_stays_and_that_of_another_goes(tmp_path: Path) -> None:
    file = tmp_path / "m.joblib"
    file.write_bytes(b"one")
    written = tmp_path / "m.joblib.signature.json"
    for content, origin in ((b"one", "a query"), (b"another", "write_signature")):
        write_signature(Constant(), SHOP, file)
        before = json.loads(written.read_text())
        written.write_text(json.dumps(before | {"baseline": before["baseline"] | {"origin": "a query"}}))
        file.write_bytes(content)
        write_signature(Constant(), SHOP, file)
        assert json.loads(written.read_text())["baseline"]["origin"] == origin


LOOKS = pd.DataFrame(
    {
        "city": pd.Series(["Rome", "Oslo", None, "Bern"] * 30, dtype=object),
        "kind": pd.Series(["a", None, "b", "a"] * 30, dtype="category"),
        "word": [f"word {number}" for number in range(120)],
        "spend": [math.nan, math.inf, *np.linspace(-5, 5, 118)],
        "visits": np.arange(120),
        "orders": pd.Series([1, None, 3] * 40, dtype="Int64"),
        "is_new": [True, False, False] * 40,
        "day": [date(2026, 1, 1 + number % 28) for number in range(120)],
        "at": pd.date_range("2026-01-01", periods=120, tz="UTC"),
        "price": [Decimal(number) / 4 for number in range(120)],
        "nothing": pd.Series([None] * 120, dtype=object),
        "raw": [b"x"] * 120,
    }
)


def test_the_baseline_is_the_one_that_the_product_makes_of_the_same_rows(tmp_path: Path) -> None:
    file = tmp_path / "m.joblib"
    model = DecisionTreeClassifier(max_depth=1).fit(LOOKS[["visits"]], ["yes", "no"] * 60)
    file.write_bytes(b"one")
    write_signature(OfColumn(model, "visits"), LOOKS, file)
    written = baseline_in_signature(str(file))
    assert written is not None
    batches = pa.Table.from_pandas(LOOKS, preserve_index=False).to_batches()
    expected = make_baseline(LOOKS.columns, batches, artifact_sha256="", origin="", classes=None)
    assert (written.rows, written.classes) == (120, ["no", "yes"])
    assert written.artifact_sha256 == hashlib.sha256(b"one").hexdigest()
    for name, looks in written.features.items():
        assert replace(looks, categories=as_set(looks)) == replace(
            expected.features[name], categories=as_set(expected.features[name])
        )
        looks.rule()  # what a contract makes of it


def as_set(looks: FeatureBaseline) -> Any:
    """Categories of which as many rows have one as the other are in no order."""
    return None if looks.categories is None else {tuple(each) for each in looks.categories}


def test_made_up_rows_come_without_a_baseline(tmp_path: Path) -> None:
    file = tmp_path / "m.joblib"
    file.write_bytes(b"one")
    write_signature(Constant(), SHOP, file, synthetic=True)
    assert baseline_in_signature(str(file)) is None


def test_the_writer_needs_numpy_and_pandas_only_and_parses_as_python_3_9() -> None:
    source = Path(signature_writer.__file__).read_text()
    tree = ast.parse(source, feature_version=(3, 9))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy", "pandas"}
