"""An index for each combination of filters: without one, MariaDB reads a million rows to find the few."""

import sqlalchemy as sa
from alembic import op  # noqa: TID253 -- only Alembic itself loads this module

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

FILTERS = (("model", "origin"), ("state", "origin"), ("model", "state", "origin"))


def upgrade() -> None:
    names = ("model", "state", "origin", "created_at", "dispatch_id")
    table = sa.Table("mlops_dispatch", sa.MetaData(), *(sa.Column(name) for name in names))
    for columns in FILTERS:
        index = sa.Index(
            f"mlops_dispatch_{'_'.join(columns)}",
            *(table.c[name] for name in (*columns, "created_at", "dispatch_id")),
        )
        index.create(op.get_bind(), checkfirst=True)
