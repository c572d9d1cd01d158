"""The event store's tables, as SQLAlchemy sees them; `migrations/` makes the same in the database.

A change here needs a new migration and a new `SCHEMA_VERSION`; the tests compare the two on every engine.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from mlops_plugin.events.sql_dialects import keeps_time_zone, long_text_type, utc_time_type
from mlops_plugin.masking import masked

SCHEMA_VERSION = "0009"  # the newest revision in migrations/versions
VERSION_TABLE = "mlops_alembic_version"  # not Alembic's default: the store may share a database with others

DISPATCH_ID_CHARS = 36
NAME_CHARS = 250  # as long as Airflow allows a DAG id or a run id
ERROR_CHARS = 1000
VALUE_CHARS = 40  # of a watermark: a time to the microsecond, or a number of 20 digits
TARGET_CHARS = 300  # of what the Monitor probes: a kind, a host of up to 253 characters and a port


class UtcTime(sa.types.TypeDecorator[datetime]):
    """A moment to the microsecond: aware UTC in Python, UTC in the database."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:
        return dialect.type_descriptor(utc_time_type(dialect))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone; the event store takes aware times only")
        utc = value.astimezone(UTC)
        return utc if keeps_time_zone(dialect) else utc.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class LongText(sa.types.TypeDecorator[str]):
    """Text without a practical limit; MySQL's TEXT ends at 64 KB."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:
        return dialect.type_descriptor(long_text_type(dialect))


class JsonText(sa.types.TypeDecorator[Any]):
    """JSON as text: the engines' own JSON types differ in what they accept and in what they give back."""

    impl = LongText
    cache_ok = True

    def process_bind_param(self, value: Any, _dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value, ensure_ascii=False, allow_nan=False)

    def process_result_value(self, value: str | None, _dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


class MaskedError(sa.types.TypeDecorator[str]):
    """An error on one line, without secrets: as it is stored, and as it is read, when more may be known."""

    impl = sa.String(ERROR_CHARS)
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        return None if value is None else masked(value)[:ERROR_CHARS]

    def process_result_value(self, value: str | None, _dialect: Dialect) -> str | None:
        return None if value is None else masked(value)


class MaskedText(sa.types.TypeDecorator[str]):
    """The same without a practical limit: a query, or an address."""

    impl = LongText
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        return None if value is None else masked(value)

    def process_result_value(self, value: str | None, _dialect: Dialect) -> str | None:
        return None if value is None else masked(value)


metadata = sa.MetaData()

# Binary collation: model `Churn` is not model `churn`, and all engines sort ids alike.
_MYSQL: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}

