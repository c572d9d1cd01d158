"""Runs steps for a task or the terminal: with databases, files and the event store of the deployment."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import StagingOutdated
from mlops_plugin.events.details.step_reports import PlanReport, StepReport
from mlops_plugin.events.records import Step
from mlops_plugin.events.store import EventStore
from mlops_plugin.formats.registry.model_version import ModelVersion
from mlops_plugin.formats.registry.registered_models import RegisteredModels
from mlops_plugin.formats.runtime import Runtime
from mlops_plugin.interruptible import interruptible
from mlops_plugin.masking import masked
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.dispatch import PARTITIONED, STEPS, Dispatch
from mlops_plugin.pipeline.overlap import Overlap, Watch, may_overlap
from mlops_plugin.pipeline.reading.partitions import ALL_ROWS, Partition, plan_partitions
from mlops_plugin.pipeline.reading.query_failure import query_errors
from mlops_plugin.pipeline.reading.source import QuerySource, open_database, open_source
from mlops_plugin.pipeline.recording.step_record import ONLY_TRY, Attempt
from mlops_plugin.pipeline.staging.records import Judge
from mlops_plugin.pipeline.staging.relay import Relay
from mlops_plugin.pipeline.staging.shelf import OnRows, Shelf, unheard
from mlops_plugin.pipeline.step_runner import StepRunner
from mlops_plugin.pipeline.validation.signed_model import require_same_answers
from mlops_plugin.pipeline.writing.continuity import dispatch_before
from mlops_plugin.pipeline.writing.sinks import NoSink, Sink, TableSink

if TYPE_CHECKING:
    from mlops_plugin.workers.isolation import StepModels

# The part of a silent session's life for which it waits for rows.
_PATIENCE = 1 / 3


def run_step(
    step: Step,
    dispatch: Dispatch,
    deployment: Deployment,
    *,
    query: Callable[[], str] | None = None,
    attempt: Attempt = ONLY_TRY,
    on_rows: OnRows = unheard,
    models: ArtifactFiles | None = None,
) -> StepReport:
    """Run one step and record its start and its end in the event store.

    `query` returns the rendered SQL, for `plan` and `collect`; `on_rows` hears of every batch that the step
    has done; `models` are those of earlier steps, to go on with. Errors are recorded, then raised unchanged.
    """
    deployment = deployment.of_dispatch(dispatch.model)
    with _models(deployment, models) as loaded, deployment.event_store() as store:
        if step == "infer":
            loaded.load_ahead(dispatch.model)
        runners = _Runners(dispatch, deployment, store, loaded, query)
        return runners.of_partition(attempt.partition, on_rows).run(step, attempt)


def run_dispatch(
    dispatch: Dispatch,
    deployment: Deployment,
    query: Callable[[], str],
    watch: Watch,
    attempt: Attempt = ONLY_TRY,
) -> dict[Step, StepReport]:
    """Run all steps in this process, at the same time where that is safe (`overlap`).

    `watch` is entered for each and hears of its rows. They are one attempt: a later one begins with the first
    step again. Returns the report of each step, or of its last partition.
    """
    deployment = deployment.of_dispatch(dispatch.model)
    with deployment.event_store() as store, _models(deployment) as models:
        runners = _Runners(dispatch, deployment, store, models, query)
        parts: list[int | None] = [None]
        if dispatch.model.source.partitions is not None:
            planned = runners.of_partition(None, unheard).run("plan", attempt)
            assert isinstance(planned, PlanReport)  # noqa: S101 -- what `plan` returns
            parts = list(range(len(planned.partitions)))
        models.load_ahead(dispatch.model)  # while rows are collected
        done: dict[Step, StepReport] = {}
        if may_overlap(dispatch, is_local=deployment.staging.is_local):
            patience_s = deployment.limits.idle_s * _PATIENCE
            done = Overlap(dispatch, runners.beside, watch, attempt, models.kill, patience_s).run()
        for step in STEPS:
            if step in done:
                continue
            with watch(step) as on_rows:
                for part in parts if step in PARTITIONED else [None]:
                    runner = runners.of_partition(part, on_rows)
                    done[step] = runner.run(step, replace(attempt, partition=part))
    return done


@dataclass(frozen=True)
class _Runners:
    """Makes the runners of the steps of one dispatch."""

    dispatch: Dispatch
    deployment: Deployment
    store: EventStore
    models: ArtifactFiles
    query: Callable[[], str] | None

    def of_partition(self, partition: int | None, on_rows: OnRows) -> StepRunner:
        """For a step of all rows (None), or of a partition of them."""
        shelf = self.deployment.staging.shelf(self.dispatch.model.name, self.dispatch.id, on_rows)
        return self._runner(shelf if partition is None else shelf.of_partition(partition))

    def beside(self, on_rows: OnRows, relay: Relay) -> StepRunner:
        """For a step of all rows, while other steps run."""
        shelf = self.deployment.staging.shelf(self.dispatch.model.name, self.dispatch.id, on_rows)
        return self._runner(replace(shelf, relay=relay))

    def _runner(self, shelf: Shelf) -> StepRunner:
        def sink(check: Callable[[], None]) -> Sink:
            if self.dispatch.is_dry_run:
                return NoSink(self.dispatch.model.sink)
            before = functools.partial(dispatch_before, self.dispatch, self.store)
            return TableSink(self.dispatch, self.deployment, check, shelf.on_rows, before)

        source = ConfiguredSource(self.dispatch, self.deployment, self.store, self.models, self.query)
        return StepRunner(self.dispatch, self.store, shelf, source, self.models, sink, interruptible)


@contextlib.contextmanager
def _models(deployment: Deployment, models: ArtifactFiles | None = None) -> Iterator[ArtifactFiles]:
    """These models, or new ones that end with the work inside, also if its thread was abandoned."""
    if models is not None:
        yield models
        return
    own = ArtifactFiles(deployment)
    try:
        yield own
    except BaseException:
        own.kill()
        raise
    own.close()


@dataclass(frozen=True)
class ConfiguredSource:
    """The source of the model's configuration; `query` returns the rendered SQL."""

    dispatch: Dispatch
    deployment: Deployment
    store: EventStore
    models: ArtifactFiles
    query: Callable[[], str] | None

    def plan(self) -> tuple[str, Sequence[Partition]]:
        """Choose the partitions; raises `PartitionError` and `QueryError`."""
        from mlops_plugin.pipeline.reading.query_check import require_usable  # it loads the SQL parser

        self._sweep()
        model, rendered = self.dispatch.model, self._rendered()
        wanted = model.source.partitions
        partitions = [ALL_ROWS]
        # A limit is for the dispatch, not for each partition.
        if wanted is not None and self.dispatch.row_limit is None:
            with open_database(model, self.deployment) as database, query_errors(model, rendered):
                require_usable(model, rendered, database.engine.name)
                partitions = plan_partitions(
                    database, rendered, wanted, f"models.{model.name}.source.partitions"
                )
        return rendered, partitions

    @contextlib.contextmanager
    def open(self, partition: Partition) -> Iterator[QuerySource]:
        """Open the source, narrowed to the rows of this dispatch; sweeps the staging of old ones."""
        if self.dispatch.model.source.partitions is None:
            self._sweep()
        judge = functools.partial(self.models.judge, self.dispatch.model)
        planned = partition.query
        query = self._rendered() if planned is None or planned.is_masked else planned.text
        with open_source(self.dispatch, self.deployment, self.store, query, partition, judge) as source:
            # Only now are all secrets known.
            if planned is not None and planned.is_masked and masked(query) != masked(planned.text):
                raise StagingOutdated(
                    f"models.{self.dispatch.model.name}.source.query: its template gives another text than "
                    "when the partitions were planned; clear 'plan' and the tasks after it in Airflow"
                )
            yield source

    def _sweep(self) -> None:
        staging, now = self.deployment.staging, self.store.now()
        in_use = functools.partial(self.store.in_use, since=now - staging.keep)
        staging.sweep(now, in_use)

    def _rendered(self) -> str:
        if self.query is None:
            raise ValueError("`plan` and `collect` need a query")
        return self.query()


