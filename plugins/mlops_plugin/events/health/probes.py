"""The history of the Monitor's probes: recorded by a DAG, read by the Monitor's pages.

Each probe is kept for a short time, the sums of its hour for long.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from mlops_plugin.events import tables
from mlops_plugin.events.health.incidents import (
    Change,
    Incident,
    Observer,
    Sighting,
    Thresholds,
    forget_incidents,
    incidents_of,
)
from mlops_plugin.events.health.notices import add_notices, forget_notices
from mlops_plugin.events.records import clean, first_line
from mlops_plugin.events.store import EventStore

ProbeState = Literal["up", "partly", "down"]

_P, _H = tables.probes.c, tables.probe_hours.c
_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class ProbeRecord:
    """One probe of one target."""

    target: str
    at: datetime  # aware
    state: ProbeState
    seconds: float | None
    error: str | None


@dataclass(frozen=True)
class Findings:
    """The results of one round. `sightings` are states without latency and sums."""

    probes: Sequence[ProbeRecord]
    sightings: Sequence[Sighting] = ()
    thresholds: Mapping[str, Thresholds] = field(default_factory=dict)  # by target; others change at once
    names: Mapping[str, str] = field(default_factory=dict)  # of the targets, for people
    has_notifiers: bool = False  # whether changes get a notice
    watched: Collection[str] | None = None  # all targets; None: others are left alone

    def shortened(self) -> tuple[list[ProbeRecord], list[Sighting]]:
        """The probes and all sightings, with errors as short as the store keeps them."""
        probes = [replace(probe, error=_short(probe.error)) for probe in self.probes]
        by_probe = [
            Sighting(
                probe.target,
                probe.at,
                probe.state,
                probe.error,
                thresholds=self.thresholds.get(probe.target, Thresholds()),
            )
            for probe in probes
        ]
        return probes, [*by_probe, *(replace(seen, error=_short(seen.error)) for seen in self.sightings)]


@dataclass(frozen=True)
class Span:
    """The probes of one target in a stretch of time, added up."""

    target: str
    start: datetime
    up: int = 0
    partly: int = 0
    down: int = 0
    seconds_sum: float = 0.0  # of those that got through
    seconds_max: float = 0.0

    @property
    def count(self) -> int:
        return self.up + self.partly + self.down

    @property
    def availability(self) -> float | None:
        """The share of probes that got through; None without any."""
        return (self.up + self.partly) / self.count if self.count else None

    @property
    def seconds(self) -> float | None:
        """Mean latency of the probes that got through; None if none did, or none has a latency."""
        through = self.up + self.partly
        return self.seconds_sum / through if through and self.seconds_sum else None

    def plus(self, other: Span) -> Span:
        return replace(
            self,
            up=self.up + other.up,
            partly=self.partly + other.partly,
            down=self.down + other.down,
            seconds_sum=self.seconds_sum + other.seconds_sum,
            seconds_max=max(self.seconds_max, other.seconds_max),
        )


def added_up(spans: Sequence[Span]) -> Span:
    """Several stretches, at least one, as one."""
    whole = spans[0]
    for span in spans[1:]:
        whole = whole.plus(span)
    return whole


class ProbeHistory:
    """The Monitor's tables in an event store; methods raise `EventStoreError`."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    def record(
        self, found: Findings, *, keep_probes: timedelta, keep: timedelta, now: datetime
    ) -> list[Change]:
        """Add one round of probes, delete what is too old, and return the changes."""
        probes, sightings = found.shortened()

        def record(connection: sa.Connection) -> list[Change]:
            if probes:
                connection.execute(sa.insert(tables.probes), [_values(probe) for probe in probes])
            _add_to_hours(connection, probes)
            observer = Observer(connection)
            changes = [change for seen in sightings if (change := observer.observe(seen))]
            if found.watched is not None:
                changes += observer.end_unwatched(found.watched, now)
            if found.has_notifiers:
                add_notices(connection, changes, found.names)
            _forget(connection, now - keep_probes, now - keep)
            return changes

        return self._store.write("recording probes", record)

    def probes(self, target: str, *, since: datetime) -> list[ProbeRecord]:
        """Single probes of a target, oldest first."""
        wanted = sa.select(tables.probes).where(_P.target == target, _P.at >= since).order_by(_P.at)
        with self._store.read("reading probes") as connection:
            return [ProbeRecord(**row._mapping) for row in connection.execute(wanted)]

    def failed_probes(self, target: str, *, limit: int = 100) -> list[ProbeRecord]:
        """The newest single probes of a target that found it down or partly up, newest first.

        As far back as single probes are kept; whether an incident came of them or not.
        """
        wanted = (
            sa.select(tables.probes)
            .where(_P.target == target, _P.state != "up")
            .order_by(_P.at.desc())
            .limit(limit)
        )
        with self._store.read("reading failed probes") as connection:
            return [ProbeRecord(**row._mapping) for row in connection.execute(wanted)]

    def hours(self, *targets: str, since: datetime) -> list[Span]:
        """Sums by hour of targets, oldest first; the hour of `since` is the first."""
        wanted = sa.select(tables.probe_hours).where(_H.target.in_(targets), _H.hour >= hour_of(since))
        with self._store.read("reading the sums of probes") as connection:
            return [_as_span(row) for row in connection.execute(wanted.order_by(_H.hour))]

    def incidents(self, *targets: str, since: datetime, limit: int = 100) -> list[Incident]:
        """Incidents of targets that lasted into the time after `since`, newest first."""
        with self._store.read("reading incidents") as connection:
            return incidents_of(connection, list(targets), since=since, limit=limit)