dispatches = sa.Table(
    "mlops_dispatch",
    metadata,
    sa.Column("dispatch_id", sa.String(DISPATCH_ID_CHARS), primary_key=True),
    sa.Column("model", sa.String(NAME_CHARS), nullable=False),
    sa.Column("origin", sa.String(20), nullable=False),
    sa.Column("requested_by", sa.String(NAME_CHARS)),
    sa.Column("dag_id", sa.String(NAME_CHARS)),
    sa.Column("run_id", sa.String(NAME_CHARS)),
    sa.Column("data_interval_start", UtcTime),
    sa.Column("data_interval_end", UtcTime),
    sa.Column("dry_run", sa.Boolean, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("started_at", UtcTime),
    sa.Column("finished_at", UtcTime),
    sa.Column("updated_at", UtcTime, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("rows_collected", sa.BigInteger),
    sa.Column("rows_predicted", sa.BigInteger),
    sa.Column("rows_rejected", sa.BigInteger),
    sa.Column("rows_persisted", sa.BigInteger),
    sa.Column("rows_superseded", sa.BigInteger),  # empty also for dispatches before version 0008
    sa.Column("columns", JsonText),
    sa.Column("first_key", JsonText),
    sa.Column("last_key", JsonText),
    sa.Column("artifact_sha256", sa.String(64)),
    sa.Column("artifact_uri", MaskedText),
    sa.Column("config_sha256", sa.String(64)),
    sa.Column("query", MaskedText),
    sa.Column("error", MaskedError),
    # One for each combination of filters (`reading.passing` names it): every list is read newest first from
    # the end of one of these, so that any page costs the same.
    sa.Index("mlops_dispatch_newest", "created_at", "dispatch_id"),
    sa.Index("mlops_dispatch_model", "model", "created_at", "dispatch_id"),
    sa.Index("mlops_dispatch_state", "state", "created_at", "dispatch_id"),
    sa.Index("mlops_dispatch_origin", "origin", "created_at", "dispatch_id"),
    sa.Index("mlops_dispatch_model_state", "model", "state", "created_at", "dispatch_id"),
    sa.Index("mlops_dispatch_model_origin", "model", "origin", "created_at", "dispatch_id"),
    sa.Index("mlops_dispatch_state_origin", "state", "origin", "created_at", "dispatch_id"),
    sa.Index("mlops_dispatch_model_state_origin", "model", "state", "origin", "created_at", "dispatch_id"),
    **_MYSQL,
)

events = sa.Table(
    "mlops_event",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column(
        "dispatch_id",
        sa.String(36),
        sa.ForeignKey("mlops_dispatch.dispatch_id", name="mlops_event_of_dispatch", ondelete="CASCADE"),
        nullable=False,
    ),
    sa.Column("model", sa.String(NAME_CHARS), nullable=False),
    sa.Column("step", sa.String(20)),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("partition_number", sa.Integer),  # `partition` is a reserved word in MySQL
    sa.Column("try_number", sa.Integer),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("row_count", sa.BigInteger),  # `rows` is a reserved word in MySQL 8
    sa.Column("seconds", sa.Double),
    sa.Column("error", MaskedError),
    sa.Column("details", JsonText),
    sa.Index("mlops_event_dispatch", "dispatch_id", "id"),
    sa.Index("mlops_event_model", "model", "at", "id"),
    sa.Index("mlops_event_at", "at", "id"),
    sqlite_autoincrement=True,  # an id is never given twice, even after old events are deleted
    **_MYSQL,
)

# Each probe of the Monitor; old ones are deleted, their sums stay.
probes = sa.Table(
    "mlops_probe",
    metadata,
    sa.Column("target", sa.String(TARGET_CHARS), primary_key=True),
    sa.Column("at", UtcTime, primary_key=True),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("seconds", sa.Double),
    sa.Column("error", MaskedError),
    sa.Index("mlops_probe_at", "at"),
    **_MYSQL,
)

# The same, summed by hour (`hour` is its start).
probe_hours = sa.Table(
    "mlops_probe_hour",
    metadata,
    sa.Column("target", sa.String(TARGET_CHARS), primary_key=True),
    sa.Column("hour", UtcTime, primary_key=True),
    sa.Column("up", sa.Integer, nullable=False),
    sa.Column("partly", sa.Integer, nullable=False),
    sa.Column("down", sa.Integer, nullable=False),
    sa.Column("seconds_sum", sa.Double, nullable=False),
    sa.Column("seconds_max", sa.Double, nullable=False),
    sa.Index("mlops_probe_hour_hour", "hour"),
    **_MYSQL,
)

# A time in which a target was not well; `ended_at` is empty while it lasts.
incidents = sa.Table(
    "mlops_incident",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("target", sa.String(TARGET_CHARS), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("began_at", UtcTime, nullable=False),
    sa.Column("ended_at", UtcTime),
    # The state that followed; also empty for incidents before version 0007.
    sa.Column("ended_as", sa.String(20)),
    sa.Column("error", MaskedError),
    sa.Index("mlops_incident_target", "target", "began_at"),
    sa.Index("mlops_incident_ended", "ended_at"),
    sqlite_autoincrement=True,
    **_MYSQL,
)

# Consecutive sightings of another state, too few for a change so far.
streaks = sa.Table(
    "mlops_streak",
    metadata,
    sa.Column("target", sa.String(TARGET_CHARS), primary_key=True),
    sa.Column("is_usual", sa.Boolean, nullable=False),
    sa.Column("length", sa.Integer, nullable=False),
    sa.Column("began_at", UtcTime, nullable=False),
    **_MYSQL,
)

# A change to notify of; `told` (a name of an earlier version) lists the notifiers that have received it.
notices = sa.Table(
    "mlops_notice",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("target", sa.String(TARGET_CHARS), nullable=False),
    sa.Column("name", sa.String(TARGET_CHARS), nullable=False),
    sa.Column("state_before", sa.String(20), nullable=False),
    sa.Column("state_after", sa.String(20), nullable=False),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("since", UtcTime, nullable=False),
    sa.Column("error", MaskedError),
    sa.Column("told", JsonText, nullable=False),
    sa.Column("claimed_until", UtcTime),
    sa.Column("settled_at", UtcTime),
    sa.Index("mlops_notice_settled", "settled_at"),
    sqlite_autoincrement=True,
    **_MYSQL,
)

# Up to which value each model has read its source: the row with the highest number is the current mark.
marks = sa.Table(
    "mlops_mark",
    metadata,
    sa.Column("model", sa.String(NAME_CHARS), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("generation", sa.Integer, nullable=False),  # grows whenever somebody sets it
    sa.Column("cursor_column", sa.String(255), nullable=False),
    sa.Column("value", sa.String(VALUE_CHARS)),
    sa.Column("value_kind", sa.String(40)),
    sa.Column("dispatch_id", sa.String(36)),
    sa.Column("set_by", sa.String(NAME_CHARS)),
    sa.Column("at", UtcTime, nullable=False),
    **_MYSQL,
)

# In which order the dispatches of a model have read their source, see events.order. Rows are appended; old
# ones are deleted.
order = sa.Table(
    "mlops_order",
    metadata,
    sa.Column("model", sa.String(NAME_CHARS), primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("dispatch_id", sa.String(DISPATCH_ID_CHARS), nullable=False),
    sa.Column("interval_end", UtcTime),
    **_MYSQL,
)
