"""The tasks of a model's DAG: each runs one step of the dispatch through `pipeline.runner`.

Light, like `dag_factory`, which makes them: what a step needs is imported when the step runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from mlops_plugin.config.loader import LoadedConfig
from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import MlopsError, StepInterrupted, TemplateError
from mlops_plugin.pipeline.rendering import interval_at, interval_context

if TYPE_CHECKING:
    from mlops_plugin.events.records import Step
    from mlops_plugin.pipeline.deployment import Deployment
    from mlops_plugin.pipeline.dispatch import Dispatch

_log = logging.getLogger(__name__)


class StepOperator(BaseOperator):
    """Runs one step of a dispatch; its XCom says what the step counted."""

    ui_color = "#e8f0fe"

    def __init__(self, *, step: Step, model: ModelConfig, loaded: LoadedConfig, **kwargs: Any) -> None:
        super().__init__(task_id=step, **kwargs)
        self.step = step
        self.model = model
        # Only what every model shares: a copy of the operator must not copy a thousand models.
        self.events = loaded.config.events
        self.staging = loaded.config.staging
        self._is_running = False

    def execute(self, context: Any) -> dict[str, Any]:
        """Run the step; an error is recorded in the event store and raised again."""
        from mlops_plugin.pipeline.dispatch import dispatch_of_run
        from mlops_plugin.pipeline.runner import Attempt, run_step

        task_instance = context["ti"]
        dispatch = dispatch_of_run(self.model, context)
        self._is_running = True
        try:
            counted = run_step(
                self.step,
                dispatch,
                self.deployment(),
                query=self.query_source(),
                attempt=Attempt(task_instance.try_number, task_instance.try_number > task_instance.max_tries),
            )
        finally:
            self._is_running = False
        self._skip_dry_run(dispatch, counted)
        return counted

    def deployment(self) -> Deployment:
        from mlops_plugin.pipeline.deployment import Deployment

        return Deployment.of_airflow(self.events, self.staging)

    def query_source(self) -> Callable[[], str] | None:
        """Where `collect` takes its SQL from."""
        return None

    def on_kill(self) -> None:
        """Airflow ends the task from outside: say so in the step, which then records it."""
        # Airflow calls this after a timeout too, when the step is over.
        if self._is_running:
            raise StepInterrupted(
                "the task was ended from outside: its run was marked failed or succeeded, cleared or "
                "deleted, or the worker shut down"
            )

    def _skip_dry_run(self, dispatch: Dispatch, counted: dict[str, Any]) -> None:
        if self.step == "persist" and dispatch.is_dry_run:
            from airflow.sdk.exceptions import AirflowSkipException

            # Skipped, not succeeded: a success would announce new rows to the DAGs that wait for the asset.
            raise AirflowSkipException(f"dry run: {counted['predicted']} predictions were not written")


class CollectOperator(StepOperator):
    """`collect`: its query is an Airflow template, so Airflow shows the SQL that ran."""

    template_fields: Sequence[str] = ("query",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"query": "sql"}

    def __init__(self, *, query: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.query = query
        self._template_error: TemplateError | None = None

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Render the query; what goes wrong there fails the step, so that it is recorded."""
        from airflow.sdk.exceptions import AirflowRuntimeError
        from jinja2 import TemplateError as JinjaError

        _complete_interval(context, self.model)
        try:
            super().render_template_fields(context, jinja_env)
        except (JinjaError, AirflowRuntimeError) as error:
            self._template_error = TemplateError(f"models.{self.model.name}.source.query: {error}")

    def execute(self, context: Any) -> dict[str, Any]:
        self._close_forgotten(context)
        return super().execute(context)

    def query_source(self) -> Callable[[], str]:
        def query() -> str:
            if self._template_error is not None:
                raise self._template_error
            return self.query

        return query

    def _close_forgotten(self, context: Any) -> None:
        from airflow.sdk.exceptions import AirflowException

        from mlops_plugin.pipeline.reconciliation import close_forgotten

        def has_run(dag_id: str, run_id: str, states: list[str]) -> bool:
            return bool(context["ti"].get_dr_count(dag_id, run_ids=[run_id], states=states))

        try:
            close_forgotten(self.model.name, context["run_id"], self.deployment(), has_run)
        except (MlopsError, AirflowException) as error:
            # Others' dispatches; this one must not fail for them.
            _log.warning("looking for dispatches that nobody closed failed: %s", error)


def _complete_interval(context: Any, model: ModelConfig) -> None:
    """Give a run without a logical date (an asset's, or one triggered over the API) its dates.

    Airflow leaves `data_interval_start` and the like undefined there; a query that uses them would fail.
    The interval is the last complete period of the model's schedule, or the moment itself where the
    schedule has no periods.
    """
    if context.get("data_interval_end") is None:
        moment = context["dag_run"].run_after
        context.update(interval_context(moment, *interval_at(model, moment)))
