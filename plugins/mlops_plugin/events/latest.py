"""The last dispatch of each model, as the Monitor shows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from mlops_plugin.events import tables
from mlops_plugin.events.records import DispatchRecord
from mlops_plugin.events.store import EventStore

_D = tables.dispatches.c
_AT_ONCE = 100  # models in one statement: SQLite allows 500, and preparing takes time


def latest_dispatches(store: EventStore, models: Iterable[str]) -> dict[str, DispatchRecord]:
    """By model; Showroom runs do not count, since they say nothing about the schedule.

    Raises `EventStoreError`.
    """
    found, names = {}, list(models)
    with store.read("reading each model's last dispatch") as connection:
        for first in range(0, len(names), _AT_ONCE):
            newest = connection.scalars(_newest(names[first : first + _AT_ONCE])).all()
            wanted = sa.select(tables.dispatches).where(_D.dispatch_id.in_(newest))
            for row in connection.execute(wanted):
                found[row.model] = DispatchRecord(**row._mapping)
    return found


def _newest(models: Sequence[str]) -> sa.CompoundSelect[Any]:
    """The ids: one step into an index for each model, while grouping would read all dispatches."""
    return sa.union_all(
        *(
            sa.select(
                sa.select(_D.dispatch_id)
                .where(_D.model == model, _D.origin != "showroom")
                .order_by(_D.created_at.desc(), _D.dispatch_id.desc())
                .limit(1)
                .subquery()
            )
            for model in models
        )
    )
