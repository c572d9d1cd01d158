"""A database whose every wait has a limit, whatever its driver can do; `opening` makes it of a server's.

Who waits longer than a limit gets `ServerSilent`, and the connection is never used again: an answer that
comes late must not be taken for that to a later question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Protocol, Self, TypeVar

import pyarrow as pa

from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.databases.database import Database
from mlops_plugin.databases.engines.table_column import TableColumn
from mlops_plugin.databases.lane import Lane, LaneBlocked
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import ServerSilent
from mlops_plugin.interruptible import waiting
from mlops_plugin.wait_limits import Limits

_T = TypeVar("_T")


class DriverDatabase(Database, Protocol):
    """A `Database` as a driver makes it."""

    def abandon(self) -> None:
        """Called beside a wait that nobody wants any more: end it, if the driver can."""


class LimitedDatabase:
    """A `Database` that does the work of another one in a thread of its own."""

    def __init__(self, spec: ConnectionSpec, limits: Limits, connect: Callable[[], DriverDatabase]) -> None:
        """Connect. The driver has limits of its own for that, and better words: it goes first."""
        self.conn_id = spec.conn_id
        self.limits = limits
        self._spec = spec
        self._lane = Lane(f"connection {spec.conn_id}")
        self._reading: pa.RecordBatchReader | None = None  # freed there, where its connection is
        self._abandon: Callable[[], None] = _nothing

        def open_in_time() -> DriverDatabase:
            database = connect()
            if self._lane.is_abandoned:
                database.close()
            return database

        try:
            self._database = self._within(2 * limits.connect_s, "connecting", open_in_time)
        except BaseException:
            self._lane.end(_nothing, limits.connect_s)
            raise
        self.engine = self._database.engine
        self._abandon = self._database.abandon

    def read(self, query: str, *, batch_rows: int, parameters: Sequence[object] = ()) -> pa.RecordBatchReader:
        def start() -> pa.RecordBatchReader:
            self._reading = self._database.read(query, batch_rows=batch_rows, parameters=parameters)
            return self._reading

        reader = self._statement("running the query", start)

        def batches() -> Iterator[pa.RecordBatch]:
            while (batch := self._fetch(reader)) is not None:
                yield batch

        return pa.RecordBatchReader.from_batches(reader.schema, batches())

    def describe(self, query: str) -> pa.Schema:
        return self._statement("describing the query", lambda: self._database.describe(query))

    def begin_snapshot(self) -> None:
        self._statement("beginning a snapshot", self._database.begin_snapshot)

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> None:
        self._statement("running a statement", lambda: self._database.execute(statement, parameters))

    def insert(self, table: TableName, batches: pa.RecordBatchReader) -> int:
        return self._statement(f"writing to {table}", lambda: self._database.insert(table, batches))

    @property
    def upserts(self) -> bool:
        return self._database.upserts

    def upsert(self, table: TableName, batches: pa.RecordBatchReader, values: Sequence[str]) -> int:
        return self._statement(f"writing to {table}", lambda: self._database.upsert(table, batches, values))

    def columns(self, table: TableName) -> tuple[str, ...] | None:
        return self._statement(f"looking at {table}", lambda: self._database.columns(table))

    def declared_columns(self, table: TableName) -> Sequence[TableColumn]:
        return self._statement(f"looking at {table}", lambda: self._database.declared_columns(table))

    def commit(self) -> None:
        self._end_of_transaction("committing", self._database.commit)

    def rollback(self) -> None:
        self._end_of_transaction("rolling back", self._database.rollback)

    def close(self) -> None:
        def close() -> None:
            self._reading = None
            self._database.close()

        if self._lane.is_abandoned:  # by an interruption
            self._abandon()
        self._lane.end(close, self.limits.connect_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _statement(self, doing: str, work: Callable[[], _T]) -> _T:
        return self._within(self.limits.statement_s, doing, self._after_reading(work))

    def _end_of_transaction(self, doing: str, work: Callable[[], None]) -> None:
        self._within(self.limits.commit_s, doing, self._after_reading(work))

    def _after_reading(self, work: Callable[[], _T]) -> Callable[[], _T]:
        def do() -> _T:
            self._reading = None  # unless somebody still holds the reader, its result ends here
            return work()

        return do

    def _fetch(self, reader: pa.RecordBatchReader) -> pa.RecordBatch | None:
        def fetch() -> pa.RecordBatch | None:
            try:
                return reader.read_next_batch()
            except StopIteration:
                return None

        return self._within(self.limits.statement_s, "reading rows", fetch)

    def _within(self, limit_s: float, doing: str, work: Callable[[], _T]) -> _T:
        was_abandoned = self._lane.is_abandoned
        try:
            with waiting(f"{doing}: waiting for {self._server()} (connection '{self.conn_id}')"):
                return self._lane.run(work, limit_s)
        except LaneBlocked:
            if was_abandoned:
                reason = (
                    f"this connection to {self._server()} was closed earlier, because the server had not "
                    "answered in time"
                )
                raise ServerSilent(self.conn_id, doing, reason) from None
            self._abandon()
            raise ServerSilent(self.conn_id, doing, self._silence(limit_s, doing)) from None

    def _silence(self, limit_s: float, doing: str) -> str:
        is_task = self.limits.statement_is_task and limit_s == self.limits.statement_s
        limit = f"{limit_s:g} s, " + ("task_timeout" if is_task else f"the limit of {doing}")
        return (
            f"no answer from {self._server()} within {limit}; the server is silent or overloaded, or the "
            "network drops its packets; this connection was closed"
        )

    def _server(self) -> str:
        spec = self._spec
        if not spec.host:
            return "its server"
        host = f"[{spec.host}]" if ":" in spec.host else spec.host
        return f"{host}:{spec.port}" if spec.port else host


def _nothing() -> None:
    """There is no connection yet."""
