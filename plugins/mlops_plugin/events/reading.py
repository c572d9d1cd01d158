"""Queries for lists and plots of dispatches; each costs a few index pages.

Lists are read by key (`Cursor`), never by offset, and counted up to a bound: neither grows with the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar

import sqlalchemy as sa

from mlops_plugin.events import tables
from mlops_plugin.events.appending import store_now
from mlops_plugin.events.details.serialization import read_details
from mlops_plugin.events.details.step_reports import InferReport
from mlops_plugin.events.records import Cursor, Details, DispatchRecord, EventRecord, Origin, State, Step

_FEW_MODELS = 16  # of a restricted filter; more are not read one by one
_ASKED_AT_ONCE = 500  # dispatches; engines limit a statement's parameters
# What runs a model for good; the Showroom's runs are for looking.
OPERATIONS: tuple[Origin, ...] = ("scheduled", "manual", "backfill", "asset", "terminal")
OriginFilter = Origin | Literal["operations"]
_D = tables.dispatches.c
_E = tables.events.c


@dataclass(frozen=True)
class DispatchFilter:
    """Which dispatches; None matches all. Times are aware and mean `created_at`: since <= it < until.

    Origin `operations` stands for all but the Showroom. `models` restricts to those that a user may see.
    """

    model: str | None = None
    state: State | None = None
    origin: OriginFilter | None = None
    since: datetime | None = None
    until: datetime | None = None
    models: tuple[str, ...] | None = None


@dataclass(frozen=True)
class DispatchLine:
    """A dispatch in a list: `DispatchRecord` without what is long (query, columns, keys)."""

    dispatch_id: str
    model: str
    origin: Origin
    requested_by: str | None
    dag_id: str | None
    run_id: str | None
    data_interval_start: datetime | None
    data_interval_end: datetime | None
    dry_run: bool
    state: State
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime
    tries: int
    rows_collected: int | None
    rows_predicted: int | None
    rows_rejected: int | None
    rows_persisted: int | None
    rows_superseded: int | None
    error: str | None

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.created_at, self.dispatch_id)

    @property
    def seconds(self) -> float | None:
        """From its beginning to its end, waiting included; None while it runs."""
        return None if self.finished_at is None else (self.finished_at - self.created_at).total_seconds()


_LINE = [tables.dispatches.c[field.name] for field in fields(DispatchLine)]
# By name alone: SQLAlchemy would make new columns of each subquery, of which a page has up to 80.
_NAMED = {column.name: sa.column(column.name, column.type) for column in _LINE}
_AnySelect = TypeVar("_AnySelect", bound=sa.GenerativeSelect)


class EventReading:
    """The reading side of `EventStore`; every method raises `EventStoreError` as it does."""

    def read(self, doing: str) -> AbstractContextManager[sa.Connection]:
        """A connection for queries; `doing` describes them in an error."""
        raise NotImplementedError

    def now(self) -> datetime:
        """The time by the store's clock, by which all events are dated."""
        with self.read("asking for the time") as connection:
            return store_now(connection)

    def get(self, dispatch_id: str) -> DispatchRecord | None:
        with self.read("reading a dispatch") as connection:
            return read_one(connection, dispatch_id)

    def events(self, dispatch_id: str) -> list[EventRecord]:
        """Everything that happened to a dispatch, in the order of recording."""
        wanted = sa.select(tables.events).where(_E.dispatch_id == dispatch_id).order_by(_E.id)
        with self.read("reading the events of a dispatch") as connection:
            return [_event(row._mapping) for row in connection.execute(wanted)]

    def dispatches(
        self,
        *,
        model: str | None = None,
        state: State | None = None,
        origin: Origin | None = None,
        before: Cursor | None = None,
        limit: int = 50,
    ) -> list[DispatchRecord]:
        """A page of dispatches, newest first; the next page is `before` the `cursor` of this one's last."""
        wanted = DispatchFilter(model, state, origin)
        query = older_than(passing(sa.select(tables.dispatches), wanted), before)
        with self.read("listing dispatches") as connection:
            rows = connection.execute(newest_first(query).limit(limit))
            return [DispatchRecord(**row._mapping) for row in rows]

    def page(
        self, wanted: DispatchFilter, *, before: Cursor | None = None, limit: int = 50
    ) -> list[DispatchLine]:
        """Dispatches for a list, newest first; the next page is `before` the `cursor` of this one's last."""
        with self.read("listing dispatches") as connection:
            return read_page(connection, wanted, before=before, limit=limit)

    def newer_page(self, wanted: DispatchFilter, *, after: Cursor, limit: int = 50) -> list[DispatchLine]:
        """The page before the one that begins with the `cursor` `after`, newest first like every page."""
        with self.read("listing dispatches") as connection:
            return read_newer_page(connection, wanted, after=after, limit=limit)

    def every_page(self, wanted: DispatchFilter, *, limit: int = 1000) -> Iterator[list[DispatchLine]]:
        """All that pass, newest first, a page at a time; holds no transaction open in between."""
        before = None
        while page := self.page(wanted, before=before, limit=limit):
            yield page
            before = page[-1].cursor

    def count(self, wanted: DispatchFilter, *, at_most: int = 10_001) -> int:
        """How many dispatches pass; counting stops at `at_most`."""
        with self.read("counting dispatches") as connection:
            return read_count(connection, wanted, at_most=at_most)

    def models(self) -> list[str]:
        """Every model that has dispatches, sorted; costs one step into an index for each."""
        found: list[str] = []
        with self.read("listing the models that have dispatches") as connection:
            query = sa.select(sa.func.min(_D.model))
            while model := connection.scalar(query.where(_D.model > found[-1]) if found else query):
                found.append(model)
        return found

    def previous(self, dispatch: DispatchRecord) -> DispatchRecord | None:
        """The last dispatch of its model to succeed before it; dispatches of the Showroom do not count."""
        with self.read("reading the previous dispatch") as connection:
            return read_previous(connection, dispatch)

    def history(
        self, wanted: DispatchFilter, *, limit: int = 200
    ) -> list[tuple[DispatchLine, list[InferReport]]]:
        """The newest `limit` that pass, oldest first, each with the reports of its last `infer`.

        Dispatches of the Showroom are included only if the filter asks for that origin.
        """
        with self.read("reading the history of a model") as connection:
            return read_history(connection, wanted, limit=limit)

    def unfinished(self, *, older_than: timedelta, model: str | None = None) -> list[DispatchRecord]:
        """Running dispatches without an event for `older_than`, oldest first."""
        wanted = sa.select(tables.dispatches).where(_D.state == "running")
        if model is not None:
            wanted = wanted.where(_D.model == model)
        wanted = wanted.order_by(_D.created_at, _D.dispatch_id)
        with self.read("listing unfinished dispatches") as connection:
            if older_than:
                wanted = wanted.where(_D.updated_at <= store_now(connection) - older_than)
            return [DispatchRecord(**row._mapping) for row in connection.execute(wanted)]

    def in_use(self, dispatch_ids: Sequence[str], *, since: datetime) -> set[str]:
        """Of some dispatches, those that are running, or of which something was heard since a moment."""
        found: set[str] = set()
        with self.read("asking which dispatches are in use") as connection:
            for start in range(0, len(dispatch_ids), _ASKED_AT_ONCE):
                some = _D.dispatch_id.in_(dispatch_ids[start : start + _ASKED_AT_ONCE])
                is_in_use = sa.or_(_D.state == "running", _D.updated_at > since)
                found |= set(connection.scalars(sa.select(_D.dispatch_id).where(some, is_in_use)))
        return found


