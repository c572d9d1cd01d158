"""A dispatch in the Showroom: the same four steps on a few chosen rows, shown instead of persisted."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import CaseError, EventStoreError
from mlops_plugin.events.journal import Journal
from mlops_plugin.events.records import Step
from mlops_plugin.events.store import EventStore
from mlops_plugin.pipeline import steps
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.dispatch import Dispatch, new_dispatch_id
from mlops_plugin.pipeline.infer_report import infer_report
from mlops_plugin.pipeline.memory_shelf import MemoryShelf
from mlops_plugin.pipeline.notes import COLLECTED, PREDICTED, Predicted
from mlops_plugin.pipeline.runner import log_entry
from mlops_plugin.pipeline.step_record import recorded
from mlops_plugin.serving.case_paging import Key
from mlops_plugin.serving.case_values import text_of, typed_value
from mlops_plugin.serving.cases import open_cases
from mlops_plugin.serving.patience import Patience
from mlops_plugin.serving.pool import ModelPool

ROWS_GIVEN = "rows of the request"  # stands where a query would
MAX_ROWS = 1000


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
class Wanted:
    """What to run on: cases by their `keys`, or `rows` as they are. With `changes` each case runs twice,
    as it is and then with those values."""

    keys: Sequence[Key] = ()
    rows: Sequence[Mapping[str, Any]] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def details(self) -> dict[str, Any]:
        """What is recorded of it."""
        details: dict[str, Any] = (
            {"keys": [list(map(text_of, key)) for key in self.keys]} if self.keys else {}
        )
        return {**details, "changes": dict(self.changes)} if self.changes else details


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
                count(self._collect(dispatch, wanted, shelf))
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
                predictions = _rows(shelf, PREDICTED)
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
        rows, rejections = _rows(shelf, COLLECTED), _rejections(shelf, predicted)
        return Shown(dispatch.id, sha256, rows, predictions, ended, rejections)

    def _collect(self, dispatch: Dispatch, wanted: Wanted, shelf: MemoryShelf) -> dict[str, Any]:
        with contextlib.ExitStack() as opened:
            if wanted.keys:
                cases = opened.enter_context(open_cases(dispatch.model, self.deployment))
                query, _ = cases.chosen_query(wanted.keys)
                rows = cases.chosen(wanted.keys)
            else:
                query, rows = ROWS_GIVEN, given_rows(dispatch.model, wanted.rows)
            if wanted.changes:
                rows = changed_rows(rows.read_all(), wanted.changes).to_reader()
            collected = steps.collect(dispatch, query, rows, shelf)
        return {
            "rows": collected.rows,
            "first_key": collected.first_key,
            "last_key": collected.last_key,
            **wanted.details,
        }


def given_rows(model: ModelConfig, rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatchReader:
    """Rows of a request; where they lack the key, their number (from 1) stands for it."""
    if not 1 <= len(rows) <= MAX_ROWS:
        raise CaseError(f"the request has {len(rows)} rows; send 1 to {MAX_ROWS}, or keys of cases")
    key = [name for name in model.key if name not in rows[0]]
    numbered = [{**dict.fromkeys(key, number), **row} for number, row in enumerate(rows, 1)]
    try:
        return pa.Table.from_pylist(numbered).to_reader()
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise CaseError(
            f"the rows of the request do not make columns of one type each: {error}; send each feature as a "
            "number, text, true or false, or null, and of the same type in every row"
        ) from error


def changed_rows(rows: pa.Table, changes: Mapping[str, Any]) -> pa.Table:
    """The rows as they are, and after them the same rows with `changes` (column -> value)."""
    changed = rows
    for name, value in changes.items():
        if name not in rows.schema.names:
            raise CaseError(
                f"there is no column '{name}' to change; there are {', '.join(rows.schema.names)}"
            )
        kind = rows.schema.field(name).type
        try:
            column = pa.array([typed_value(name, value, kind)] * rows.num_rows, kind)
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise CaseError(f"column '{name}': {value!r} is no {kind}; correct the value") from error
        changed = changed.set_column(rows.schema.get_field_index(name), rows.schema.field(name), column)
    return pa.concat_tables([rows, changed])


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


def _rows(shelf: MemoryShelf, note: str) -> pa.Table:
    with shelf.rows(shelf.note(note)["file"]) as rows:
        return rows.read_all()


def _rejections(shelf: MemoryShelf, predicted: Predicted) -> tuple[Rejection, ...]:
    if predicted.rejected_file is None:
        return ()
    with shelf.rows(predicted.rejected_file) as records:
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
