"""The event store: every task, view and command records and reads dispatches here.

Events are appended and never changed. The row of a dispatch is the sum of its events (`records.summarise`),
updated in the transaction that appends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar

import sqlalchemy as sa

from mlops_plugin.config.schema import EventsConfig
from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.events.address import StoreAddress, is_transient, translate_errors
from mlops_plugin.events.appending import (
    append_event,
    append_to,
    beginning,
    event_id,
    has_events,
    insert_unless_there,
    locked_dispatch,
    logged,
    new_event,
    next_moment,
    store_now,
)
from mlops_plugin.events.details.milestones import FinalCounts, PartitionCounts, Reconciliation, TryStart
from mlops_plugin.events.details.step_reports import StepReport
from mlops_plugin.events.fencing import TryToken, refuse_late_start, require_newest
from mlops_plugin.events.migrating import check_schema
from mlops_plugin.events.reading import EventReading
from mlops_plugin.events.records import (
    DispatchIdentity,
    DispatchRecord,
    EventRecord,
    LogEntry,
    Step,
    summarise,
)
from mlops_plugin.events.servers.messages import Messenger
from mlops_plugin.events.sql_dialects import transaction_in
from mlops_plugin.wait_limits import StoreLimits

Result = TypeVar("Result")

_LIMITS = StoreLimits()
_ATTEMPTS = 5  # of a transaction that collides with another


class EventStore(EventReading):
    """One event store, used by one process; it connects on first use and may be used by several threads.

    Every method raises `EventStoreError` if the store is missing, out of date, or refuses.
    """

    def __init__(self, address: StoreAddress) -> None:
        self.address = address
        self._engine: sa.Engine | None = None
        self._writer: sa.Engine | None = None  # the same, for transactions that write
        self._messenger: Messenger | None = None
        self._schema_is_right = False

    @classmethod
    def open(
        cls,
        events: EventsConfig,
        connection: ConnectionSpec | None,
        airflow_home: Path,
        limits: StoreLimits = _LIMITS,
    ) -> EventStore:
        return cls(StoreAddress.of(events, connection, airflow_home, limits))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; the store reopens them when it is used again."""
        messenger, self._messenger = self._messenger, None
        if messenger is not None:
            messenger.close()
        if self._engine is not None:
            self._engine.dispose()

    # Recording

    def begin(self, identity: DispatchIdentity) -> DispatchRecord:
        """Record that a dispatch begins; one that was closed is opened again and keeps `created_at`.

        Changes nothing if it is running already, so every task may call it.
        """
        event = beginning(identity)

        def begin(connection: sa.Connection) -> DispatchRecord:
            insert_unless_there(connection, summarise(None, replace(event, at=store_now(connection))))
            dispatch = locked_dispatch(connection, event.dispatch_id)
            is_new = not has_events(connection, event.dispatch_id)
            if dispatch.state == "running" and not is_new:
                return dispatch
            at = dispatch.created_at if is_new else next_moment(connection, dispatch)
            return append_to(connection, dispatch, replace(event, at=at))[0]

        return self.write("recording the beginning of a dispatch", begin)

    def start_step(
        self,
        identity: DispatchIdentity,
        step: Step,
        try_number: int = 1,
        *,
        partition: int | None = None,
        made_by: TryStart | None = None,
    ) -> TryToken:
        """Register a try of a step, and begin its dispatch or open it again; returns the try's token.

        From then on, older tries that pass their tokens can no longer record anything. Raises
        `TrySuperseded` if a later try of the same step has registered before.
        """
        started = new_event(
            identity.dispatch_id, "started", step, try_number=try_number, partition=partition, details=made_by
        )
        return self._register(identity, step, started)

    def _register(self, identity: DispatchIdentity, step: Step, started: EventRecord) -> TryToken:
        """Record that a try has started."""
        begun = beginning(identity)
        sent: EventRecord | None = None  # by a transaction of which nobody knows whether it was committed

        def token(of: EventRecord, number: int) -> TryToken:
            return TryToken(identity.dispatch_id, step, started.partition_number, number, of.at)

        def start(connection: sa.Connection) -> TryToken:
            nonlocal sent
            if sent is not None and (known := event_id(connection, sent)) is not None:
                return token(sent, known)
            insert_unless_there(connection, summarise(None, replace(begun, at=store_now(connection))))
            dispatch = locked_dispatch(connection, identity.dispatch_id)
            refuse_late_start(connection, started)
            is_new = not has_events(connection, identity.dispatch_id)
            at = dispatch.created_at if is_new else next_moment(connection, dispatch)
            if is_new or dispatch.state != "running":
                dispatch, _ = append_to(connection, dispatch, replace(begun, at=at))
            sent = replace(started, at=at)
            _, number = append_to(connection, dispatch, sent)
            return token(sent, number)

        return self.write(f"recording '{step} started'", start, repeats_lost_commit=True)

    def require_newest(self, token: TryToken) -> None:
        """Raise `TrySuperseded` if a newer try of this step, or of a step before it, has registered."""
        with self.read("asking for newer tries") as connection:
            require_newest(connection, token)

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
        report: StepReport | None = None,
        token: TryToken | None = None,
    ) -> None:
        """`rows`: collected, predicted or persisted.

        With its `token`, a try is refused if a newer one has registered: `TrySuperseded`.
        """
        event = new_event(
            dispatch_id, "succeeded", step, try_number=try_number, partition=partition, details=report
        )
        self._record(replace(event, row_count=rows, seconds=seconds), token=token)

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
        token: TryToken | None = None,
    ) -> None:
        """Record a failed try; the dispatch stays running unless it `is_final`."""
        failed = replace(
            new_event(dispatch_id, "failed", step, try_number=try_number, partition=partition, error=error),
            seconds=seconds,
        )
        whole = [replace(failed, step=None, partition_number=None, seconds=None)] if is_final else []
        self._record(failed, *whole, token=token)

    def log(self, dispatch_id: str, entry: LogEntry, token: TryToken | None = None) -> None:
        """Record what was collected."""
        self._record(logged(dispatch_id, entry), token=token)

    def partitions_counted(
        self, dispatch_id: str, *, predicted: int, rejected: int, token: TryToken | None = None
    ) -> None:
        """Record what the partitions of a dispatch add up to, before `persist` judges it."""
        counts = PartitionCounts(predicted, rejected)
        self._record(new_event(dispatch_id, "counted", "persist", details=counts), token=token)

    def finish(
        self,
        dispatch_id: str,
        *,
        collected: int,
        predicted: int,
        rejected: int,
        persisted: int,
        superseded: int = 0,
        token: TryToken | None = None,
    ) -> DispatchRecord:
        """Close a dispatch as succeeded, with its final counts of rows."""
        counts = FinalCounts(collected, predicted, rejected, persisted, superseded)
        return self._record(new_event(dispatch_id, "succeeded", details=counts), token=token)

    def reconcile(
        self,
        dispatch_id: str,
        state: Literal["succeeded", "failed"],
        reason: str,
        *,
        last_event: int | None = None,
    ) -> bool:
        """Close a dispatch whose tasks can no longer do it; False if it was closed already.

        `last_event` is the id of the newest event that the decision rests on: with a newer one it stays open.
        """
        error = reason if state == "failed" else None
        event = new_event(dispatch_id, "reconciled", error=error, details=Reconciliation(state, reason))

        def reconcile(connection: sa.Connection) -> bool:
            if locked_dispatch(connection, dispatch_id).state != "running":
                return False
            if last_event is not None and has_events(connection, dispatch_id, after=last_event):
                return False
            append_event(connection, event)
            return True

        return self.write("reconciling a dispatch", reconcile)

    def _record(self, *records: EventRecord, token: TryToken | None = None) -> DispatchRecord:
        sent: list[EventRecord] = []  # by a transaction of which nobody knows whether it was committed

        def append(connection: sa.Connection) -> DispatchRecord:
            nonlocal sent
            dispatch = locked_dispatch(connection, records[0].dispatch_id)
            if sent and event_id(connection, sent[-1]) is not None:
                return dispatch
            if token is not None:
                require_newest(connection, token)
            at = next_moment(connection, dispatch)
            sent = [replace(event, at=at) for event in records]
            for event in sent:
                dispatch, _ = append_to(connection, dispatch, event)
            return dispatch

        kind, step = records[0].kind, records[0].step
        doing = f"recording '{step} {kind}'" if step else f"recording 'dispatch {kind}'"
        return self.write(doing, append, repeats_lost_commit=True)

    # The way in for the modules beside this one, which own other tables.

    def write(
        self, doing: str, work: Callable[[sa.Connection], Result], *, repeats_lost_commit: bool = False
    ) -> Result:
        """Run `work` in one transaction and return its result.

        Repeated if the transaction collides with another or its connection is lost, so `work` must have no
        other effects. With `repeats_lost_commit` also if the connection is lost during the commit: `work`
        must see for itself whether it was committed. `doing` describes it in an error: "recording probes".
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
                    # If a connection is lost while it commits, nobody knows whether it did.
                    was_lost = error.connection_invalidated and (repeats_lost_commit or not is_committing)
                    if attempt == _ATTEMPTS or not (was_lost or is_transient(error)):
                        raise
                else:
                    return result
        raise AssertionError("an attempt returns or raises")

    def write_statements(self, doing: str, pairs: Sequence[tuple[str, str]], dispatch_id: str) -> None:
        """Run statements without parameters in one transaction, in one message for each pair of them.

        Repeated like `write`. `dispatch_id`: of a dispatch that they insert; it tells whether a transaction
        was committed whose connection was lost.
        """
        with translate_errors(self.address, doing):
            engine = self._checked_engine(writes=True)
            around = transaction_in(engine.dialect, self.address.limits)
            if around is not None:
                messages = [[*pair] for pair in pairs]
                messages[0][:0] = around[0]
                messages[-1] += around[1]
                messenger = self._messenger = self._messenger or Messenger(engine)
                self._send(messenger, messages, dispatch_id)
                return
        self.write(
            doing, lambda connection: [connection.exec_driver_sql(one) for two in pairs for one in two]
        )

    def _send(self, messenger: Messenger, messages: Sequence[Sequence[str]], dispatch_id: str) -> None:
        was_lost = False
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                messenger.send(messages)
            except sa.exc.DBAPIError as error:
                if (
                    was_lost
                    and isinstance(error, sa.exc.IntegrityError)
                    and self.get(dispatch_id) is not None
                ):
                    return  # the transaction of the connection that was lost had been committed
                was_lost = was_lost or error.connection_invalidated
                if attempt == _ATTEMPTS or not (error.connection_invalidated or is_transient(error)):
                    raise
            else:
                return

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
