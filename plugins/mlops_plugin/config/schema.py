"""The typed configuration: what may stand in config.yaml, with its defaults and meaning.

`config.loader` builds these from YAML; every other module reads them. Frozen, unknown keys refused.
Descriptions and examples feed the JSON Schema and docs/configuration.md.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from mlops_plugin.config.parameter_types import (
    NAME_PATTERN,
    SHA256_PATTERN,
    ColumnName,
    ColumnNames,
    ConnectionId,
    Duration,
    Host,
    ImportPath,
    Line,
    PositiveDuration,
    Query,
    Schedule,
    Sha256,
    SomeColumnNames,
    Table,
    Tag,
    Text,
    Timetable,
    Url,
    UtcDatetime,
    check_unique,
)

_RESERVED_COLUMN = re.compile(
    r"prediction(_.*)?|score|probability_.*|dispatch_id|model|artifact_sha256|predicted_at", re.IGNORECASE
)
MONITOR_DAG_ID = "mlops_monitor"


class Section(BaseModel):
    # Built on first use: a task needs the types of one model, `mlops schema` needs them all.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


class ArtifactConfig(Section):
    """`model:` of a model: which file, in which format, and what it may contain."""

    format: Literal["skops", "joblib", "pickle"] = Field(
        description="How the file was saved. joblib and pickle files can run code when loaded, "
        "so they need `sha256`.",
        examples=["skops"],
    )
    uri: Url = Field(
        description="The file: a path, relative to the folder of this configuration, or an fsspec URL.",
        examples=["models/churn.skops", "s3://models/churn.skops"],
    )
    sha256: Sha256 | None = Field(
        default=None,
        description="SHA-256 of the file in 64 hex digits, as `sha256sum FILE` prints it; a file with "
        "another one is refused. Required for joblib and pickle.",
        examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
        validate_default=True,
    )
    trusted: tuple[Text, ...] = Field(
        default=(),
        description="skops only: types in the file, beyond those skops knows, that may be loaded.",
        examples=[["sklearn._loss.link.LogitLink"]],
        validate_default=True,
    )
    _uri_as_written: str | None = PrivateAttr(default=None)

    @field_validator("sha256")
    @classmethod
    def _check_sha256(cls, sha256: str | None, info: ValidationInfo) -> str | None:
        file_format = info.data.get("format")
        uri = info.data.get("uri", "FILE")
        if sha256 is None:
            if file_format in ("joblib", "pickle"):
                raise ValueError(
                    f"required for {file_format}, which can run code when loaded; `sha256sum {uri}` prints it"
                )
            return None
        if not re.fullmatch(SHA256_PATTERN, sha256):
            raise ValueError(f"'{sha256}' is not 64 hex digits; `sha256sum {uri}` prints them")
        return sha256.lower()

    @field_validator("trusted")
    @classmethod
    def _check_trusted(cls, trusted: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        file_format = info.data.get("format", "skops")
        if trusted and file_format != "skops":
            raise ValueError(f"only for format skops, but the format is {file_format}; remove it")
        return check_unique(trusted)

    def located_in(self, folder: Path) -> ArtifactConfig:
        """The same artifact with an absolute path, where `uri` is a path relative to `folder`."""
        if "://" in self.uri:
            return self
        located = self.model_copy(update={"uri": str(folder / self.uri)})
        located._uri_as_written = self.uri
        return located


class SourceConfig(Section):
    """`source:` of a model: where its rows come from."""

    connection: ConnectionId = Field(
        description="Id of the Airflow connection to read from (types: odbc, mysql, postgres, sqlite).",
        examples=["warehouse"],
    )
    query: Query = Field(
        description="One SQL statement that returns the key columns and the features; others are ignored. "
        "An Airflow template: `{{ data_interval_start }}`, `{{ ds }}` and other macros work.",
        examples=["SELECT id, age, income FROM customers WHERE updated_at >= '{{ data_interval_start }}'"],
    )
    batch_rows: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        default=50_000,
        description="Rows per batch; a step's memory grows with this, not with the table.",
        examples=[10_000],
    )
    max_text_bytes: Annotated[int, Field(ge=1, le=1_073_741_824)] = Field(
        default=4096,
        description="odbc only: the longest text value in bytes. A longer one fails the dispatch, "
        "it is never cut.",
        examples=[65_536],
    )


class SinkConfig(Section):
    """`sink:` of a model: where its predictions go."""

    connection: ConnectionId = Field(
        description="Id of the Airflow connection to write to (types: odbc, mysql, postgres, sqlite).",
        examples=["warehouse"],
    )
    table: Table = Field(
        description="The predictions table: `table` or `schema.table`; a part with a dot or a quote is "
        "written in double quotes.",
        examples=["churn_predictions", 'scores."2026.churn"'],
    )
    mode: Literal["append", "upsert", "replace"] = Field(
        default="upsert",
        description="`upsert`: one row per key, the newest wins. `append`: every dispatch adds its rows. "
        "`replace`: the table holds the newest dispatch only. Each is safe to retry.",
        examples=["append"],
    )
    create: bool = Field(
        default=False,
        description="Create the table where it is missing; with false that is an error.",
        examples=[True],
    )


class ImageConfig(Section):
    """`image:` of a Showroom: the features are the pixels of a picture, row by row."""

    width: Annotated[int, Field(ge=1, le=4096)] = Field(description="Pixels in a row.", examples=[8])
    height: Annotated[int, Field(ge=1, le=4096)] = Field(description="Rows of pixels.", examples=[8])


class ShowroomConfig(Section):
    """`showroom:` of a model: how its cases are shown to people."""

    title: Line | None = Field(
        default=None,
        description="Name shown in the Showroom; without it the model's name.",
        examples=["Customer churn"],
    )
    cases: Query | None = Field(
        default=None,
        description="One SQL statement that returns the cases to pick from, on the source's connection; "
        "without it the source's query.",
        examples=["SELECT id, name, age, income FROM customers"],
    )
    search: ColumnNames = Field(
        default=(),
        description="Columns that a search looks into; without any, the key.",
        examples=[["id", "name"]],
    )
    truth: ColumnName | None = Field(
        default=None,
        description="Column with the known outcome, shown next to the prediction.",
        examples=["churned"],
    )
    image: ImageConfig | None = Field(
        default=None,
        description="Set where the features are the pixels of a picture.",
        examples=[{"width": 8, "height": 8}],
    )


class ScheduleSettings(Section):
    """What `defaults:` and each model may say about its DAG; a model's own value wins."""

    schedule: Schedule = Field(
        default=None,
        description="When to dispatch: a cron expression, an Airflow preset, a duration, or a list of asset "
        "names (all of them updated since the last run; `MODEL.predictions` is the predictions of a model). "
        "null: manual runs only.",
        examples=["0 * * * *", "@hourly", "15m", ["churn.predictions"]],
    )
    start_date: UtcDatetime | None = Field(
        default=None,
        description="The first moment a schedule counts from. A date is midnight, and a time without a zone "
        "is UTC.",
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
        default=timedelta(seconds=30), description="Wait before the first retry.", examples=["1m"]
    )
    retry_exponential_backoff: bool = Field(
        default=True, description="Double the wait with each retry.", examples=[False]
    )
    max_retry_delay: PositiveDuration = Field(
        default=timedelta(minutes=10), description="The longest wait between retries.", examples=["1h"]
    )
    task_timeout: PositiveDuration | None = Field(
        default=timedelta(hours=1),
        description="A step that runs longer fails and is retried. null: no limit.",
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
        description="Airflow pool that the steps take a slot of.",
        examples=["warehouse"],
    )


