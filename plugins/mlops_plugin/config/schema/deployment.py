"""`events:`, `staging:` and `serving:`: what all models share."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from mlops_plugin.config.parameter_types import ConnectionId, PositiveDuration, Text, Url
from mlops_plugin.config.schema.section import Section


class EventsConfig(Section):
    """`events:`: where the record of dispatches is kept."""

    connection: ConnectionId | None = Field(
        default=None,
        description="Id of the Airflow connection to the event store (types: mysql, postgres, sqlite); "
        "null: the SQLite file below.",
        examples=["mlops_events"],
    )
    path: Text = Field(
        default="mlops/events.db",
        description="SQLite file, used without a connection; relative to AIRFLOW_HOME.",
        examples=["/var/lib/mlops/events.db"],
    )


class StagingConfig(Section):
    """`staging:`: where rows wait between two steps."""

    url: Url = Field(
        default="mlops/staging",
        description="A folder that every worker sees, relative to AIRFLOW_HOME, or an fsspec URL.",
        examples=["s3://bucket/staging"],
    )
    keep: PositiveDuration = Field(
        default=timedelta(days=7),
        description="How long the files of a failed dispatch stay for its retry.",
        examples=["2d"],
    )


class ServingConfig(Section):
    """`serving:`: what a model may use while it answers, in a process of its own."""

    timeout: PositiveDuration = Field(
        default=timedelta(seconds=30),
        description="A prediction that takes longer fails, and the model's process is killed.",
        examples=["10s"],
    )
    load_timeout: PositiveDuration = Field(
        default=timedelta(minutes=2),
        description="A model that takes longer to load fails.",
        examples=["5m"],
    )
    memory_mb: Annotated[int, Field(ge=128, le=1_048_576)] = Field(
        default=2048,
        description="Memory in MB that a model's process may use, its libraries included.",
        examples=[512],
    )
    workers: Annotated[int, Field(ge=1, le=256)] = Field(
        default=4,
        description="Models kept in memory at once in each process of the API server; the least "
        "recently used one is unloaded to make room. While all of them are busy, the same number may run in "
        "addition.",
        examples=[8],
    )
    require_confinement: bool = Field(
        default=False,
        description="Refuse to load a model, in the Showroom and in a dispatch's own process, if the kernel "
        "cannot confine that process in every way (Linux before 6.12, other systems); otherwise a warning is "
        "logged.",
        examples=[True],
    )
