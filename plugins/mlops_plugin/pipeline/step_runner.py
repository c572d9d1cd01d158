"""Runs the steps of one dispatch with what it is given: an event store, a shelf, a source, models and a sink.

A task and the terminal give it databases and files (`runner`), the Showroom a shelf in memory, a model in a
process of its own and a sink that shows (`serving.run`).
"""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import StagingError, StepEnded
from mlops_plugin.events.details.step_reports import (
    Accounts,
    CollectReport,
    InferReport,
    LogReport,
    PersistReport,
    PlanReport,
    RegisteredVersion,
    StepReport,
)
from mlops_plugin.events.fencing import TryToken
from mlops_plugin.events.records import LogEntry, Step
from mlops_plugin.events.store import EventStore
from mlops_plugin.formats.registry.model_version import ModelVersion
from mlops_plugin.formats.registry.registered_models import of_version
from mlops_plugin.formats.runtime import Runtime
from mlops_plugin.interruptible import Execute, at_once
from mlops_plugin.masking import masked
from mlops_plugin.pipeline import steps
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.reading.increment import Increment, advance_mark
from mlops_plugin.pipeline.reading.order import open_in_order, take_order
from mlops_plugin.pipeline.reading.partitions import ALL_ROWS, Partition, PlannedQuery
from mlops_plugin.pipeline.recording.infer_reports import infer_report
from mlops_plugin.pipeline.recording.step_record import ONLY_TRY, Attempt, TryRecord, recorded
from mlops_plugin.pipeline.staging.notes import LoggedRows, pinned_version, planned_partition, require_logged
from mlops_plugin.pipeline.staging.records import Collected, Judge, Logged, Persisted
from mlops_plugin.pipeline.staging.shelf import Shelf, Staged
from mlops_plugin.pipeline.writing.sinks import Sink

if TYPE_CHECKING:
    from mlops_plugin.pipeline.meanwhile import GrowingPredictions

_log = logging.getLogger(__name__)


class Description(Protocol):
    """What was read: `sql` for people, `report` for the record of `collect`."""

    @property
    def sql(self) -> str: ...

    def report(self, rows: int) -> CollectReport: ...


class OpenSource(Protocol):
    """The chosen rows of a source."""

    @property
    def increment(self) -> Increment | None: ...

    def reads_beside_writes(self) -> bool:
        """See `Engine.reads_beside_writes`; ask before its rows are read."""
        ...

    def describe(self) -> Description: ...

    def rows(self) -> pa.RecordBatchReader: ...


class Source(Protocol):
    """Where a dispatch's rows come from."""

    def plan(self) -> tuple[str, Sequence[Partition]]:
        """The query for people, and the partitions of its rows."""
        ...

    def open(self, partition: Partition) -> AbstractContextManager[OpenSource]: ...


class Models(Protocol):
    """Where a dispatch's model comes from."""

    def pin(self, model: ModelConfig, known: ModelVersion | None) -> ModelVersion:
        """The version that counts from now on: the known one, or else that which the registry names."""
        ...

    def judge(self, model: ModelConfig) -> Judge:
        """The hashes of its artifact, and of the signature beside it."""
        ...

    def runtime(self, model: ModelConfig) -> AbstractContextManager[Runtime]: ...

    def require_same_answers(self, model: ModelConfig, runtime: Runtime, rows: pa.Schema) -> None:
        """Raise `GoldenRowMismatch` if the model, asked with such rows, does not answer as in training."""
        ...


@dataclass(frozen=True)
class Begun:
    """A `collect` at its first rows: what is known of them, their growing file, and about their source."""

    collected: Collected
    staged: Staged
    reads_beside_writes: bool


