"""Finds the rows that a model refuses if it only reports that it refuses the batch.

The model itself is asked: first about one row of each pattern (which values are missing, infinite, and what
the text is), then, if patterns do not decide, about halves of the batch. It is asked a bounded number of
times; a model that refuses rows in more ways than that fails the dispatch as without a contract.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mlops_plugin.errors import FeatureError
from mlops_plugin.formats.runtime import REFUSES_INFINITE, REFUSES_NULL, Runtime
from mlops_plugin.pipeline.validation.column_check import kind_of
from mlops_plugin.pipeline.validation.rejections import Refused

MOST_QUESTIONS = 1000  # for one batch
_MOST_OTHERS = 16  # rows that are asked about where none is taken
REFUSES = "the model refuses"
_SAYS_TEXT = re.compile("categor|could not convert", re.IGNORECASE)


@dataclass(frozen=True)
class Answered:
    """`predictions` has one row for each at `places`, which the model takes; `refused` names the others."""

    predictions: pa.RecordBatch
    places: pa.Int64Array
    refused: list[Refused]


def predict_each(runtime: Runtime, rows: pa.RecordBatch) -> Answered:
    """The model's answers about the rows that it takes.

    Raises `FeatureError` if it needs other columns, or refuses rows in too many ways to tell them apart.
    """
    runtime.check(rows.schema)  # what is wrong with the columns is no row's fault
    everything = pa.array(np.arange(rows.num_rows))
    try:
        return Answered(runtime.predict(rows), everything, [])
    except FeatureError as error:
        questions = _Questions(runtime, error)
    refusals = questions.by_pattern(rows)
    places = _others(refusals, rows.num_rows)
    try:
        predictions = runtime.predict(rows.take(places))
    except FeatureError:
        refusals |= questions.by_halving(rows, places)
        places = _others(refusals, rows.num_rows)
        predictions = runtime.predict(rows.take(places))
    return Answered(predictions, places, _told(runtime, rows, refusals))


def first_refused(runtime: Runtime, rows: pa.RecordBatch) -> int | None:
    """The place of the first row that the model refuses also alone; None if it refuses rows only together.

    It is asked twice as often as the rows can be halved.
    """
    start, count = 0, rows.num_rows
    while count > 1:
        half = count // 2
        if _takes(runtime, rows.slice(start, half)):
            start, half = start + half, count - half
        count = half
    return None if count == 0 or _takes(runtime, rows.slice(start, 1)) else start


def _takes(runtime: Runtime, rows: pa.RecordBatch) -> bool:
    try:
        runtime.predict(rows)
    except FeatureError:
        return False
    return True


def _others(refusals: dict[int, str], rows: int) -> pa.Int64Array:
    kept = np.ones(rows, dtype=bool)
    kept[list(refusals)] = False
    return pa.array(np.flatnonzero(kept))


class _Questions:
    """Asks the model, and counts how often."""

    def __init__(self, runtime: Runtime, first: FeatureError) -> None:
        self._runtime = runtime
        self._first = first
        self._left = MOST_QUESTIONS

    def by_pattern(self, rows: pa.RecordBatch) -> dict[int, str]:
        """Row -> why the model refuses it, if one row of its pattern decides for all of them."""
        groups, examples = _patterns(rows, self._runtime.features)
        has_text = any(_is_text(rows.schema.field(name).type) for name in self._runtime.features)
        refused = dict(self._search(rows.take(pa.array(examples))))
        taken = [row for group, row in enumerate(examples) if group not in refused]
        shared = {
            group: refusal
            for group, refusal in refused.items()
            if _is_of_pattern(refusal, has_text=has_text)
            and self._is_shared(rows, np.flatnonzero(groups == group), taken, refusal)
        }
        # Of the others the example alone: a number that is too large is in no pattern.
        found = {examples[group]: refusal for group, refusal in refused.items()}
        found |= {row: shared[group] for row, group in enumerate(groups.tolist()) if group in shared}
        return found

    def _is_shared(self, rows: pa.RecordBatch, alike: Any, taken: list[int], refusal: str) -> bool:
        """Whether rows of one pattern, of which the first is refused, are refused for their pattern.

        It may be for a number: an unknown number of a shop beside a known text. So the first row is asked
        about with the numbers of a row that the model takes; without such a row, some others must be refused
        in the same words.
        """
        if len(alike) == 1:
            return True
        first = int(alike[0])
        if not taken:
            others = np.linspace(1, len(alike) - 1, min(_MOST_OTHERS, len(alike) - 1)).astype(int)
            return all(self._refusal(rows.slice(row, 1)) == refusal for row in alike[others].tolist())
        features = self._runtime.features
        fullest = min(taken, key=lambda row: sum(_is_missing(rows.column(name), row) for name in features))
        return self._refusal(_with_numbers_of(rows, first, fullest, features)) is not None

    def by_halving(self, rows: pa.RecordBatch, places: pa.Int64Array) -> dict[int, str]:
        """Row -> why the model refuses it, among those at `places`."""
        numbers = places.to_pylist()
        return {numbers[place]: refusal for place, refusal in self._search(rows.take(places))}

    def _search(self, rows: pa.RecordBatch) -> Iterator[tuple[int, str]]:
        """The rows that the model refuses even alone, by halving."""
        waiting = [(0, rows.num_rows)]
        while waiting:
            start, count = waiting.pop()
            refusal = self._refusal(rows.slice(start, count))
            if refusal is None:
                continue
            if count == 1:
                yield start, refusal
            else:
                half = count // 2
                waiting += [(start, half), (start + half, count - half)]

    def _refusal(self, rows: pa.RecordBatch) -> str | None:
        if self._left == 0:
            raise FeatureError(
                f"{self._first}; the refused rows could not be found in {MOST_QUESTIONS} calls "
                f"of the model; describe valid rows in `input:`"
            ) from self._first
        self._left -= 1
        try:
            self._runtime.predict(rows)
        except FeatureError as error:
            return str(error)
        return None


def _patterns(rows: pa.RecordBatch, features: tuple[str, ...]) -> tuple[Any, list[int]]:
    """For each row the number of its pattern, and for each pattern its first row."""
    columns = []
    for name in features:
        values = rows.column(name)
        missing = values.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
        if not _is_text(values.type):
            columns.append(missing.astype(np.int64) + 2 * _infinite(values))
        else:
            encoded = values if isinstance(values, pa.DictionaryArray) else values.dictionary_encode()
            columns.append(encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64))
    matrix = np.column_stack(columns)
    _, firsts, groups = np.unique(matrix, axis=0, return_index=True, return_inverse=True)
    return groups.reshape(-1), firsts.tolist()


def _is_missing(values: pa.Array, row: int) -> bool:
    return bool(values.slice(row, 1).is_null(nan_is_null=True)[0].as_py())


def _with_numbers_of(rows: pa.RecordBatch, row: int, other: int, features: tuple[str, ...]) -> pa.RecordBatch:
    """One row, in which numbers that say nothing of its pattern are those of another row."""
    mixed = rows.slice(row, 1)
    for name in features:
        place = rows.schema.get_field_index(name)
        own, theirs = (rows.column(place).slice(at, 1) for at in (row, other))
        is_number = not _is_text(own.type)
        if is_number and not _is_special(own) and not _is_special(theirs):
            mixed = mixed.set_column(place, rows.schema.field(place), theirs)
    return mixed


def _is_special(number: pa.Array) -> bool:
    """Whether it is missing or infinite."""
    return _is_missing(number, 0) or bool(_infinite(number)[0])


def _is_of_pattern(refusal: str, *, has_text: bool) -> bool:
    """Whether the model refuses a row for its missing or infinite values, or its texts."""
    if refusal.startswith((REFUSES_NULL, REFUSES_INFINITE)):
        return True
    return has_text and _SAYS_TEXT.search(refusal) is not None


def _is_text(kind: pa.DataType) -> bool:
    return kind_of(kind) not in ("integer", "number")


def _infinite(values: pa.Array) -> Any:
    numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.isinf(numbers).astype(np.int64)


def _told(runtime: Runtime, rows: pa.RecordBatch, refusals: dict[int, str]) -> list[Refused]:
    """The refusals by column and reason."""
    missing = {
        name: rows.column(name).is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
        for name in runtime.features
    }
    infinite = {
        name: _infinite(rows.column(name)) != 0
        for name in runtime.features
        if not _is_text(rows.schema.field(name).type)
    }
    places: dict[tuple[str | None, str], list[int]] = {}
    for row, refusal in sorted(refusals.items()):
        nulls = [name for name, mask in missing.items() if mask[row]]
        infinities = [name for name, mask in infinite.items() if mask[row]]
        if nulls and refusal.startswith(REFUSES_NULL):
            entries: list[tuple[str | None, str]] = [(name, f"{REFUSES} a missing value") for name in nulls]
        elif infinities and refusal.startswith(REFUSES_INFINITE):
            entries = [(name, f"{REFUSES} an infinite number") for name in infinities]
        else:
            entries = [(None, f"{REFUSES} the row: {refusal.partition(': ')[2] or refusal}")]
        for entry in entries:
            places.setdefault(entry, []).append(row)
    return [
        _refused(rows, column, reason, pa.array(at, pa.int64())) for (column, reason), at in places.items()
    ]


def _refused(rows: pa.RecordBatch, column: str | None, reason: str, places: pa.Int64Array) -> Refused:
    return Refused(column, reason, places, None if column is None else rows.column(column).take(places))
