"""Watermarks: up to where each model has read its source.

The table is written out here and not taken from `events.tables`: that module moves on, this version stays.
"""

import sqlalchemy as sa
from alembic import op  # noqa: TID253 -- only Alembic itself loads this module
from sqlalchemy.dialects import mysql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TIME = (
    sa.DateTime()
    .with_variant(sa.DateTime(timezone=True), "postgresql")
    .with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
)


def upgrade() -> None:
    table = sa.Table(
        "mlops_mark",
        sa.MetaData(),
        sa.Column("model", sa.String(250), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("cursor_column", sa.String(255), nullable=False),
        sa.Column("value", sa.String(40)),
        sa.Column("value_kind", sa.String(40)),
        sa.Column("dispatch_id", sa.String(36)),
        sa.Column("set_by", sa.String(250)),
        sa.Column("at", TIME, nullable=False),
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
    # MySQL commits each statement: if an upgrade was killed, the next one creates what is missing.
    table.create(op.get_bind(), checkfirst=True)