def hour_of(moment: datetime) -> datetime:
    """The beginning of a moment's hour, UTC."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def spans(found: Iterable[ProbeRecord | Span], start: datetime, length: timedelta, count: int) -> list[Span]:
    """`count` stretches of time from `start` on, each with what was found in it."""
    result = [Span("", start + number * length) for number in range(count)]
    for item in found:
        at, span = (item.start, item) if isinstance(item, Span) else (item.at, _span(item))
        number = (at - start) // length
        if 0 <= number < count:
            result[number] = result[number].plus(span)
    return result


def _span(probe: ProbeRecord) -> Span:
    seconds = probe.seconds or 0.0
    return Span(
        probe.target,
        hour_of(probe.at),
        **{probe.state: 1},
        seconds_sum=seconds,
        seconds_max=seconds,
    )


def _short(error: str | None) -> str | None:
    return error and first_line(error, tables.ERROR_CHARS)


def _values(probe: ProbeRecord) -> dict[str, Any]:
    return {
        "target": clean(probe.target, tables.TARGET_CHARS),
        "at": probe.at,
        "state": probe.state,
        "seconds": probe.seconds,
        "error": probe.error,
    }


def _add_to_hours(connection: sa.Connection, probes: Iterable[ProbeRecord]) -> None:
    """Add probes to their hours' sums: read, deleted and written again at once, the same on every engine."""
    by_hour: dict[datetime, dict[str, Span]] = {}
    for probe in probes:
        one = _span(probe)
        sums = by_hour.setdefault(one.start, {})
        sums[one.target] = sums[one.target].plus(one) if one.target in sums else one
    for hour, sums in by_hour.items():
        these = sa.and_(_H.hour == hour, _H.target.in_(sums))
        known = connection.execute(sa.select(tables.probe_hours).where(these).with_for_update()).all()
        for before in map(_as_span, known):
            sums[before.target] = before.plus(sums[before.target])
        if known:
            connection.execute(sa.delete(tables.probe_hours).where(these))
        connection.execute(sa.insert(tables.probe_hours), [_hour_values(span) for span in sums.values()])


def _as_span(row: sa.Row[Any]) -> Span:
    values = dict(row._mapping)
    return Span(start=values.pop("hour"), **values)


def _hour_values(span: Span) -> dict[str, Any]:
    values = dict(vars(span))
    return {"hour": values.pop("start"), **values}


def _forget(connection: sa.Connection, probes_before: datetime, rest_before: datetime) -> None:
    connection.execute(sa.delete(tables.probes).where(_P.at < probes_before))
    connection.execute(sa.delete(tables.probe_hours).where(_H.hour < rest_before))
    forget_notices(connection, probes_before)
    forget_incidents(connection, rest_before)
