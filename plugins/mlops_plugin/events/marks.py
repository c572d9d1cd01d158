"""Watermarks in the event store: up to which value each model has read its source.

Marks are appended and never changed; the one with the highest number is current. `pipeline.increment` moves
them, `mlops cursor` shows and sets them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import sqlalchemy as sa

from mlops_plugin.errors import EventStoreError
from mlops_plugin.events import tables
from mlops_plugin.events.appending import locked_dispatch, store_now
from mlops_plugin.events.fencing import TryToken, require_newest
from mlops_plugin.events.records import clean
from mlops_plugin.events.store import EventStore

_M = tables.marks.c
_D = tables.dispatches.c
_UNDATED = datetime.min.replace(tzinfo=UTC)  # until the store dates it
_FIRST_GENERATION = datetime(2026, 1, 1, tzinfo=UTC)  # seconds since then fit the column until 2094
_ATTEMPTS = 20  # of a mark whose number another process has taken


@dataclass(frozen=True)
class Watermark:
    """One mark; `value` is None if the model starts again at `source.cursor.initial`.

    `generation` grows whenever somebody sets the mark of the model: a dispatch moves the mark only in the
    generation in which it started.
    """

    model: str
    cursor_column: str
    value: str | None
    value_kind: str | None
    dispatch_id: str | None  # of the dispatch that moved it
    set_by: str | None  # or who set it
    at: datetime  # aware UTC
    number: int = 0  # from 1, in the order of recording
    generation: int = 0


# Given the current mark and the time of the store, the next mark; None to keep it.
_Choose = Callable[[Watermark | None, datetime], Watermark | None]
# Given the current mark, the value to move it to; None to keep it.
Move = Callable[[Watermark | None], str | None]


def newest_mark(store: EventStore, model: str) -> Watermark | None:
    """The current mark, or None before the first. Raises `EventStoreError`."""
    with store.read("reading a watermark") as connection:
        return _newest(connection, model)


def mark_history(store: EventStore, model: str, *, limit: int) -> list[Watermark]:
    """The last marks, newest first. Raises `EventStoreError`."""
    wanted = sa.select(tables.marks).where(_M.model == model).order_by(_M.number.desc()).limit(limit)
    with store.read("reading watermarks") as connection:
        return [Watermark(**row._mapping) for row in connection.execute(wanted)]


def written_before(store: EventStore, model: str, column: str, dispatch_id: str) -> str | None:
    """The last dispatch that wrote rows and moved the mark, before `dispatch_id` itself has moved it.

    None if there was none since the model read another column, or since somebody set the mark; dispatches of
    versions before 0.2 do not count. Raises `EventStoreError`.
    """
    marks, own = tables.marks.alias(), tables.marks.alias()
    chosen = sa.or_(marks.c.dispatch_id.is_(None), marks.c.cursor_column != column)
    start = sa.select(sa.func.max(marks.c.number)).where(marks.c.model == model, chosen).scalar_subquery()
    end = (
        sa.select(sa.func.min(own.c.number))
        .where(own.c.model == model, own.c.dispatch_id == dispatch_id)
        .scalar_subquery()
    )
    wrote = sa.and_(_D.rows_persisted > 0, _D.rows_superseded.is_not(None))
    found = (
        sa.select(_M.dispatch_id)
        .join(tables.dispatches, _D.dispatch_id == _M.dispatch_id)
        .where(_M.model == model, wrote, sa.or_(start.is_(None), _M.number > start))
        .where(sa.or_(end.is_(None), _M.number < end))
        .order_by(_M.number.desc())
        .limit(1)
    )
    with store.read("reading watermarks") as connection:
        return connection.scalar(found)


def move_mark(
    store: EventStore, model: str, column: str, kind: str, token: TryToken, move: Move
) -> Watermark | None:
    """A try of a dispatch moves the mark to what `move` returns; returns the new mark, or None if it stays.

    Raises `TrySuperseded` if a newer try has registered: then it is that one's to move.
    """

    def moved(newest: Watermark | None, _at: datetime) -> Watermark | None:
        value = move(newest)
        if value is None:
            return None
        generation = newest.generation if newest else 0
        return Watermark(model, column, value, kind, token.dispatch_id, None, _UNDATED, generation=generation)

    return _append(store, model, moved, token)


def set_mark(
    store: EventStore, model: str, column: str, value: str | None, kind: str | None, user: str | None
) -> Watermark:
    """A person sets the mark; with `value` None the next dispatch starts from the beginning."""
    set_by = clean(user or "unknown", tables.NAME_CHARS)

    def put(newest: Watermark | None, at: datetime) -> Watermark:
        generation = _next_generation(newest, at)
        return Watermark(model, column, value, kind, None, set_by, _UNDATED, generation=generation)

    mark = _append(store, model, put)
    assert mark is not None  # noqa: S101 -- `put` always gives one
    return mark


def _append(
    store: EventStore,
    model: str,
    choose: _Choose,
    token: TryToken | None = None,
) -> Watermark | None:
    def append(connection: sa.Connection) -> Watermark | None:
        if token is not None:
            locked_dispatch(connection, token.dispatch_id)
            require_newest(connection, token)
        newest, at = _newest(connection, model), store_now(connection)
        mark = choose(newest, at)
        if mark is None:
            return None
        mark = replace(mark, number=newest.number + 1 if newest else 1, at=at)
        try:
            connection.execute(sa.insert(tables.marks), dict(vars(mark)))
        except sa.exc.IntegrityError as error:
            raise _NumberTaken from error
        return mark

    for _ in range(_ATTEMPTS):
        try:
            return store.write("recording a watermark", append)
        except _NumberTaken:
            continue  # another process was faster: its mark is the newest now
    raise EventStoreError(
        f"event store: the watermark of {model} was changed by others {_ATTEMPTS} times in a row; try again"
    )


def _next_generation(newest: Watermark | None, at: datetime) -> int:
    """The store's seconds since `_FIRST_GENERATION`, or one more than the last if that is greater.

    So it is another one than any that was given before a backup of the store was restored.
    """
    seconds = max(1, int((at - _FIRST_GENERATION).total_seconds()))
    return max(seconds, newest.generation + 1) if newest else seconds


class _NumberTaken(Exception):
    """Another process has recorded the mark of this number."""


def _newest(connection: sa.Connection, model: str) -> Watermark | None:
    wanted = sa.select(tables.marks).where(_M.model == model).order_by(_M.number.desc()).limit(1)
    row = connection.execute(wanted).one_or_none()
    return None if row is None else Watermark(**row._mapping)
