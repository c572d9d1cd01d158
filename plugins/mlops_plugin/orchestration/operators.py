"""The tasks of a model's DAG: each runs one step of the dispatch through `pipeline.runner`.

Light, like `dag_factory`, which makes them: what a step needs is imported when the step runs.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow.sdk import BaseOperator

from mlops_plugin.config.schema import EventsConfig, ModelConfig, StagingConfig
from mlops_plugin.connections import watched_secrets
from mlops_plugin.errors import MlopsError, StepEnded, StepInterrupted, TemplateError, TemplateMistake
from mlops_plugin.orchestration.data_intervals import Interval, interval_at, without_gap
from mlops_plugin.orchestration.rendering import (
    earlier_runs_context,
    fault_of,
    interval_context,
    require_interval,
    template_environment,
)

if TYPE_CHECKING:
    from mlops_plugin.events.details.step_reports import StepReport
    from mlops_plugin.events.records import Step
    from mlops_plugin.pipeline.deployment import Deployment
    from mlops_plugin.pipeline.dispatch import Dispatch
    from mlops_plugin.pipeline.recording.step_record import Attempt
    from mlops_plugin.pipeline.staging.shelf import OnRows

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepSettings:
    """What all steps of a model share. Its text is short: Airflow stores it for mapped tasks."""

    model: ModelConfig
    # Only what every model shares: a copy of the operator must not copy a thousand models.
    events: EventsConfig
    staging: StagingConfig
    requires_confinement: bool

    def __str__(self) -> str:
        return self.model.name


class StepOperator(BaseOperator):
    """Runs the step that its task is named after; its XCom has the counts of the step.

    `partition` is what `plan` gave a mapped task: {number, name}; None if the step handles all rows.
    """

    ui_color = "#e8f0fe"

    def __init__(
        self, *, settings: StepSettings, partition: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.step = cast("Step", self.task_id)
        self.settings = settings
        self.partition = partition
        self._is_running = False

    @property
    def model(self) -> ModelConfig:
        return self.settings.model

    def _do_render_template_fields(
        self, parent: Any, template_fields: Any, context: Any, jinja_env: Any, seen_oids: Any
    ) -> None:
        """Also name the mapped task, for `map_index_template`.

        Of the methods that render, only this one is also called for a mapped task.
        """
        if self.partition is not None:
            context["partition"] = self.partition["name"]
        super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)

    def execute(self, context: Any) -> Any:
        """Run the step; its XCom is the step's report."""
        return self.run_step(context).to_json()

    def run_step(self, context: Any) -> StepReport:
        """Run the step; an error is recorded in the event store and raised again.

        If it is final, Airflow does not retry.
        """
        from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

        from mlops_plugin.events.details.step_reports import PersistReport
        from mlops_plugin.formats.native_threads import wait_passively
        from mlops_plugin.pipeline.recording.step_record import Attempt, is_final

        wait_passively()  # before the step loads numpy
        task_instance = context["ti"]
        dispatch = dispatch_of_run(self.model, context)
        attempt = Attempt(
            task_instance.try_number,
            task_instance.try_number > task_instance.max_tries,
            None if self.partition is None else self.partition["number"],
            str(task_instance.id),
            context["dag_run"].clear_number,
        )
        self._is_running = True
        try:
            report = self.work_on(dispatch, attempt)
        except MlopsError as error:
            if not is_final(error, self.step):
                raise
            raise AirflowFailException(f"{error} (not retried, because it would fail again)") from error
        finally:
            self._is_running = False
        if isinstance(report, PersistReport) and dispatch.is_dry_run:
            # Skipped, not succeeded: a success would trigger the DAGs that wait for the asset.
            raise AirflowSkipException(f"dry run: {report.accounts.predicted} predictions were not written")
        return report

    def work_on(self, dispatch: Dispatch, attempt: Attempt) -> StepReport:
        """What the task does for a dispatch; `self.step` is the step that it is at."""
        from mlops_plugin.pipeline.runner import run_step

        return run_step(self.step, dispatch, self.deployment(), query=self.query_source(), attempt=attempt)

    def deployment(self) -> Deployment:
        from mlops_plugin.pipeline.deployment import Deployment

        settings = self.settings
        return Deployment.of_airflow(
            settings.events, settings.staging, requires_confinement=settings.requires_confinement
        )

    def query_source(self) -> Callable[[], str] | None:
        """Returns the SQL of `collect`; None in other steps."""
        return None

    def on_kill(self) -> None:
        """Airflow kills the task: raise that in the step, which records it."""
        # Airflow calls this after a timeout too, when the step is over.
        if self._is_running:
            raise StepInterrupted(
                "Airflow killed the task: its run was marked failed or succeeded, cleared or deleted, or the "
                "worker shut down"
            )