class ArtifactFiles:
    """Models loaded from their artifacts, each where `model.isolation` says."""

    def __init__(self, deployment: Deployment) -> None:
        self._must_be_confined = deployment.requires_confinement
        self._loaded: StepModels | None = None
        self._registered = RegisteredModels()

    def pin(self, model: ModelConfig, known: ModelVersion | None) -> ModelVersion:
        return self._registered.pin(model.model, known)

    def judge(self, model: ModelConfig) -> Judge:
        from mlops_plugin.formats.artifact import sha256_of
        from mlops_plugin.formats.signature.signature import input_sha256, signature_sha256

        artifact_sha256 = sha256_of(self._registered.at_hand(model).model)
        signed = self._registered.of_version(model).model
        of_input = input_sha256(signed) if model.source.skip_predicted else None
        return Judge(artifact_sha256, signature_sha256(signed), of_input)

    @contextlib.contextmanager
    def runtime(self, model: ModelConfig) -> Iterator[Runtime]:
        models = self._models()
        try:
            yield models.load(self._registered.at_hand(model))
        except BaseException:
            models.close()
            raise

    def load_ahead(self, model: ModelConfig) -> None:
        """Begin to load a model before `runtime` is asked for it."""
        self._models().load_ahead(model)

    def _models(self) -> StepModels:
        from mlops_plugin.workers.isolation import StepModels  # most steps load no model

        self._loaded = self._loaded or StepModels(must_be_confined=self._must_be_confined)
        return self._loaded

    def require_same_answers(self, model: ModelConfig, runtime: Runtime, rows: pa.Schema) -> None:
        require_same_answers(self._registered.of_version(model), runtime, rows)

    def kill(self) -> None:
        """Kill the models' processes, whatever those are doing; from any thread."""
        if self._loaded is not None:
            self._loaded.kill()

    def close(self) -> None:
        """End the models' processes, once nobody uses them."""
        if self._loaded is not None:
            self._loaded.close()
