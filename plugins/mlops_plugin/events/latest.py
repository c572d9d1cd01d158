"""The last dispatches of each of many models, as the Monitor and the list of models show them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from mlops_plugin.events import tables
from mlops_plugin.events.records import DispatchRecord, State
from mlops_plugin.events.store import EventStore

_D = tables.dispatches.c
_AT_ONCE = 100  # models in one statement: SQLite allows 500, and preparing takes time


@dataclass(frozen=True)
class RecentDispatch:
    """As much of a dispatch as a small chart needs."""

    dispatch_id: str
    state: State
    created_at: datetime
    rows_predicted: int | None


_RECENT = [_D[name] for name in RecentDispatch.__dataclass_fields__]


def latest_dispatches(
    store: EventStore, models: Iterable[str], *, has_ended: bool = False
) -> dict[str, DispatchRecord]:
    """By model; neither Showroom runs nor dry runs count: they say nothing about what should be written.

    `has_ended`: those that run do not count, either. Raises `EventStoreError`.
    """
    found, names = {}, list(models)
    with store.read("reading each model's last dispatch") as connection:
        for first in range(0, len(names), _AT_ONCE):
            some = names[first : first + _AT_ONCE]
            newest = connection.scalars(_newest(some, has_ended=has_ended)).all()
            wanted = sa.select(tables.dispatches).where(_D.dispatch_id.in_(newest))
            for row in connection.execute(wanted):
                found[row.model] = DispatchRecord(**row._mapping)
    return found


def recent_dispatches(
    store: EventStore, models: Iterable[str], *, each: int
) -> dict[str, list[RecentDispatch]]:
    """The newest `each` dispatches of each model, oldest first, without dry runs and those of the Showroom.

    Raises `EventStoreError`.
    """
    found: dict[str, list[RecentDispatch]] = {}
    names = list(models)
    with store.read("reading each model's last dispatches") as connection:
        for first in range(0, len(names), _AT_ONCE):
            some = names[first : first + _AT_ONCE]
            for model, *values in connection.execute(_newest(some, [_D.model, *_RECENT], each)):
                found.setdefault(model, []).append(RecentDispatch(*values))
    # Not in the statement: the order of a part is lost in the whole.
    return {
        model: sorted(dispatches, key=lambda one: (one.created_at, one.dispatch_id))
        for model, dispatches in found.items()
    }


def _newest(
    models: Sequence[str],
    columns: Sequence[sa.ColumnElement[Any]] = (_D.dispatch_id,),
    each: int = 1,
    *,
    has_ended: bool = False,
) -> sa.CompoundSelect[Any]:
    """One step into an index for each model, while grouping would read all dispatches."""
    counts = [_D.origin != "showroom", _D.dry_run.is_(False)]
    counts += [_D.state != "running"] if has_ended else []
    return sa.union_all(
        *(
            sa.select(
                sa.select(*columns)
                .where(_D.model == model, *counts)
                .order_by(_D.created_at.desc(), _D.dispatch_id.desc())
                .limit(each)
                .subquery()
            )
            for model in models
        )
    )
