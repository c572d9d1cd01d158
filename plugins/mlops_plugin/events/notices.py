"""Changes that somebody is to be told of: written with the change itself, settled when everybody was told.

A task that dies between the two leaves the notice behind, and the next round finds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from mlops_plugin.events import tables
from mlops_plugin.events.incidents import Change
from mlops_plugin.events.store import EventStore

_N = tables.notices.c


@dataclass(frozen=True)
class Notice:
    """One change, and who was told of it so far."""

    id: int
    name: str  # what people call the target
    change: Change
    told: tuple[str, ...]


def add_notices(connection: sa.Connection, changes: Iterable[Change], names: Mapping[str, str]) -> None:
    """Write changes down for those who are to be told; in the transaction that makes the changes."""
    for change in changes:
        connection.execute(
            sa.insert(tables.notices).values(
                target=change.target,
                name=names.get(change.target) or _known_as(connection, change.target),
                state_before=change.before,
                state_after=change.after,
                at=change.at,
                since=change.since,
                error=change.error,
                told=[],
            )
        )


def _known_as(connection: sa.Connection, target: str) -> str:
    """What people were told that a target is called, which the configuration names no more."""
    newest = sa.select(_N.name).where(_N.target == target).order_by(_N.id.desc()).limit(1)
    return connection.scalar(newest) or target


def forget_notices(connection: sa.Connection, before: datetime) -> None:
    """Delete what was settled before a moment."""
    connection.execute(sa.delete(tables.notices).where(_N.settled_at < before))


class Notices:
    """The notices of an event store; methods raise `EventStoreError`."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    def waiting(self) -> list[Notice]:
        """Those that not everybody was told of, oldest first."""
        wanted = sa.select(tables.notices).where(_N.settled_at.is_(None)).order_by(_N.id)
        with self._store.read("reading notices") as connection:
            return [_notice(row) for row in connection.execute(wanted)]

    def claim(self, notice: Notice, now: datetime, lease: timedelta) -> bool:
        """Whether this process is the one to tell it; no other may before it lets go or the lease ends."""
        free = sa.or_(_N.claimed_until.is_(None), _N.claimed_until < now)
        this = sa.update(tables.notices).where(_N.id == notice.id, _N.settled_at.is_(None), free)
        return self._store.write(
            "claiming a notice",
            lambda connection: connection.execute(this.values(claimed_until=now + lease)).rowcount == 1,
        )

    def remember(self, notice: Notice, told: Iterable[str]) -> None:
        """Note who was told by now."""
        self._update("noting who was told", notice, told=list(told))

    def let_go(self, notice: Notice) -> None:
        """Leave the rest to another round."""
        self._update("letting go of a notice", notice, claimed_until=None)

    def settle(self, notice: Notice, now: datetime) -> None:
        """Nobody is to be told of it any more."""
        self._update("settling a notice", notice, settled_at=now)

    def _update(self, doing: str, notice: Notice, **values: object) -> None:
        this = sa.update(tables.notices).where(_N.id == notice.id).values(values)
        self._store.write(doing, lambda connection: connection.execute(this))


def _notice(row: sa.Row[Any]) -> Notice:
    change = Change(row.target, row.state_before, row.state_after, row.at, row.since, row.error)
    return Notice(row.id, row.name, change, tuple(row.told))
