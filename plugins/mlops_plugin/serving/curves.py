"""The curve of a prediction over one feature of a case (individual conditional expectation): its rows.

All other features stay. The rows are part of a what-if run, which asks about the case as it is and as it was
changed; the curve goes through the latter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa

from mlops_plugin.errors import CaseError

_POINTS = 31


@dataclass(frozen=True)
class Curve:
    """Which feature changes, and its range."""

    feature: str
    low: float
    high: float


def curve_rows(case: pa.Table, curve: Curve) -> pa.Table:
    """The one row of `case` with each of some values between both ends of the range, in their order.

    Raises `CaseError` if the feature is no number of the case, or the range no range.
    """
    if curve.feature not in case.schema.names:
        names = ", ".join(case.schema.names)
        raise CaseError(f"there is no column '{curve.feature}' to draw a curve over; there are {names}")
    kind = case.schema.field(curve.feature).type
    values = _values(curve, kind)
    columns = [
        pa.array(values, kind)
        if field.name == curve.feature
        else pa.array([case.column(field.name)[0].as_py()] * len(values), field.type)
        for field in case.schema
    ]
    return pa.Table.from_arrays(columns, schema=case.schema)


def _values(curve: Curve, kind: pa.DataType) -> list[Any]:
    low, high = curve.low, curve.high
    if not (math.isfinite(high - low) and low < high):
        raise CaseError(
            f"a curve over '{curve.feature}' needs a range from low to high, found {low} to {high}"
        )
    points = [low + (high - low) * (step / (_POINTS - 1)) for step in range(_POINTS)]
    if pa.types.is_integer(kind):
        return list(dict.fromkeys(map(round, points)))
    if pa.types.is_floating(kind):
        return points
    if pa.types.is_decimal(kind):
        digits = Decimal(1).scaleb(-kind.scale)
        return list(dict.fromkeys(Decimal(repr(point)).quantize(digits) for point in points))
    raise CaseError(f"column '{curve.feature}' is {kind}, no number; choose a feature with a slider")
