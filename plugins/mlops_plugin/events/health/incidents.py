"""Incidents: times in which a target was not well. They start and end after enough consecutive sightings.

An `Observer` works within the transaction that records the sightings, so the two never disagree.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from mlops_plugin.events import tables

IncidentState = Literal["partly", "down", "late", "missed", "overrun"]
NO_LONGER_WATCHED = "no longer watched"  # the state after removal from the configuration

_I, _S = tables.incidents.c, tables.streaks.c


@dataclass(frozen=True)
class Thresholds:
    """How many sightings in a row it takes until an incident begins (`failure`) or ends (`success`)."""

    failure: int = 1
    success: int = 1


@dataclass(frozen=True)
class Sighting:
    """The state of a target at one moment; `usual` is the state that is no incident."""

    target: str
    at: datetime  # aware
    state: str
    error: str | None = None
    usual: str = "up"
    thresholds: Thresholds = Thresholds()

    @property
    def is_usual(self) -> bool:
        return self.state == self.usual


@dataclass(frozen=True)
class Change:
    """A target that changed its state, after as many sightings as its thresholds require."""

    target: str
    before: str
    after: str
    at: datetime  # of the sighting that decided it
    since: datetime  # when the previous state started if it was an incident; else when the new one started
    error: str | None


@dataclass(frozen=True)
class Incident:
    """A time in which a target was not well."""

    target: str
    state: IncidentState
    began_at: datetime  # the first sighting of it, not the one that decided
    ended_at: datetime | None  # None while it lasts
    ended_as: str | None  # the state that followed, or `NO_LONGER_WATCHED`; None while it lasts
    error: str | None


@dataclass(frozen=True)
class _Lasting:
    id: int
    target: str
    state: str
    began_at: datetime


@dataclass(frozen=True)
class _Streak:
    is_usual: bool
    length: int
    began_at: datetime


class Observer:
    """Adds sightings within one transaction: each counts towards a change, or completes it.

    Open incidents are read at once, so that targets in their usual state cost nothing.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        columns = (_I.id, _I.target, _I.state, _I.began_at)
        lasting = sa.select(*columns).where(_I.ended_at.is_(None)).order_by(_I.id).with_for_update()
        self._lasting = {row.target: _Lasting(**row._mapping) for row in connection.execute(lasting)}
        streaks = connection.execute(sa.select(tables.streaks).with_for_update())
        self._streaks = {row.target: _Streak(row.is_usual, row.length, row.began_at) for row in streaks}

    def observe(self, seen: Sighting) -> Change | None:
        """Add one sighting; returns the change that it decides."""
        incident = self._lasting.get(seen.target)
        before = incident.state if incident is not None else seen.usual
        if seen.state == before:
            self._end_streak(seen.target)
            return None
        streak = self._lengthened(seen)
        if streak.length < (seen.thresholds.success if seen.is_usual else seen.thresholds.failure):
            return None
        self._end_streak(seen.target)
        if incident is not None:
            self._end(incident, streak.began_at, seen.state)
        if not seen.is_usual:
            self._begin(seen, streak.began_at)
        since = incident.began_at if incident is not None else streak.began_at
        return Change(seen.target, before, seen.state, seen.at, since, seen.error)

    def end_unwatched(self, watched: Collection[str], now: datetime) -> list[Change]:
        """End what lasts of targets that are not `watched`; if one returns, counting starts again."""
        for target in self._streaks.keys() - watched:
            self._end_streak(target)
        ended = [row for target, row in self._lasting.items() if target not in watched]
        for incident in ended:
            self._end(incident, now, NO_LONGER_WATCHED)
        return [
            Change(incident.target, incident.state, NO_LONGER_WATCHED, now, incident.began_at, None)
            for incident in ended
        ]

    def _begin(self, seen: Sighting, at: datetime) -> None:
        values = {"target": seen.target, "state": seen.state, "began_at": at, "error": seen.error}
        made = self._connection.execute(sa.insert(tables.incidents).values(values))
        number = made.inserted_primary_key[0]  # type: ignore[index]  # of one row there always is one
        self._lasting[seen.target] = _Lasting(number, seen.target, seen.state, at)

    def _end(self, incident: _Lasting, at: datetime, ended_as: str) -> None:
        this = sa.update(tables.incidents).where(_I.id == incident.id)
        self._connection.execute(this.values(ended_at=at, ended_as=ended_as))
        del self._lasting[incident.target]

    def _lengthened(self, seen: Sighting) -> _Streak:
        """How many sightings in a row point to a change, this one included."""
        streak = self._streaks.get(seen.target)
        if streak is not None and streak.is_usual == seen.is_usual:
            streak = replace(streak, length=streak.length + 1)
        else:
            streak = _Streak(seen.is_usual, 1, seen.at)
        self._end_streak(seen.target)
        values = {"target": seen.target, **vars(streak)}
        self._connection.execute(sa.insert(tables.streaks).values(values))
        self._streaks[seen.target] = streak
        return streak

    def _end_streak(self, target: str) -> None:
        if self._streaks.pop(target, None) is not None:
            self._connection.execute(sa.delete(tables.streaks).where(_S.target == target))


def incidents_of(
    connection: sa.Connection, targets: list[str], *, since: datetime, limit: int
) -> list[Incident]:
    """Incidents that lasted into the time after `since`, newest first."""
    lasted = sa.or_(_I.ended_at.is_(None), _I.ended_at >= since)
    columns = (_I.target, _I.state, _I.began_at, _I.ended_at, _I.ended_as, _I.error)
    wanted = sa.select(*columns).where(_I.target.in_(targets), lasted).order_by(_I.began_at.desc())
    return [Incident(**row._mapping) for row in connection.execute(wanted.limit(limit))]


def forget_incidents(connection: sa.Connection, before: datetime) -> None:
    """Delete incidents that ended, and streaks that started, before a time."""
    connection.execute(sa.delete(tables.incidents).where(_I.ended_at < before))
    connection.execute(sa.delete(tables.streaks).where(_S.began_at < before))
