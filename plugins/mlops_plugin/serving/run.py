"""A dispatch in the Showroom: the same four steps on a few chosen rows, shown instead of persisted."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import EventStoreError
from mlops_plugin.events.journal import Journal
from mlops_plugin.events.records import Step
from mlops_plugin.events.store import EventStore
from mlops_plugin.pipeline import steps
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.dispatch import Dispatch, new_dispatch_id
from mlops_plugin.pipeline.infer_report import infer_report
from mlops_plugin.pipeline.runner import log_entry
from mlops_plugin.pipeline.staging.memory_shelf import MemoryShelf
from mlops_plugin.pipeline.staging.notes import COLLECTED, Collected, Predicted, read_note
from mlops_plugin.pipeline.staging.shelf import Staged
from mlops_plugin.pipeline.step_record import recorded
from mlops_plugin.serving.case_values import text_of
from mlops_plugin.serving.cases import open_cases
from mlops_plugin.serving.explanation import References, references_of, replaced_rows
from mlops_plugin.serving.wanted import ROWS_GIVEN, Wanted, changed_rows, given_rows
from mlops_plugin.workers.patience import Patience
from mlops_plugin.workers.pool import ModelPool


@dataclass(frozen=True)
class StepNews:
    """A step that started or ended; `seconds` and `rows` once it has."""

    step: Step
    state: Literal["started", "succeeded", "failed"]
    seconds: float | None = None
    rows: int | None = None


OnStep = Callable[[StepNews], None]


def unwatched(news: StepNews) -> None:
    """Nobody watches."""


@dataclass(frozen=True)
class Rejection:
    """One reason why a row was rejected; `row` counts from 0 among those collected."""

    row: int
    column: str | None
    reason: str
    value: str | None


@dataclass(frozen=True)
class Shown:
    """A run's outcome. `rows` are as collected; `predictions` has the key and what the model said, in their
    order; rows that were rejected are left out there, and `rejections` says why."""

    dispatch_id: str
    artifact_sha256: str
    rows: pa.Table
    predictions: pa.Table
    steps: tuple[StepNews, ...]
    rejections: tuple[Rejection, ...] = ()
    references: References | None = None  # of a why

    @property
    def answers(self) -> list[dict[str, Any] | None]:
        """The prediction of each collected row, None where it was rejected."""
        rejected = {one.row for one in self.rejections}
        predictions = iter(self.predictions.to_pylist())
        return [None if row in rejected else next(predictions) for row in range(self.rows.num_rows)]


@dataclass(frozen=True)
class Showroom:
    """What a run needs of the deployment that it happens in."""

    deployment: Deployment
    store: EventStore
    pool: ModelPool

    def run(self, model: ModelConfig, wanted: Wanted, user: str | None, on_step: OnStep = unwatched) -> Shown:
        """Run the four steps and record them; what fails is recorded, too, and raised."""
        dispatch = Dispatch(new_dispatch_id(), model, "showroom", requested_by=user, is_dry_run=True)
        shelf, journal = MemoryShelf(), Journal(self.store)
        done: list[StepNews] = []

        def tell(news: StepNews) -> None:
            done.append(news)
            on_step(news)

        try:
            with _step("collect", dispatch, journal, tell) as count:
                counted, references = self._collect(dispatch, wanted, shelf, journal)
                count(counted)
            with _step("log", dispatch, journal, tell) as count:
                sha256 = self.pool.artifact_sha256(model)
                entry = log_entry(dispatch, steps.log(dispatch, sha256, shelf), sha256)
                journal.log(dispatch.id, entry)
                count({"rows": entry.rows, "artifact_sha256": sha256, "config_sha256": entry.config_sha256})
            # A run that takes longer than a moment is on record while it does.
            patience = Patience(journal.try_flush)
            with (
                _step("infer", dispatch, journal, tell) as count,
                self.pool.runtime(model, patience) as runtime,
            ):
                predicted = steps.infer(dispatch, runtime, shelf)
                count(infer_report(predicted))
            with _step("persist", dispatch, journal, tell) as count:
                accounts = steps.persist(dispatch, None, shelf)
                predictions = _rows(shelf, predicted.staged)
                count({"rows": accounts.persisted, "shown": accounts.predicted})
            journal.finish(
                dispatch.id,
                collected=accounts.collected,
                predicted=accounts.predicted,
                rejected=accounts.rejected,
                persisted=accounts.persisted,
            )
        except BaseException as error:
            try:
                journal.flush()
            except EventStoreError as unrecorded:
                error.add_note(f"and this failure could not be recorded: {unrecorded}")
            raise
        journal.flush()  # nothing is shown that is not on record
        ended = tuple(news for news in done if news.state == "succeeded")
        rows = _rows(shelf, read_note(Collected, COLLECTED, shelf).staged)
        rejections = _rejections(shelf, predicted)
        return Shown(dispatch.id, sha256, rows, predictions, ended, rejections, references)

    def _collect(
        self, dispatch: Dispatch, wanted: Wanted, shelf: MemoryShelf, journal: Journal
    ) -> tuple[dict[str, Any], References | None]:
        model, references = dispatch.model, None
        details: dict[str, Any] = wanted.details
        with contextlib.ExitStack() as opened:
            if wanted.keys:
                cases = opened.enter_context(open_cases(model, self.deployment))
                query, _ = cases.chosen_query(wanted.keys)
                rows = cases.chosen(wanted.keys)
                if wanted.is_why:
                    with self.pool.runtime(model, Patience(journal.try_flush)) as runtime:
                        references = references_of(model, runtime, cases)
                    rows = replaced_rows(rows.read_all(), references).to_reader()
                    query += f"\n-- why: the case, then with one feature at a time {references}"
                    details["why"] = {"references": references.origin, "features": list(references.usual)}
            else:
                query, rows = ROWS_GIVEN, given_rows(model, wanted.rows)
            if wanted.changes:
                rows = changed_rows(rows.read_all(), wanted.changes).to_reader()
            collected = steps.collect(dispatch, query, rows, shelf)
        counted = {"rows": collected.rows, "first_key": collected.first_key, "last_key": collected.last_key}
        return {**counted, **details}, references


@contextlib.contextmanager
def _step(
    step: Step, dispatch: Dispatch, journal: Journal, tell: OnStep
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """One step: recorded, timed, and told to who watches."""
    tell(StepNews(step, "started"))
    started = time.monotonic()
    try:
        with recorded(step, dispatch, journal) as report:
            yield report
    except BaseException:
        tell(StepNews(step, "failed", time.monotonic() - started))
        raise
    rows = report.counted.get("shown", report.counted["rows"])
    tell(StepNews(step, "succeeded", time.monotonic() - started, rows))


def _rows(shelf: MemoryShelf, file: Staged) -> pa.Table:
    with shelf.rows(file) as rows:
        return rows.read_all()


def _rejections(shelf: MemoryShelf, predicted: Predicted) -> tuple[Rejection, ...]:
    if predicted.staged_records is None:
        return ()
    with shelf.rows(predicted.staged_records) as records:
        found = records.read_all().select(["row", "column_name", "reason", "value"]).to_pylist()
    return tuple(Rejection(*record.values()) for record in found)


def as_json(rows: pa.Table) -> Iterable[dict[str, Any]]:
    """Rows as JSON can hold them: what it does not know, and numbers that are not finite, as text."""
    for row in rows.to_pylist():
        yield {name: _json_value(value) for name, value in row.items()}


def _json_value(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    return value if value is None or isinstance(value, bool | int | str) else text_of(value)
