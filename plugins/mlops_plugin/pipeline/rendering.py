"""A model's queries as Airflow would render them at a moment, outside of a DAG run.

Light, because `dag_factory` loads it whenever Airflow parses DAGs.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from mlops_plugin.config.durations import parse_duration
from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import TemplateError

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


def interval_at(model: ModelConfig, moment: datetime) -> tuple[datetime, datetime]:
    """The last complete data interval of the model's schedule before `moment`; both ends aware."""
    from airflow.sdk import timezone
    from airflow.timetables import interval as timetables

    run_after = timezone.coerce_datetime(moment)
    period = schedule_period(model)
    if period is None:
        return moment, moment
    timetable = (
        timetables.CronDataIntervalTimetable(period, timezone="UTC")
        if isinstance(period, str)
        else timetables.DeltaDataIntervalTimetable(period)
    )
    interval = timetable.infer_manual_data_interval(run_after=run_after)
    return interval.start, interval.end


def interval_end(model: ModelConfig, start: datetime) -> datetime | None:
    """When the data interval that begins at `start` ends; None where the schedule has no periods."""
    from airflow.sdk import timezone
    from airflow.timetables import base
    from airflow.timetables import interval as timetables

    period = schedule_period(model)
    if period is None:
        return None
    if isinstance(period, timedelta):
        return start + period
    timetable = timetables.CronDataIntervalTimetable(period, timezone="UTC")
    found = timetable.next_dagrun_info(
        last_automated_data_interval=timetable.infer_manual_data_interval(
            run_after=timezone.coerce_datetime(start)
        ),
        restriction=base.TimeRestriction(earliest=None, latest=None, catchup=True),
    )
    return found.data_interval.end if found and found.data_interval else None


def schedule_period(model: ModelConfig) -> str | timedelta | None:
    """The schedule as cron expression or length; None where it has no periods."""
    schedule = model.schedule
    if not isinstance(schedule, str) or schedule in ("@once", "@continuous"):
        return None
    return parse_duration(schedule) if schedule[0].isdigit() and " " not in schedule else schedule
