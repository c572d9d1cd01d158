"""A model's queries as templates: which names they know, and how times are written for the source.

A DAG run and the terminal share this. Light, because `dag_factory` loads it whenever Airflow parses DAGs.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlops_plugin.config.schedules import UTC_NAME
from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.connections import get_connection, watched_secrets
from mlops_plugin.errors import EmptyInterval, MlopsError, TemplateError, TemplateMistake
from mlops_plugin.masking import SHORT, learn, masked
from mlops_plugin.orchestration.data_intervals import Interval, interval_at

if TYPE_CHECKING:
    from jinja2 import Environment

    from mlops_plugin.databases.engines.engine import Engine

_OBJECT = re.compile(r"<[\w.].*>", re.DOTALL)  # how Python writes what is no value
_TEMPLATE_SIGNS = ("{{", "{%", "{#")


def render(
    query: str,
    model: ModelConfig,
    *,
    moment: datetime,
    path: str = "source.query",
    interval: Interval | None = None,
    row_limit: int | None = None,
    dry_run: bool = False,
    quarantined: bool = False,
) -> str:
    """`query`, which stands at `path` of the model's entry, rendered; raises `TemplateError`.

    Templates see the model's DAG by its name only.
    """
    if not any(sign in query for sign in _TEMPLATE_SIGNS):
        return query.removesuffix("\n")  # Jinja's way with the last line
    from airflow.sdk import DAG
    from airflow.sdk.execution_time.context import ConnectionAccessor, MacrosAccessor, VariableAccessor

    dag = DAG(model.name, schedule=None)
    start, end = interval or interval_at(model, moment)
    context: dict[str, Any] = {
        "dag": dag,
        "run_id": f"terminal__{moment.isoformat()}",
        "params": {"row_limit": row_limit, "dry_run": dry_run, "quarantined": quarantined},
        "macros": MacrosAccessor(),
        "conn": ConnectionAccessor(),
        "var": {
            "json": VariableAccessor(deserialize_json=True),
            "value": VariableAccessor(deserialize_json=False),
        },
        **interval_context(model, moment, (start, end)),
    }
    context.update(watched_secrets(context))
    environment = template_environment(dag.get_template_env(), model)
    try:
        return str(environment.from_string(query).render(context))
    except MlopsError:
        raise
    except Exception as error:  # whatever an expression of the template raises
        raise TemplateError(
            f"models.{model.name}.{path}: {fault_of(error)}; without a DAG run, a query can use "
            "data_interval_start, data_interval_end, logical_date, ds, ts, params, macros, conn and var"
        ) from error


def fault_of(error: Exception) -> str:
    """Why a template could not be rendered: Jinja's and Airflow's errors say what is wrong, others do not."""
    module = type(error).__module__.partition(".")[0]
    return str(error) if module in ("jinja2", "airflow") else f"{type(error).__name__}: {error}"


def template_environment(environment: Environment, model: ModelConfig) -> Environment:
    """Airflow's environment, with times written for the source; what a filter makes of a secret is one."""
    ours = environment.overlay(finalize=time_writer(model))
    ours.filters = {name: _watched_filter(filter) for name, filter in environment.filters.items()}
    return ours


def _watched_filter(filter: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(filter)  # with the mark by which Jinja knows what else it wants
    def watched(*args: Any, **named: Any) -> Any:
        made = filter(*args, **named)
        if isinstance(made, str) and len(made) >= SHORT and made not in args:
            given = [text for text in args if isinstance(text, str)]
            if any(masked(text) != text for text in given):
                learn([made])
        return made

    return watched


def interval_context(model: ModelConfig, moment: datetime, interval: Interval) -> dict[str, Any]:
    """The template names that Airflow derives from a run's dates: pendulum times in the model's time zone."""
    import pendulum

    local, start, end = (pendulum.instance(time).in_timezone(model.timezone) for time in (moment, *interval))
    ts = local.isoformat()
    return {
        "logical_date": local,
        "data_interval_start": start,
        "data_interval_end": end,
        "ds": local.strftime("%Y-%m-%d"),
        "ds_nodash": local.strftime("%Y%m%d"),
        "ts": ts,
        "ts_nodash": local.strftime("%Y%m%dT%H%M%S"),
        "ts_nodash_with_tz": ts.replace("-", "").replace(":", ""),
    }


def earlier_runs_context(model: ModelConfig, context: Mapping[str, Any]) -> dict[str, Any]:
    """The template names of `context` that are times of earlier runs, in the model's time zone.

    Airflow gives them in UTC, and asks its server for each once it is used.
    """
    from lazy_object_proxy import Proxy

    def local(time: Any) -> Any:
        import pendulum

        asked = getattr(time, "__wrapped__", time)
        return None if asked is None else pendulum.instance(asked).in_timezone(model.timezone)

    return {
        name: Proxy(functools.partial(local, context[name]))
        for name in context
        if name.startswith("prev_") and name.endswith("_success")
    }


def time_writer(model: ModelConfig) -> Callable[[object], object]:
    """What a template does with each value that it prints: a time becomes what the source compares rightly.

    `{{ data_interval_start }}` is a time; `{{ ds }}` and `{{ data_interval_start.isoformat() }}` are texts.
    Raises `TemplateMistake` for None, a function and other objects, whose names SQL would compare with times
    and texts.
    """

    @functools.cache
    def engine() -> Engine:
        return _engine_of(model)

    def write(value: object) -> object:
        if isinstance(value, type(None)):  # also what stands for None until it is asked
            raise TemplateMistake(
                f"models.{model.name}: a query's template prints None, as of prev_data_interval_end_success "
                "in a first run; say what it means: {{ ... or '1970-01-01' }}"
            )
        if isinstance(value, datetime):
            return engine().write_time(value)
        if not isinstance(value, str) and _OBJECT.fullmatch(shown := str(value)):
            call = "; call it: {{ ...() }}" if callable(value) else "; print one of its values"
            raise TemplateMistake(f"models.{model.name}: a query's template prints the object {shown}{call}")
        return value

    return write


def require_interval(model: ModelConfig, query: str, interval: Interval) -> None:
    """Raise `EmptyInterval` for a query that reads from the start of an interval without length: nothing."""
    start, end = interval
    if start >= end and "data_interval_start" in query:
        raise EmptyInterval(
            f"models.{model.name}.source.query: it reads rows from data_interval_start on, but this "
            f"run's data interval is empty: it begins and ends at {start:%Y-%m-%d %H:%M:%S %Z}; use a "
            "schedule with periods, give the run an interval (`mlops dispatch --interval START "
            "END`), or use logical_date in the query"
        )


def _engine_of(model: ModelConfig) -> Engine:
    from mlops_plugin.databases.engines.registry import ANSI
    from mlops_plugin.databases.opening import expected_engine

    connection = get_connection(model.source.connection)
    engine = expected_engine(connection)
    if engine is None and model.timezone != UTC_NAME:
        raise TemplateError(
            f"models.{model.name}: the form of times in {model.timezone} depends on the database, which "
            f"connection '{connection.conn_id}' does not name; add it to its extra, e.g. "
            '{"dialect": "postgresql"}'
        )
    return engine or ANSI
