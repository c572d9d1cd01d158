"""The order in which dispatches have read their source, and the predictions that newer ones have superseded.

The table is written out here and not taken from `events.tables`: that module moves on, this version stays.
"""

import sqlalchemy as sa
from alembic import op  # noqa: TID253 -- only Alembic itself loads this module
from sqlalchemy.dialects import mysql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TIME = (
    sa.DateTime()
    .with_variant(sa.DateTime(timezone=True), "postgresql")
    .with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
)


def upgrade() -> None:
    columns = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("mlops_dispatch")}
    if "rows_superseded" not in columns:  # MySQL keeps what a migration did before it failed
        op.add_column("mlops_dispatch", sa.Column("rows_superseded", sa.BigInteger))
    table = sa.Table(
        "mlops_order",
        sa.MetaData(),
        sa.Column("model", sa.String(250), primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("dispatch_id", sa.String(36), nullable=False),
        sa.Column("interval_end", TIME),
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
    table.create(op.get_bind(), checkfirst=True)
