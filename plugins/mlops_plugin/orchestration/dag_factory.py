"""One DAG per model, built from its configuration entry; called by dags/mlops_dags.py at every parse.

Light on purpose: this module is loaded whenever Airflow parses DAGs and at the start of every task.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, CronDataIntervalTimetable, DeltaDataIntervalTimetable, get_parsing_context
from airflow.sdk.definitions.param import Param

from mlops_plugin.config.loader import LoadedConfig, load_config
from mlops_plugin.config.schedules import AssetSchedule, CronSchedule, FixedSchedule, SpecialSchedule
from mlops_plugin.config.schema import ModelConfig, PartitionsConfig
from mlops_plugin.errors import ConfigError
from mlops_plugin.orchestration.operators import (
    CollectOperator,
    DispatchOperator,
    PlanOperator,
    StepOperator,
    StepSettings,
)

DISPATCH_TASK = "dispatch"  # of a model whose steps run together
# With exponential backoff each delay is this many times the one before.
_BACKOFF = 2.0


def build_dags(path: Path) -> dict[str, DAG]:
    """The DAGs of all sound models in a configuration file, or only of the one a starting task wants.

    Raises `ConfigError` if the file as a whole is invalid; `raise_broken_models` reports invalid models.
    """
    wanted = get_parsing_context().dag_id
    loaded = load_config(path, only=wanted)
    if wanted is not None:
        # `model` raises if its entry is invalid: the task's log then shows why.
        return {wanted: build_dag(loaded.model(wanted), loaded)}
    return {name: build_dag(model, loaded) for name, model in loaded.config.models.items()}


def raise_broken_models(path: Path) -> None:
    """Raise `ConfigError` with every problem of an invalid model or included file, if there is any."""
    if problems := load_config(path).problems:
        raise ConfigError(problems)


def build_dag(model: ModelConfig, loaded: LoadedConfig) -> DAG:
    """The DAG of one model: collect >> log >> infer >> persist, after plan if rows are partitioned.

    Or one task that does it all, if the model says so.
    """
    with DAG(
        dag_id=model.name,
        description=model.description or None,
        doc_md=_documentation(model),
        schedule=_schedule(model),
        start_date=model.start_date,
        catchup=model.catchup,
        max_active_runs=model.max_active_runs,
        dagrun_timeout=model.dispatch_timeout,
        tags=["mlops", *model.tags],
        params=_params(),
        default_args=_task_settings(model),
        on_failure_callback=close_dispatch,
    ) as dag:
        config = loaded.config
        settings = StepSettings(model, config.events, config.staging, config.serving.require_confinement)
        if model.execution == "together":
            query, outlets = model.source.query, [predictions_asset(model)]
            DispatchOperator(task_id=DISPATCH_TASK, query=query, settings=settings, outlets=outlets)
        else:
            _chain(settings)
    return dag


def _chain(settings: StepSettings) -> None:
    """The steps as a task each."""
    model = settings.model
    if model.source.partitions is None:
        collect: Any = CollectOperator(task_id="collect", query=model.source.query, settings=settings)
        infer: Any = StepOperator(task_id="infer", settings=settings)
    else:
        collect, infer = _mapped(settings, model.source.partitions)
    log = StepOperator(task_id="log", settings=settings)
    persist = StepOperator(task_id="persist", settings=settings, outlets=[predictions_asset(model)])
    collect >> log >> infer >> persist


def _mapped(settings: StepSettings, partitions: PartitionsConfig) -> tuple[Any, Any]:
    """`collect` and `infer` as tasks mapped over the partitions, which a task `plan` before them finds."""
    query = settings.model.source.query
    plan = PlanOperator(task_id="plan", query=query, settings=settings)
    common: dict[str, Any] = {
        "settings": settings,
        "map_index_template": "{{ partition }}",
        "max_active_tis_per_dagrun": partitions.max_active,
    }
    collect = CollectOperator.partial(task_id="collect", query=query, **common).expand(partition=plan.output)
    infer = StepOperator.partial(task_id="infer", **common).expand(partition=plan.output)
    return collect, infer


def predictions_asset(model: ModelConfig) -> Asset:
    """The asset of a model's predictions table; DAGs and models can be scheduled on it."""
    return Asset(
        name=f"{model.name}.predictions",
        uri=f"mlops://{model.sink.connection}/{model.sink.table}/{model.name}",
        group="mlops",
    )


def close_dispatch(context: Any) -> None:
    """Called by Airflow when a run fails: closes a dispatch whose tasks could not record that themselves."""
    from mlops_plugin.pipeline.recording.reconciliation import close_failed_run

    dag = context["dag"]
    operator = dag.get_task("log" if dag.has_task("log") else DISPATCH_TASK)  # never a mapped task
    run = context.get("dag_run")  # as it was when it failed; Airflow leaves it out if no task has begun
    clears = None if run is None else run.clear_number
    close_failed_run(operator.model, context["run_id"], context.get("reason"), operator.deployment(), clears)


def _params() -> dict[str, Param]:
    return {
        "row_limit": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="Row limit",
            description="Dispatch at most this many rows; leave empty for all.",
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="Collect, log and infer, but write no predictions.",
        ),
        "quarantined": Param(
            False,
            type="boolean",
            title="Quarantined rows",
            description="Dispatch only the rows whose keys are in quarantine.",
        ),
    }


def _task_settings(model: ModelConfig) -> dict[str, Any]:
    return {
        "owner": model.owner,
        "pool": model.pool,
        "retries": model.retries,
        "retry_delay": model.retry_delay,
        "retry_exponential_backoff": _BACKOFF if model.retry_exponential_backoff else 0,
        "max_retry_delay": model.max_retry_delay,
        "execution_timeout": model.task_timeout,
    }


def _schedule(model: ModelConfig) -> Any:
    # Not the plain cron text: Airflow 3 makes of it a timetable with empty data intervals.
    match model.schedule:
        case AssetSchedule(names):
            return [Asset.ref(name=name) for name in names]
        case CronSchedule(expression):
            return CronDataIntervalTimetable(expression, model.timezone)
        case FixedSchedule(length=length):
            return DeltaDataIntervalTimetable(length)
        case SpecialSchedule(preset):
            return preset
    return None


def _documentation(model: ModelConfig) -> str:
    facts = (
        ("artifact", f"`{model.model.uri}` ({model.model.format})"),
        ("source", f"connection `{model.source.connection}`"),
        (
            "predictions",
            f"table `{model.sink.table}`, connection `{model.sink.connection}`, mode `{model.sink.mode}`",
        ),
        ("key", ", ".join(f"`{column}`" for column in model.key)),
    )
    table = "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {fact} |" for name, fact in facts)])
    return "\n\n".join(part for part in (model.description, model.docs, table) if part)