@dataclass(frozen=True)
class StepRunner:
    """One dispatch, or one partition of it if the shelf is a partition's.

    `sink` makes the sink of `persist` from what to check before a commit. `execute` does all that may wait.
    """

    dispatch: Dispatch
    store: EventStore
    shelf: Shelf
    source: Source
    models: Models
    sink: Callable[[Callable[[], None]], Sink]
    execute: Execute = at_once

    def run(self, step: Step, attempt: Attempt = ONLY_TRY) -> StepReport:
        """Run one step and record its start and its end; errors are recorded, then raised unchanged."""
        with self.begin(step, attempt) as running:
            running.record.report = report = self.execute(lambda: running.do(step))
        return report

    @contextlib.contextmanager
    def begin(self, step: Step, attempt: Attempt = ONLY_TRY) -> Iterator[RunningStep]:
        """Record the start and the end of what is done inside, which sets the record's report."""
        started = time.monotonic()
        with recorded(step, self.dispatch, self.store, attempt, self.execute) as record:
            token = record.token
            shelf = replace(self.shelf, before_note=self._fence(token))
            yield RunningStep(self, record, shelf, step, attempt.clears)
        report = record.report
        assert report is not None  # noqa: S101 -- `recorded` has looked
        _log.info("%s in %.2f s", _in_words(step, report), time.monotonic() - started)
        if isinstance(report, PersistReport):
            self.execute(lambda: self._finish(report.accounts, token))

    def _fence(self, token: TryToken) -> Callable[[], None]:
        return lambda: self.store.require_newest(token)

    def _finish(self, accounts: Accounts, token: TryToken) -> None:
        self.store.finish(
            self.dispatch.id,
            collected=accounts.collected,
            predicted=accounts.predicted,
            rejected=accounts.rejected,
            persisted=accounts.persisted,
            superseded=accounts.superseded,
            token=token,
        )
        try:
            self.shelf.remove_rows()
        except StagingError as error:
            # The predictions are safe in the sink; what is left here is swept by age.
            _log.warning("%s", error)


