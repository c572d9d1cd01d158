"""The numbers that put a model's dispatches in the order in which they read their source.

`pipeline` takes one before it reads; the sink compares them to decide whose prediction of a key counts.
A number is the store's own clock in microseconds, or the last number plus one if that is greater: it grows
whatever clocks do, and it goes on growing if somebody starts again with an empty event store.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from mlops_plugin.errors import EventStoreError
from mlops_plugin.events import tables
from mlops_plugin.events.sql_dialects import microseconds_now
from mlops_plugin.events.store import EventStore

_O = tables.order.c
_ATTEMPTS = 20  # of a number that another process takes at the same moment
_KEPT = 7 * 24 * 3600 * 1_000_000  # microseconds; only what is read at the same time is compared


def take_number(store: EventStore, model: str, dispatch_id: str, interval_end: datetime | None = None) -> int:
    """A number greater than each that the model has had; take it before the source is read.

    `interval_end`: the end of the data interval that the dispatch's SQL uses; None if it reads whatever is
    there. Raises `EventStoreError`.
    """

    def take(connection: sa.Connection) -> int:
        clock = microseconds_now(connection.dialect)
        last = sa.select(sa.func.max(_O.number)).where(_O.model == model).scalar_subquery()
        newest, now = connection.execute(sa.select(last.label("newest"), clock.label("now"))).one()
        number = int(now) if newest is None else max(int(newest) + 1, int(now))
        values = {"model": model, "number": number, "dispatch_id": dispatch_id, "interval_end": interval_end}
        try:
            connection.execute(sa.insert(tables.order), values)
        except sa.exc.IntegrityError as error:
            raise _NumberTaken from error
        connection.execute(sa.delete(tables.order).where(_O.model == model, _O.number < number - _KEPT))
        return number

    for _ in range(_ATTEMPTS):
        try:
            return store.write("taking a dispatch's number", take)
        except _NumberTaken:
            continue  # another process was faster; the next number is free
    raise EventStoreError(
        f"event store: other dispatches of {model} took the next number first, {_ATTEMPTS} times in a "
        "row; try again"
    )


def has_later(store: EventStore, model: str, number: int, interval_end: datetime | None = None) -> bool:
    """Whether another dispatch has since taken a number that could be compared with this one.

    Numbers decide between two dispatches of the same interval, and if one of them has none. True also if this
    number is no longer there: the store was restored from a backup, and nobody knows who was later. Raises
    `EventStoreError`.
    """
    later = sa.select(_O.number).where(_O.model == model, _O.number > number)
    if interval_end is not None:
        later = later.where(sa.or_(_O.interval_end.is_(None), _O.interval_end == interval_end))
    own = sa.select(_O.number).where(_O.model == model, _O.number == number)
    with store.read("comparing a dispatch's number") as connection:
        return bool(connection.scalar(sa.select(sa.or_(later.exists(), ~own.exists()))))


class _NumberTaken(Exception):
    """Another process has recorded this number."""
