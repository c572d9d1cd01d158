"""Streaks of sightings, and notices of changes.

The tables are written out here and not taken from `events.tables`: that module moves on, this version stays.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op  # noqa: TID253 -- only Alembic itself loads this module
from sqlalchemy.dialects import mysql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TIME = (
    sa.DateTime()
    .with_variant(sa.DateTime(timezone=True), "postgresql")
    .with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
)
LONG = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
MYSQL: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def upgrade() -> None:
    metadata = sa.MetaData()
    for table in (_streaks(metadata), _notices(metadata)):
        # MySQL commits each statement: if an upgrade was killed, the next one creates what is missing.
        table.create(op.get_bind(), checkfirst=True)
        for index in table.indexes:
            index.create(op.get_bind(), checkfirst=True)


def _streaks(metadata: sa.MetaData) -> sa.Table:
    return sa.Table(
        "mlops_streak",
        metadata,
        sa.Column("target", sa.String(300), primary_key=True),
        sa.Column("is_usual", sa.Boolean, nullable=False),
        sa.Column("length", sa.Integer, nullable=False),
        sa.Column("began_at", TIME, nullable=False),
        **MYSQL,
    )


def _notices(metadata: sa.MetaData) -> sa.Table:
    return sa.Table(
        "mlops_notice",
        metadata,
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True
        ),
        sa.Column("target", sa.String(300), nullable=False),
        sa.Column("name", sa.String(300), nullable=False),
        sa.Column("state_before", sa.String(20), nullable=False),
        sa.Column("state_after", sa.String(20), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.Column("error", sa.String(1000)),
        sa.Column("told", LONG, nullable=False),
        sa.Column("claimed_until", TIME),
        sa.Column("settled_at", TIME),
        sa.Index("mlops_notice_settled", "settled_at"),
        sqlite_autoincrement=True,
        **MYSQL,
    )
