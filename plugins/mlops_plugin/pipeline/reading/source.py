"""The rows that one `collect` reads: a query, and each way in which it is narrowed to some of its rows.

`open_source` composes the ways; `steps.collect` reads the rows, and `SourceDescription` is what is recorded.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from mlops_plugin.config.schema import ModelConfig, PagesConfig
from mlops_plugin.databases.database import Database, read_rows
from mlops_plugin.databases.selection import Condition, is_ordered, narrowed, shown, some_rows
from mlops_plugin.errors import DatabaseError
from mlops_plugin.events.details.step_reports import CollectReport
from mlops_plugin.events.store import EventStore
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.reading.increment import Increment, choose_increment
from mlops_plugin.pipeline.reading.partitions import ALL_ROWS, Partition
from mlops_plugin.pipeline.reading.query_failure import query_errors

if TYPE_CHECKING:
    from mlops_plugin.pipeline.staging.records import Judge
    from mlops_plugin.pipeline.validation.quarantine import Quarantine

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeyFilter:
    """Keeps or drops the rows of quarantined keys, after the database has returned them."""

    keys: pa.StringArray
    kind: Literal["keep", "drop"]

    def apply(self, rows: pa.RecordBatchReader, key: tuple[str, ...]) -> pa.RecordBatchReader:
        from mlops_plugin.pipeline.validation.quarantine import only_with_keys, without_keys

        return (only_with_keys if self.kind == "keep" else without_keys)(rows, key, self.keys)


@dataclass(frozen=True)
class SourceDescription:
    """What was read, as data; `sql` is the one place that turns it into text for people."""

    statement: str  # rendered, narrowed by all conditions, with its secrets: the runner masks them
    parameters: tuple[object, ...] = ()
    pages: PagesConfig | None = None
    key_filter: KeyFilter | None = None

    def report(self, rows: int) -> CollectReport:
        """What `collect` reports of it: the record has the rest already."""
        return CollectReport(rows)

    @property
    def sql(self) -> str:
        text = shown(self.statement, self.parameters)
        if self.pages is not None:
            text += f"\n-- in pages of about {self.pages.rows} rows by {self.pages.column}"
        if self.key_filter is not None:
            which = "only" if self.key_filter.kind == "keep" else "without"
            text += f"\n-- {which} the rows of {len(self.key_filter.keys)} quarantined keys"
        return text


@dataclass(frozen=True)
class QuerySource:
    """A rendered query on an open database, narrowed by a partition, an increment and quarantined keys."""

    model: ModelConfig
    database: Database
    query: str
    partition: Partition = ALL_ROWS
    increment: Increment | None = None
    key_filter: KeyFilter | None = None
    is_limited: bool = False  # only the first rows will be taken

    @property
    def conditions(self) -> list[Condition]:
        return [*self.partition.conditions, *(self.increment.conditions if self.increment else ())]

    @property
    def pages(self) -> PagesConfig | None:
        """Pages come in the order of their column, so the first rows by another order are read without."""
        is_by_order = self.is_limited and is_ordered(self.query, self.database.engine.name)
        return None if is_by_order else self.model.source.pages

    def describe(self) -> SourceDescription:
        statement, parameters = self._statement()
        return SourceDescription(statement, parameters, self.pages, self.key_filter)

    def reads_beside_writes(self) -> bool:
        return self.database.engine.reads_beside_writes(self.database)

    def rows(self) -> pa.RecordBatchReader:
        """Start reading. Raises `DatabaseError`, `UnsupportedType` or, for pages, `PartitionError`."""
        rows = self._selected_rows()
        if self.increment is not None and self.increment.reads_last_again:
            rows = pa.RecordBatchReader.from_batches(rows.schema, self._warning_if_all_are_older(rows))
        return rows if self.key_filter is None else self.key_filter.apply(rows, self.model.key)

    def _warning_if_all_are_older(self, rows: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        """The same rows; if there are none, warn if the query has some that are older than the watermark."""
        count = 0
        for batch in rows:
            count += batch.num_rows
            yield batch
        if not count and self._has_rows():
            _log.warning(
                "models.%s.source.cursor: the query has rows, but none from the watermark on; if the source "
                "was restored, or is a server that lacks the newest rows, new ones may get values that count "
                "as read: then set the watermark back with mlops cursor %s --set VALUE",
                self.model.name,
                self.model.name,
            )

    def _has_rows(self) -> bool:
        """Whether the query returns any row; False, and logged, if the database does not say."""
        try:
            row = some_rows(self.query, self.database.engine.name, 1, "1 AS found")
            return bool(read_rows(self.database, row))
        except DatabaseError as error:
            _log.warning(
                "models.%s.source.cursor: no new rows; whether the query has older ones is not known: %s",
                self.model.name,
                error,
            )
            return False

    def _selected_rows(self) -> pa.RecordBatchReader:
        source, pages = self.model.source, self.pages
        if pages is None:
            statement, parameters = self._statement()
            return self.database.read(statement, batch_rows=source.batch_rows, parameters=parameters)
        from mlops_plugin.pipeline.reading.pages import read_in_pages

        path = f"models.{self.model.name}.source.pages"
        return read_in_pages(self.database, self.query, self.conditions, pages, path, source.batch_rows)

    def _statement(self) -> tuple[str, tuple[object, ...]]:
        engine = self.database.engine.name
        return narrowed(self.query, self.conditions, engine, is_limited=self.is_limited)


@contextlib.contextmanager
def open_source(
    dispatch: Dispatch,
    deployment: Deployment,
    store: EventStore,
    query: str,
    partition: Partition,
    judge: Callable[[], Judge],
) -> Iterator[QuerySource]:
    """Open the model's source and choose which rows of `query` (rendered) the dispatch reads.

    `judge` reads the hashes of the model, if rows that it has predicted are left out.

    Raises `CursorError`, `QueryError`, and whatever opening the database or the quarantine raises. What the
    database says against the query comes with its line, also while its rows are read.
    """
    # They load the SQL parser.
    from mlops_plugin.pipeline.reading.compared_times import require_comparable_times
    from mlops_plugin.pipeline.reading.query_check import require_usable

    model = dispatch.model
    with open_database(model, deployment) as database:
        require_usable(model, query, database.engine.name)
        with query_errors(model, query):
            require_comparable_times(model, database, query)
            increment = (
                None if dispatch.is_quarantined else choose_increment(dispatch, store, database, query, judge)
            )
        key_filter = _choose_keys(dispatch, deployment, increment)
        is_limited = dispatch.row_limit is not None
        with query_errors(model, query):
            yield QuerySource(model, database, query, partition, increment, key_filter, is_limited)


@contextlib.contextmanager
def open_database(model: ModelConfig, deployment: Deployment) -> Iterator[Database]:
    """The database that the model reads from."""
    with contextlib.closing(deployment.source(model)) as database:
        yield database


def _choose_keys(dispatch: Dispatch, deployment: Deployment, increment: Increment | None) -> KeyFilter | None:
    model = dispatch.model
    if dispatch.is_quarantined:
        return KeyFilter(_quarantine(dispatch, deployment).keys(), "keep")
    if increment is None or increment.skipped is None or not model.may_reject:
        return None
    from mlops_plugin.pipeline.validation.contract import baseline_in_use
    from mlops_plugin.pipeline.validation.quarantine import judgement

    skipped, baseline = increment.skipped, baseline_in_use(model)
    judged_by = judgement(model, skipped.artifact_sha256, skipped.input_sha256, baseline)
    return KeyFilter(_quarantine(dispatch, deployment).keys_judged_by(judged_by), "drop")


def _quarantine(dispatch: Dispatch, deployment: Deployment) -> Quarantine:
    from mlops_plugin.pipeline.validation.quarantine import Quarantine  # it needs numpy

    return Quarantine(dispatch.model, dispatch.id, deployment)
