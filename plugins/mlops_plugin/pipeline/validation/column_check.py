"""Compares one column of a batch with its rules in `input:`: vectorised, and cheap if all values are valid.

`contract` calls it for every column; tests/pipeline/validation/test_contract_oracle.py does the same, slowly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops_plugin.arrow_values import as_doubles
from mlops_plugin.config.schema import ColumnContract

MISSING = "missing"
NOT_ALLOWED = "not an allowed value"
NOT_OF_TYPE = {
    "integer": "not a whole number",
    "number": "not a number",
    "boolean": "neither true nor false",
}
# 18 digits: every such number fits into 64 bits.
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"
_INTEGER = r"^[+-]?[0-9]{1,18}$"
# Which kinds of column can be read as a declared type, see `kind_of`.
READABLE_AS = {
    "integer": ("integer", "number", "boolean", "text"),
    "number": ("integer", "number", "boolean", "text"),
    "boolean": ("boolean", "integer", "number", "text"),
    "text": ("text",),
    "date": ("date",),
    "timestamp": ("timestamp",),
}


@dataclass(frozen=True)
class Violation:
    """Why rows of one column are not as they should be; `rows` is a mask of the batch, without NULL."""

    column: str
    reason: str
    rows: pa.BooleanArray


def kind_of(kind: pa.DataType) -> str:
    """integer, number, boolean, text, date, timestamp, null (all values missing) or other."""
    types = pa.types
    if types.is_dictionary(kind):
        return kind_of(kind.value_type)
    tests = {
        "integer": types.is_integer,
        "number": lambda value: types.is_floating(value) or types.is_decimal(value),
        "boolean": types.is_boolean,
        "text": lambda v: types.is_string(v) or types.is_large_string(v) or types.is_string_view(v),
        "date": types.is_date,
        "timestamp": types.is_timestamp,
        "null": types.is_null,
    }
    return next((name for name, test in tests.items() if test(kind)), "other")


def check_column(name: str, values: pa.Array, rule: ColumnContract) -> tuple[pa.Array, list[Violation]]:
    """The values as the declared type, and what is wrong with which rows: at most one reason for each row.

    NaN counts as missing. A value that cannot be read as the type is NULL in what is returned.
    """
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    if _is_obviously_valid(values, rule):
        return values, []
    read = _read_as(values, rule.type)
    found = []
    if rule.nullable is False:
        found.append(Violation(name, MISSING, values.is_null(nan_is_null=True)))
    if rule.type is not None:
        unread = pc.and_(read.is_null(), values.is_valid())
        found.append(Violation(name, NOT_OF_TYPE.get(rule.type, f"no {rule.type}"), unread))
    outside = [*_outside(name, read, rule)]
    if rule.allowed is not None:
        others = pc.and_(pc.invert(_is_one_of(read, rule.allowed)), pc.invert(read.is_null(nan_is_null=True)))
        for violation in outside:
            others = pc.and_(others, pc.invert(violation.rows))
        outside.append(Violation(name, NOT_ALLOWED, others))
    found += outside
    return read, [violation for violation in found if violation.rows.true_count]


def _is_obviously_valid(values: pa.Array, rule: ColumnContract) -> bool:
    """Whether a glance at a numeric column without NULLs already clears it: one pass for each end."""
    kind = values.type
    is_float = pa.types.is_float64(kind) or pa.types.is_float32(kind)
    if values.null_count or rule.allowed is not None or not (is_float or pa.types.is_integer(kind)):
        return False
    if rule.type not in (None, "number") and (is_float or rule.type != "integer"):
        return False
    if not is_float and rule.min is None and rule.max is None:
        return True
    plain = values.to_numpy(zero_copy_only=True)
    if not len(plain):
        return True
    if is_float and rule.min is None and rule.max is None:
        return rule.nullable is not False or not bool(np.isnan(np.min(plain)))
    # Python's own numbers: they compare exactly, whatever the widths. NaN makes every comparison false.
    least, greatest = plain.min().item(), plain.max().item()
    return bool(
        (rule.min is None or least >= rule.min)
        and (rule.max is None or greatest <= rule.max)
        and least == least
    )


def _read_as(values: pa.Array, declared: str | None) -> pa.Array:
    """The values as the declared type; those that do not fit become NULL."""
    kind = kind_of(values.type)
    if kind == "null" or declared is None or kind == declared:
        return values
    match declared, kind:
        case ("number", "text"):
            return _matching(values, _NUMBER).cast(pa.float64())
        case ("integer", "text"):
            return _matching(values, _INTEGER).cast(pa.int64())
        case ("integer" | "number", "boolean"):
            return values.cast(pa.int8())
        case ("integer", "number"):
            return _whole(values)
        case ("boolean", "text"):
            lowered = pc.utf8_lower(pc.utf8_trim_whitespace(values))
            return _one_or_zero(lowered, ("true", "1"), ("false", "0"))
        case ("boolean", "integer" | "number"):
            return _one_or_zero(_comparable_floats(values), (1.0,), (0.0,))
    return values


def _matching(values: pa.Array, pattern: str) -> pa.Array:
    trimmed = pc.utf8_trim_whitespace(values)
    # Arrow reads no plus sign.
    is_match = pc.match_substring_regex(trimmed, pattern)
    return pc.utf8_ltrim(pc.if_else(is_match, trimmed, None), "+")


def _whole(values: pa.Array) -> pa.Array:
    """Floats and decimals if they are whole; NaN stays, it is missing."""
    is_whole = pc.equal(pc.floor(values), values)
    if not pa.types.is_decimal(values.type):
        is_whole = pc.or_(pc.and_(is_whole, pc.is_finite(values)), pc.is_nan(values))
    return pc.if_else(is_whole, values, pa.scalar(None, values.type))


def _comparable_floats(values: pa.Array) -> pa.Array:
    """Numbers as floats for `is_in`, which takes -0.0 and 0.0 for two: a sum of both is 0.0."""
    return pc.add(as_doubles(values), 0.0)


def _one_or_zero(values: pa.Array, ones: tuple[Any, ...], zeros: tuple[Any, ...]) -> pa.Array:
    is_one = pc.is_in(values, value_set=pa.array(ones, values.type))
    is_known = pc.or_(is_one, pc.is_in(values, value_set=pa.array(zeros, values.type)))
    return pc.if_else(is_known, is_one, None)


def _outside(name: str, values: pa.Array, rule: ColumnContract) -> Iterator[Violation]:
    for bound, is_beyond, word in ((rule.min, pc.less, "below"), (rule.max, pc.greater, "above")):
        if bound is not None and not pa.types.is_null(values.type):
            yield Violation(name, f"{word} {_written(bound)}", _beyond(values, bound, is_beyond))


def _beyond(values: pa.Array, bound: Any, is_beyond: Any) -> pa.BooleanArray:
    """Where values are less (or greater) than a bound; exact for integers and floats of every width."""
    kind = values.type
    if pa.types.is_decimal(kind):
        values, kind = as_doubles(values), pa.float64()
    if pa.types.is_integer(kind):
        bound = math.ceil(bound) if is_beyond is pc.less else math.floor(bound)
        least, greatest = _limits(kind)
        if not least <= bound <= greatest:
            is_outside = bound > greatest if is_beyond is pc.less else bound < least
            return pc.and_(values.is_valid(), pa.scalar(is_outside))
        limit = pa.scalar(bound, kind)
    elif pa.types.is_floating(kind):
        limit = pa.scalar(float(bound), pa.float64())
    else:
        limit = _moment(bound, kind)
    return pc.fill_null(is_beyond(values, limit), False)


def _limits(kind: pa.DataType) -> tuple[int, int]:
    if pa.types.is_signed_integer(kind):
        return -(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1
    return 0, 2**kind.bit_width - 1


def _moment(bound: date, kind: pa.DataType) -> pa.Scalar:
    """A date or moment in the column's own type; one without a zone is UTC."""
    if not pa.types.is_timestamp(kind):
        day = bound.date() if isinstance(bound, datetime) else bound
        return pa.scalar(day, pa.date32()).cast(kind)
    if not isinstance(bound, datetime):
        bound = datetime(bound.year, bound.month, bound.day)
    aware = bound if bound.tzinfo else bound.replace(tzinfo=UTC)
    return pa.scalar(
        aware if kind.tz else aware.astimezone(UTC).replace(tzinfo=None), pa.timestamp("us", kind.tz)
    )


def _is_one_of(values: pa.Array, allowed: tuple[Any, ...]) -> pa.BooleanArray:
    kind = values.type
    if pa.types.is_null(kind):
        return pa.array([False] * len(values), pa.bool_())
    if pa.types.is_decimal(kind) or pa.types.is_floating(kind):
        values, kind = _comparable_floats(values), pa.float64()
        allowed = tuple(float(value) + 0.0 for value in allowed)
    elif pa.types.is_integer(kind):
        least, greatest = _limits(kind)
        allowed = tuple(int(value) for value in allowed if value == int(value) and least <= value <= greatest)
    elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        moments = pa.array([_moment(value, kind).as_py() for value in allowed])
        return pc.is_in(values, value_set=moments.cast(kind, safe=False))
    return pc.is_in(values, value_set=pa.array(allowed, kind))


def _written(bound: Any) -> str:
    return bound.isoformat() if isinstance(bound, date) else str(bound)
