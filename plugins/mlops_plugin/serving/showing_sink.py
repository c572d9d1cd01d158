"""The sink of a Showroom run: it keeps predictions and rejections in memory, to be shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from mlops_plugin.databases.sink.write_request import Order, Written
from mlops_plugin.events.details.explanations import Explanation
from mlops_plugin.events.details.step_reports import Place
from mlops_plugin.pipeline.validation.rejections import RejectedRows
from mlops_plugin.pipeline.writing.provenance import without_provenance
from mlops_plugin.pipeline.writing.sinks import Predictions
from mlops_plugin.serving.explanation import Question


@dataclass(frozen=True)
class Rejection:
    """One reason why a row was rejected; `row` counts from 0 among those collected."""

    row: int
    column: str | None
    reason: str
    value: str | None


def rejections_of(records: Iterable[pa.RecordBatch], schema: pa.Schema) -> tuple[Rejection, ...]:
    """The records that `validation.rejections` keeps, without the key."""
    table = pa.Table.from_batches(records, schema).select(["row", "column_name", "reason", "value"])
    return tuple(Rejection(*record.values()) for record in table.to_pylist())


class ShowingSink:
    """Stores nothing; `predictions` has the key and the model's columns, in the rows' order.

    `question` gives what a run that explains has asked; its explanation is recorded with `persist`.
    """

    is_stored = False

    def __init__(self, question: Callable[[], Question | None]) -> None:
        self._question = question
        self.explanation: Explanation | None = None
        self.predictions: pa.Table | None = None
        self.rejections: tuple[Rejection, ...] = ()

    def write(self, predictions: Predictions) -> Written:
        self.predictions = without_provenance(predictions.rows.read_all())
        return Written(0)

    def count(self, at: datetime) -> int:  # noqa: ARG002 - of the protocol
        return 0

    def quarantine(self, rejected: RejectedRows) -> bool:
        if rejected.rows:
            self.rejections = rejections_of(rejected.records, rejected.records.schema)
        return False

    def release(self, rows: pa.RecordBatchReader, order: Order) -> None:
        """Nothing was put aside."""

    def describe(self) -> Place:
        assert self.predictions is not None  # noqa: S101 -- `write` comes first
        if question := self._question():
            rejected = {one.row for one in self.rejections}
            self.explanation = question.explain(self.predictions, rejected)
        return Place(shown=self.predictions.num_rows, explanation=self.explanation)
