"""Records dispatches that are over, many in one transaction and two statements; for those of `mlops serve`.

A driver in Python takes longer to write eleven rows of a dispatch than a model takes for its answer. So the
statements are text without parameters, and a server gets the transaction as one message.
"""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from mlops_plugin.events import tables
from mlops_plugin.events.appending import store_now
from mlops_plugin.events.records import DispatchRecord, Kind, Step
from mlops_plugin.events.sql_dialects import keeps_time_zone, text_literal
from mlops_plugin.events.store import EventStore

_CLOCK_S = 1.0  # so long it is used by how much the store's clock is ahead of this machine's
_MOST_CHARS = 1 << 19  # of a message: servers limit its size, to a megabyte at the least
_MOST_LITERALS = 4096  # that are remembered: most texts of a dispatch are those of the one before
_LONGEST_KEPT = 1 << 12  # characters: those of wide models have a key in them, and never come again
# Printable ASCII without quote and backslash: between quotes, no engine reads anything else in it.
_HARMLESS = re.compile(r"[ -&(-\[\]-~]*")
_OF_DISPATCH = [one.name for one in fields(DispatchRecord)]
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
    """A dispatch and its events from the first to the last; `record` is their sum, its texts masked.

    `written`: parts of the record that are JSON already; there, they are left out.
    """

    record: DispatchRecord
    events: Sequence[Happened]
    written: Mapping[str, str] = field(default_factory=dict)


class WholeDispatches:
    """Appends to one store; several threads may use it."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._ahead = timedelta()
        self._asked_at: float | None = None
        self._sql: _Sql | None = None

    def append(self, dispatches: Sequence[WholeDispatch]) -> None:
        """Record all of them, or raise `EventStoreError` and record none."""
        if self._asked_at is None or time.monotonic() - self._asked_at > _CLOCK_S:
            self._ask_clock()
        assert self._sql is not None  # noqa: S101 -- it came with the clock
        statements = [*self._sql.statements(dispatches, self._ahead)]
        first = dispatches[0].record.dispatch_id
        self._store.write_statements("recording dispatches", statements, first)

    def _ask_clock(self) -> None:
        """By how much the store's clock is ahead of this machine's: asked once in a while."""
        with self._store.read("asking for the time") as connection:
            self._ahead = store_now(connection) - datetime.now(UTC)
            self._sql = self._sql or _Sql(connection.dialect)
        self._asked_at = time.monotonic()


class _Sql:
    """Writes dispatches as text of a dialect."""

    def __init__(self, dialect: sa.Dialect) -> None:
        quote = dialect.identifier_preparer.quote
        self._into = [
            f"INSERT INTO {quote(table.name)} ({', '.join(map(quote, columns))}) VALUES "
            for table, columns in ((tables.dispatches, _OF_DISPATCH), (tables.events, _OF_EVENT))
        ]
        self._zone = "+00:00" if keeps_time_zone(dialect) else ""
        self._booleans = ("false", "true") if dialect.supports_native_boolean else ("0", "1")
        self._remembered = functools.lru_cache(_MOST_LITERALS)(functools.partial(_literal, dialect))
        self._dialect = dialect

    def statements(self, dispatches: Sequence[WholeDispatch], ahead: timedelta) -> Iterator[tuple[str, str]]:
        """The two statements for as many dispatches as a message may hold, and again for the next."""
        moment = functools.cache(functools.partial(self._moment, ahead))
        rows: list[str] = []
        events: list[str] = []
        size = 0
        for one in dispatches:
            row = self._row({**vars(one.record), **one.written}.values(), moment)
            mine = self._row((one.record.dispatch_id, one.record.model), moment)
            happened = ", ".join([f"({mine}, {self._event(event, moment)})" for event in one.events])
            if rows and size + len(row) + len(happened) > _MOST_CHARS:
                yield self._into[0] + ", ".join(rows), self._into[1] + ", ".join(events)
                rows, events, size = [], [], 0
            rows.append(f"({row})")
            events.append(happened)
            size += len(row) + len(happened)
        yield self._into[0] + ", ".join(rows), self._into[1] + ", ".join(events)

    def _event(self, event: Happened, moment: Callable[[datetime], str]) -> str:
        step, kind, at, details, *numbers = event
        values = [self._text(step), self._text(kind), moment(at), self._text(details)]
        values += ["NULL" if number is None else repr(number) for number in numbers]
        return ", ".join(values)

    def _text(self, text: str | None) -> str:
        if text is None:
            return "NULL"
        return self._remembered(text) if len(text) < _LONGEST_KEPT else _literal(self._dialect, text)

    def _row(self, values: Any, moment: Callable[[datetime], str]) -> str:
        written = []
        for value in values:
            kind = type(value)
            if value is None:
                written.append("NULL")
            elif kind is str:
                written.append(self._text(value))
            elif kind is int or kind is float:
                written.append(repr(value))
            elif kind is bool:
                written.append(self._booleans[value])
            elif kind is datetime:
                written.append(moment(value))
            else:
                text = json.dumps(value, ensure_ascii=False, allow_nan=False)
                written.append(_literal(self._dialect, text))
        return ", ".join(written)

    def _moment(self, ahead: timedelta, value: datetime) -> str:
        by_store = (value + ahead).astimezone(UTC).replace(tzinfo=None)
        return f"'{by_store.isoformat(' ', 'microseconds')}{self._zone}'"


def _literal(dialect: sa.Dialect, text: str) -> str:
    return f"'{text}'" if _HARMLESS.fullmatch(text) else text_literal(dialect, text)
