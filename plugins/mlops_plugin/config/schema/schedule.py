"""What `defaults:` and each model may say about its DAG."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field, StringConstraints

from mlops_plugin.config.parameter_types import (
    Duration,
    Line,
    Moment,
    PositiveDuration,
    Schedule,
    Tag,
    TimeZone,
)
from mlops_plugin.config.schedules import UTC_NAME
from mlops_plugin.config.schema.section import Section


class ScheduleSettings(Section):
    """What `defaults:` and each model may say about its DAG; a model's own value wins."""

    schedule: Schedule = Field(
        default=None,
        description="When to dispatch: a cron expression, an Airflow preset, a duration, or a list of asset "
        "names (all of them updated since the last run; `MODEL.predictions` is the predictions of a model). "
        "null: manual runs only.",
        examples=["0 * * * *", "@hourly", "15m", ["churn.predictions"]],
    )
    # Before start_date, which is read with it.
    timezone: TimeZone = Field(
        default=UTC_NAME,
        description="The time zone of a cron schedule, of `start_date`, and of the dates and times that the "
        "query's template renders.",
        examples=["America/Sao_Paulo"],
    )
    start_date: Moment | None = Field(
        default=None,
        description="The first moment a schedule counts from. A date is midnight, and a time without a zone "
        "is in `timezone`.",
        examples=["2026-01-01", "2026-01-01T06:00:00+02:00"],
    )
    catchup: bool = Field(
        default=False,
        description="Also run the intervals missed since `start_date`, which it needs.",
        examples=[True],
    )
    max_active_runs: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=1, description="Dispatches of a model that may run at the same time.", examples=[4]
    )
    retries: Annotated[int, Field(ge=0, le=100)] = Field(
        default=2, description="How often a failed step is tried again.", examples=[5]
    )
    retry_delay: Duration = Field(
        default=timedelta(seconds=30), description="How long to wait before the first retry.", examples=["1m"]
    )
    retry_exponential_backoff: bool = Field(
        default=True, description="Double the wait with each retry.", examples=[False]
    )
    max_retry_delay: PositiveDuration = Field(
        default=timedelta(minutes=10), description="The longest wait between retries.", examples=["1h"]
    )
    task_timeout: PositiveDuration | None = Field(
        default=timedelta(hours=1),
        description=(
            "A step that runs longer fails and is retried; in the terminal, a statement. "
            "null: no limit (a statement: a day)."
        ),
        examples=["15m"],
    )
    dispatch_timeout: PositiveDuration | None = Field(
        default=None,
        description="A dispatch that runs longer, retries included, fails. null: no limit.",
        examples=["6h"],
    )
    owner: Annotated[Line, Field(min_length=1)] = Field(
        default="mlops", description="Owner shown in Airflow.", examples=["fraud-team"]
    )
    tags: tuple[Tag, ...] = Field(
        default=(), description="Airflow tags to find the DAG by.", examples=[["churn", "weekly"]]
    )
    pool: Annotated[str, StringConstraints(min_length=1, max_length=256)] = Field(
        default="default_pool",
        description="Airflow pool in which each step takes a slot.",
        examples=["warehouse"],
    )
