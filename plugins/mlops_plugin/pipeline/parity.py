"""Compares a model's answers with those in a table of reference: `mlops check MODEL --parity FILE`.

The table has the model's features and, under the names of its output columns, what another library or the
original model answered. It shows how far a converted model, an ONNX file say, is from what it was made of.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from mlops_plugin.arrow_values import as_doubles, doubles_of
from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import FeatureError
from mlops_plugin.pipeline.signing import read_table
from mlops_plugin.workers.isolation import StepModels

USUAL_TOLERANCE = 1e-5  # as for golden rows of models that compute with 32 bits
_BATCH_ROWS = 50_000


@dataclass(frozen=True)
class ColumnParity:
    """How one column's answers differ from the reference; rows are counted from 1.

    `largest` is the largest absolute difference of numbers, `worst` its row, and `differing` are the rows
    with another label, or with a difference beyond the tolerance.
    """

    name: str
    largest: float | None
    worst: int | None
    differing: tuple[int, ...]


@dataclass(frozen=True)
class Parity:
    """The report on a file."""

    rows: int
    columns: tuple[ColumnParity, ...]


def compare_with_table(model: ModelConfig, file: Path, *, must_be_confined: bool) -> Parity:
    """Ask the model about the rows of a Parquet, CSV or JSON file, and compare with the answers in it.

    Numbers differ if they do by more than `model: {tolerance: ...}` (or 1e-5) of the greater of 1 and the
    reference. Raises `FeatureError` if the file lacks features, or has no column of answers.
    """
    table = pa.Table.from_pandas(read_table(file), preserve_index=False)
    with contextlib.closing(StepModels(must_be_confined=must_be_confined)) as models:
        runtime = models.load(model)
        missing = [name for name in runtime.features if name not in table.schema.names]
        if missing:
            raise FeatureError(f"'{file}' has no column {', '.join(missing)}; it has {_listed(table.schema)}")
        rows = table.select(list(runtime.features)).combine_chunks()
        runtime.check(rows.schema)
        batches = rows.to_batches(max_chunksize=_BATCH_ROWS)
        for batch in batches[:1]:
            runtime.learn_outputs(batch)
        answered = pa.Table.from_batches([runtime.predict(batch) for batch in batches], runtime.outputs)
    compared = [name for name in answered.schema.names if name in table.schema.names]
    if not compared:
        raise FeatureError(
            f"'{file}' has no reference answers; name them as the model's columns: {_listed(answered.schema)}"
        )
    limit = USUAL_TOLERANCE if model.model.tolerance is None else model.model.tolerance
    found = (_compared(name, table.column(name), answered.column(name), limit) for name in compared)
    return Parity(table.num_rows, tuple(found))


def _compared(name: str, expected: pa.ChunkedArray, found: pa.ChunkedArray, limit: float) -> ColumnParity:
    if not pa.types.is_floating(found.type):
        pairs = zip(expected.to_pylist(), found.to_pylist(), strict=True)
        differing = [row for row, (one, other) in enumerate(pairs, 1) if not _is_same_label(one, other)]
        return ColumnParity(name, None, None, tuple(differing))
    one, other = (doubles_of(as_doubles(column.combine_chunks())) for column in (expected, found))
    with np.errstate(invalid="ignore"):
        apart = np.abs(one - other)
    apart[(one == other) | (np.isnan(one) & np.isnan(other))] = 0
    apart[np.isnan(apart)] = np.inf  # only one of them is missing
    (places,) = np.nonzero(apart > limit * np.maximum(1, np.nan_to_num(np.abs(one))))
    worst = int(np.argmax(apart)) if len(apart) else None
    largest = None if worst is None else float(apart[worst])
    return ColumnParity(name, largest, None if worst is None else worst + 1, tuple((places + 1).tolist()))


def _is_same_label(one: object, other: object) -> bool:
    """A file may have numbers where the model has their texts."""
    return one == other or (one is not None and other is not None and str(one) == str(other))


def _listed(columns: pa.Schema) -> str:
    return ", ".join(columns.names)
