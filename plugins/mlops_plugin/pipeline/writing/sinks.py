"""Where `persist` puts a dispatch's rows: the model's tables, or nowhere for a dry run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import pyarrow as pa

from mlops_plugin.config.schema import SinkConfig
from mlops_plugin.databases.database import Database, read_rows
from mlops_plugin.databases.sink.write_request import Order, Registration, WriteRequest, Written
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import CommitUncertain, MlopsError
from mlops_plugin.events.details.step_reports import Place
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.reading.answering import answered_by
from mlops_plugin.pipeline.staging.shelf import OnRows
from mlops_plugin.pipeline.validation.rejections import RejectedRows
from mlops_plugin.pipeline.writing.provenance import stored_time

# A server may still be committing when the connection that asked for it is gone.
_ANSWER_WAITS_S = (0.0, 0.5, 2.0)


@dataclass(frozen=True)
class Predictions:
    """What one dispatch has to write: `rows` with provenance, how many, by which artifact, and when made.

    `order` decides whether they count if other dispatches have predicted the same keys. `input_sha256`:
    see `Judge`.
    """

    rows: pa.RecordBatchReader
    count: Callable[[], int]  # known once `rows` have come to an end
    artifact_sha256: str
    at: datetime
    order: Order
    input_sha256: str | None = None


class Sink(Protocol):
    """The place of a dispatch's rows. `is_stored`: whether they stay there; else nothing is counted."""

    @property
    def is_stored(self) -> bool: ...

    def write(self, predictions: Predictions) -> Written:
        """Put the predictions in their place, as a whole or not at all."""
        ...

    def count(self, at: datetime) -> int:
        """How many of the rows that this dispatch predicted at that time are there now."""
        ...

    def quarantine(self, rejected: RejectedRows) -> bool:
        """Put rejected rows aside; False if this dispatch has no quarantine."""
        ...

    def release(self, rows: pa.RecordBatchReader, order: Order) -> None:
        """Release the keys of predicted rows from the quarantine, but for those that were rejected later."""

    def describe(self) -> Place:
        """The place, for the record of the step."""
        ...


class NoSink:
    """A dry run's: nothing is stored."""

    is_stored = False

    def __init__(self, sink: SinkConfig) -> None:
        self._sink = sink

    def write(self, predictions: Predictions) -> Written:  # noqa: ARG002 - of the protocol
        return Written(0)

    def count(self, at: datetime) -> int:  # noqa: ARG002 - of the protocol
        return 0

    def quarantine(self, rejected: RejectedRows) -> bool:  # noqa: ARG002 - of the protocol
        return False

    def release(self, rows: pa.RecordBatchReader, order: Order) -> None:
        """Nothing was put aside."""

    def describe(self) -> Place:
        return Place(self._sink.connection, self._sink.table)


@dataclass(frozen=True)
class TableSink:
    """The model's table of predictions and its quarantine.

    `check` runs in each transaction right before its commit: it raises if a newer try has registered.
    `find_before` finds the dispatch that the table must hold, see `continuity`.
    """

    dispatch: Dispatch
    deployment: Deployment
    check: Callable[[], None]
    on_rows: OnRows
    find_before: Callable[[], str | None] = lambda: None

    is_stored = True

    def write(self, predictions: Predictions) -> Written:
        from mlops_plugin.databases.sink.writer import write_predictions

        rows = predictions.rows
        watched = pa.RecordBatchReader.from_batches(rows.schema, _counted(rows, self.on_rows))
        request = self._request(predictions)
        try:
            with self._open() as database:
                return write_predictions(database, request, watched)
        except CommitUncertain as error:
            persisted = self._find_committed(predictions, error)
            if persisted == 0:
                raise
            return Written(persisted, predictions.count() - persisted)

    def _request(self, predictions: Predictions) -> WriteRequest:
        model, sha256 = self.dispatch.model, predictions.artifact_sha256
        is_forced = self.dispatch.overwrites_newer
        skips = model.source.skip_predicted
        answers = answered_by(model, sha256, predictions.input_sha256) if skips else None
        is_distinct = model.source.skip_predicted and model.sink.mode == "append"
        return WriteRequest(
            model.sink,
            model.key,
            self.dispatch.id,
            is_searched_by_key=model.source.skip_predicted,
            distinct_by_artifact=sha256 if is_distinct else None,
            registration=Registration(
                predictions.order, model.name, sha256, predictions.at, is_forced, answers
            ),
            is_narrow=True,
            goes_behind=self.find_before(),
            check=self.check,
        )

    def _find_committed(self, predictions: Predictions, error: CommitUncertain) -> int:
        """How many rows of these very predictions are in the table, after a commit without an answer."""
        for wait_s in _ANSWER_WAITS_S:
            time.sleep(wait_s)
            try:
                with self._open() as database:
                    found = _count_by_time(database, self.dispatch)
            except MlopsError as unknown:
                error.add_note(f"and whether it was committed could not be checked: {unknown}")
                return 0
            if rows := found.get(predictions.at, 0):
                return rows
        return 0

    def count(self, at: datetime) -> int:
        with self._open() as database:
            return _count_by_time(database, self.dispatch).get(at, 0)

    def quarantine(self, rejected: RejectedRows) -> bool:
        if not (self.dispatch.model.may_reject or self.dispatch.is_quarantined):
            return False
        from mlops_plugin.pipeline.validation.quarantine import Quarantine

        Quarantine(self.dispatch.model, self.dispatch.id, self.deployment, self.check).write(rejected)
        return True

    def release(self, rows: pa.RecordBatchReader, order: Order) -> None:
        from mlops_plugin.pipeline.validation.quarantine import Quarantine

        Quarantine(self.dispatch.model, self.dispatch.id, self.deployment, self.check).release(rows, order)

    def describe(self) -> Place:
        sink = self.dispatch.model.sink
        return Place(sink.connection, sink.table, self.dispatch.overwrites_newer)

    @contextlib.contextmanager
    def _open(self) -> Iterator[Database]:
        database = self.deployment.database(self.dispatch.model.sink.connection)
        with contextlib.closing(database):
            yield database


def _count_by_time(database: Database, dispatch: Dispatch) -> dict[datetime | None, int]:
    """The rows of a dispatch by the time at which they were predicted; nothing if there is no table."""
    quote, table = database.engine.quote, TableName.parse(dispatch.model.sink.table)
    if database.columns(table) is None:
        return {}
    at, own = quote("predicted_at"), f"{quote('dispatch_id')} = ?"
    text = database.engine.exact_text(at)  # a driver may refuse to read a time
    source = f"{table.quoted(database.engine)} WHERE {own} GROUP BY {at}"
    query = f"SELECT {text} AS made_at, COUNT(*) AS found FROM {source}"
    return {stored_time(value): int(count) for value, count in read_rows(database, query, [dispatch.id])}


def _counted(batches: Iterable[pa.RecordBatch], on_rows: OnRows) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch
        on_rows(batch.num_rows)