@dataclass(frozen=True)
class RunningStep:
    """A step of a runner, with the record of its try; `clears` is how often its run had been cleared.

    While other steps of the dispatch run at the same time (`overlap`), each method is told what is not on
    the shelf yet.
    """

    runner: StepRunner
    record: TryRecord
    shelf: Shelf
    step: Step
    clears: int | None

    def do(self, step: Step) -> StepReport:
        match step:
            case "plan":
                return self._plan()
            case "collect":
                return self.collect()
            case "log":
                return self.log(self.judge())
            case "infer":
                return self.infer()
            case "persist":
                return self.persist()

    @property
    def _dispatch(self) -> Dispatch:
        return self.runner.dispatch

    @property
    def token(self) -> TryToken:
        return self.record.token

    def _pin(self) -> ModelVersion | None:
        """Resolve the version of a registered model, see `pinned_version`; None for any other model."""
        model, models = self._dispatch.model, self.runner.models
        if not model.model.is_registered:
            return None
        find = functools.partial(models.pin, model, None)
        version = pinned_version(model, self.shelf, find, self.step, self.clears)
        return models.pin(model, version)

    def _plan(self) -> PlanReport:
        self._pin()
        dispatch, store = self._dispatch, self.runner.store
        order = None if dispatch.is_dry_run else take_order(dispatch, store)  # before anything is read
        query, partitions = self.runner.source.plan()
        shown = masked(query)
        steps.plan(dispatch, PlannedQuery(shown, shown != query), partitions, self.shelf, order)
        return PlanReport.of([partition.name for partition in partitions])

    def collect(self, on_begun: Callable[[Begun], None] | None = None) -> CollectReport:
        """`on_begun` hears what is collected when the first rows are there, and before they are staged."""
        version = self._pin()
        dispatch = replace(self._dispatch, model=of_version(self._dispatch.model, version))
        if self.shelf.partition is not None:
            return self._collect_partition(dispatch)
        reads_beside: list[bool] = []

        @contextlib.contextmanager
        def open_source() -> Iterator[OpenSource]:
            with self.runner.source.open(ALL_ROWS) as source:
                if on_begun is not None:
                    reads_beside.append(source.reads_beside_writes())
                yield source

        def begin(collected: Collected, staged: Staged) -> None:
            if on_begun is not None:
                on_begun(Begun(collected, staged, reads_beside[-1]))

        with open_in_order(self._dispatch, self.runner.store, open_source) as (source, rows, order):
            read = source.describe()
            sql = masked(read.sql)
            collected = steps.collect(
                dispatch,
                sql,
                rows,
                self.shelf,
                increment=source.increment,
                order=order,
                on_begun=None if on_begun is None else begin,
            )
        return replace(read.report(collected.rows), increment=collected.increment)

    def _collect_partition(self, dispatch: Dispatch) -> CollectReport:
        planned = planned_partition(dispatch.model, self.shelf)
        with self.runner.source.open(planned.partition) as source:
            read = source.describe()
            collected = steps.collect(
                dispatch,
                masked(read.sql),
                source.rows(),
                self.shelf,
                increment=source.increment,
                plan_id=planned.plan,
                order=planned.order,
            )
        report = read.report(collected.rows)
        return replace(report, partition=planned.partition.name, increment=collected.increment)

    def judge(self) -> Judge:
        self._pin()
        return self.runner.models.judge(self._dispatch.model)

    def log_begun(self, begun: Begun, judge: Judge) -> None:
        """Log what is known before rows are inferred, while they are collected; `log` adds their counts."""
        steps.require_artifact_of_skipped(self._dispatch, begun.collected, judge)
        entry = self._log_entry(begun.collected, judge)
        self.runner.store.log(self._dispatch.id, replace(entry, rows=None), self.token)

    def log(self, judge: Judge) -> LogReport:
        collected = steps.log(self._dispatch, judge, self.shelf)
        entry = self._log_entry(collected, judge)
        self.runner.store.log(self._dispatch.id, entry, self.token)
        version = self._pin()
        registered = None
        if version is not None:
            registered = RegisteredVersion(version.name, version.version, version.alias, version.run_id)
        return LogReport(
            collected.rows,
            judge.artifact_sha256,
            entry.config_sha256,
            judge.signature_sha256,
            registered,
        )

    def _log_entry(self, collected: Collected, judge: Judge) -> LogEntry:
        entry = _log_entry(self._dispatch, collected, judge.artifact_sha256)
        version = self._pin()
        return entry if version is None else replace(entry, artifact_uri=version.fixed_uri)

    def infer(
        self,
        logged: LoggedRows | None = None,
        on_begun: Callable[[datetime, Staged], None] | None = None,
    ) -> InferReport:
        self._pin()
        with self.runner.models.runtime(self._dispatch.model) as runtime:

            def ask_golden_rows(rows: pa.Schema) -> None:
                self.runner.models.require_same_answers(self._dispatch.model, runtime, rows)

            predicted = steps.infer(
                self._dispatch, runtime, self.shelf, ask_golden_rows, logged=logged, on_begun=on_begun
            )
            return infer_report(predicted)

    def persist(self, growing: GrowingPredictions | None = None) -> PersistReport:
        sink = self.runner.sink(self._require_newest)
        if growing is not None:
            from mlops_plugin.pipeline.meanwhile import persist_meanwhile

            persisted = persist_meanwhile(self._dispatch, growing, sink, self.shelf)
            return self._persisted(persisted, require_logged(self._dispatch.model, self.shelf), sink)
        dispatch, store = self._dispatch, self.runner.store
        # Read before anything is written: the mark is that of the rows whose predictions are persisted.
        logged = require_logged(dispatch.model, self.shelf)
        on_counted = None
        if logged.is_partitioned:

            def on_counted(predicted: int, rejected: int) -> None:
                store.partitions_counted(
                    dispatch.id, predicted=predicted, rejected=rejected, token=self.token
                )

        persisted = steps.persist(dispatch, logged, sink, self.shelf, on_counted)
        return self._persisted(persisted, logged, sink)

    def _require_newest(self) -> None:
        self._require_running()  # also while another dispatch keeps the table's lock
        self.runner.store.require_newest(self.token)
        self._require_running()  # the store may have taken its time

    def _require_running(self) -> None:
        """Raise `StepEnded` if this step was interrupted, or another one has failed."""
        if self.record.is_over:
            raise StepEnded("ended, because the step was interrupted before")
        if self.shelf.relay is not None:
            self.shelf.relay.require_running()

    def _persisted(self, persisted: Persisted, logged: Logged, sink: Sink) -> PersistReport:
        # Only now: a dispatch that dies before this line reads the same rows again.
        increment = None if logged.is_partitioned else logged.parts[0].increment
        mark = advance_mark(self._dispatch, self.runner.store, increment, self.token)
        return PersistReport(persisted.accounts, sink.describe(), mark.value if mark else None)


def _log_entry(dispatch: Dispatch, collected: Collected, sha256: str) -> LogEntry:
    model = dispatch.model
    return LogEntry(
        rows=collected.rows,
        columns=[{"name": column.name, "type": column.type} for column in collected.columns],
        first_key=collected.first_key,
        last_key=collected.last_key,
        artifact_sha256=sha256,
        artifact_uri=model.model.uri,
        config_sha256=model.config_hash(),
        query=collected.query,
    )


def _in_words(step: Step, report: StepReport) -> str:
    if isinstance(report, PlanReport):
        return f"{step}: {len(report.partitions)} partitions"
    return f"{step}: {report.rows} rows"
