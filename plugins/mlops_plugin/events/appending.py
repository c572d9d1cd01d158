"""New events in a form that every engine can store, and the SQL that appends them to a dispatch."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from mlops_plugin.errors import EventStoreError
from mlops_plugin.events import sql_dialects, tables
from mlops_plugin.events.details.serialization import write_details
from mlops_plugin.events.records import (
    Details,
    DispatchIdentity,
    DispatchRecord,
    EventRecord,
    Kind,
    LogEntry,
    Step,
    clean,
    first_line,
    summarise,
)
from mlops_plugin.events.tables import DISPATCH_ID_CHARS, ERROR_CHARS, NAME_CHARS
from mlops_plugin.masking import masked

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def beginning(identity: DispatchIdentity) -> EventRecord:
    _check_identity(identity)
    stored = replace(
        identity,
        requested_by=_name(identity.requested_by),
        dag_id=_name(identity.dag_id),
        run_id=_name(identity.run_id),
        data_interval_start=_utc(identity.data_interval_start),
        data_interval_end=_utc(identity.data_interval_end),
    )
    return replace(new_event(identity.dispatch_id, "started", details=stored), model=identity.model)


def logged(dispatch_id: str, entry: LogEntry) -> EventRecord:
    stored: LogEntry = replace(entry, **write_details(entry))
    return replace(new_event(dispatch_id, "logged", "log", details=stored), row_count=entry.rows)


def _name(text: str | None) -> str | None:
    return text and clean(text, NAME_CHARS)


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)


def _check_identity(identity: DispatchIdentity) -> None:
    for name, limit in (("dispatch_id", DISPATCH_ID_CHARS), ("model", NAME_CHARS)):
        value = getattr(identity, name)
        if value != clean(value, limit):
            raise EventStoreError(
                f"event store: {name} {value!r} cannot be stored; "
                f"use at most {limit} characters, without NUL and lone surrogates"
            )
    for name in ("data_interval_start", "data_interval_end"):
        value = getattr(identity, name)
        if value is not None and value.tzinfo is None:
            raise EventStoreError(f"event store: {name} {value} has no time zone; use an aware time")


def new_event(
    dispatch_id: str,
    kind: Kind,
    step: Step | None = None,
    *,
    try_number: int | None = None,
    partition: int | None = None,
    error: str | None = None,
    details: Details | None = None,
) -> EventRecord:
    return EventRecord(
        id=None,
        dispatch_id=dispatch_id,
        model="",  # taken from the dispatch when it is appended
        step=step,
        kind=kind,
        partition_number=partition,
        try_number=try_number,
        at=datetime.now(UTC),
        row_count=None,
        seconds=None,
        error=None if error is None else first_line(masked(error), ERROR_CHARS),
        details=details,
    )


def store_now(connection: sa.Connection) -> datetime:
    """The time by the store's clock, which all workers share."""
    since_1970: Any = connection.scalar(sa.select(sql_dialects.microseconds_now(connection.dialect)))
    return _EPOCH + timedelta(microseconds=int(since_1970))


def next_moment(connection: sa.Connection, dispatch: DispatchRecord) -> datetime:
    """The store's time, but not before the dispatch's last event: a clock may be set back."""
    return max(store_now(connection), dispatch.updated_at)


def append_event(connection: sa.Connection, event: EventRecord) -> DispatchRecord:
    """Append an event of now, and update the dispatch's row; raises `EventStoreError` if there is none."""
    # The row is locked before the event is inserted: the insert alone would share a lock on it, for the
    # foreign key, and two that share it and both want to update would block each other.
    dispatch = locked_dispatch(connection, event.dispatch_id)
    summary, _ = append_to(connection, dispatch, replace(event, at=next_moment(connection, dispatch)))
    return summary


def append_to(
    connection: sa.Connection, dispatch: DispatchRecord, event: EventRecord
) -> tuple[DispatchRecord, int]:
    """Append one event to a dispatch whose row is locked; returns its new row, and the event's id."""
    event = replace(event, model=dispatch.model)
    values = columns_of_event(event)
    inserted = connection.execute(sa.insert(tables.events).values(values)).inserted_primary_key
    assert inserted is not None  # noqa: S101 -- every engine of the store returns the id of one inserted row
    summary = summarise(dispatch, event)
    update_dispatch(connection, dispatch, summary)
    return summary, int(inserted[0])


def columns_of(record: DispatchRecord) -> dict[str, Any]:
    """A record by column. Not `asdict`: that copies every value in depth, a quarter of a one-row dispatch."""
    return dict(vars(record))


def columns_of_event(event: EventRecord) -> dict[str, Any]:
    """An event by column, without the id, which the store gives."""
    values = {**vars(event), "details": event.details and write_details(event.details)}
    del values["id"]
    return values


def update_dispatch(connection: sa.Connection, dispatch: DispatchRecord, summary: DispatchRecord) -> None:
    before, after = columns_of(dispatch), columns_of(summary)
    changes = {name: value for name, value in after.items() if value != before[name]}
    if changes:
        this = tables.dispatches.c.dispatch_id == summary.dispatch_id
        connection.execute(sa.update(tables.dispatches).where(this).values(changes))


def locked_dispatch(connection: sa.Connection, dispatch_id: str) -> DispatchRecord:
    wanted = (
        sa.select(tables.dispatches).where(tables.dispatches.c.dispatch_id == dispatch_id).with_for_update()
    )
    row = connection.execute(wanted).one_or_none()
    if row is None:
        raise EventStoreError(
            f"event store: there is no dispatch {dispatch_id!r}; it never started, or was deleted"
        )
    return DispatchRecord(**row._mapping)


def event_id(connection: sa.Connection, event: EventRecord) -> int | None:
    """The id of this very event if it is recorded; its time to the microsecond identifies it."""
    same = [
        tables.events.c[name] == value if value is not None else tables.events.c[name].is_(None)
        for name, value in (
            ("dispatch_id", event.dispatch_id),
            ("step", event.step),
            ("kind", event.kind),
            ("partition_number", event.partition_number),
            ("try_number", event.try_number),
            ("at", event.at),
        )
    ]
    found: int | None = connection.scalar(sa.select(tables.events.c.id).where(*same))
    return found


def has_events(connection: sa.Connection, dispatch_id: str, *, after: int = 0) -> bool:
    """Whether a dispatch has events, or events with a greater id than `after`."""
    of_dispatch = tables.events.c.dispatch_id == dispatch_id
    one = sa.select(tables.events.c.id).where(of_dispatch, tables.events.c.id > after).limit(1)
    return connection.scalar(one) is not None


def insert_unless_there(connection: sa.Connection, dispatch: DispatchRecord) -> None:
    """Insert the row of a dispatch; if two do it at once, one inserts and the other waits."""
    values = columns_of(dispatch)
    sql_dialects.insert_unless_there(connection, tables.dispatches, values, "dispatch_id")