class ModelConfig(ScheduleSettings):
    """One entry under `models:`, complete: defaults are already merged in."""

    name: Annotated[str, StringConstraints(pattern=NAME_PATTERN)] = Field(
        description="The key under models:; also the DAG id.", examples=["churn"]
    )
    description: Line = Field(
        default="", description="What the model does, in one line.", examples=["Will a customer leave?"]
    )
    docs: str = Field(
        default="",
        description="Markdown, shown on the DAG's page.",
        examples=["Trained by the **fraud team**, see the wiki."],
    )
    model: ArtifactConfig = Field(
        description="The artifact: which file, in which format.",
        examples=[{"format": "skops", "uri": "models/churn.skops"}],
    )
    key: SomeColumnNames = Field(
        description="Columns of the query that identify a row; they are stored with its prediction.",
        examples=[["customer_id"]],
    )
    features: SomeColumnNames | None = Field(
        default=None,
        description="For a model trained without feature names: its columns, in order. Other models know "
        "their own.",
        examples=[["age", "income"]],
    )
    source: SourceConfig = Field(
        description="Where the rows come from.",
        examples=[{"connection": "warehouse", "query": "SELECT id, age, income FROM customers"}],
    )
    sink: SinkConfig = Field(
        description="Where the predictions go.",
        examples=[{"connection": "warehouse", "table": "churn_predictions"}],
    )
    showroom: ShowroomConfig = Field(
        default_factory=ShowroomConfig,
        description="How cases are shown to people.",
        examples=[{"search": ["name"], "truth": "churned"}],
    )

    @field_validator("catchup")
    @classmethod
    def _check_catchup(cls, catchup: bool, info: ValidationInfo) -> bool:
        if catchup and info.data.get("start_date", ...) is None:
            raise ValueError("catchup needs a start_date; write e.g. start_date: 2026-01-31")
        return catchup

    @field_validator("max_active_runs")
    @classmethod
    def _check_max_active_runs(cls, max_active_runs: int, info: ValidationInfo) -> int:
        if info.data.get("schedule") == "@continuous" and max_active_runs != 1:
            raise ValueError(f"must be 1 with schedule @continuous, found {max_active_runs}")
        return max_active_runs

    @field_validator("key")
    @classmethod
    def _check_key(cls, key: tuple[str, ...]) -> tuple[str, ...]:
        for column in key:
            if _RESERVED_COLUMN.fullmatch(column):
                raise ValueError(
                    f"'{column}' is a column of the predictions table; rename it in the query: "
                    f"SELECT {column} AS {column}_key"
                )
        return key

    @model_validator(mode="after")
    def _check_own_asset(self) -> Self:
        own = f"{self.name}.predictions"
        if isinstance(self.schedule, tuple) and own in self.schedule:
            error = ValueError(f"'{own}' is this model's own asset: it would run for ever; remove it")
            # A plain ValueError would point at the model; this one points at its schedule.
            details: InitErrorDetails = {
                "type": "value_error",
                "loc": ("schedule",),
                "input": self.schedule,
                "ctx": {"error": error},
            }
            raise ValidationError.from_exception_data(type(self).__name__, [details])
        return self

    def config_hash(self) -> str:
        """SHA-256 (64 hex digits) of this model's effective configuration, canonical JSON.

        A relative `uri` counts as it is written: where a deployment is unpacked changes nothing.
        """
        content = self.model_dump(mode="json")
        content["model"]["uri"] = self.model._uri_as_written or self.model.uri
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


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
    """`serving:`: what a model may use while it answers in the Showroom, in a process of its own."""

    timeout: PositiveDuration = Field(
        default=timedelta(seconds=30),
        description="A prediction that takes longer is given up, and the model's process ended.",
        examples=["10s"],
    )
    load_timeout: PositiveDuration = Field(
        default=timedelta(minutes=2),
        description="A model that takes longer to load is given up.",
        examples=["5m"],
    )
    memory_mb: Annotated[int, Field(ge=128, le=1_048_576)] = Field(
        default=2048,
        description="Memory in MB that a model's process may use, its libraries included.",
        examples=[512],
    )
    workers: Annotated[int, Field(ge=1, le=256)] = Field(
        default=4,
        description="Models kept in memory at once in each process of the API server; the one that was "
        "unused for longest makes room.",
        examples=[8],
    )


