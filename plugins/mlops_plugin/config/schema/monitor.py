"""`monitor:`: hosts, databases, history and notifications."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import Field, field_validator

from mlops_plugin.config.parameter_types import (
    ConnectionId,
    Duration,
    Host,
    ImportPath,
    Line,
    PeriodicSchedule,
    PositiveDuration,
    Table,
    check_unique,
)
from mlops_plugin.config.schedules import FixedSchedule
from mlops_plugin.config.schema.section import Section

_Threshold = Annotated[int, Field(ge=1, le=100)]


class WatchedConfig(Section):
    """What each host and database may set for itself."""

    failure_threshold: _Threshold | None = Field(
        default=None,
        description="As `monitor.failure_threshold`, for this target.",
        examples=[3],
    )
    success_threshold: _Threshold | None = Field(
        default=None,
        description="As `monitor.success_threshold`, for this target.",
        examples=[1],
    )


class HostConfig(WatchedConfig):
    """One entry of `hosts:`: a TCP port that should accept connections."""

    name: Line | None = Field(
        default=None, description="Name shown; null: host and port.", examples=["Feature service"]
    )
    host: Host = Field(
        description="Its name, IPv4 or IPv6 address. A name is resolved, and each of its addresses is tried.",
        examples=["features.example.org", "192.0.2.10", "2001:db8::10"],
    )
    port: Annotated[int, Field(ge=1, le=65_535)] | None = Field(
        default=None,
        description="Its TCP port; null: the port of Airflow's API server (`[api] port`).",
        examples=[443],
    )


class WatchedDatabaseConfig(WatchedConfig):
    """One entry of `databases:`: an Airflow connection that should lead to a database."""

    name: Line | None = Field(
        default=None, description="Name shown; null: the connection's id.", examples=["Warehouse"]
    )
    connection: ConnectionId = Field(
        description="Id of the Airflow connection (types: odbc, mysql, postgres, sqlite, duckdb).",
        examples=["warehouse"],
    )
    table: Table | None = Field(
        default=None,
        description="A table to query for its columns, without reading rows; null: the probe only connects.",
        examples=["customers", 'scores."2026.churn"'],
    )


class NotifierConfig(Section):
    """One entry of `notify:`: an Airflow notifier that hears of changes of state."""

    notifier: ImportPath = Field(
        description="Import path of the notifier's class.",
        examples=["airflow.providers.smtp.notifications.smtp.SmtpNotifier"],
    )
    arguments: dict[str, Any] = Field(
        default={},
        description="Arguments of the class. Templates may use `target`, `before`, `after`, `error` "
        "and `since`. No passwords: notifiers take the id of a connection.",
        examples=[{"to": "ops@example.org", "subject": "{{ target }} is {{ after }}"}],
    )


class MonitorConfig(Section):
    """`monitor:`: what the Monitor watches besides the models."""

    refresh: PositiveDuration = Field(
        default=timedelta(seconds=10),
        description="How often the page refreshes; a newer result is shown without another probe.",
        examples=["30s"],
    )
    timeout: PositiveDuration = Field(
        default=timedelta(seconds=10),
        description="The longest that a whole probe may take.",
        examples=["5s"],
    )
    late_after: Duration = Field(
        default=timedelta(minutes=5),
        description="How long after its due time a dispatch may start before it counts as late.",
        examples=["30m"],
    )
    schedule: PeriodicSchedule = Field(
        default=FixedSchedule("5m", timedelta(minutes=5)),
        description="When the DAG `mlops_monitor` probes for the history: a cron expression, a preset or a "
        "duration. null: no such DAG, so no history and no notifications.",
        examples=["1m", "*/10 * * * *"],
    )
    failure_threshold: _Threshold = Field(
        default=2,
        description="How many probes of a host or database must fail in a row before an incident begins and "
        "notifiers are called. The page shows each probe at once.",
        examples=[3],
    )
    success_threshold: _Threshold = Field(
        default=2,
        description="How many probes must succeed in a row before the incident ends.",
        examples=[1],
    )
    keep_probes: PositiveDuration = Field(
        default=timedelta(days=2),
        description="How long each result is kept; after that, only sums per hour.",
        examples=["7d"],
    )
    keep: PositiveDuration = Field(
        default=timedelta(days=90),
        description="How long sums per hour and incidents are kept.",
        examples=["365d"],
    )
    hosts: Annotated[tuple[HostConfig, ...], Field(max_length=500)] = Field(
        default=(),
        description="TCP ports that should accept connections.",
        examples=[[{"host": "features.example.org", "port": 443}]],
    )
    databases: Annotated[tuple[WatchedDatabaseConfig, ...], Field(max_length=100)] = Field(
        default=(),
        description="Databases that should answer. The event store is always watched.",
        examples=[[{"connection": "warehouse", "table": "customers"}]],
    )
    notify: tuple[NotifierConfig, ...] = Field(
        default=(),
        description="Airflow notifiers to call when a host, a database, a model's outcome or its timing "
        "(late, missed, overrun) changes.",
        examples=[
            [
                {
                    "notifier": "airflow.providers.smtp.notifications.smtp.SmtpNotifier",
                    "arguments": {"to": "ops@example.org", "subject": "{{ target }} is {{ after }}"},
                }
            ]
        ],
    )

    @field_validator("hosts")
    @classmethod
    def _check_hosts(cls, hosts: tuple[HostConfig, ...]) -> tuple[HostConfig, ...]:
        check_unique(tuple(f"{host.host} port {host.port}" for host in hosts))
        return hosts

    @field_validator("databases")
    @classmethod
    def _check_databases(
        cls, databases: tuple[WatchedDatabaseConfig, ...]
    ) -> tuple[WatchedDatabaseConfig, ...]:
        check_unique(tuple(f"{found.connection} {found.table or ''}".strip() for found in databases))
        return databases
