"""How a dispatch's predictions are distributed, counted while they stream by; small enough for an event.

`infer` reports it, the Dispatches view draws it. Counts are exact: class labels are counted by name, and
numbers in bins as wide as a power of two, so that the bins of two dispatches can be laid over each other.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops_plugin.arrow_values import as_doubles, doubles_of
from mlops_plugin.events.details.step_reports import ClassCounts, Counts, NumberCounts

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
        if column.null_count:
            self._missing += column.null_count
            column = column.drop_null()
        self._missing += self._counted.see(column)

    def report(self) -> Counts:
        return replace(self._counted.report(), missing=self._missing)


def merge(parts: Sequence[Counts]) -> Counts | None:
    """The counts of several parts as those of the whole; None if there are no parts.

    None also if one part counts labels and another numbers: on SQLite, a partition of whole numbers may have
    whole answers, the next one fractions.
    """
    filled = [part for part in parts if part.counts] or parts[:1]
    numbers = [part for part in filled if isinstance(part, NumberCounts)]
    classes = [part for part in filled if isinstance(part, ClassCounts)]
    if not filled or (numbers and classes):
        return None
    whole = _merge_numbers(numbers) if isinstance(filled[0], NumberCounts) else _merge_classes(classes)
    return replace(whole, missing=sum(part.missing for part in parts))


def _merge_numbers(parts: Sequence[NumberCounts]) -> NumberCounts:
    counted = _Numbers()
    for part in parts:
        counted.add(part)
    return counted.report()


def _merge_classes(parts: Sequence[ClassCounts]) -> ClassCounts:
    # A part that counts some labels together may have any other label among them.
    full = [{label for label, _ in part.counts} for part in parts if part.others]
    counted = _Classes()
    for part in parts:
        counted.add(part, full)
    return counted.report()


class _Classes:
    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._others = 0

    def see(self, column: pa.Array) -> int:
        counted = [(column[0].as_py(), 1)] if len(column) == 1 else _value_counts(column)
        for value, count in counted:
            self._count(str(value)[:_LABEL_CHARS], count)
        return 0

    def add(self, part: ClassCounts, full: Sequence[Collection[str]]) -> None:
        """Add a part; `full` are the labels of each part that has counted others together."""
        self._others += part.others
        for label, count in part.counts:
            if all(label in labels for labels in full):
                self._count(label, count)
            else:
                self._others += count

    def _count(self, label: str, count: int) -> None:
        if label in self._counts or len(self._counts) < MAX_CLASSES:
            self._counts[label] += count
        else:
            self._others += count

    def report(self) -> ClassCounts:
        """The labels in the order of their names: the same in every dispatch."""
        return ClassCounts(tuple(sorted(self._counts.items())), self._others)


class _Numbers:
    """Bin n counts n * 2**exponent <= value < (n + 1) * 2**exponent."""

    def __init__(self) -> None:
        self._exponent: int | None = None
        self._bins: Counter[int] = Counter()
        self._low, self._high, self._sum = math.inf, -math.inf, 0.0

    def see(self, column: pa.Array) -> int:
        every = doubles_of(as_doubles(column))
        values = every[np.isfinite(every)]
        if len(values):
            self._low = min(self._low, float(values.min()))
            self._high = max(self._high, float(values.max()))
            self._sum += float(values.sum())
            self._widen(_finest(self._low, self._high))
            bins, counts = np.unique(_bin(values, self._exponent or 0), return_counts=True)
            self._count(dict(zip(bins.tolist(), counts.tolist(), strict=True)))
        return len(every) - len(values)

    def add(self, part: NumberCounts) -> None:
        if not part.counts or part.low is None or part.high is None:
            return
        self._low, self._high = min(self._low, part.low), max(self._high, part.high)
        self._sum += math.inf if part.mean is None else part.mean * sum(part.counts)
        self._widen(part.exponent)
        shift = (self._exponent or 0) - part.exponent
        counts: Counter[int] = Counter()
        for place, count in enumerate(part.counts):
            counts[(part.first + place) >> shift] += count
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

    def report(self) -> NumberCounts:
        if self._exponent is None:
            return NumberCounts((), exponent=0, first=0)
        first, last = min(self._bins), max(self._bins)
        mean = self._sum / self._bins.total()
        return NumberCounts(
            tuple(self._bins[number] for number in range(first, last + 1)),
            self._exponent,
            first,
            low=self._low,
            mean=mean if math.isfinite(mean) else None,  # the sum of huge numbers may be infinite
            high=self._high,
        )


def _value_counts(column: pa.Array) -> list[tuple[Any, int]]:
    return [(found["values"], found["counts"]) for found in pc.value_counts(column).to_pylist()]


def _bin(values: np.ndarray[Any, Any], exponent: int) -> np.ndarray[Any, Any]:
    numbers: np.ndarray[Any, Any] = np.floor(np.ldexp(values, -exponent)).astype(np.int64)
    return numbers


def _finest(low: float, high: float) -> int:
    """The finest exponent at which `low` to `high` fill the bins, and bin numbers stay exact."""
    width = high / MAX_BINS - low / MAX_BINS  # high - low could be infinite
    by_range = math.frexp(width)[1] if width > 0 else -1074
    by_size = math.frexp(max(abs(low), abs(high)))[1] - 40
    return max(by_range, by_size, -1000)
