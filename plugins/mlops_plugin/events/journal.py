"""The events of one dispatch, written together, for a run that a user waits for."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from functools import reduce

import sqlalchemy as sa

from mlops_plugin.errors import EventStoreError
from mlops_plugin.events import tables
from mlops_plugin.events.appending import (
    beginning,
    columns_of,
    columns_of_event,
    locked_dispatch,
    store_now,
    update_dispatch,
)
from mlops_plugin.events.fencing import TryToken
from mlops_plugin.events.records import DispatchIdentity, DispatchRecord, EventRecord, Step, summarise
from mlops_plugin.events.store import EventStore


class Journal(EventStore):
    """Keeps the events of one new dispatch until `flush` writes them together, or of one that goes on.

    One transaction for each event would take most of the time of a one-row dispatch.
    """

    def __init__(self, store: EventStore, known: DispatchRecord | None = None) -> None:
        super().__init__(store.address)
        self._store = store
        self._is_stored = known is not None
        self._is_begun = False
        self._dispatch = known
        self._pending: list[EventRecord] = []

    def begin(self, identity: DispatchIdentity) -> DispatchRecord:
        if self._is_begun and self._dispatch is not None:
            return self._dispatch
        self._is_begun = True
        return self._record(beginning(identity))  # or opens it again

    def _register(self, identity: DispatchIdentity, step: Step, started: EventRecord) -> TryToken:
        """Nobody else works on a new dispatch: its one try of each step needs no place among others."""
        self.begin(identity)
        self._record(started)
        number = len(self._pending)
        return TryToken(identity.dispatch_id, step, started.partition_number, number, started.at)

    def require_newest(self, token: TryToken) -> None:
        """It is the only one."""

    def flush(self) -> None:
        """Write what has happened since the last flush, in one transaction."""
        is_stored, kept, after = self._is_stored, self._pending, self._dispatch
        if after is None or not kept:
            return
        flushed_at = datetime.now(UTC)

        def append(connection: sa.Connection) -> None:
            ahead = store_now(connection) - flushed_at  # by so much the store's clock is ahead of this one
            pending = [replace(event, at=event.at + ahead) for event in kept]
            if not is_stored:
                first = summarise(None, pending[0])
                connection.execute(
                    sa.insert(tables.dispatches), columns_of(reduce(summarise, pending[1:], first))
                )
            else:  # as it is now: a process that took this one for dead may have closed it
                stands = locked_dispatch(connection, after.dispatch_id)
                update_dispatch(connection, stands, reduce(summarise, pending, stands))
            rows = [{**columns_of_event(event), "model": after.model} for event in pending]
            connection.execute(sa.insert(tables.events), rows)

        self._store.write("recording a dispatch", append)
        self._is_stored, self._pending = True, []

    def try_flush(self) -> None:
        """The same; if it fails, the next flush tries again."""
        with contextlib.suppress(EventStoreError):
            self.flush()

    def _record(self, *records: EventRecord, token: TryToken | None = None) -> DispatchRecord:  # noqa: ARG002
        for event in records:
            self._dispatch = summarise(self._dispatch, event)
            self._pending.append(event)
        assert self._dispatch is not None  # noqa: S101 -- `summarise` gives one
        return self._dispatch