def read_page(
    connection: sa.Connection, wanted: DispatchFilter, *, before: Cursor | None, limit: int
) -> list[DispatchLine]:
    """Newest first; the next page is `before` the `cursor` of this one's last."""
    parts = [
        newest_first(older_than(passing(sa.select(*_LINE), each), before)).limit(limit)
        for each in _by_index(wanted)
    ]
    return _first_lines(connection, parts, limit, newest_first)


def read_newer_page(
    connection: sa.Connection, wanted: DispatchFilter, *, after: Cursor, limit: int
) -> list[DispatchLine]:
    """The dispatches that stand right before `after` in a list, newest first like it."""
    newer = sa.or_(_D.created_at > after.created_at, _D.dispatch_id > after.dispatch_id)
    parts = [
        _oldest_first(passing(sa.select(*_LINE), each).where(_D.created_at >= after.created_at, newer)).limit(
            limit
        )
        for each in _by_index(wanted)
    ]
    return _first_lines(connection, parts, limit, _oldest_first)[::-1]


def _first_lines(
    connection: sa.Connection,
    parts: Sequence[sa.Select[Any]],
    limit: int,
    in_order: Callable[[Any], Any],
) -> list[DispatchLine]:
    """The first of all parts together, in one statement; each part is in this order already."""
    if not parts:
        return []
    query: sa.Executable = parts[0]
    if len(parts) > 1:
        # Each in a subquery of its own: SQLite takes no limit inside of a union.
        each = (sa.select(*_NAMED.values()).select_from(part.subquery()) for part in parts)
        query = in_order(sa.union_all(*each)).limit(limit)
    return [DispatchLine(**row._mapping) for row in connection.execute(query)]


