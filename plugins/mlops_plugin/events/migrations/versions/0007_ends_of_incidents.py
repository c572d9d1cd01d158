"""What a target became when an incident of it ended."""

import sqlalchemy as sa
from alembic import op  # noqa: TID253 -- only Alembic itself loads this module

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    columns = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("mlops_incident")}
    if "ended_as" not in columns:  # MySQL keeps what a migration did before it failed
        op.add_column("mlops_incident", sa.Column("ended_as", sa.String(20)))
