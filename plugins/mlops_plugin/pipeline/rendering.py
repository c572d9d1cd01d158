"""A model's queries as Airflow would render them at a moment, outside of a DAG run.

Light, because `dag_factory` loads it whenever Airflow parses DAGs.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import TemplateError
from mlops_plugin.pipeline.data_intervals import interval_at

_TEMPLATE_SIGNS = ("{{", "{%", "{#")


def render(
    query: str,
    model: ModelConfig,
    *,
    moment: datetime,
    path: str = "source.query",
    interval: tuple[datetime, datetime] | None = None,
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
    from airflow.sdk.exceptions import AirflowRuntimeError
    from airflow.sdk.execution_time.context import ConnectionAccessor, MacrosAccessor, VariableAccessor
    from jinja2 import TemplateError as JinjaError

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
        **interval_context(moment, start, end),
    }
    try:
        return str(dag.get_template_env().from_string(query).render(context))
    except (JinjaError, AirflowRuntimeError) as error:
        raise TemplateError(
            f"models.{model.name}.{path}: {error}; without a DAG run, a query knows data_interval_start, "
            "data_interval_end, logical_date, ds, ts, params, macros, conn and var"
        ) from error


def without_secrets(query: str) -> str:
    """The query as records may keep it: what Airflow knows to be secret is masked, as in its own views."""
    from airflow.sdk._shared.secrets_masker import redact  # no public name of its own

    return str(redact(query))


def interval_context(moment: datetime, start: datetime, end: datetime) -> dict[str, Any]:
    """The template names that Airflow derives from a run's dates."""
    ts = moment.isoformat()
    return {
        "logical_date": moment,
        "data_interval_start": start,
        "data_interval_end": end,
        "ds": moment.strftime("%Y-%m-%d"),
        "ds_nodash": moment.strftime("%Y%m%d"),
        "ts": ts,
        "ts_nodash": moment.strftime("%Y%m%dT%H%M%S"),
        "ts_nodash_with_tz": ts.replace("-", "").replace(":", ""),
    }
