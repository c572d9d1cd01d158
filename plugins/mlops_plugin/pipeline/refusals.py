"""Which rows of a batch a model refuses, where it only says that it refuses the batch.

The model itself is asked: first about one row of each pattern (which values are missing, infinite, and what
the text is), then, where patterns do not tell, about halves of the batch. It is asked a bounded number of
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
from mlops_plugin.model_loaders.runtime import Runtime
from mlops_plugin.pipeline.column_check import kind_of
from mlops_plugin.pipeline.rejections import Refused

MOST_QUESTIONS = 1000  # for one batch
REFUSES = "the model refuses"
_SAYS_MISSING = re.compile("nan|null|none|missing", re.IGNORECASE)


@dataclass(frozen=True)
class Answered:
    """`predictions` has one row for each at `places`, which the model takes; `refused` names the others."""

    predictions: pa.RecordBatch
    places: pa.Int64Array
    refused: list[Refused]


def predict_each(runtime: Runtime, rows: pa.RecordBatch) -> Answered:
    """The model's answers about the rows that it takes.

    Raises `FeatureError` where it wants other columns, or refuses rows in too many ways to tell them apart.
    """
    runtime.check(rows.schema)  # what is wrong with the columns is no row's fault
    try:
        everything = pa.array(np.arange(rows.num_rows))
        return Answered(runtime.predict(rows), everything, [])
    except FeatureError as error:
        refusals = _Questions(runtime, error).refusals(rows)
    kept = np.ones(rows.num_rows, dtype=bool)
    kept[list(refusals)] = False
    places = pa.array(np.flatnonzero(kept))
    return Answered(runtime.predict(rows.take(places)), places, _told(runtime, rows, refusals))


class _Questions:
    """Asks the model, and counts how often."""

    def __init__(self, runtime: Runtime, first: FeatureError) -> None:
        self._runtime = runtime
        self._first = first
        self._left = MOST_QUESTIONS

    def refusals(self, rows: pa.RecordBatch) -> dict[int, str]:
        """Row -> what the model says against it."""
        groups, examples = _patterns(rows, self._runtime.features)
        bad_groups = dict(self._search(rows.take(pa.array(examples))))
        found = {
            int(row): bad_groups[group] for row, group in enumerate(groups.tolist()) if group in bad_groups
        }
        left = np.array([row for row in range(rows.num_rows) if row not in found], dtype=np.int64)
        if len(left) and self._refusal(rows.take(pa.array(left))) is not None:
            found |= {int(left[row]): said for row, said in self._search(rows.take(pa.array(left)))}
        return found

    def _search(self, rows: pa.RecordBatch) -> Iterator[tuple[int, str]]:
        """The rows that the model refuses even alone, by halving."""
        waiting = [(0, rows.num_rows)]
        while waiting:
            start, count = waiting.pop()
            said = self._refusal(rows.slice(start, count))
            if said is None:
                continue
            if count == 1:
                yield start, said
            else:
                half = count // 2
                waiting += [(start, half), (start + half, count - half)]

    def _refusal(self, rows: pa.RecordBatch) -> str | None:
        if self._left == 0:
            raise FeatureError(
                f"{self._first}; and the rows that it refuses could not be told apart by asking it "
                f"{MOST_QUESTIONS} times; say in `input:` what is wrong with them"
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
        if kind_of(values.type) in ("integer", "number"):
            columns.append(missing.astype(np.int64) + 2 * _infinite(values))
        else:
            encoded = values if isinstance(values, pa.DictionaryArray) else values.dictionary_encode()
            columns.append(encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64))
    matrix = np.column_stack(columns)
    _, firsts, groups = np.unique(matrix, axis=0, return_index=True, return_inverse=True)
    return groups.reshape(-1), firsts.tolist()


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
        if kind_of(rows.schema.field(name).type) in ("integer", "number")
    }
    places: dict[tuple[str | None, str], list[int]] = {}
    for row, said in sorted(refusals.items()):
        nulls = [name for name, mask in missing.items() if mask[row]]
        infinities = [name for name, mask in infinite.items() if mask[row]]
        if nulls and _SAYS_MISSING.search(said):
            entries: list[tuple[str | None, str]] = [(name, f"{REFUSES} a missing value") for name in nulls]
        elif infinities and "infinit" in said:
            entries = [(name, f"{REFUSES} an infinite number") for name in infinities]
        else:
            entries = [(None, f"{REFUSES} the row: {said.partition(': ')[2] or said}")]
        for entry in entries:
            places.setdefault(entry, []).append(row)
    return [
        _refused(rows, column, reason, pa.array(at, pa.int64())) for (column, reason), at in places.items()
    ]


def _refused(rows: pa.RecordBatch, column: str | None, reason: str, places: pa.Int64Array) -> Refused:
    return Refused(column, reason, places, None if column is None else rows.column(column).take(places))
