"""The columns with a prediction's origin: dispatch, model, artifact and time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pyarrow as pa

from mlops_plugin.arrow_values import text_scalar, time_scalar
from mlops_plugin.pipeline.dispatch import Dispatch

_COLUMNS = (
    pa.field("dispatch_id", pa.string(), nullable=False),
    pa.field("model", pa.string(), nullable=False),
    pa.field("artifact_sha256", pa.string(), nullable=False),
    pa.field("predicted_at", pa.timestamp("us", tz="UTC"), nullable=False),
)


def predictions_schema(key: list[pa.Field], outputs: pa.Schema) -> pa.Schema:
    """The columns of a predictions table: the key, the model's outputs, and their origin."""
    return pa.schema([*key, *outputs, *_COLUMNS])


def with_provenance(
    rows: pa.RecordBatchReader, dispatch: Dispatch, artifact_sha256: str, at: datetime
) -> pa.RecordBatchReader:
    """The same rows, each followed by its origin."""
    texts = (dispatch.id, dispatch.model.name, artifact_sha256)
    constants = [*map(text_scalar, texts), time_scalar(at, _COLUMNS[-1].type)]
    schema = predictions_schema(list(rows.schema), pa.schema([]))

    def batches() -> Iterator[pa.RecordBatch]:
        repeated = [pa.repeat(constant, 0) for constant in constants]
        for batch in rows:
            if len(repeated[0]) < batch.num_rows:  # batches are of one size, except for the last
                repeated = [pa.repeat(constant, batch.num_rows) for constant in constants]
            origin = [each.slice(0, batch.num_rows) for each in repeated]
            yield pa.RecordBatch.from_arrays([*batch.columns, *origin], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def without_provenance(rows: pa.Table) -> pa.Table:
    """The rows without the columns that `with_provenance` has added."""
    return rows.select(rows.column_names[: -len(_COLUMNS)])


def stored_time(value: object) -> datetime | None:
    """A time of ours as an engine returns it (text in SQLite, elsewhere with or without zone), aware in UTC.

    None if it is no time.
    """
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    if not isinstance(moment, datetime):
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
