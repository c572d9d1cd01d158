"""Notices of changes: written together with the change, settled when every notifier has received it.

If a task dies in between, the next round finds the notice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from mlops_plugin.events import tables
from mlops_plugin.events.appending import store_now
from mlops_plugin.events.health.incidents import Change
from mlops_plugin.events.records import clean
from mlops_plugin.events.store import EventStore

_N = tables.notices.c


@dataclass(frozen=True)
class Notice:
    """One change, and the notifiers that have received it."""

    id: int
    name: str  # of the target
    change: Change
    notified: tuple[str, ...]  # keys of notifiers


def add_notices(connection: sa.Connection, changes: Iterable[Change], names: Mapping[str, str]) -> None:
    """Write a notice for each change, in the transaction that makes the changes."""
    for change in changes:
        name = names.get(change.target) or _known_as(connection, change.target)
        connection.execute(
            sa.insert(tables.notices).values(
                target=change.target,
                name=clean(name, tables.TARGET_CHARS),
                state_before=change.before,
                state_after=change.after,
                at=change.at,
                since=change.since,
                error=change.error,
                told=[],
            )
        )


def _known_as(connection: sa.Connection, target: str) -> str:
    """The last known name of a target that was removed from the configuration."""
    newest = sa.select(_N.name).where(_N.target == target).order_by(_N.id.desc()).limit(1)
    return connection.scalar(newest) or target


def forget_notices(connection: sa.Connection, before: datetime) -> None:
    """Delete notices that were settled before a time."""
    connection.execute(sa.delete(tables.notices).where(_N.settled_at < before))


class Notices:
    """The notices of an event store; methods raise `EventStoreError`."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    def waiting(self) -> list[Notice]:
        """Notices that some notifier has not received, oldest first."""
        wanted = sa.select(tables.notices).where(_N.settled_at.is_(None)).order_by(_N.id)
        with self._store.read("reading notices") as connection:
            return [_notice(row) for row in connection.execute(wanted)]

    def claim(self, notice: Notice, lease: timedelta) -> Notice | None:
        """The notice as it stands now if this process may send it, else None.

        No other process may until it is released or the lease ends. By the store's clock: workers whose own
        clocks differ would both send it.
        """

        def claim(connection: sa.Connection) -> Notice | None:
            now = store_now(connection)
            free = sa.or_(_N.claimed_until.is_(None), _N.claimed_until < now)
            this = sa.update(tables.notices).where(_N.id == notice.id, _N.settled_at.is_(None), free)
            if connection.execute(this.values(claimed_until=now + lease)).rowcount != 1:
                return None
            # Another process may have notified somebody since it was read.
            return _notice(connection.execute(sa.select(tables.notices).where(_N.id == notice.id)).one())

        return self._store.write("claiming a notice", claim)

    def remember(self, notice: Notice, notified: Iterable[str]) -> None:
        """Record the notifiers that have received it."""
        self._update("recording who was notified", notice, told=list(notified))

    def release(self, notice: Notice) -> None:
        """Release it to the next round."""
        self._update("releasing a notice", notice, claimed_until=None)

    def now(self) -> datetime:
        """The time by the store's clock, by which changes are dated."""
        return self._store.now()

    def settle(self, notice: Notice, now: datetime) -> None:
        """Close the notice."""
        self._update("settling a notice", notice, settled_at=now)

    def _update(self, doing: str, notice: Notice, **values: object) -> None:
        this = sa.update(tables.notices).where(_N.id == notice.id).values(values)
        self._store.write(doing, lambda connection: connection.execute(this))


def _notice(row: sa.Row[Any]) -> Notice:
    change = Change(row.target, row.state_before, row.state_after, row.at, row.since, row.error)
    return Notice(row.id, row.name, change, tuple(row.told))
