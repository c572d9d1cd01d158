"""The vectorised contract against the same said slowly, row by row, over generated columns and rules."""

from __future__ import annotations

import math
import re
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mlops_plugin.config.schema import ColumnContract
from mlops_plugin.errors import ContractError
from mlops_plugin.pipeline.validation.contract import Contract
from support.random_examples import examples

_INTEGERS = {
    pa.int8(): (-(2**7), 2**7 - 1),
    pa.int16(): (-(2**15), 2**15 - 1),
    pa.int32(): (-(2**31), 2**31 - 1),
    pa.int64(): (-(2**63), 2**63 - 1),
    pa.uint8(): (0, 2**8 - 1),
    pa.uint16(): (0, 2**16 - 1),
    pa.uint32(): (0, 2**32 - 1),
    pa.uint64(): (0, 2**64 - 1),
}
_TEXTS = (
    "1",
    " 2 ",
    "+3",
    "-0.5",
    "1e3",
    ".5",
    "5.",
    "abc",
    "",
    "1,5",
    "nan",
    "inf",
    "TRUE",
    "false",
    "0",
    "é",
)


def read_as(value: Any, declared: str | None) -> Any:
    """The value as the declared type; raises `ValueError` where it is none."""
    if declared in (None, "text", "date", "timestamp"):
        return value
    if isinstance(value, str):
        text = value.strip()
        if declared == "boolean":
            if text.lower() in ("true", "1", "false", "0"):
                return text.lower() in ("true", "1")
            raise ValueError(value)
        pattern = r"[+-]?\d{1,18}" if declared == "integer" else r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?"
        if not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError(value)
        return int(text) if declared == "integer" else float(text)
    if declared == "boolean" and not isinstance(value, bool):
        if float(value) not in (0.0, 1.0):
            raise ValueError(value)
        return bool(value)
    is_float = declared == "integer" and not isinstance(value, bool | int)
    if is_float and not (math.isfinite(value) and value == math.floor(value)):
        raise ValueError(value)
    return value


def comparable(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)
    return value