class HostConfig(Section):
    """One entry of `hosts:`: a TCP port that should accept connections."""

    name: Line | None = Field(
        default=None, description="Name shown; without it host and port.", examples=["Feature service"]
    )
    host: Host = Field(
        description="Its name, IPv4 or IPv6 address. Of a name, every address of both families is tried.",
        examples=["features.example.org", "192.0.2.10", "2001:db8::10"],
    )
    port: Annotated[int, Field(ge=1, le=65_535)] = Field(description="Its TCP port.", examples=[443])


class WatchedDatabaseConfig(Section):
    """One entry of `databases:`: an Airflow connection that should lead to a database."""

    name: Line | None = Field(
        default=None, description="Name shown; without it the connection's id.", examples=["Warehouse"]
    )
    connection: ConnectionId = Field(
        description="Id of the Airflow connection (types: odbc, mysql, postgres, sqlite).",
        examples=["warehouse"],
    )
    table: Table | None = Field(
        default=None,
        description="A table to ask for its columns, with a query that returns no rows; without it "
        "connecting is all that is tried.",
        examples=["customers", 'scores."2026.churn"'],
    )


class NotifierConfig(Section):
    """One entry of `notify:`: an Airflow notifier that is told when a state changes."""

    notifier: ImportPath = Field(
        description="Import path of the notifier's class.",
        examples=["airflow.providers.smtp.notifications.smtp.SmtpNotifier"],
    )
    arguments: dict[str, Any] = Field(
        default={},
        description="What the class is made with. Templates may use `target`, `before`, `after`, `error` "
        "and `since`. No passwords: notifiers take the id of a connection.",
        examples=[{"to": "ops@example.org", "subject": "{{ target }} is {{ after }}"}],
    )


