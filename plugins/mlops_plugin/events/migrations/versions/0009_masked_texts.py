"""Masks secrets in texts that earlier versions have stored; `mlops db upgrade` has learnt them before.

The tables are written out here and not taken from `events.tables`: that module moves on, this version stays.
"""

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op  # noqa: TID253 -- only Alembic itself loads this module

from mlops_plugin.masking import masked, masked_values

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

ROWS = 1000  # read at once
ERROR_CHARS = 1000
NAMES = frozenset(("columns", "first_key", "last_key", "state"))  # of details: no texts

# Each table: its key, and its texts.
TEXTS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("mlops_dispatch", ("dispatch_id",), ("error", "query", "artifact_uri")),
    ("mlops_event", ("id",), ("error", "details")),
    ("mlops_probe", ("target", "at"), ("error",)),
    ("mlops_incident", ("id",), ("error",)),
    ("mlops_notice", ("id",), ("error",)),
)


def upgrade() -> None:
    for name, key, texts in TEXTS:
        table = sa.table(name, *map(sa.column, (*key, *texts)))
        _mask(op.get_bind(), table, [table.c[column] for column in key], texts)


def _mask(
    connection: sa.Connection, table: sa.TableClause, key: list[sa.ColumnClause[Any]], texts: Sequence[str]
) -> None:
    """Page by page in the order of the key; only rows that change are written."""
    filled = sa.or_(*(table.c[text].is_not(None) for text in texts))
    page = sa.select(*table.c).where(filled).order_by(*key).limit(ROWS)
    rows = connection.execute(page).mappings().all()
    while rows:
        for row in rows:
            changes = {text: _clean(text, row[text]) for text in texts if row[text] is not None}
            changes = {text: new for text, new in changes.items() if new != row[text]}
            if changes:
                this = [column == row[column.name] for column in key]
                connection.execute(sa.update(table).where(*this).values(changes))
        rows = connection.execute(page.where(_behind(key, rows[-1]))).mappings().all()


def _behind(key: list[sa.ColumnClause[Any]], last: sa.RowMapping) -> sa.ColumnElement[bool]:
    first, *rest = key
    behind = first > last[first.name]
    return sa.or_(behind, sa.and_(first == last[first.name], _behind(rest, last))) if rest else behind


def _clean(column: str, text: str) -> str:
    if column != "details":
        return masked(text)[:ERROR_CHARS] if column == "error" else masked(text)
    details = json.loads(text)
    if not isinstance(details, dict) or "dispatch_id" in details or "process" in details:
        return text  # who made the dispatch, and which
    clean = {name: item if name in NAMES else masked_values(item) for name, item in details.items()}
    return text if clean == details else json.dumps(clean, ensure_ascii=False, allow_nan=False)
