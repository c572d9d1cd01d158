"""The last dispatch of each model, as the Monitor shows it."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from mlops_plugin.events import tables
from mlops_plugin.events.records import DispatchRecord
from mlops_plugin.events.store import EventStore

_D = tables.dispatches.c


def latest_dispatches(store: EventStore, models: Iterable[str]) -> dict[str, DispatchRecord]:
    """By model; those of the Showroom do not count, they say nothing of the model's schedule.

    Raises `EventStoreError`.
    """
    found = {}
    with store._reading("reading each model's last dispatch") as connection:
        for model in models:
            newest = (
                sa.select(tables.dispatches)
                .where(_D.model == model, _D.origin != "showroom")
                .order_by(_D.created_at.desc(), _D.dispatch_id.desc())
                .limit(1)
            )
            row = connection.execute(newest).one_or_none()
            if row is not None:
                found[model] = DispatchRecord(**row._mapping)
    return found
