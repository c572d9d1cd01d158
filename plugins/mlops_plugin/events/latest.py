"""The last dispatches of each model, as the Monitor and the Showroom's cards show them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from mlops_plugin.events import tables
from mlops_plugin.events.records import DispatchRecord, State
from mlops_plugin.events.store import EventStore

_D = tables.dispatches.c
_AT_ONCE = 100  # models in one statement: SQLite allows 500, and preparing takes time


@dataclass(frozen=True)
class RecentDispatch:
    """As much of a dispatch as a small picture of many needs."""

    state: State
    rows_predicted: int | None


def recent_dispatches(
    store: EventStore, models: Iterable[str], count: int
) -> dict[str, list[RecentDispatch]]:
    """By model, its last dispatches, the newest at the end; Showroom runs do not count here either.

    Raises `EventStoreError`.
    """
    found: dict[str, list[RecentDispatch]] = {}
    names = list(models)
    columns = (_D.model, _D.state, _D.rows_predicted)
    with store.read("reading each model's last dispatches") as connection:
        for first in range(0, len(names), _AT_ONCE):
            some = _last(names[first : first + _AT_ONCE], count, *columns)
            for model, state, rows in connection.execute(some):
                found.setdefault(model, []).append(RecentDispatch(state, rows))
    return {model: several[::-1] for model, several in found.items()}


def latest_dispatches(store: EventStore, models: Iterable[str]) -> dict[str, DispatchRecord]:
    """By model; Showroom runs do not count, since they say nothing about the schedule.

    Raises `EventStoreError`.
    """
    found, names = {}, list(models)
    with store.read("reading each model's last dispatch") as connection:
        for first in range(0, len(names), _AT_ONCE):
            newest = connection.scalars(_last(names[first : first + _AT_ONCE], 1, _D.dispatch_id)).all()
            wanted = sa.select(tables.dispatches).where(_D.dispatch_id.in_(newest))
            for row in connection.execute(wanted):
                found[row.model] = DispatchRecord(**row._mapping)
    return found


def _last(models: Sequence[str], count: int, *columns: Any) -> sa.CompoundSelect[Any]:
    """Newest first: a few steps into an index for each model, while grouping would read all dispatches."""
    return sa.union_all(
        *(
            sa.select(
                sa.select(*columns)
                .where(_D.model == model, _D.origin != "showroom")
                .order_by(_D.created_at.desc(), _D.dispatch_id.desc())
                .limit(count)
                .subquery()
            )
            for model in models
        )
    )
