"""A dispatch in the Showroom: the steps of every dispatch on a few chosen rows, shown instead of stored."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import EventStoreError, ServingError
from mlops_plugin.events.details.explanations import Explanation
from mlops_plugin.events.details.step_reports import LogReport, PersistReport, StepReport
from mlops_plugin.events.journal import Journal
from mlops_plugin.events.records import Step
from mlops_plugin.events.store import EventStore
from mlops_plugin.formats.registry.model_version import ModelVersion
from mlops_plugin.formats.registry.registered_models import RegisteredModels
from mlops_plugin.formats.runtime import Runtime
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.dispatch import STEPS, Dispatch, new_dispatch_id
from mlops_plugin.pipeline.recording.step_record import ONLY_TRY, Attempt
from mlops_plugin.pipeline.staging.memory_shelf import MemoryShelf
from mlops_plugin.pipeline.staging.records import Judge
from mlops_plugin.pipeline.step_runner import StepRunner
from mlops_plugin.serving.case_queries import CaseQueries
from mlops_plugin.serving.case_values import text_of
from mlops_plugin.serving.chosen_rows import ChosenSource
from mlops_plugin.serving.continuing import continued
from mlops_plugin.serving.showing_sink import Rejection, ShowingSink
from mlops_plugin.serving.wanted import Wanted
from mlops_plugin.workers.patience import Patience
from mlops_plugin.workers.pool import ModelPool
from mlops_plugin.workers.process import ModelProcess

__all__ = ["Rejection", "Shown", "Showroom", "StepNews", "as_json", "unwatched"]


@dataclass(frozen=True)
class StepNews:
    """A step that started or ended; `seconds` and `rows` once it has."""

    step: Step
    state: Literal["started", "succeeded", "failed"]
    seconds: float | None = None
    rows: int | None = None


_EXPLAINS_WITHIN_S = 5.0  # a model that takes longer for all mixtures is explained more simply

OnStep = Callable[[StepNews], None]


def unwatched(news: StepNews) -> None:
    """Nobody watches."""


@dataclass(frozen=True)
class Shown:
    """The result of a run. `rows` are as collected; `predictions` has the key and the model's columns, in the
    same order, without the rejected rows; `rejections` has the reasons."""

    dispatch_id: str
    artifact_sha256: str
    rows: pa.Table
    predictions: pa.Table
    steps: tuple[StepNews, ...]
    rejections: tuple[Rejection, ...] = ()
    explanation: Explanation | None = None  # of a run that explains
    on_curve: int = 0  # how many of the rows, the last ones, make a curve

    @property
    def answers(self) -> list[dict[str, Any] | None]:
        """The prediction of each collected row, None if it was rejected."""
        rejected = {one.row for one in self.rejections}
        predictions = iter(self.predictions.to_pylist())
        return [None if row in rejected else next(predictions) for row in range(self.rows.num_rows)]


@dataclass(frozen=True)
class PooledModels:
    """Models in processes of their own; a run that waits for one longer than a moment goes on record."""

    pool: ModelPool
    journal: Journal
    registered: RegisteredModels = field(default_factory=RegisteredModels)
    failure: ServingError | None = None  # what the model has just done with these very rows

    def pin(self, model: ModelConfig, known: ModelVersion | None) -> ModelVersion:
        return self.registered.pin(model.model, known or self.pool.find_version(model))

    def judge(self, model: ModelConfig) -> Judge:
        artifact_sha256 = self.pool.artifact_sha256(self.registered.at_hand(model))
        return Judge(artifact_sha256, self.pool.signature_sha256(self.registered.of_version(model)))

    @contextlib.contextmanager
    def runtime(self, model: ModelConfig) -> Iterator[ModelProcess]:
        if self.failure is not None:
            raise self.failure
        with self.pool.runtime(self.registered.at_hand(model), Patience(self.journal.try_flush)) as runtime:
            yield runtime

    def require_same_answers(self, model: ModelConfig, runtime: Runtime, rows: pa.Schema) -> None:
        """The process has asked its model when it loaded it; a person waits."""


@dataclass(frozen=True)
class Showroom:
    """What a run needs of its deployment."""

    deployment: Deployment
    store: EventStore
    pool: ModelPool
    case_queries: CaseQueries = field(default_factory=CaseQueries)
    failure: ServingError | None = None  # known already: it is recorded, and the model is not asked again

    def run(self, model: ModelConfig, wanted: Wanted, user: str | None, on_step: OnStep = unwatched) -> Shown:
        """Run the steps and record them; a failure is recorded too, and raised."""
        known = continued(self.store, model, wanted, user)
        number = known.dispatch_id if known else new_dispatch_id()
        dispatch = Dispatch(number, model, "showroom", requested_by=user, is_dry_run=True)
        journal = Journal(self.store, known)
        models = PooledModels(self.pool, journal, failure=self.failure)
        patience_s = min(_EXPLAINS_WITHIN_S, self.pool.limits.timeout.total_seconds() / 2)
        source = ChosenSource(model, wanted, self.deployment, models, self.case_queries, patience_s)
        sink = ShowingSink(lambda: source.question)
        runner = StepRunner(dispatch, journal, MemoryShelf(), source, models, lambda check: sink)  # noqa: ARG005
        try:
            attempt = Attempt(known.tries + 1) if known else ONLY_TRY
            reports = {step: _watched(runner, step, attempt, on_step) for step in STEPS}
        except BaseException as error:
            try:
                journal.flush()
            except EventStoreError as unrecorded:
                error.add_note(f"and this failure could not be recorded: {unrecorded}")
            raise
        journal.flush()  # nothing is shown that is not on record
        logged, chosen, predictions = reports["log"][0], source.chosen, sink.predictions
        assert isinstance(logged, LogReport)  # noqa: S101 -- what `log` returns
        assert chosen is not None  # noqa: S101 -- `collect` has succeeded
        assert predictions is not None  # noqa: S101 -- `persist` has succeeded
        ended = tuple(news for _, news in reports.values())
        return Shown(
            dispatch.id,
            logged.artifact_sha256,
            chosen.table,
            predictions,
            ended,
            sink.rejections,
            sink.explanation,
            chosen.on_curve,
        )


def _watched(
    runner: StepRunner, step: Step, attempt: Attempt, on_step: OnStep
) -> tuple[StepReport, StepNews]:
    """Run one step, and report when it starts and ends."""
    on_step(StepNews(step, "started"))
    started = time.monotonic()
    try:
        report = runner.run(step, attempt)
    except BaseException:
        on_step(StepNews(step, "failed", time.monotonic() - started))
        raise
    rows = report.accounts.predicted if isinstance(report, PersistReport) else report.rows
    news = StepNews(step, "succeeded", time.monotonic() - started, rows)
    on_step(news)
    return report, news


def as_json(rows: pa.Table) -> Iterable[dict[str, Any]]:
    """Rows for JSON: values that it lacks, and numbers that are not finite, become text."""
    for row in rows.to_pylist():
        yield {name: _json_value(value) for name, value in row.items()}


def _json_value(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    return value if value is None or isinstance(value, bool | int | str) else text_of(value)
