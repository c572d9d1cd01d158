"""When dispatches and their tries began and ended: how long one lay idle, and what is being retried."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from mlops_plugin.events import tables
from mlops_plugin.events.records import DispatchRecord, EventRecord, Kind, Step
from mlops_plugin.events.store import EventStore

_E = tables.events.c
_AT_ONCE = 500  # dispatches; engines limit a statement's parameters
_COLUMNS = (_E.step, _E.kind, _E.partition_number, _E.try_number, _E.at, _E.error)


@dataclass(frozen=True)
class Moment:
    """An event without its details; `step` is None if it happened to the dispatch as a whole."""

    step: Step | None
    kind: Kind
    partition_number: int | None
    try_number: int | None
    at: datetime  # aware UTC
    error: str | None


@dataclass(frozen=True)
class Retry:
    """A step that has failed, and is being tried again or waits for it; `number` is that of the next try."""

    step: Step
    number: int
    error: str


def read_moments(store: EventStore, dispatch_ids: Sequence[str]) -> dict[str, list[Moment]]:
    """The events of each dispatch in the order of recording; raises `EventStoreError`."""
    found: dict[str, list[Moment]] = {}
    if not dispatch_ids:
        return found
    with store.read("reading the tries of dispatches") as connection:
        for start in range(0, len(dispatch_ids), _AT_ONCE):
            some = _E.dispatch_id.in_(dispatch_ids[start : start + _AT_ONCE])
            wanted = sa.select(_E.dispatch_id, *_COLUMNS).where(some).order_by(_E.dispatch_id, _E.id)
            for dispatch_id, *values in connection.execute(wanted):
                found.setdefault(dispatch_id, []).append(Moment(*values))
    return found


def read_openings(store: EventStore, dispatches: Iterable[DispatchRecord]) -> dict[str, datetime]:
    """When each that runs was last opened, by id; raises `EventStoreError`."""
    running = [each.dispatch_id for each in dispatches if each.state == "running"]
    return openings_of(read_moments(store, running))


def openings_of(found: Mapping[str, Sequence[Moment]]) -> dict[str, datetime]:
    """When each dispatch was last opened, by id: a cleared one opens again long after its beginning."""
    opened: dict[str, datetime] = {}
    for dispatch_id, moments in found.items():
        is_open = False
        for moment in moments:
            if was_closed([moment]):
                is_open = False
            elif not is_open:
                opened[dispatch_id], is_open = moment.at, True
    return opened


def was_closed(moments: Sequence[Moment]) -> bool:
    """Whether a dispatch has ended once; if it runs, it was cleared since."""
    return any(moment.step is None and moment.kind != "started" for moment in moments)


def idle_seconds(moments: Sequence[Moment | EventRecord], until: datetime | None = None) -> float:
    """How long nothing ran between the end of a failed or closed try and the start of the next.

    Waiting for a worker between two steps is no idle time. `until`: the time that a dispatch which waits for
    its next try has reached; None if it has ended.
    """
    running: set[tuple[Step, int | None]] = set()
    failed: set[tuple[Step, int | None]] = set()
    idle, since = 0.0, None
    for moment in moments:
        if moment.step is None:
            if moment.kind == "started":  # of a cleared run: nothing is awaited but its first step
                failed.clear()
            else:
                running.clear()
                since = since or moment.at
            continue
        work = (moment.step, moment.partition_number)
        if moment.kind == "started":
            idle += (moment.at - since).total_seconds() if since else 0.0
            since = None
            running.add(work)
            failed.discard(work)
        elif moment.kind in ("succeeded", "failed"):
            running.discard(work)
            failed |= {work} if moment.kind == "failed" else set()
            if failed and not running:
                since = moment.at
    if since is not None and until is not None:
        idle += (until - since).total_seconds()
    return idle


def retry_of(moments: Sequence[Moment]) -> Retry | None:
    """The last failure in the tries since the dispatch was last opened, until its step has succeeded."""
    found: dict[tuple[Step, int | None], Retry] = {}
    for moment in moments:
        if moment.step is None:
            if moment.kind != "started":
                found.clear()
            continue
        work, number = (moment.step, moment.partition_number), moment.try_number or 1
        if moment.kind == "failed":
            found.pop(work, None)  # the newest failure comes last
            found[work] = Retry(moment.step, number + 1, moment.error or "unknown error")
        elif moment.kind == "started" and work in found:
            found[work] = Retry(moment.step, number, found[work].error)
        elif moment.kind == "succeeded":
            found.pop(work, None)
    return list(found.values())[-1] if found else None