class QueryOperator(StepOperator):
    """A step with the model's query, an Airflow template: Airflow shows the SQL that ran."""

    template_fields: Sequence[str] = ("query",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"query": "sql"}

    def __init__(self, *, query: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.query = query
        self._template_error: MlopsError | None = None

    def _do_render_template_fields(
        self, parent: Any, template_fields: Any, context: Any, jinja_env: Any, seen_oids: Any
    ) -> None:
        """Render the query; an error fails the step, so that it is recorded."""
        from jinja2 import TemplateError as JinjaError

        interval = _set_dates(context, self.model)
        context.update(watched_secrets(context))
        environment = template_environment(jinja_env, self.model)
        try:
            require_interval(self.model, self.query, interval)
            super()._do_render_template_fields(parent, template_fields, context, environment, seen_oids)
        except MlopsError as error:
            self._template_error = error
        except Exception as error:  # noqa: BLE001 -- whatever an expression of the template raises
            # A missing variable or connection may exist in a minute.
            kind = TemplateMistake if isinstance(error, JinjaError) else TemplateError
            self._template_error = kind(f"models.{self.model.name}.source.query: {fault_of(error)}")

    def query_source(self) -> Callable[[], str]:
        def query() -> str:
            if self._template_error is not None:
                raise self._template_error
            return self.query

        return query

    def close_forgotten(self, context: Any) -> None:
        """Close dispatches of the model whose runs ended without recording it."""
        from airflow.sdk.exceptions import AirflowException

        from mlops_plugin.interruptible import interruptible
        from mlops_plugin.pipeline.recording.reconciliation import close_forgotten

        def has_run(dag_id: str, run_id: str, states: list[str]) -> bool:
            return bool(context["ti"].get_dr_count(dag_id, run_ids=[run_id], states=states))

        try:
            # The event store may be silent, which must not keep `task_timeout` from ending this task.
            interruptible(
                lambda: close_forgotten(self.model.name, context["run_id"], self.deployment(), has_run)
            )
        except (MlopsError, AirflowException) as error:
            # These are other dispatches; this one must not fail because of them.
            _log.warning("closing dispatches of ended runs failed: %s", error)


class CollectOperator(QueryOperator):
    """`collect`, of all rows or of one partition."""

    def run_step(self, context: Any) -> StepReport:
        if self.partition is None:
            self.close_forgotten(context)
        return super().run_step(context)


class DispatchOperator(QueryOperator):
    """All steps one after the other, each recorded as its own; its XCom has the report of each.

    A retry begins with `collect`, as if `collect` and the tasks after it were cleared.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step = "collect"
        self._reports: Mapping[Step, StepReport] = {}

    def execute(self, context: Any) -> dict[str, Any]:
        self.close_forgotten(context)
        self.run_step(context)
        return {step: report.to_json() for step, report in self._reports.items()}

    def work_on(self, dispatch: Dispatch, attempt: Attempt) -> StepReport:
        from mlops_plugin.pipeline.runner import run_dispatch

        whole = replace(attempt, task=self.task_id)
        query = self.query_source()
        self._reports = run_dispatch(dispatch, self.deployment(), query, self._at, whole)
        return self._reports["persist"]

    @contextlib.contextmanager
    def _at(self, step: Step) -> Iterator[OnRows]:
        from mlops_plugin.pipeline.staging.shelf import unheard

        self.step = step
        try:
            yield unheard
        except MlopsError as error:
            if not isinstance(error, StepEnded):  # of several steps at once, the one that has failed
                self.step = step
            raise


class PlanOperator(QueryOperator):
    """`plan`: its XCom is the list of partitions that `collect` and `infer` are mapped over."""

    def execute(self, context: Any) -> list[dict[str, Any]]:
        self.close_forgotten(context)
        partitions: list[dict[str, Any]] = self.run_step(context).to_json()["partitions"]
        return partitions


def _set_dates(context: Any, model: ModelConfig) -> Interval:
    """Give the template the dates of its run in the model's time zone; returns the data interval.

    Airflow gives none to a run without a logical date (an asset's, or one triggered over the API). Its moment
    is when it was due, and its interval is the last complete period of the model's schedule, or the moment
    itself if the schedule has no periods.
    """
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    moment = context.get("logical_date") or context["dag_run"].run_after
    interval = interval_at(model, moment) if end is None else without_gap(model, (start, end))
    context.update(interval_context(model, moment, interval))
    context.update(earlier_runs_context(model, context))
    return interval


def dispatch_of_run(model: ModelConfig, context: Mapping[str, Any]) -> Dispatch:
    """The dispatch that a task works on; `context` is the task's, as Airflow made it."""
    from mlops_plugin.pipeline.dispatch import Dispatch, dispatch_id, origin_of

    dag_run, params = context["dag_run"], context["params"]
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    origin = origin_of(getattr(dag_run.run_type, "value", dag_run.run_type))
    return Dispatch(
        id=dispatch_id(dag_run.dag_id, dag_run.run_id),
        model=model,
        origin=origin,
        requested_by=dag_run.triggering_user_name,
        dag_id=dag_run.dag_id,
        run_id=dag_run.run_id,
        data_interval=None if start is None or end is None else without_gap(model, (start, end)),
        logical_date=context.get("logical_date"),
        row_limit=params.get("row_limit"),
        is_dry_run=bool(params.get("dry_run", False)),
        is_quarantined=bool(params.get("quarantined", False)),
        reads_own_interval=origin == "backfill",
    )