def read_count(connection: sa.Connection, wanted: DispatchFilter, *, at_most: int) -> int:
    """How many pass, but no more than `at_most`: counting stops there."""
    count = 0
    for each in _by_model(wanted):
        some = passing(sa.select(_D.dispatch_id), each).limit(at_most - count).subquery()
        count += connection.scalar(sa.select(sa.func.count()).select_from(some)) or 0
        if count >= at_most:
            break
    return count


def _by_model(wanted: DispatchFilter) -> list[DispatchFilter]:
    """A filter that is restricted to a few models as one filter for each, which an index answers."""
    if wanted.models is None or len(wanted.models) > _FEW_MODELS:
        return [wanted]
    models = [model for model in wanted.models if wanted.model in (None, model)]
    return [replace(wanted, model=model, models=None) for model in models]


def _by_index(wanted: DispatchFilter) -> list[DispatchFilter]:
    """A filter as several, each of which one index answers in the order of a list.

    Origin by origin, because `<> 'showroom'` would read past all dispatches of the Showroom.
    """
    origins = OPERATIONS if wanted.origin == "operations" else (wanted.origin,)
    return [replace(each, origin=origin) for each in _by_model(wanted) for origin in origins]


def read_previous(connection: sa.Connection, dispatch: DispatchRecord) -> DispatchRecord | None:
    """The last dispatch of the same model to succeed before this one began; not one of the Showroom."""
    wanted = DispatchFilter(dispatch.model, "succeeded", "operations")
    lines = read_page(connection, wanted, before=dispatch.cursor, limit=1)
    return None if not lines else read_one(connection, lines[0].dispatch_id)


def read_one(connection: sa.Connection, dispatch_id: str) -> DispatchRecord | None:
    """All that is known of one dispatch."""
    row = connection.execute(sa.select(tables.dispatches).where(_D.dispatch_id == dispatch_id)).one_or_none()
    return None if row is None else DispatchRecord(**row._mapping)


def read_history(
    connection: sa.Connection, wanted: DispatchFilter, *, limit: int
) -> list[tuple[DispatchLine, list[InferReport]]]:
    """The newest dispatches that pass, oldest first, each with what its last `infer` reported by partition.

    Dispatches of the Showroom are included only if the filter asks for that origin.
    """
    stored = replace(wanted, origin=wanted.origin or "operations")
    lines = read_page(connection, stored, before=None, limit=limit)
    reports = read_infer_reports(connection, [line.dispatch_id for line in lines])
    return [(line, reports.get(line.dispatch_id, [])) for line in reversed(lines)]


