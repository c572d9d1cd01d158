"""Which partition of a step an event is about."""

import sqlalchemy as sa
from alembic import op  # noqa: TID253 -- only Alembic itself loads this module

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    columns = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("mlops_event")}
    if "partition_number" not in columns:  # MySQL keeps what a migration did before it failed
        op.add_column("mlops_event", sa.Column("partition_number", sa.Integer))
