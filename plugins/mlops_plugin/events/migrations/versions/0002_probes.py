"""What the Monitor found: single probes, their sums by hour, and incidents.

The tables are written out here and not taken from `events.tables`: that module moves on, this version stays.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op  # noqa: TID253 -- only Alembic itself loads this module
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TIME = (
    sa.DateTime()
    .with_variant(sa.DateTime(timezone=True), "postgresql")
    .with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
)
MYSQL: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def upgrade() -> None:
    metadata = sa.MetaData()
    for table in (_probes(metadata), _hours(metadata), _incidents(metadata)):
        # MySQL commits each statement: if an upgrade was killed, the next one creates what is missing.
        table.create(op.get_bind(), checkfirst=True)
        for index in table.indexes:
            index.create(op.get_bind(), checkfirst=True)


def _probes(metadata: sa.MetaData) -> sa.Table:
    return sa.Table(
        "mlops_probe",
        metadata,
        sa.Column("target", sa.String(300), primary_key=True),
        sa.Column("at", TIME, primary_key=True),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("seconds", sa.Double),
        sa.Column("error", sa.String(1000)),
        sa.Index("mlops_probe_at", "at"),
        **MYSQL,
    )


def _hours(metadata: sa.MetaData) -> sa.Table:
    return sa.Table(
        "mlops_probe_hour",
        metadata,
        sa.Column("target", sa.String(300), primary_key=True),
        sa.Column("hour", TIME, primary_key=True),
        sa.Column("up", sa.Integer, nullable=False),
        sa.Column("partly", sa.Integer, nullable=False),
        sa.Column("down", sa.Integer, nullable=False),
        sa.Column("seconds_sum", sa.Double, nullable=False),
        sa.Column("seconds_max", sa.Double, nullable=False),
        sa.Index("mlops_probe_hour_hour", "hour"),
        **MYSQL,
    )


def _incidents(metadata: sa.MetaData) -> sa.Table:
    return sa.Table(
        "mlops_incident",
        metadata,
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True
        ),
        sa.Column("target", sa.String(300), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("began_at", TIME, nullable=False),
        sa.Column("ended_at", TIME),
        sa.Column("error", sa.String(1000)),
        sa.Index("mlops_incident_target", "target", "began_at"),
        sa.Index("mlops_incident_ended", "ended_at"),
        sqlite_autoincrement=True,
        **MYSQL,
    )
