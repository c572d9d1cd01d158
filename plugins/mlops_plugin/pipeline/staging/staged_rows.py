"""What `infer` has staged of all partitions, read as one stream by `persist`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import pyarrow as pa

from mlops_plugin.errors import ArtifactError
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
    schema = _common_schema([*_schemas_of(files, shelf)])

    def batches() -> Iterator[pa.RecordBatch]:
        for file in files:
            with shelf.rows(file) as rows:
                for batch in rows:
                    yield _as_schema(batch, schema)

    yield pa.RecordBatchReader.from_batches(schema, batches())


def _schemas_of(files: Sequence[Staged], shelf: Shelf) -> Iterator[pa.Schema]:
    for file in files:
        with shelf.rows(file) as rows:
            yield rows.schema


def _common_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Each task has learned by itself with what the model answers: with whole numbers, or with fractions.

    Raises `ArtifactError` if the answers of two partitions have no common type.
    """
    first, *others = schemas
    differing = next((schema for schema in others if not schema.equals(first)), None)
    if differing is None:
        return first
    try:
        return pa.unify_schemas(schemas, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise _disagreement(first, differing, str(error)) from error


def _as_schema(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    if batch.schema.equals(schema):
        return batch
    try:
        return batch.cast(schema)
    except ValueError as error:  # Arrow's, too
        raise _disagreement(schema, batch.schema, str(error)) from error


def _disagreement(one: pa.Schema, other: pa.Schema, reason: str) -> ArtifactError:
    names = [name for name in one.names if name in other.names and one.field(name) != other.field(name)]
    found = ", ".join(f"'{name}' with {one.field(name).type} and {other.field(name).type}" for name in names)
    return ArtifactError(
        f"the model answers {found or 'with other columns'} in different partitions ({reason.splitlines()[0]}"
        "); make it return one type, e.g. an array of floats"
    )