class MonitorConfig(Section):
    """`monitor:`: what the Monitor watches besides the models."""

    refresh: PositiveDuration = Field(
        default=timedelta(seconds=10),
        description="How often the page renews itself; a result that is younger is not probed again.",
        examples=["30s"],
    )
    timeout: PositiveDuration = Field(
        default=timedelta(seconds=10),
        description="The longest a probe may take, whatever it waits for.",
        examples=["5s"],
    )
    late_after: Duration = Field(
        default=timedelta(minutes=5),
        description="How long after its time a dispatch may start before it is called late.",
        examples=["30m"],
    )
    schedule: Timetable = Field(
        default="5m",
        description="When the DAG `mlops_monitor` probes for the history: a cron expression, a preset or a "
        "duration. null: no such DAG, hence neither history nor notifications.",
        examples=["1m", "*/10 * * * *"],
    )
    keep_probes: PositiveDuration = Field(
        default=timedelta(days=2),
        description="How long each single result is kept; of older ones, sums per hour remain.",
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
        description="Airflow notifiers to tell when a host, a database or a model's outcome changes.",
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


class Config(Section):
    """A whole config.yaml."""

    defaults: ScheduleSettings = Field(
        default_factory=ScheduleSettings,
        description="What every model's DAG has, unless the model says otherwise.",
        examples=[{"retries": 3, "owner": "fraud-team"}],
    )
    events: EventsConfig = Field(
        default_factory=EventsConfig,
        description="Where the record of dispatches is kept.",
        examples=[{"connection": "mlops_events"}],
    )
    staging: StagingConfig = Field(
        default_factory=StagingConfig,
        description="Where rows wait between two steps.",
        examples=[{"url": "s3://bucket/staging"}],
    )
    serving: ServingConfig = Field(
        default_factory=ServingConfig,
        description="What a model may use while it answers in the Showroom.",
        examples=[{"timeout": "10s", "memory_mb": 1024}],
    )
    monitor: MonitorConfig = Field(
        default_factory=MonitorConfig,
        description="What the Monitor watches besides the models.",
        examples=[{"hosts": [{"host": "features.example.org", "port": 443}]}],
    )
    models: dict[str, ModelConfig] = Field(
        description="The models: the name of each, which is also its DAG id, and its entry.",
        examples=[
            {
                "churn": {
                    "model": {"format": "skops", "uri": "models/churn.skops"},
                    "key": ["id"],
                    "source": {"connection": "warehouse", "query": "SELECT id, age, income FROM customers"},
                    "sink": {"connection": "warehouse", "table": "churn_predictions"},
                }
            }
        ],
    )
