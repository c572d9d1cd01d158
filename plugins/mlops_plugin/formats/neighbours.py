"""Finds a model whose answer about a row depends on the rows beside it; `ScikitRuntime` asks once.

A rank, a difference to the row before, or a mean over the batch gives other predictions with another
`batch_rows`, and no error. A signature tells of such a model; without one it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mlops_plugin.arrow_values import array_of_numbers, doubles_of
from mlops_plugin.errors import AnswersOfNeighbours, MlopsError

_SAMPLE_ROWS = 16
_ALONE = 4  # how many are asked one by one
# Libraries that compute with 32 bits, or by blocks, differ by far less; neighbours change much more.
_TOLERANCE = 1e-4
# Neighbours change most answers; ties between neighbours of training, say, change few.
_LEAST_SHARE = 0.25

Ask = Callable[[pa.RecordBatch], pa.RecordBatch]


def require_own_answers(uri: str, ask: Ask, rows: pa.RecordBatch, answered: pa.RecordBatch) -> None:
    """Ask again about some of these two rows or more; `answered` is the model's answers about all of them.

    Raises `AnswersOfNeighbours` if the answers differ. A model that answers otherwise each time, because it
    samples, passes: its answers are its own.
    """
    alone = [[place] for place in sorted(set(np.linspace(0, rows.num_rows - 1, _ALONE).astype(int).tolist()))]
    count = min(_SAMPLE_ROWS, rows.num_rows // 2)
    together = [list(range(rows.num_rows - 1, rows.num_rows - count - 1, -1))]
    for groups in (alone, together):
        _require_same(uri, ask, (rows, answered), groups)


def _require_same(
    uri: str, ask: Ask, known: tuple[pa.RecordBatch, pa.RecordBatch], groups: Sequence[list[int]]
) -> None:
    rows, answered = known
    expected = pa.concat_batches([answered.take(array_of_numbers(np.array(group))) for group in groups])
    try:
        found = _asked(ask, rows, groups)
        if not _is_other(expected, found) or _is_other(found, _asked(ask, rows, groups)):
            return
    except MlopsError:
        return  # it takes no row alone, or not in such company; if that matters, `predict` tells
    column, place = _first_difference(expected, found)
    company = "alone" if len(groups[0]) == 1 else f"among {len(groups[0])} of them"
    raise AnswersOfNeighbours(
        f"the model in '{uri}' gives a row an answer that depends on the other rows: '{column}' of one row "
        "is "
        f"{_shown(expected, column, place)} among {rows.num_rows} rows and {_shown(found, column, place)} "
        f"{company}, so it would depend on `batch_rows` and on the query's order; compute "
        "differences, ranks and averages over rows in the query, with a window function, or if you want such "
        "answers, write a signature (`mlops sign`), which marks them as not stable"
    )


def _asked(ask: Ask, rows: pa.RecordBatch, groups: Sequence[list[int]]) -> pa.RecordBatch:
    return pa.concat_batches([ask(rows.take(array_of_numbers(np.array(group)))) for group in groups])


def _is_other(one: pa.RecordBatch, other: pa.RecordBatch) -> bool:
    return bool(_differing(one, other).any(axis=1).mean() >= _LEAST_SHARE)


def _first_difference(one: pa.RecordBatch, other: pa.RecordBatch) -> tuple[str, int]:
    place, column = np.argwhere(_differing(one, other))[0]
    return one.schema.names[int(column)], int(place)


def _differing(one: pa.RecordBatch, other: pa.RecordBatch) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Rows x columns."""
    return np.column_stack([_differ(*pair) for pair in zip(one.columns, other.columns, strict=True)])


def _differ(one: pa.Array, other: pa.Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if not pa.types.is_floating(one.type):
        return np.array([a != b for a, b in zip(one.to_pylist(), other.to_pylist(), strict=True)])
    numbers, others = (doubles_of(each.cast(pa.float64())) for each in (one, other))
    finite = np.abs(numbers[np.isfinite(numbers)])
    scale = np.maximum(np.abs(numbers), np.median(finite) if len(finite) else 0.0)
    with np.errstate(invalid="ignore"):
        is_close = np.abs(numbers - others) <= _TOLERANCE * scale
    is_same = is_close | (numbers == others) | (np.isnan(numbers) & np.isnan(others))
    return np.asarray(~is_same)


def _shown(answers: pa.RecordBatch, column: str, place: int) -> str:
    return repr(answers.column(column)[place].as_py())