def read_infer_reports(
    connection: sa.Connection, dispatch_ids: Sequence[str]
) -> dict[str, list[InferReport]]:
    """The report of each dispatch's last successful `infer`, one for each partition, by dispatch id."""
    query = (
        sa.select(
            _E.dispatch_id,
            _E.step,
            _E.partition_number,
            sa.case((_E.step == "infer", _E.details)).label("details"),  # a plan's may be long
            _E.row_count,
        )
        .where(_E.dispatch_id.in_(dispatch_ids), _E.step.in_(("plan", "infer")), _E.kind == "succeeded")
        .order_by(_E.dispatch_id, _E.id)
    )
    found: dict[str, list[tuple[Step, int | None, Details | None]]] = {}
    for row in connection.execute(query):
        report = read_details(row.step, "succeeded", row.details, row.row_count)
        found.setdefault(row.dispatch_id, []).append((row.step, row.partition_number, report))
    return {dispatch_id: last_reports(ended) for dispatch_id, ended in found.items()}


def last_reports(ended: Iterable[tuple[Step | None, int | None, Details | None]]) -> list[InferReport]:
    """What the last `infer` reported, of each of its partitions; of the steps that succeeded, in order.

    A dispatch that is cleared may get another plan, with other partitions or fewer, or none.
    """
    found: dict[int | None, InferReport] = {}
    for step, partition, details in ended:
        if step == "plan" or (step == "infer" and partition is None):
            found.clear()
        if isinstance(details, InferReport):
            found[partition] = details
    return list(found.values())


def _event(stored: sa.RowMapping) -> EventRecord:
    details = read_details(stored["step"], stored["kind"], stored["details"], stored["row_count"])
    return EventRecord(**{**stored, "details": details})


def older_than(query: sa.Select[Any], cursor: Cursor | None) -> sa.Select[Any]:
    """Only what comes after `cursor` in a list with the newest first."""
    if cursor is None:
        return query
    # Not `(a, b) < (x, y)`: MySQL does not use an index for that.
    older = sa.or_(_D.created_at < cursor.created_at, _D.dispatch_id < cursor.dispatch_id)
    return query.where(_D.created_at <= cursor.created_at, older)


def newest_first(query: _AnySelect) -> _AnySelect:
    """In the order of every list; `dispatch_id` decides if two started in the same microsecond."""
    return query.order_by(_NAMED["created_at"].desc(), _NAMED["dispatch_id"].desc())


def _oldest_first(query: _AnySelect) -> _AnySelect:
    return query.order_by(_NAMED["created_at"], _NAMED["dispatch_id"])


def passing(query: sa.Select[Any], wanted: DispatchFilter) -> sa.Select[Any]:
    """Only what matches the filter."""
    columns = []
    is_origin = _D.origin.in_(OPERATIONS) if wanted.origin == "operations" else _D.origin == wanted.origin
    for column, value, matches in (
        (_D.model, wanted.model, _D.model == wanted.model),
        (_D.state, wanted.state, _D.state == wanted.state),
        (_D.origin, wanted.origin, is_origin),
    ):
        if value is not None:
            query = query.where(matches)
            columns.append(column.name)
    if wanted.models is not None:
        query = query.where(_D.model.in_(wanted.models))
    if wanted.since is not None:
        query = query.where(_D.created_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(_D.created_at < wanted.until)
    # Left to itself, MySQL takes another index if a range and a limit meet, and reads that to its end.
    index = f"mlops_dispatch_{'_'.join(columns) or 'newest'}"
    return query.with_hint(tables.dispatches, f"FORCE INDEX ({index})", "mysql")
