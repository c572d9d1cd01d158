"""A model's table is built by its specification alone: containers, types of training, missing values."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from mlops_plugin.errors import FeatureError
from mlops_plugin.formats.model_input import ColumnSpec, InputSpec, spec_of

CLOCK = pd.Series([time(9, 0, 0, 1), None], dtype=object)
PRICE = pd.Series([Decimal("1.50"), None], dtype=object)
DAY = pd.Series([date(2026, 1, 2), None], dtype=object)


def build(column: pa.Array, dtype: str, **more: Any) -> pd.Series:
    spec = InputSpec("frame", (ColumnSpec("x", dtype, **more),))
    rows = pa.RecordBatch.from_arrays([column], names=["x"])
    spec.check(rows.schema)
    return spec.build(rows)["x"]


@pytest.mark.parametrize(
    "arrow",
    [pa.int8(), pa.uint8(), pa.int16(), pa.int32(), pa.uint64(), pa.decimal128(30, 0), pa.float64()],
    ids=str,
)
def test_a_column_of_int64_is_int64_whatever_the_database_sends(arrow: pa.DataType) -> None:
    series = build(pa.array([1, 100]).cast(arrow), "int64")
    assert series.dtype == np.int64
    assert series.tolist() == [1, 100]


@pytest.mark.parametrize("value", [2**63, Decimal("1.5"), 0.5], ids=str)
def test_a_value_that_an_integer_cannot_express_is_refused_with_its_column(value: Any) -> None:
    column = pa.array([value], pa.uint64()) if isinstance(value, int) else pa.array([value])
    with pytest.raises(FeatureError, match="column 'x'"):
        build(column, "int64")


@pytest.mark.parametrize(
    ("column", "dtype", "missing", "expected"),
    [
        (pa.array(["a", None]), "str", "nan", pd.Series(["a", np.nan], dtype="str")),
        (pa.array(["a", None]), "text", "none", pd.Series(["a", None], dtype=object)),
        (pa.array(["a", None]), "text", "nan", pd.Series(["a", np.nan], dtype=object)),
        (pa.array(["a", None]), "string", "NA", pd.Series(["a", None], dtype="string")),
        (pa.array([1, None], pa.int8()), "Int64", "NA", pd.Series([1, None], dtype="Int64")),
        (pa.array([1, None]), "Float64", "NA", pd.Series([1.0, None], dtype="Float64")),
        (pa.array([1, None], pa.int8()), "boolean", "NA", pd.Series([True, None], dtype="boolean")),
        (pa.array([1, None]), "float64", "nan", pd.Series([1.0, np.nan])),
        (pa.array([1, None]), "float32", "nan", pd.Series([1.0, np.nan], dtype="float32")),
        (pa.array([1, 0], pa.int8()), "bool", "refused", pd.Series([True, False])),
        (pa.array([True, None]), "object", "none", pd.Series([True, None], dtype=object)),
        (
            pa.array([date(2026, 1, 2), None]),
            "date",
            "none",
            pd.Series([date(2026, 1, 2), None], dtype=object),
        ),
        (
            pa.array(["2026-01-02 03:04:05", None]),
            "datetime64[us]",
            "nat",
            pd.Series(["2026-01-02 03:04:05", None], dtype="datetime64[us]"),
        ),
        (
            pa.array([datetime(2026, 1, 2, tzinfo=UTC)], pa.timestamp("us", "UTC")),
            "datetime64[ns, Europe/Rome]",
            "nat",
            pd.Series(["2026-01-02 01:00"]).astype("datetime64[ns]").dt.tz_localize("Europe/Rome"),
        ),
        (
            pa.array([Decimal("1.50"), None]),
            "decimal",
            "none",
            pd.Series([Decimal("1.50"), None], dtype=object),
        ),
        (pa.array(["1.50", None]), "decimal", "none", PRICE),
        (pa.array(["1.50", None]).dictionary_encode(), "decimal", "none", PRICE),
        (pa.array([2, None]), "decimal", "none", pd.Series([Decimal(2), None], dtype=object)),
        (pa.array(["1e-7", None]), "decimal", "none", pd.Series([Decimal("1E-7"), None], dtype=object)),
        (pa.array([timedelta(hours=9, microseconds=1), None]), "time", "none", CLOCK),
        (pa.array(["09:00:00.000001", None]), "time", "none", CLOCK),
        (pa.array([time(9, 0, 0, 1), None]), "time", "none", CLOCK),
        (pa.array(["2026-01-02", None]), "date", "none", DAY),
        (pa.array([datetime(2026, 1, 2), None], pa.timestamp("us")), "date", "none", DAY),
        (
            pa.array([time(9), None]),
            "timedelta64[us]",
            "nat",
            pd.Series([pd.Timedelta("9h"), None]).astype("timedelta64[us]"),
        ),
        (pa.array([b"a", None]), "bytes", "none", pd.Series([b"a", None], dtype=object)),
    ],
)
def test_values_look_as_in_training(column: pa.Array, dtype: str, missing: Any, expected: pd.Series) -> None:
    pd.testing.assert_series_equal(build(column, dtype, missing=missing), expected, check_names=False)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (timedelta(hours=24), "time"),
        (timedelta(microseconds=-1), "time"),
        ("838:59:59", "time"),
        ("9:30", "time"),
        ("09:30:00+01:00", "time"),
        ("09:30:00.1234567", "time"),
        (datetime(2026, 1, 2, 3), "date"),
        ("tomorrow", "date"),
        ("24:00:00", "time"),
        ("1,50", "decimal"),
        ("NaN", "decimal"),
        ("", "decimal"),
    ],
    ids=str,
)
@pytest.mark.parametrize("container", ["frame", "polars", "arrow"])
def test_a_value_that_is_no_date_or_time_of_day_is_refused(value: Any, dtype: str, container: Any) -> None:
    spec = InputSpec(container, (ColumnSpec("x", dtype, "none"),))
    rows = pa.RecordBatch.from_arrays([pa.array([value])], names=["x"])
    spec.check(rows.schema)
    with pytest.raises(FeatureError, match="column 'x'"):
        spec.build(rows)


@pytest.mark.parametrize("dtype", ["int64", "uint64", "Int64"])
def test_a_double_that_has_lost_digits_is_no_integer(dtype: str) -> None:
    assert build(pa.array([2.0**53, 1.0]), dtype).tolist() == [2**53, 1]
    with pytest.raises(FeatureError, match=r"column 'x'.*2\^53"):
        build(pa.array([2.0**53 + 2, 1.0]), dtype)


def test_truths_kept_as_numbers_may_all_be_missing() -> None:
    assert build(pa.array([None, None], pa.int64()), "boolean", missing="NA").isna().all()


@pytest.mark.parametrize(
    ("categories", "texts"),
    [
        ((date(2026, 1, 2), date(2025, 1, 1)), ["2025-01-01", "2026-01-02"]),
        ((Decimal("2.00"), Decimal("1.10")), ["1.10", "2.0"]),
        ((time(9), time(8, 30)), ["08:30:00", "09:00:00"]),
    ],
    ids=["dates", "decimals", "times"],
)
def test_categories_are_found_where_a_database_keeps_them_as_texts(categories: Any, texts: list[str]) -> None:
    series = build(pa.array([*texts, None]), "category", categories=categories)
    assert series.cat.codes.tolist() == [1, 0, -1]


@pytest.mark.parametrize("value", [timedelta(hours=9), "09:00:00", time(9)], ids=str)
def test_tables_of_polars_and_arrow_have_times_of_day(value: Any) -> None:
    rows = pa.RecordBatch.from_arrays([pa.array([value, None])], names=["x"])
    columns = (ColumnSpec("x", "time", "none"),)
    assert InputSpec("arrow", columns).build(rows).schema.field("x").type == pa.time64("us")
    assert InputSpec("polars", columns).build(rows).schema == {"x": pl.Time()}


def test_categories_are_those_of_training_and_in_their_order() -> None:
    known = {"categories": ("low", "high", "mid"), "is_ordered": True}
    series = build(pa.array(["high", None, "low"]), "category", **known)
    assert series.cat.categories.tolist() == ["low", "high", "mid"]
    assert series.cat.ordered
    assert series.cat.codes.tolist() == [1, -1, 0]


@pytest.mark.parametrize("arrow", [pa.int16(), pa.float64(), pa.decimal128(30, 1)], ids=str)
def test_a_number_is_found_among_categories_of_another_width(arrow: pa.DataType) -> None:
    series = build(pa.array([30, 10]).cast(arrow), "category", categories=(10, 20, 30))
    assert series.tolist() == [30, 10]


def test_an_unknown_category_is_refused_or_missing_as_the_column_says() -> None:
    with pytest.raises(FeatureError, match=r"'new'.*\b1\b"):
        build(pa.array(["new"]), "category", categories=("old",))
    assert build(pa.array(["new"]), "category", categories=("old",), unknown="missing").isna().all()


@pytest.mark.parametrize(
    ("column", "dtype"),
    [
        (pa.array(["1"]), "int64"),
        (pa.array(["1"]), "float64"),
        (pa.array([1]), "str"),
        (pa.array([1]), "datetime64[us]"),
        (pa.array(["yes"]), "bool"),
        (pa.array([9]), "time"),
        (pa.array([datetime(2026, 1, 2)]), "time"),
        (pa.array([20260102]), "date"),
        (pa.array([1.5]), "decimal"),
        (pa.array([1.0], pa.float32()), "decimal"),
        (pa.array([True]), "decimal"),
        (pa.array(["a"]), "bytes"),
    ],
)
def test_a_column_of_another_kind_is_refused_by_the_schema_alone(column: pa.Array, dtype: str) -> None:
    spec = InputSpec("frame", (ColumnSpec("x", dtype),))
    with pytest.raises(FeatureError, match="'x'"):
        spec.check(pa.schema([("x", column.type)]))


def test_a_missing_value_that_training_did_not_know_is_refused() -> None:
    with pytest.raises(FeatureError, match="1 in 'x'"):
        build(pa.array([1, None]), "int64", missing="refused")


def test_rows_that_miss_an_integer_are_asked_apart_and_change_nothing_for_the_others() -> None:
    spec = InputSpec(
        "frame", (ColumnSpec("n", "int64"), ColumnSpec("b", "bool", "none"), ColumnSpec("x", "float64"))
    )
    rows = pa.RecordBatch.from_pydict({"n": [1, None, 3, 4], "b": [True, True, None, False], "x": [None] * 4})
    parts = spec.parts(rows)
    assert parts is not None
    found = {tuple(part.to_pylist()): spec.build(rows.take(part)) for part in parts}
    assert found.keys() == {(0, 3), (1,), (2,)}
    assert found[(0, 3)]["n"].dtype == np.int64
    assert found[(0, 3)]["b"].dtype == bool
    assert found[(1,)]["n"].dtype == np.float64
    assert found[(2,)]["b"].tolist() == [None]
    assert spec.parts(rows.slice(0, 1)) is None


ROWS = pa.RecordBatch.from_pydict({"t": ["a", "b"], "x": [1, None]})
X, T = ColumnSpec("x", "float64"), ColumnSpec("t", "text", "none")


def test_a_matrix_is_c_ordered_and_of_the_numbers_said() -> None:
    matrix = InputSpec("matrix", (X, ColumnSpec("x", "float64")), "float32").build(ROWS)
    assert matrix.flags.c_contiguous
    assert matrix.dtype == np.float32
    assert spec_of("matrix", (T, X)).build(ROWS).tolist()[0] == ["a", 1.0]


@pytest.mark.parametrize(
    "spec",
    [
        InputSpec("frame", (ColumnSpec("x", "float32"),)),
        InputSpec("matrix", (ColumnSpec("x", "float32"), ColumnSpec("y", "float64"))),
        InputSpec("matrix", (ColumnSpec("x", "float32"), ColumnSpec("y", "float32")), "float32"),
    ],
    ids=["frame", "column of a matrix", "matrix"],
)
def test_a_number_that_would_become_infinite_in_fewer_bits_is_refused(spec: InputSpec) -> None:
    fits = pa.RecordBatch.from_pydict({"x": [3e38, -math.inf], "y": [1e300, 1.0]})
    if spec.matrix_dtype == "float32":
        fits = fits.set_column(1, "y", pa.array([1.0, 2.0]))
    spec.build(fits)
    with pytest.raises(FeatureError, match=r"column 'x': -?4e\+38 .*float32"):
        spec.build(fits.set_column(0, "x", pa.array([-4e38, 1.0])))


@pytest.mark.parametrize("dtype", ["Float32", "float[pyarrow]", "halffloat[pyarrow]"])
def test_a_number_that_would_become_infinite_beside_missing_values_is_refused(dtype: str) -> None:
    assert build(pa.array([6e4, None, -math.inf]), dtype)[2] == -math.inf
    with pytest.raises(FeatureError, match=r"column 'x': .*4e\+38 would become infinite"):
        build(pa.array([1.0, None, -4e38]), dtype)


def test_a_frame_of_floats_is_c_ordered() -> None:
    frame = InputSpec("frame", (X,)).build(ROWS)
    assert frame.to_numpy().flags.c_contiguous


def test_documents_are_the_texts_of_one_column() -> None:
    assert InputSpec("documents", (T,)).build(ROWS) == ["a", "b"]
    with pytest.raises(FeatureError, match=r"\b2: t, x\b"):
        InputSpec("documents", (T, X)).check(ROWS.schema)
    with pytest.raises(FeatureError, match="'x'"):
        InputSpec("documents", (ColumnSpec("x", "text"),)).check(ROWS.schema)


def test_other_containers() -> None:
    assert InputSpec("records", (T,)).build(ROWS) == [{"t": "a"}, {"t": "b"}]
    assert InputSpec("series", (T,)).build(ROWS).tolist() == ["a", "b"]
    assert InputSpec("arrow", (T,)).build(ROWS).to_pydict() == {"t": ["a", "b"]}
    assert isinstance(InputSpec("polars", (T, X)).build(ROWS), pl.DataFrame)


@pytest.mark.parametrize("dtype", ["integer", "int65", "datetime64[m]", ""])
def test_a_type_that_nobody_knows_is_no_column(dtype: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(dtype))):
        ColumnSpec("x", dtype)
