"""What `infer` has staged of all partitions, read as one stream by `persist`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import pyarrow as pa

from mlops_plugin.pipeline.staging.records import Predicted
from mlops_plugin.pipeline.staging.shelf import Shelf, Staged
from mlops_plugin.pipeline.validation.rejections import Rejections


@contextlib.contextmanager
def predicted_rows(predicted: Sequence[Predicted], shelf: Shelf) -> Iterator[pa.RecordBatchReader]:
    """The predictions of all partitions: key and prediction columns."""
    # An engine that types by value may have nothing to type the columns of an empty partition by.
    files = [part.staged for part in predicted if part.rows] or [predicted[0].staged]
    with _rows_of(files, shelf) as rows:
        yield rows


@contextlib.contextmanager
def rejected_rows(predicted: Sequence[Predicted], shelf: Shelf) -> Iterator[pa.RecordBatchReader]:
    """The records of all partitions' rejected rows; without any, an empty stream of the same columns."""
    files = [part.staged_records for part in predicted if part.staged_records is not None]
    if files:
        with _rows_of(files, shelf) as records:
            yield records
        return
    with predicted_rows(predicted, shelf) as rows:
        nothing = Rejections(list(rows.schema)).schema
    yield pa.RecordBatchReader.from_batches(nothing, [])


@contextlib.contextmanager
def _rows_of(files: Sequence[Staged], shelf: Shelf) -> Iterator[pa.RecordBatchReader]:
    """The rows of several files, one after the other, one batch in memory at a time."""
    with shelf.rows(files[0]) as first:
        schema = first.schema

        def batches() -> Iterator[pa.RecordBatch]:
            yield from first
            for file in files[1:]:
                with shelf.rows(file) as rows:
                    yield from rows

        yield pa.RecordBatchReader.from_batches(schema, batches())
