"""The event store: every task, view and command records and reads dispatches here.

Events are appended and never changed. The row of a dispatch is what its events add up to
(`records.summarise`), brought up to date in the transaction that appends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from mlops_plugin.config.schema import EventsConfig
from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.errors import EventStoreError
from mlops_plugin.events import tables
from mlops_plugin.events.address import StoreAddress, is_transient, told_apart
from mlops_plugin.events.reading import EventReading
from mlops_plugin.events.records import (
    DispatchIdentity,
    DispatchRecord,
    EventRecord,
    Kind,
    LogEntry,
    Step,
    clean,
    first_line,
    identity_details,
    log_details,
    plain,
    summarise,
)
from mlops_plugin.events.schema_check import check_schema
from mlops_plugin.events.tables import ERROR_CHARS, NAME_CHARS

Result = TypeVar("Result")

DISPATCH_ID_CHARS = 36
_ATTEMPTS = 5  # of a transaction that collides with another


class EventStore(EventReading):
    """One event store, used by one process; it connects on first use and may be used by several threads.

    Every method raises `EventStoreError` where the store is missing, out of date, or refuses.
    """

    def __init__(self, address: StoreAddress) -> None:
        self.address = address
        self._engine: sa.Engine | None = None
        self._schema_is_right = False

    @classmethod
    def open(cls, events: EventsConfig, connection: ConnectionSpec | None, airflow_home: Path) -> EventStore:
        return cls(StoreAddress.of(events, connection, airflow_home))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all connections; the store opens them again when it is used again."""
        if self._engine is not None:
            self._engine.dispose()

    # Recording

    def begin(self, identity: DispatchIdentity) -> DispatchRecord:
        """Record that a dispatch begins; one that was closed is opened again and keeps `created_at`.

        Changes nothing where it is running already, so every task may call it.
        """
        event = _beginning(identity)

        def begin(connection: sa.Connection) -> DispatchRecord:
            _insert_unless_there(connection, summarise(None, event))
            dispatch = _locked(connection, event.dispatch_id)
            if dispatch.state == "running" and _has_events(connection, event.dispatch_id):
                return dispatch
            return _append(connection, event)

        return self._write("recording the beginning of a dispatch", begin)

    def step_started(
        self, dispatch_id: str, step: Step, try_number: int, *, partition: int | None = None
    ) -> None:
        self._record(_event(dispatch_id, "started", step, try_number=try_number, partition=partition))

    def step_succeeded(
        self,
        dispatch_id: str,
        step: Step,
        try_number: int,
        *,
        partition: int | None = None,
        rows: int | None = None,
        seconds: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """`rows`: collected, predicted or persisted; `details["rows_rejected"]`: quarantined."""
        event = _event(
            dispatch_id, "succeeded", step, try_number=try_number, partition=partition, details=details
        )
        self._record(replace(event, row_count=rows, seconds=seconds))

    def step_failed(
        self,
        dispatch_id: str,
        step: Step,
        try_number: int,
        *,
        partition: int | None = None,
        error: str,
        is_final: bool,
        seconds: float | None = None,
    ) -> None:
        """Record a failed try; the dispatch stays running unless it `is_final`."""
        failed = replace(
            _event(dispatch_id, "failed", step, try_number=try_number, partition=partition, error=error),
            seconds=seconds,
        )
        whole = [replace(failed, step=None, partition_number=None, seconds=None)] if is_final else []
        self._record(failed, *whole)

    def log(self, dispatch_id: str, entry: LogEntry) -> None:
        """Record what was collected."""
        self._record(
            replace(_event(dispatch_id, "logged", "log", details=log_details(entry)), row_count=entry.rows)
        )

    def partitions_counted(self, dispatch_id: str, *, predicted: int, rejected: int) -> None:
        """Record what the partitions of a dispatch add up to, before `persist` judges it."""
        counts = {"rows_predicted": predicted, "rows_rejected": rejected}
        self._record(_event(dispatch_id, "counted", "persist", details=counts))

    def finish(
        self, dispatch_id: str, *, collected: int, predicted: int, rejected: int, persisted: int
    ) -> DispatchRecord:
        """Close a dispatch as succeeded, with its final counts of rows."""
        counts = {
            "rows_collected": collected,
            "rows_predicted": predicted,
            "rows_rejected": rejected,
            "rows_persisted": persisted,
        }
        return self._record(_event(dispatch_id, "succeeded", details=counts))

    def reconcile(self, dispatch_id: str, state: Literal["succeeded", "failed"], reason: str) -> bool:
        """Close a dispatch whose tasks can no longer do it; False where it was closed already."""
        error = reason if state == "failed" else None
        event = _event(dispatch_id, "reconciled", error=error, details={"state": state, "reason": reason})

        def reconcile(connection: sa.Connection) -> bool:
            if _locked(connection, dispatch_id).state != "running":
                return False
            _append(connection, event)
            return True

        return self._write("reconciling a dispatch", reconcile)

    # Underneath

    def _record(self, *records: EventRecord) -> DispatchRecord:
        def append(connection: sa.Connection) -> DispatchRecord:
            return [_append(connection, event) for event in records][-1]

        kind, step = records[0].kind, records[0].step
        return self._write(f"recording '{step} {kind}'" if step else f"recording 'dispatch {kind}'", append)

    def _write(self, doing: str, work: Callable[[sa.Connection], Result]) -> Result:
        with told_apart(self.address, doing):
            engine = self._checked_engine().execution_options(writes=True)
            for _ in range(_ATTEMPTS - 1):
                try:
                    with engine.begin() as connection:
                        return work(connection)
                except sa.exc.DBAPIError as error:
                    if not is_transient(error):
                        raise
            with engine.begin() as connection:
                return work(connection)

    @contextmanager
    def _reading(self, doing: str) -> Iterator[sa.Connection]:
        with told_apart(self.address, doing), self._checked_engine().connect() as connection:
            yield connection

    def _checked_engine(self) -> sa.Engine:
        if self._engine is None:
            self._engine = self.address.create_engine()
        if not self._schema_is_right:
            check_schema(self._engine, self.address)
            self._schema_is_right = True
        return self._engine


class Journal(EventStore):
    """Keeps the events of one new dispatch until `flush` writes them together; for who waits for the answer.

    An own transaction for each event would cost a one-row dispatch most of its time.
    """

    def __init__(self, store: EventStore) -> None:
        super().__init__(store.address)
        self._store = store
        self._stored: DispatchRecord | None = None
        self._dispatch: DispatchRecord | None = None
        self._pending: list[EventRecord] = []

    def begin(self, identity: DispatchIdentity) -> DispatchRecord:
        return self._dispatch or self._record(_beginning(identity))

    def flush(self) -> None:
        """Write what has happened since the last flush, in one transaction."""
        before, after, pending = self._stored, self._dispatch, self._pending
        if after is None or not pending:
            return

        def append(connection: sa.Connection) -> None:
            if before is None:
                connection.execute(sa.insert(tables.dispatches), _columns(after))
            else:
                _update(connection, before, after)
            rows = [
                {name: value for name, value in _columns(event).items() if name != "id"} for event in pending
            ]
            connection.execute(sa.insert(tables.events), rows)

        self._store._write("recording a dispatch", append)
        self._stored, self._pending = after, []

    def _record(self, *records: EventRecord) -> DispatchRecord:
        for record in records:
            event = replace(record, model=self._dispatch.model if self._dispatch else record.model)
            self._dispatch = summarise(self._dispatch, event)
            self._pending.append(event)
        assert self._dispatch is not None  # noqa: S101 -- `summarise` gives one
        return self._dispatch


def _beginning(identity: DispatchIdentity) -> EventRecord:
    _check_identity(identity)
    details = identity_details(identity)
    for name in ("requested_by", "dag_id", "run_id"):
        details[name] = details[name] and clean(details[name], NAME_CHARS)
    return replace(_event(identity.dispatch_id, "started", details=details), model=identity.model)


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


def _event(
    dispatch_id: str,
    kind: Kind,
    step: Step | None = None,
    *,
    try_number: int | None = None,
    partition: int | None = None,
    error: str | None = None,
    details: Mapping[str, Any] | None = None,
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
        error=None if error is None else first_line(error, ERROR_CHARS),
        details=None if details is None else plain(details),
    )


def _append(connection: sa.Connection, event: EventRecord) -> DispatchRecord:
    """Append one event and bring the dispatch's row up to date."""
    # The row is locked before the event is inserted: the insert alone would share a lock on it, for the
    # foreign key, and two that share it and both want to update would block each other.
    dispatch = _locked(connection, event.dispatch_id)
    event = replace(event, model=dispatch.model)
    values = _columns(event)
    del values["id"]
    connection.execute(sa.insert(tables.events).values(values))
    summary = summarise(dispatch, event)
    _update(connection, dispatch, summary)
    return summary


def _columns(record: DispatchRecord | EventRecord) -> dict[str, Any]:
    """A record by column. Not `asdict`: that copies every value in depth, a quarter of a one-row dispatch."""
    return dict(vars(record))


def _update(connection: sa.Connection, dispatch: DispatchRecord, summary: DispatchRecord) -> None:
    before, after = _columns(dispatch), _columns(summary)
    changes = {name: value for name, value in after.items() if value != before[name]}
    if changes:
        this = tables.dispatches.c.dispatch_id == summary.dispatch_id
        connection.execute(sa.update(tables.dispatches).where(this).values(changes))


def _locked(connection: sa.Connection, dispatch_id: str) -> DispatchRecord:
    wanted = (
        sa.select(tables.dispatches).where(tables.dispatches.c.dispatch_id == dispatch_id).with_for_update()
    )
    row = connection.execute(wanted).one_or_none()
    if row is None:
        raise EventStoreError(
            f"event store: there is no dispatch {dispatch_id!r}; it was never begun, or is deleted"
        )
    return DispatchRecord(**row._mapping)


def _has_events(connection: sa.Connection, dispatch_id: str) -> bool:
    one = sa.select(tables.events.c.id).where(tables.events.c.dispatch_id == dispatch_id).limit(1)
    return connection.scalar(one) is not None


def _insert_unless_there(connection: sa.Connection, dispatch: DispatchRecord) -> None:
    """Insert the row of a dispatch; where two do it at once, one inserts and the other waits for it."""
    values = _columns(dispatch)
    match connection.dialect.name:
        case "sqlite":
            connection.execute(sqlite.insert(tables.dispatches).values(values).on_conflict_do_nothing())
        case "postgresql":
            connection.execute(postgresql.insert(tables.dispatches).values(values).on_conflict_do_nothing())
        case _:
            insert = mysql.insert(tables.dispatches).values(values)
            # Changes nothing, but unlike INSERT IGNORE it hides no other error and takes the lock at once.
            same = {"dispatch_id": insert.inserted.dispatch_id}
            connection.execute(insert.on_duplicate_key_update(same))
