"""When a target was not as it should be: incidents, which begin and end once enough sightings say so.

`observe` works within the transaction that records what was seen, so incidents never disagree with it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from mlops_plugin.events import tables

IncidentState = Literal["partly", "down", "late", "missed", "overrun"]
NO_LONGER_WATCHED = "no longer watched"  # what a target becomes that the configuration names no more

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
    """A target that has become another, by as many sightings as its thresholds ask for."""

    target: str
    before: str
    after: str
    at: datetime  # of the sighting that decided it
    since: datetime  # when the state before began, where it was an incident; else when the new one began
    error: str | None


@dataclass(frozen=True)
class Incident:
    """A time in which a target was not as usual."""

    target: str
    state: IncidentState
    began_at: datetime  # the first sighting of it, not the one that decided
    ended_at: datetime | None  # None while it lasts
    ended_as: str | None  # the state that followed, or `NO_LONGER_WATCHED`; None while it lasts
    error: str | None


def observe(connection: sa.Connection, seen: Sighting) -> Change | None:
    """Add one sighting: count it towards a change, or make the change."""
    lasting = sa.select(tables.incidents).where(_I.target == seen.target, _I.ended_at.is_(None))
    incident = connection.execute(lasting.order_by(_I.id.desc()).limit(1).with_for_update()).one_or_none()
    before = incident.state if incident is not None else seen.usual
    if seen.state == before:
        _end_streak(connection, seen.target)
        return None
    length, began_at = _lengthened(connection, seen)
    if length < (seen.thresholds.success if seen.is_usual else seen.thresholds.failure):
        return None
    _end_streak(connection, seen.target)
    if incident is not None:
        ended = (
            sa.update(tables.incidents)
            .where(_I.id == incident.id)
            .values(ended_at=began_at, ended_as=seen.state)
        )
        connection.execute(ended)
    if not seen.is_usual:
        connection.execute(
            sa.insert(tables.incidents).values(
                target=seen.target, state=seen.state, began_at=began_at, error=seen.error
            )
        )
    since = incident.began_at if incident is not None else began_at
    return Change(seen.target, before, seen.state, seen.at, since, seen.error)


def end_unwatched(connection: sa.Connection, watched: Collection[str], now: datetime) -> list[Change]:
    """End what lasts of targets that are not `watched`; should one return, its sightings count anew."""
    lasting = connection.execute(sa.select(tables.incidents).where(_I.ended_at.is_(None))).all()
    ended = [incident for incident in lasting if incident.target not in watched]
    for incident in ended:
        this = sa.update(tables.incidents).where(_I.id == incident.id)
        connection.execute(this.values(ended_at=now, ended_as=NO_LONGER_WATCHED))
    for target in connection.scalars(sa.select(_S.target)).all():
        if target not in watched:
            _end_streak(connection, target)
    return [
        Change(incident.target, incident.state, NO_LONGER_WATCHED, now, incident.began_at, None)
        for incident in ended
    ]


def incidents_of(
    connection: sa.Connection, targets: list[str], *, since: datetime, limit: int
) -> list[Incident]:
    """Incidents that lasted into the time after `since`, newest first."""
    lasted = sa.or_(_I.ended_at.is_(None), _I.ended_at >= since)
    columns = (_I.target, _I.state, _I.began_at, _I.ended_at, _I.ended_as, _I.error)
    wanted = sa.select(*columns).where(_I.target.in_(targets), lasted).order_by(_I.began_at.desc())
    return [Incident(**row._mapping) for row in connection.execute(wanted.limit(limit))]


def forget_incidents(connection: sa.Connection, before: datetime) -> None:
    """Delete what ended, or was last heard of, before a moment."""
    connection.execute(sa.delete(tables.incidents).where(_I.ended_at < before))
    connection.execute(sa.delete(tables.streaks).where(_S.began_at < before))


def _lengthened(connection: sa.Connection, seen: Sighting) -> tuple[int, datetime]:
    """The sightings in a row that speak for a change, this one included, and when they began."""
    wanted = sa.select(tables.streaks).where(_S.target == seen.target).with_for_update()
    row = connection.execute(wanted).one_or_none()
    if row is not None and row.is_usual == seen.is_usual:
        length, began_at = row.length + 1, row.began_at
    else:
        length, began_at = 1, seen.at
    _end_streak(connection, seen.target)
    connection.execute(
        sa.insert(tables.streaks).values(
            target=seen.target, is_usual=seen.is_usual, length=length, began_at=began_at
        )
    )
    return length, began_at


def _end_streak(connection: sa.Connection, target: str) -> None:
    connection.execute(sa.delete(tables.streaks).where(_S.target == target))
