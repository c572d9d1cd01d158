"""Dispatches and their events.

The tables are written out here and not taken from `events.tables`: that module moves on, this version stays.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op  # noqa: TID253 -- only Alembic itself loads this module
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TIME = (
    sa.DateTime()
    .with_variant(sa.DateTime(timezone=True), "postgresql")
    .with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
)
TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
MYSQL: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def upgrade() -> None:
    metadata = sa.MetaData()
    for table in (_dispatches(metadata), _events(metadata)):
        # MySQL commits each statement: if an upgrade was killed, the next one creates what is missing.
        table.create(op.get_bind(), checkfirst=True)
        for index in table.indexes:
            index.create(op.get_bind(), checkfirst=True)


def _dispatches(metadata: sa.MetaData) -> sa.Table:
    return sa.Table(
        "mlops_dispatch",
        metadata,
        sa.Column("dispatch_id", sa.String(36), primary_key=True),
        sa.Column("model", sa.String(250), nullable=False),
        sa.Column("origin", sa.String(20), nullable=False),
        sa.Column("requested_by", sa.String(250)),
        sa.Column("dag_id", sa.String(250)),
        sa.Column("run_id", sa.String(250)),
        sa.Column("data_interval_start", TIME),
        sa.Column("data_interval_end", TIME),
        sa.Column("dry_run", sa.Boolean, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("started_at", TIME),
        sa.Column("finished_at", TIME),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("rows_collected", sa.BigInteger),
        sa.Column("rows_predicted", sa.BigInteger),
        sa.Column("rows_rejected", sa.BigInteger),
        sa.Column("rows_persisted", sa.BigInteger),
        sa.Column("columns", TEXT),
        sa.Column("first_key", TEXT),
        sa.Column("last_key", TEXT),
        sa.Column("artifact_sha256", sa.String(64)),
        sa.Column("artifact_uri", TEXT),
        sa.Column("config_sha256", sa.String(64)),
        sa.Column("query", TEXT),
        sa.Column("error", sa.String(1000)),
        sa.Index("mlops_dispatch_newest", "created_at", "dispatch_id"),
        sa.Index("mlops_dispatch_model", "model", "created_at", "dispatch_id"),
        sa.Index("mlops_dispatch_state", "state", "created_at", "dispatch_id"),
        sa.Index("mlops_dispatch_origin", "origin", "created_at", "dispatch_id"),
        sa.Index("mlops_dispatch_model_state", "model", "state", "created_at", "dispatch_id"),
        **MYSQL,
    )


def _events(metadata: sa.MetaData) -> sa.Table:
    return sa.Table(
        "mlops_event",
        metadata,
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True
        ),
        sa.Column(
            "dispatch_id",
            sa.String(36),
            sa.ForeignKey("mlops_dispatch.dispatch_id", name="mlops_event_of_dispatch", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("model", sa.String(250), nullable=False),
        sa.Column("step", sa.String(20)),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("try_number", sa.Integer),
        sa.Column("at", TIME, nullable=False),
        sa.Column("row_count", sa.BigInteger),
        sa.Column("seconds", sa.Double),
        sa.Column("error", sa.String(1000)),
        sa.Column("details", TEXT),
        sa.Index("mlops_event_dispatch", "dispatch_id", "id"),
        sa.Index("mlops_event_model", "model", "at", "id"),
        sa.Index("mlops_event_at", "at", "id"),
        sqlite_autoincrement=True,
        **MYSQL,
    )
