"""`persist` begins while `infer` still predicts: rows go into the sink's transaction as they come.

The stream of rows ends only when the success of `infer`, and of all steps before it, is recorded. So the
transaction commits nothing that four tasks, one after the other, would not have committed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from mlops_plugin.databases.sink.write_request import Order
from mlops_plugin.errors import RowsLate
from mlops_plugin.pipeline import steps
from mlops_plugin.pipeline.accounting import accounted
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.staging.notes import put_persisted, require_logged, require_predicted
from mlops_plugin.pipeline.staging.records import Persisted, Predicted
from mlops_plugin.pipeline.staging.relay import Handed
from mlops_plugin.pipeline.staging.shelf import Shelf, Staged
from mlops_plugin.pipeline.writing.provenance import with_provenance
from mlops_plugin.pipeline.writing.sinks import Predictions, Sink


@dataclass(frozen=True)
class GrowingPredictions:
    """What an `infer` that has begun is known to predict; `inferred` is given when its success is recorded.

    A transaction waits at most `patience_s` for the next rows.
    """

    staged: Staged
    at: datetime
    artifact_sha256: str
    input_sha256: str | None
    order: Order
    inferred: Handed[None]
    patience_s: float


def persist_meanwhile(dispatch: Dispatch, growing: GrowingPredictions, sink: Sink, shelf: Shelf) -> Persisted:
    """Hand predictions to the sink while they are made; raises as `steps.persist`, and `StepEnded`.

    If they come too slowly, the transaction is rolled back: a server ends sessions that are silent, and
    others wait for the table. Then all rows are written when they are there.
    """
    try:
        return _persist(dispatch, growing, sink, shelf)
    except RowsLate:
        growing.inferred.take()
        return steps.persist(dispatch, require_logged(dispatch.model, shelf), sink, shelf)


def _persist(dispatch: Dispatch, growing: GrowingPredictions, sink: Sink, shelf: Shelf) -> Persisted:
    def predicted() -> tuple[Predicted, ...]:
        return require_predicted(dispatch.model, require_logged(dispatch.model, shelf), shelf)

    def count() -> int:
        return sum(part.rows for part in predicted())

    sha256, at = growing.artifact_sha256, growing.at
    with shelf.rows(growing.staged) as rows:  # the first are there
        complete = with_provenance(_until_inferred(rows, growing), dispatch, sha256, at)
        written = sink.write(Predictions(complete, count, sha256, at, growing.order, growing.input_sha256))
    logged = require_logged(dispatch.model, shelf)
    persisted = accounted(dispatch, logged, predicted(), written, is_stored=sink.is_stored)
    put_persisted(persisted, shelf)
    return persisted


def _until_inferred(rows: pa.RecordBatchReader, growing: GrowingPredictions) -> pa.RecordBatchReader:
    """The same rows, whose end says that they were all predicted and counted."""
    if growing.staged.growing is not None:
        growing.staged.growing.hurry(growing.patience_s)

    def batches() -> Iterator[pa.RecordBatch]:
        yield from rows
        growing.inferred.take(growing.patience_s)

    return pa.RecordBatchReader.from_batches(rows.schema, batches())