def reason_of(value: Any, rule: ColumnContract) -> str | None:
    """Why one value is wrong, None where it is right."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "missing" if rule.nullable is False else None
    try:
        value = comparable(read_as(value, rule.type))
    except ValueError:
        return {
            "integer": "not a whole number",
            "number": "not a number",
            "boolean": "neither true nor false",
        }[rule.type or ""]
    if rule.min is not None and value < comparable(rule.min):
        return f"below {rule.min}"
    if rule.max is not None and value > comparable(rule.max):
        return f"above {rule.max}"
    if rule.allowed is not None and value not in [comparable(one) for one in rule.allowed]:
        return "not an allowed value"
    return None


@st.composite
def columns(draw: st.DrawFn) -> pa.Array:
    kinds = [*_INTEGERS, pa.float64(), pa.float32(), pa.decimal128(12, 3), pa.bool_(), pa.string()]
    kind = draw(st.sampled_from([*kinds, pa.date32(), pa.timestamp("us"), pa.null()]))
    values: st.SearchStrategy[Any]
    if kind in _INTEGERS:
        least, greatest = _INTEGERS[kind]
        values = st.one_of(
            st.integers(least, greatest), st.integers(max(least, -5), 5), st.sampled_from([least, greatest])
        )
    elif pa.types.is_floating(kind):
        width = kind.bit_width
        values = st.one_of(st.floats(width=width), st.integers(-5, 5).map(float))
    elif pa.types.is_decimal(kind):
        values = st.decimals(-100, 100, places=3).map(lambda value: value.quantize(Decimal("0.001")))
    elif pa.types.is_boolean(kind):
        values = st.booleans()
    elif pa.types.is_string(kind):
        values = st.one_of(st.sampled_from(_TEXTS), st.text(max_size=5))
    elif pa.types.is_date(kind):
        values = st.dates(date(2020, 1, 1), date(2020, 2, 1))
    elif pa.types.is_timestamp(kind):
        values = st.datetimes(datetime(2020, 1, 1), datetime(2020, 1, 3))
    else:
        values = st.none()
    return pa.array(draw(st.lists(st.one_of(st.none(), values), max_size=12)), kind)


@st.composite
def rules(draw: st.DrawFn, kind: pa.DataType) -> ColumnContract:
    declared = draw(st.sampled_from([None, "integer", "number", "boolean", "text", "date", "timestamp"]))
    number = st.one_of(st.integers(-6, 6), st.floats(-6, 6), st.integers(-(2**70), 2**70))
    bound: st.SearchStrategy[Any] = number
    allowed: st.SearchStrategy[Any] = number
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        bound = allowed = st.dates(date(2020, 1, 1), date(2020, 2, 1))
    elif pa.types.is_boolean(kind) and declared in (None, "boolean"):
        allowed = st.booleans()
    elif pa.types.is_string(kind) and declared in (None, "text"):
        allowed = st.sampled_from(_TEXTS)
    ends = sorted([draw(bound), draw(bound)])
    said: dict[str, Any] = {
        "type": declared,
        "nullable": draw(st.sampled_from([None, True, False])),
        "min": draw(st.sampled_from([None, ends[0]])),
        "max": draw(st.sampled_from([None, ends[1]])),
    }
    if draw(st.booleans()):
        said["allowed"] = tuple(dict.fromkeys(draw(st.lists(allowed, min_size=1, max_size=4))))
    try:
        return ColumnContract.model_validate(said)
    except ValidationError:
        assume(False)
        raise


@settings(max_examples=examples(600), deadline=None)
@given(st.data())
def test_every_value_is_judged_as_if_it_were_alone(data: st.DataObject) -> None:
    column = data.draw(columns())
    rule = data.draw(rules(column.type))
    batch = pa.RecordBatch.from_arrays([column], names=["a"])
    try:
        bound = Contract("churn", {"a": rule}).bind(batch.schema)
    except ContractError:  # a rule that cannot be asked of this type
        assume(False)
        raise
    expected = [reason_of(value, rule) for value in column.to_pylist()]
    found: list[str | None] = [None] * len(column)
    for violation in bound.check(batch).violations:
        for row, is_wrong in enumerate(violation.rows.to_pylist()):
            if is_wrong:
                assert found[row] is None, "one reason for each value"
                found[row] = violation.reason
    assert found == expected


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32()])
@pytest.mark.parametrize(
    "rule",
    [{"allowed": (0,)}, {"allowed": (-0.0,)}, {"type": "boolean"}, {"type": "integer", "allowed": (0,)}],
)
def test_negative_zero_is_zero(kind: pa.DataType, rule: dict[str, Any]) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([-0.0, 0.0, 7.0], kind)], names=["a"])
    contract = Contract("churn", {"a": ColumnContract.model_validate(rule)})
    (violation,) = contract.bind(batch.schema).check(batch).violations
    assert violation.rows.to_pylist() == [False, False, True]


@settings(max_examples=examples(200), deadline=None)
@given(st.data())
def test_imputed_values_are_right_and_all_others_stay(data: st.DataObject) -> None:
    values = data.draw(st.lists(st.one_of(st.none(), st.floats(), st.integers(-9, 9).map(float)), min_size=1))
    rule = ColumnContract(nullable=False, min=-3, max=3, on_violation="impute", impute=0.5)
    batch = pa.RecordBatch.from_arrays([pa.array(values, pa.float64())], names=["a"])
    checked = Contract("churn", {"a": rule}).bind(batch.schema).check(batch)
    judge = ColumnContract(nullable=False, min=-3, max=3)
    expected = [0.5 if reason_of(value, judge) else value for value in values]
    assert checked.rows.column("a").to_pylist() == expected
    assert checked.violations == []
    assert sum(checked.imputed.values()) == sum(reason_of(value, judge) is not None for value in values)


@pytest.mark.parametrize(
    ("impute", "kind", "expected"),
    [
        (0, pa.decimal128(10, 2), Decimal("0.00")),
        (0.25, pa.decimal128(10, 2), Decimal("0.25")),
        (0.125, pa.decimal128(10, 2), 0.125),
        (0.5, pa.decimal128(20, 0), 0.5),
        (0.1, pa.decimal128(38, 20), Decimal("0.1")),
        (10**9, pa.decimal128(10, 2), 1e9),
    ],
    ids=str,
)
def test_an_imputed_number_is_not_rounded_to_a_decimals_scale(
    impute: float, kind: pa.DataType, expected: Any
) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([None, Decimal(2)], kind)], names=["a"])
    rule = ColumnContract(nullable=False, on_violation="impute", impute=impute)
    checked = Contract("churn", {"a": rule}).bind(batch.schema).check(batch)
    assert checked.rows.column("a").to_pylist() == [expected, 2]


@pytest.mark.parametrize(
    ("impute", "valid"),
    [
        (0.5, pa.array([1, 2])),
        (300, pa.array([1, 2], pa.int8())),
        (0.125, pa.array([Decimal("1.00"), Decimal("2.00")])),
        (7, pa.array([1, 2])),
    ],
    ids=["fraction", "large", "digits", "whole"],
)
def test_a_column_has_the_same_type_in_batches_in_which_nothing_is_imputed(
    impute: float, valid: pa.Array
) -> None:
    batches = [pa.RecordBatch.from_arrays([each], names=["a"]) for each in (valid, pa.nulls(2, valid.type))]
    contract = Contract("churn", {"a": ColumnContract(nullable=False, on_violation="impute", impute=impute)})
    bound = contract.bind(batches[0].schema)
    plain, imputed = (bound.check(batch).rows for batch in batches)
    assert plain.schema == imputed.schema == bound.schema_of(batches[0].schema)
    assert plain.column("a").to_pylist() == [1, 2]


def test_a_decimal_is_within_the_bound_that_it_is() -> None:
    values = [Decimal(n) / 100 for n in range(1000)]
    batch = pa.RecordBatch.from_arrays([pa.array(values, pa.decimal128(6, 2))], names=["a"])
    for number in (0.07, 0.57, 1.1, 9.95):
        for rule in (
            ColumnContract(max=number),
            ColumnContract(min=number),
            ColumnContract(allowed=(number,)),
        ):
            (violation,) = Contract("churn", {"a": rule}).bind(batch.schema).check(batch).violations
            assert not violation.rows[round(number * 100)].as_py(), rule
            assert violation.rows.true_count in (999, 999 - round(number * 100), round(number * 100))


def test_timestamps_and_dates_are_compared_in_utc() -> None:
    moments = [datetime(2020, 1, 1) + timedelta(hours=hours) for hours in (-1, 0, 1)]
    rule = ColumnContract(min=date(2020, 1, 1))
    for kind in (
        pa.timestamp("s"),
        pa.timestamp("ns"),
        pa.timestamp("us", "UTC"),
        pa.timestamp("ms", "Europe/Berlin"),
    ):
        batch = pa.RecordBatch.from_arrays([pa.array(moments, pa.timestamp("us")).cast(kind)], names=["a"])
        (violation,) = Contract("churn", {"a": rule}).bind(batch.schema).check(batch).violations
        assert violation.rows.to_pylist() == [True, False, False]


def test_dictionary_columns_are_checked_by_their_values() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array(["red", "blue", None]).dictionary_encode()], names=["a"])
    rule = ColumnContract(allowed=("red",), nullable=False)
    found = Contract("churn", {"a": rule}).bind(batch.schema).check(batch).violations
    assert [(one.reason, one.rows.to_pylist()) for one in found] == [
        ("missing", [False, False, True]),
        ("not an allowed value", [False, True, False]),
    ]


@pytest.mark.parametrize(
    ("rule", "kind", "message"),
    [
        ({"type": "text"}, pa.int64(), "type is text, but the query gives int64"),
        ({"type": "date"}, pa.string(), "type is date, but the query gives string"),
        ({"min": 1}, pa.string(), "which has no range; set type: number"),
        ({"min": 1}, pa.date32(), "cannot be compared with date32"),
        ({"max": date(2020, 1, 1)}, pa.float64(), "cannot be compared with double"),
        ({"allowed": ("a",)}, pa.int64(), "allowed value 'a' cannot be compared with int64"),
        ({"on_violation": "impute", "impute": "x"}, pa.int64(), "impute: 'x' is not a valid int64"),
        ({"type": "number"}, pa.binary(), "type is number, but the query gives binary"),
    ],
)
def test_a_rule_that_no_value_could_keep_is_said_before_any_is_read(
    rule: dict[str, Any], kind: pa.DataType, message: str
) -> None:
    contract = Contract("churn", {"a": ColumnContract.model_validate(rule)})
    with pytest.raises(ContractError, match=re.escape(message)) as raised:
        contract.bind(pa.schema([("a", kind)]))
    assert "models.churn.input.columns.a" in str(raised.value)


def test_a_column_that_the_query_does_not_give_is_named_with_the_nearest() -> None:
    contract = Contract("churn", {"ag": ColumnContract(nullable=False)})
    with pytest.raises(ContractError, match=r"'ag'.*'age'.*\bid, age"):
        contract.bind(pa.schema([("id", pa.int64()), ("age", pa.int64())]))
