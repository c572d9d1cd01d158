"""Asks a model about the first rows of its query: `mlops check --connect` does if only answers can decide."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pyarrow as pa

from mlops_plugin.databases.selection import some_rows
from mlops_plugin.errors import FeatureError

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ModelConfig
    from mlops_plugin.formats.runtime import Runtime
    from mlops_plugin.pipeline.deployment import Deployment

_ROWS = 1000
_ALONE = 20  # rows that are asked one by one if the model refuses them together


def require_decided_input(model: ModelConfig, deployment: Deployment, query: str, runtime: Runtime) -> None:
    """Raise `InputUndecided` if answers to these rows depend on what nobody knows about training.

    Nothing is read unless such a column is there. What else a model or a contract has against single rows is
    no matter of the model's input.
    """
    if not runtime.undecided:
        return
    rows = _valid_rows(model, _first_rows(model, deployment, query))
    if rows.num_rows == 0:
        return
    runtime.check(rows.schema)
    runtime.learn_outputs(rows)
    try:
        runtime.predict(rows)
    except FeatureError:
        for place in range(min(_ALONE, rows.num_rows)):
            with contextlib.suppress(FeatureError):
                runtime.predict(rows.slice(place, 1))


def _first_rows(model: ModelConfig, deployment: Deployment, query: str) -> pa.RecordBatch:
    with contextlib.closing(deployment.source(model)) as database:
        some = some_rows(query, database.engine.name, _ROWS)
        table = database.read(some, batch_rows=_ROWS).read_all().combine_chunks()
    return next(iter(table.to_batches()), pa.RecordBatch.from_pylist([], schema=table.schema))


def _valid_rows(model: ModelConfig, rows: pa.RecordBatch) -> pa.RecordBatch:
    """Those that keep the model's contract, as it hands them to the model."""
    from mlops_plugin.pipeline.validation.baseline_making import valid_rows
    from mlops_plugin.pipeline.validation.contract import Contract

    contract = Contract.of(model)
    if contract is None:
        return rows
    reader = pa.RecordBatchReader.from_batches(rows.schema, [rows])
    (valid,) = valid_rows(contract.bind(rows.schema), reader)
    return valid
