"""How a dispatch's predictions are distributed, counted while they stream by; small enough for an event.

`infer` reports it, the Dispatches view draws it. Counts are exact: class labels are counted by name, and
numbers in bins as wide as a power of two, so that the bins of two dispatches can be laid over each other.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MAX_CLASSES = 50  # further labels are counted together
MAX_BINS = 64
_LABEL_CHARS = 100


class Distribution:
    """Of one column; `see` it batch by batch, then `report`."""

    def __init__(self, kind: pa.DataType) -> None:
        self._counted: _Numbers | _Classes = _Numbers() if pa.types.is_floating(kind) else _Classes()
        self._missing = 0

    def see(self, column: pa.Array) -> None:
        """Count the values of one more batch."""
        self._missing += column.null_count
        self._missing += self._counted.see(column.drop_null())

    def report(self) -> dict[str, Any]:
        """As JSON: `kind` is classes or numbers; `missing` are NULL, NaN and infinite values."""
        return {**self._counted.report(), "missing": self._missing}


def merged(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The reports of several parts, at least one, as the report of the whole."""
    filled = [report for report in reports if report["counts"]] or reports[:1]
    counted: _Numbers | _Classes = _Numbers() if filled[0]["kind"] == "numbers" else _Classes()
    for report in filled:
        counted.add(report)
    return {**counted.report(), "missing": sum(report["missing"] for report in reports)}


class _Classes:
    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._others = 0

    def see(self, column: pa.Array) -> int:
        for found in pc.value_counts(column).to_pylist():
            label = str(found["values"])[:_LABEL_CHARS]
            if label in self._counts or len(self._counts) < MAX_CLASSES:
                self._counts[label] += found["counts"]
            else:
                self._others += found["counts"]
        return 0

    def add(self, report: dict[str, Any]) -> None:
        self._others += report["others"]
        for label, count in report["counts"]:
            if label in self._counts or len(self._counts) < MAX_CLASSES:
                self._counts[label] += count
            else:
                self._others += count

    def report(self) -> dict[str, Any]:
        """The labels in the order of their names: the same in every dispatch."""
        return {"kind": "classes", "counts": sorted(map(list, self._counts.items())), "others": self._others}


class _Numbers:
    """Bin n counts n * 2**exponent <= value < (n + 1) * 2**exponent."""

    def __init__(self) -> None:
        self._exponent: int | None = None
        self._bins: Counter[int] = Counter()
        self._low, self._high, self._sum = math.inf, -math.inf, 0.0

    def see(self, column: pa.Array) -> int:
        every = column.to_numpy(zero_copy_only=False).astype(np.float64)
        values = every[np.isfinite(every)]
        if len(values):
            self._low = min(self._low, float(values.min()))
            self._high = max(self._high, float(values.max()))
            self._sum += float(values.sum())
            self._widen(_finest(self._low, self._high))
            bins, counts = np.unique(_bin(values, self._exponent or 0), return_counts=True)
            self._count(dict(zip(bins.tolist(), counts.tolist(), strict=True)))
        return len(every) - len(values)

    def add(self, report: dict[str, Any]) -> None:
        if not report["counts"]:
            return
        self._low, self._high = min(self._low, report["low"]), max(self._high, report["high"])
        self._sum += math.inf if report["mean"] is None else report["mean"] * sum(report["counts"])
        self._widen(report["exponent"])
        shift = (self._exponent or 0) - report["exponent"]
        counts: Counter[int] = Counter()
        for place, count in enumerate(report["counts"]):
            counts[(report["first"] + place) >> shift] += count
        self._count(counts)

    def _count(self, counts: Mapping[int, int]) -> None:
        self._bins.update(counts)
        while max(self._bins) - min(self._bins) >= MAX_BINS:
            self._widen((self._exponent or 0) + 1)

    def _widen(self, exponent: int) -> None:
        if self._exponent is None or exponent <= self._exponent:
            self._exponent = exponent if self._exponent is None else self._exponent
            return
        merged: Counter[int] = Counter()
        for number, count in self._bins.items():
            merged[number >> (exponent - self._exponent)] += count
        self._exponent, self._bins = exponent, merged

    def report(self) -> dict[str, Any]:
        if self._exponent is None:
            return {"kind": "numbers", "exponent": 0, "first": 0, "counts": []}
        first, last = min(self._bins), max(self._bins)
        mean = self._sum / self._bins.total()
        return {
            "kind": "numbers",
            "exponent": self._exponent,
            "first": first,
            "counts": [self._bins[number] for number in range(first, last + 1)],
            "low": self._low,
            "mean": mean if math.isfinite(mean) else None,  # the sum of huge numbers may be infinite
            "high": self._high,
        }


def _bin(values: np.ndarray[Any, Any], exponent: int) -> np.ndarray[Any, Any]:
    numbers: np.ndarray[Any, Any] = np.floor(np.ldexp(values, -exponent)).astype(np.int64)
    return numbers


def _finest(low: float, high: float) -> int:
    """The finest exponent at which `low` to `high` fill the bins, and bin numbers stay exact."""
    width = high / MAX_BINS - low / MAX_BINS  # high - low could be infinite
    by_range = math.frexp(width)[1] if width > 0 else -1074
    by_size = math.frexp(max(abs(low), abs(high)))[1] - 40
    return max(by_range, by_size, -1000)
