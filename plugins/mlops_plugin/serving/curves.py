"""The curve of a prediction over one feature of a case (individual conditional expectation): its rows.

All other features stay. The rows are part of a what-if run, which asks about the case as it is and as it was
changed; the curve goes through the latter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa

from mlops_plugin.errors import CaseError
from mlops_plugin.serving.case_values import typed_value

_POINTS = 31
MOST_CATEGORIES = 100
_EXACT = Context(prec=400)  # enough for any double in any column of decimals


@dataclass(frozen=True)
class Curve:
    """Which feature changes, and its range."""

    feature: str
    low: float
    high: float


@dataclass(frozen=True)
class Categories:
    """Which feature changes, and the values that it takes, as a form writes them."""

    feature: str
    values: tuple[str, ...]


def curve_rows(case: pa.Table, curve: Curve | Categories) -> pa.Table:
    """The one row of `case` with each of some values of a feature: of its range, or its categories.

    Raises `CaseError` if the feature cannot have them.
    """
    if curve.feature not in case.schema.names:
        names = ", ".join(case.schema.names)
        raise CaseError(f"there is no column '{curve.feature}' to draw a curve over; there are {names}")
    kind = case.schema.field(curve.feature).type
    values = _of_range(curve, kind) if isinstance(curve, Curve) else _of_list(curve, kind)
    columns = [
        pa.array(values, kind)
        if field.name == curve.feature
        else pa.array([case.column(field.name)[0].as_py()] * len(values), field.type)
        for field in case.schema
    ]
    return pa.Table.from_arrays(columns, schema=case.schema)


def _of_list(curve: Categories, kind: pa.DataType) -> list[Any]:
    if not 0 < len(curve.values) <= MOST_CATEGORIES:
        raise CaseError(
            f"'{curve.feature}' has {len(curve.values)} categories; a curve has 1 to {MOST_CATEGORIES}"
        )
    return list(dict.fromkeys(typed_value(curve.feature, value, kind) for value in curve.values))


def _of_range(curve: Curve, kind: pa.DataType) -> list[Any]:
    low, high = curve.low, curve.high
    if not (math.isfinite(high - low) and low < high):
        raise CaseError(
            f"a curve over '{curve.feature}' needs a range from low to high, found {low} to {high}"
        )
    points = [low + (high - low) * (step / (_POINTS - 1)) for step in range(_POINTS)]
    if pa.types.is_floating(kind):
        return points
    values: list[Any]
    if pa.types.is_integer(kind):
        values = list(map(round, points))
    elif pa.types.is_decimal(kind):
        digits = Decimal(1).scaleb(-kind.scale)
        values = [Decimal(repr(point)).quantize(digits, context=_EXACT) for point in points]
    else:
        raise CaseError(f"column '{curve.feature}' is {kind}, no number; choose a feature with a slider")
    # A slider's round steps reach past both ends of what is known, maybe past those of the column.
    if held := [value for value in dict.fromkeys(values) if _is_held(kind, value)]:
        return held
    raise CaseError(f"column '{curve.feature}' is {kind}, which holds nothing from {low} to {high}")


def _is_held(kind: pa.DataType, value: Any) -> bool:
    try:
        pa.scalar(value, kind)
    except (pa.ArrowException, ValueError, OverflowError):
        return False
    return True
