"""Records dispatches that are over, many in one transaction and two statements; for those of `mlops serve`.

A driver in Python takes longer to write eleven rows of a dispatch than a model takes for its answer. So each
statement is one text: numbers, times and harmless texts stand in it, and only other texts are parameters.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from mlops_plugin.events import tables
from mlops_plugin.events.appending import store_now
from mlops_plugin.events.records import DispatchRecord, Kind, Step
from mlops_plugin.events.sql_dialects import keeps_time_zone
from mlops_plugin.events.store import EventStore

_CLOCK_S = 1.0  # so long it is used by how much the store's clock is ahead of this machine's
_MOST_AT_ONCE = 32  # dispatches in a statement: servers limit its size
# Printable ASCII without quote, backslash and percent sign: between quotes, no engine and no driver reads
# anything else in it.
_HARMLESS = re.compile(r"[ !\"#$&(-\[\]-~]*")
_OF_DISPATCH = [field.name for field in fields(DispatchRecord)]
_OF_EVENT = ["dispatch_id", "model", "step", "kind", "at", "details", "try_number", "row_count", "seconds"]


class Happened(NamedTuple):
    """An event of a dispatch that is over; `details` is JSON, as `serialization` makes it."""

    step: Step | None
    kind: Kind
    at: datetime  # aware, by this machine's clock
    details: str
    try_number: int | None = None
    row_count: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class WholeDispatch:
    """A dispatch and its events from the first to the last; `record` is their sum, its texts masked."""

    record: DispatchRecord
    events: Sequence[Happened]


class WholeDispatches:
    """Appends to one store; several threads may use it."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._ahead = timedelta()
        self._asked_at: float | None = None

    def append(self, dispatches: Sequence[WholeDispatch]) -> None:
        """Record all of them, or raise `EventStoreError` and record none."""
        self._store.write("recording dispatches", lambda connection: self._append(connection, dispatches))

    def _append(self, connection: sa.Connection, dispatches: Sequence[WholeDispatch]) -> None:
        ahead = self._ahead_of_us(connection)
        for first in range(0, len(dispatches), _MOST_AT_ONCE):
            some = dispatches[first : first + _MOST_AT_ONCE]
            rows = _Insert(connection.dialect, tables.dispatches.name, _OF_DISPATCH, ahead)
            events = _Insert(connection.dialect, tables.events.name, _OF_EVENT, ahead)
            for one in some:
                rows.add(vars(one.record).values())
                mine = (one.record.dispatch_id, one.record.model)
                for event in one.events:
                    events.add((*mine, *event))
            rows.run(connection)
            events.run(connection)

    def _ahead_of_us(self, connection: sa.Connection) -> timedelta:
        """By how much the store's clock is ahead of this machine's: asked once in a while."""
        now = time.monotonic()
        if self._asked_at is None or now - self._asked_at > _CLOCK_S:
            self._ahead = store_now(connection) - datetime.now(UTC)
            self._asked_at = now
        return self._ahead


class _Insert:
    """One INSERT of many rows."""

    def __init__(self, dialect: sa.Dialect, table: str, columns: Sequence[str], ahead: timedelta) -> None:
        quote = dialect.identifier_preparer.quote
        self._into = f"INSERT INTO {quote(table)} ({', '.join(map(quote, columns))}) VALUES "
        self._placeholder = "?" if dialect.paramstyle == "qmark" else "%s"
        self._zone = "+00:00" if keeps_time_zone(dialect) else ""
        self._has_boolean = dialect.supports_native_boolean
        self._ahead = ahead
        self._rows: list[str] = []
        self._parameters: list[str] = []

    def add(self, values: Any) -> None:
        self._rows.append(f"({', '.join(map(self._written, values))})")

    def run(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql(self._into + ", ".join(self._rows), tuple(self._parameters))

    def _written(self, value: Any) -> str:
        kind = type(value)
        if value is None:
            return "NULL"
        if kind is str:
            return self._text(value)
        if kind is int or kind is float:
            return repr(value)
        if kind is bool:
            return str(value).lower() if self._has_boolean else str(int(value))
        if kind is datetime:
            moment = (value + self._ahead).astimezone(UTC).replace(tzinfo=None)
            return f"'{moment.isoformat(' ', 'microseconds')}{self._zone}'"
        return self._text(json.dumps(value, ensure_ascii=False, allow_nan=False))

    def _text(self, text: str) -> str:
        if _HARMLESS.fullmatch(text):
            return f"'{text}'"
        self._parameters.append(text)
        return self._placeholder
