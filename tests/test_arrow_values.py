"""Arrow values made by hand are those that Arrow makes itself."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlops_plugin import arrow_values

AT = datetime(2024, 2, 29, 23, 59, 59, 999_999, UTC)
NUMBERS = [
    np.array([1.5, np.nan, -np.inf]),
    np.array([True, False, True] * 5),
    np.array([], bool),
    np.array([], np.float64),
    np.array([-1, 2], np.int8),
    np.array([2**63], np.uint64),
    np.array([1.5], np.float16),
    np.arange(10.0)[::3],
    np.arange(6.0).reshape(3, 2)[:, 1],
    np.array(["a"]),
]


@pytest.mark.parametrize("numbers", NUMBERS, ids=str)
def test_an_array_of_numpy_is_the_same(numbers: np.ndarray[Any, Any]) -> None:
    made = arrow_values.array_of_numbers(numbers)
    made.validate(full=True)
    expected = pa.array(np.ascontiguousarray(numbers))
    assert made.type == expected.type
    assert str(made) == str(expected)  # NaN is unequal to itself


def test_numbers_of_another_byte_order_keep_their_values() -> None:
    assert arrow_values.array_of_numbers(np.array([1, 2], ">i4")).to_pylist() == [1, 2]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, None, -(2**63)], pa.int64()),
        ([1.5, None], pa.float64()),
        ([1, 2], pa.float64()),
        ([True, None] * 5, pa.bool_()),
        (["a", None, "ü\U0001f600", ""], pa.string()),
        ([], pa.string()),
        ([None], pa.float64()),
        ([2**63], pa.uint64()),
        ([date(2020, 1, 1)], pa.date32()),
        ([1, None], pa.int8()),
    ],
)
def test_an_array_of_python_is_the_same(values: list[Any], kind: pa.DataType) -> None:
    made = arrow_values.array_of(values, kind)
    made.validate(full=True)
    assert made.equals(pa.array(values, kind))


@pytest.mark.parametrize(
    ("values", "kind"), [([2**63], pa.int64()), (["a"], pa.int64()), ([b"a"], pa.bool_())]
)
def test_what_arrow_refuses_is_refused(values: list[Any], kind: pa.DataType) -> None:
    with pytest.raises((pa.ArrowInvalid, OverflowError)) as by_arrow:
        pa.array(values, kind)
    with pytest.raises(by_arrow.type):
        arrow_values.array_of(values, kind)


@pytest.mark.parametrize(
    "value", [None, 1, -(2**63), True, 2.5, "ü", b"x", AT, date(2020, 1, 1), Decimal("1.50"), np.float32(1.5)]
)
def test_a_parameter_has_the_type_that_arrow_finds(value: object) -> None:
    assert arrow_values.row_of([value, "a"]).equals(pa.record_batch([[value], ["a"]], names=["0", "1"]))


def test_a_text_and_a_time_are_the_same_scalars() -> None:
    kind = pa.timestamp("us", "UTC")
    assert arrow_values.text_scalar("ü") == pa.scalar("ü")
    assert arrow_values.time_scalar(AT, kind) == pa.scalar(AT, kind)


DOUBLES = pa.array([1.0, None, float("nan"), 4.0, 5.0])


@pytest.mark.parametrize(
    "column", [DOUBLES, DOUBLES[1:], DOUBLES[3:], DOUBLES[:0], pa.array([], pa.float64())]
)
def test_a_column_of_doubles_becomes_numpys(column: pa.DoubleArray) -> None:
    np.testing.assert_array_equal(
        arrow_values.doubles_of(column), column.to_numpy(zero_copy_only=False), strict=True
    )


@pytest.mark.parametrize("start", [0, 1, 8, 11])
def test_a_column_of_booleans_becomes_numpys(start: int) -> None:
    column = pa.array([True, False, True, True] * 3)[start:]
    np.testing.assert_array_equal(
        arrow_values.booleans_of(column), column.to_numpy(zero_copy_only=False), strict=True
    )


@pytest.mark.parametrize(
    "kind",
    [
        pa.decimal128(9, 2),
        pa.decimal128(18, 8),
        pa.decimal128(38, 10),
        pa.decimal128(38, 30),
        pa.decimal128(12, -3),
        pa.decimal256(60, 10),
    ],
    ids=str,
)
def test_decimals_become_the_doubles_nearest_to_them(kind: pa.DataType) -> None:
    draw = random.Random(4)
    digits = [draw.randrange(10 ** draw.randrange(1, min(kind.precision, 38) + 1)) for _ in range(300)]
    values = [None if n % 7 == 0 else Decimal(n * draw.choice((1, -1))).scaleb(-kind.scale) for n in digits]
    for column in (pa.array(values, kind), pa.array(values, kind)[5:200], pa.array([], kind)):
        expected = [None if value is None else float(value) for value in column.to_pylist()]
        assert arrow_values.as_doubles(column).to_pylist() == expected
