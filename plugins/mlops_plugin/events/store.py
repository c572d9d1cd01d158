"""The event store: every task, view and command records and reads dispatches here.

Events are appended and never changed. The row of a dispatch is what its events add up to
(`records.summarise`), brought up to date in the transaction that appends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import sqlalchemy as sa

from mlops_plugin.config.schema import EventsConfig
from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.events.address import StoreAddress, is_transient, translate_errors
from mlops_plugin.events.appending import append_event, has_events, insert_unless_there, locked_dispatch
from mlops_plugin.events.new_events import beginning, new_event
from mlops_plugin.events.reading import EventReading
from mlops_plugin.events.records import (
    DispatchIdentity,
    DispatchRecord,
    EventRecord,
    LogEntry,
    Step,
    log_details,
    summarise,
)
from mlops_plugin.events.schema_check import check_schema

Result = TypeVar("Result")

_ATTEMPTS = 5  # of a transaction that collides with another


class EventStore(EventReading):
    """One event store, used by one process; it connects on first use and may be used by several threads.

    Every method raises `EventStoreError` where the store is missing, out of date, or refuses.
    """

    def __init__(self, address: StoreAddress) -> None:
        self.address = address
        self._engine: sa.Engine | None = None
        self._writer: sa.Engine | None = None  # the same, for transactions that write
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
        event = beginning(identity)

        def begin(connection: sa.Connection) -> DispatchRecord:
            insert_unless_there(connection, summarise(None, event))
            dispatch = locked_dispatch(connection, event.dispatch_id)
            if dispatch.state == "running" and has_events(connection, event.dispatch_id):
                return dispatch
            return append_event(connection, event)

        return self.write("recording the beginning of a dispatch", begin)

    def step_started(
        self, dispatch_id: str, step: Step, try_number: int, *, partition: int | None = None
    ) -> None:
        self._record(new_event(dispatch_id, "started", step, try_number=try_number, partition=partition))

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
        """`rows`: collected, predicted or persisted.

        `details["rows_rejected"]`: quarantined; `details["rows_superseded"]`: left out for newer predictions.
        """
        event = new_event(
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
            new_event(dispatch_id, "failed", step, try_number=try_number, partition=partition, error=error),
            seconds=seconds,
        )
        whole = [replace(failed, step=None, partition_number=None, seconds=None)] if is_final else []
        self._record(failed, *whole)

    def log(self, dispatch_id: str, entry: LogEntry) -> None:
        """Record what was collected."""
        self._record(
            replace(new_event(dispatch_id, "logged", "log", details=log_details(entry)), row_count=entry.rows)
        )

    def partitions_counted(self, dispatch_id: str, *, predicted: int, rejected: int) -> None:
        """Record what the partitions of a dispatch add up to, before `persist` judges it."""
        counts = {"rows_predicted": predicted, "rows_rejected": rejected}
        self._record(new_event(dispatch_id, "counted", "persist", details=counts))

    def finish(
        self,
        dispatch_id: str,
        *,
        collected: int,
        predicted: int,
        rejected: int,
        persisted: int,
        superseded: int = 0,
    ) -> DispatchRecord:
        """Close a dispatch as succeeded, with its final counts of rows."""
        counts = {
            "rows_collected": collected,
            "rows_predicted": predicted,
            "rows_rejected": rejected,
            "rows_persisted": persisted,
            "rows_superseded": superseded,
        }
        return self._record(new_event(dispatch_id, "succeeded", details=counts))

    def reconcile(self, dispatch_id: str, state: Literal["succeeded", "failed"], reason: str) -> bool:
        """Close a dispatch whose tasks can no longer do it; False where it was closed already."""
        error = reason if state == "failed" else None
        event = new_event(dispatch_id, "reconciled", error=error, details={"state": state, "reason": reason})

        def reconcile(connection: sa.Connection) -> bool:
            if locked_dispatch(connection, dispatch_id).state != "running":
                return False
            append_event(connection, event)
            return True

        return self.write("reconciling a dispatch", reconcile)

    def _record(self, *records: EventRecord) -> DispatchRecord:
        def append(connection: sa.Connection) -> DispatchRecord:
            return [append_event(connection, event) for event in records][-1]

        kind, step = records[0].kind, records[0].step
        return self.write(f"recording '{step} {kind}'" if step else f"recording 'dispatch {kind}'", append)

    # The way in for the modules beside this one, which own other tables.

    def write(self, doing: str, work: Callable[[sa.Connection], Result]) -> Result:
        """Run `work` in one transaction and return its result.

        Repeated if the transaction collides with another or its connection is lost, so `work` must have no
        other effects. `doing` describes it in an error: "recording probes".
        """
        with translate_errors(self.address, doing):
            engine = self._checked_engine(writes=True)
            for attempt in range(1, _ATTEMPTS + 1):
                is_committing = False
                try:
                    with engine.begin() as connection:
                        result = work(connection)
                        is_committing = True
                except sa.exc.DBAPIError as error:
                    # Of a connection that is lost while it commits nobody knows whether it did.
                    was_lost = error.connection_invalidated and not is_committing
                    if attempt == _ATTEMPTS or not (was_lost or is_transient(error)):
                        raise
                else:
                    return result
        raise AssertionError("an attempt returns or raises")

    @contextmanager
    def read(self, doing: str) -> Iterator[sa.Connection]:
        """A connection for queries; `doing` describes them in an error: "listing dispatches"."""
        with translate_errors(self.address, doing), self._checked_engine().connect() as connection:
            yield connection

    def _checked_engine(self, *, writes: bool = False) -> sa.Engine:
        if self._engine is None:
            engine = self.address.create_engine()
            self._writer = engine.execution_options(writes=True)
            self._engine = engine
        if not self._schema_is_right:
            check_schema(self._engine, self.address)
            self._schema_is_right = True
        return self._writer if writes and self._writer else self._engine
