"""The order of a dispatch's tries: once a newer one has registered, an older one may change nothing more.

A try registers by its "started" event, and the id of that event is its token: the store gives ids in order,
while it holds the lock of the dispatch's row. So no clock and no process has to be trusted. If the store is
restored from a backup, ids are given again; a try whose own event is no longer there has lost its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from mlops_plugin.errors import TrySuperseded
from mlops_plugin.events import tables
from mlops_plugin.events.details.milestones import TryStart
from mlops_plugin.events.details.serialization import read_details
from mlops_plugin.events.records import Details, EventRecord, Step

_ORDER: tuple[Step, ...] = ("plan", "collect", "log", "infer", "persist")
_PARTITIONED: frozenset[Step] = frozenset({"collect", "infer"})
_E = tables.events.c


@dataclass(frozen=True)
class TryToken:
    """The place of one try among all tries of its dispatch; `event_id` grows from try to try.

    `started_at` is the time of that event: together they are not given twice.
    """

    dispatch_id: str
    step: Step
    partition: int | None
    event_id: int
    started_at: datetime


def require_newest(connection: sa.Connection, token: TryToken) -> None:
    """Raise `TrySuperseded` if a newer try of this step, or of a step before it, has registered.

    Also if this try is no longer registered. To rely on the answer, hold the lock of the dispatch's row.
    """
    since = (
        sa.select(_E.id, _E.step, _E.partition_number, _E.try_number, _E.at)
        .where(
            _E.dispatch_id == token.dispatch_id,
            _E.id >= token.event_id,
            _E.kind == "started",
            _E.step.in_(_ORDER[: _ORDER.index(token.step) + 1]),
        )
        .order_by(_E.id)
    )
    found = connection.execute(since).all()
    own = (token.event_id, token.step, token.started_at)
    if not found or (found[0].id, found[0].step, found[0].at) != own:
        raise TrySuperseded(
            f"dispatch {token.dispatch_id}: the start of this try of '{token.step}' is no longer in the "
            "event store, which was restored from a backup or replaced; this try makes no more changes"
        )
    for row in found[1:]:
        if _concerns(row.step, row.partition_number, token):
            raise TrySuperseded(
                f"dispatch {token.dispatch_id}: '{row.step}' was started again (try {row.try_number}, "
                f"{row.at:%Y-%m-%d %H:%M:%S} UTC) after this try of '{token.step}' had started; this try "
                "makes no more changes"
            )


def refuse_late_start(connection: sa.Connection, started: EventRecord) -> None:
    """Raise `TrySuperseded` if a later try of the same step, or of the same partition, started before.

    Of a task that runs all steps, also if a later try of a step before it did: it begins with the first.
    """
    same = (
        _E.partition_number.is_(None)
        if started.partition_number is None
        else _E.partition_number == started.partition_number
    )
    later = (
        sa.select(_E.step, _E.try_number, _E.details)
        .where(
            _E.dispatch_id == started.dispatch_id,
            _E.kind == "started",
            _E.step.in_(_of_same_task(started)),
            same,
            _E.try_number > started.try_number,
        )
        .order_by(_E.id.desc())
    )
    for row in connection.execute(later):
        registered = read_details(row.step, "started", row.details, None)
        if not _is_of_new_run(_try_id(started.details), _try_id(registered)):
            raise TrySuperseded(
                f"dispatch {started.dispatch_id}: try {started.try_number} of '{started.step}' starts after "
                f"try {row.try_number} of '{row.step}' has started; it does nothing"
            )


def _of_same_task(started: EventRecord) -> tuple[Step, ...]:
    """The steps whose tries are counted with those of this one, up to it."""
    assert started.step is not None  # noqa: S101 -- a step starts
    details = started.details
    if not isinstance(details, TryStart) or details.task is None:
        return (started.step,)
    return _ORDER[: _ORDER.index(started.step) + 1]


def _is_of_new_run(ours: str | None, registered: str | None) -> bool:
    """Whether tries are counted from 1 again: the run was deleted, and made once more under its old id."""
    return ours is not None and (registered or "") < ours


def _try_id(details: Details | None) -> str | None:
    return details.try_id if isinstance(details, TryStart) else None


def _concerns(step: Step, partition: int | None, token: TryToken) -> bool:
    """A partition's `collect` or `infer` leaves the tries of other partitions alone."""
    both_partitioned = {step, token.step} <= _PARTITIONED
    return not both_partitioned or None in (partition, token.partition) or partition == token.partition
