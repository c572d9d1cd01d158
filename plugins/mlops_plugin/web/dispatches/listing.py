"""A page of the list of dispatches: what it asks for, its lines, and the links of its columns and pages.

By time, pages follow one another by key. By another column, the newest dispatches that pass are sorted: no
index has their order, and reading a million of them for a page would take minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from mlops_plugin.events.reading import DispatchFilter, DispatchLine
from mlops_plugin.events.store import EventStore
from mlops_plugin.web.dispatches.filters import (
    AskedOrigin,
    CursorText,
    DispatchPageQuery,
    none_if_empty,
    parse_cursor,
    write_cursor,
)
from mlops_plugin.web.dispatches.lines import TimedLine, measure_lines
from mlops_plugin.web.languages.translation import gettext as _

SORTED_AT_MOST = 1_000

SortKey = Literal[
    "state", "model", "origin", "interval", "collected", "predicted", "rejected", "persisted", "duration"
]
Direction = Literal["ascending", "descending"]
_OPERATIONS: AskedOrigin = "operations"
# Whether a page is shown in the tab of a DAG, where the list has its model only.
Tab = Annotated[Literal["dag"] | None, BeforeValidator(none_if_empty)]


def _operations_if_empty(value: Any) -> Any:
    return value or _OPERATIONS


class ListQuery(DispatchPageQuery):
    """The list's page; `part` asks for the part that refreshes, `tab` keeps the model of a DAG."""

    origin: Annotated[AskedOrigin, BeforeValidator(_operations_if_empty)] = _OPERATIONS
    after: CursorText = Field(None, description="End before this one: the page of newer ones.")
    sort: Annotated[SortKey | None, BeforeValidator(none_if_empty)] = None
    descending: bool = False
    skip: Annotated[int, Field(ge=0, le=SORTED_AT_MOST)] = 0
    part: str | None = None
    tab: Tab = None

    def link(self, path: str, **more: str | None) -> str:
        """`path` with this query, changed by `more`; what is as it is anyhow is left out."""
        usual = {
            "origin": None if self.origin == _OPERATIONS else self.origin,
            "descending": "true" if self.descending else None,
            "skip": str(self.skip) if self.skip else None,
        }
        return super().link(path, **{"part": None, **usual, **more})

    @property
    def export_link(self) -> str:
        """Everything that passes the filter as CSV, where no origin means all."""
        dropped = dict.fromkeys(("before", "after", "limit", "tab", "sort", "descending", "skip"))
        origin = None if self.origin == "all" else self.origin
        return self.link("api/v1/dispatches.csv", **dropped, origin=origin)

    @property
    def is_narrowed(self) -> bool:
        """Whether the user has chosen less than everything that is shown at first."""
        return self.origin not in ("operations", "all") or any(
            (self.model, self.state, self.since, self.until)
        )


@dataclass(frozen=True)
class Listing:
    """The lines of a page, and the paths of the pages beside it; None where there is none."""

    lines: list[TimedLine]
    newest: str | None
    newer: str | None
    older: str | None
    cut_at: int | None = None  # so many are sorted, and more pass


@dataclass(frozen=True)
class Column:
    """The head of a column: `sorted_as` if the list is in its order, `link` to put it so."""

    words: str
    link: str | None = None
    sorted_as: Direction | None = None
    is_number: bool = False


def read_listing(store: EventStore, asked: ListQuery, wanted: DispatchFilter) -> Listing:
    """The page that `asked` means, of the dispatches that pass `wanted`."""
    return _by_column(store, asked, wanted) if asked.sort else _by_time(store, asked, wanted)


def columns_of(asked: ListQuery) -> list[Column]:
    """The heads of the list's columns; one that is in order already leads to the other order."""

    def column(words: str, key: SortKey, *, is_number: bool = False) -> Column:
        is_sorted = asked.sort == key
        down_next = not asked.descending if is_sorted else is_number  # numbers: the largest first
        link = _from_the_start(asked, sort=key, descending="true" if down_next else None)
        now: Direction = "descending" if asked.descending else "ascending"
        return Column(words, link, now if is_sorted else None, is_number)

    by_time = _from_the_start(asked, sort=None, descending=None)
    return [
        column(_("State"), "state"),
        column(_("Model"), "model"),
        Column(_("When"), by_time, None if asked.sort else "descending"),
        column(_("Origin"), "origin"),
        column(_("Data interval"), "interval"),
        column(_("Collected"), "collected", is_number=True),
        column(_("Predicted"), "predicted", is_number=True),
        column(_("Rejected"), "rejected", is_number=True),
        column(_("Persisted"), "persisted", is_number=True),
        column(_("Duration"), "duration", is_number=True),
        Column("Airflow"),
    ]


def _from_the_start(asked: ListQuery, **changes: str | None) -> str:
    return asked.link("dispatches", **{"before": None, "after": None, "skip": None, **changes})


def _by_time(store: EventStore, asked: ListQuery, wanted: DispatchFilter) -> Listing:
    lines, is_first = _page(store, asked, wanted)
    newer = older = None
    if lines and not is_first:
        newer = asked.link("dispatches", before=None, after=write_cursor(lines[0].cursor))
    if len(lines) == asked.limit:
        older = asked.link("dispatches", before=write_cursor(lines[-1].cursor), after=None)
    newest = None if is_first else _from_the_start(asked)
    return Listing(measure_lines(store, lines, store.now()), newest, newer, older)


def _page(store: EventStore, asked: ListQuery, wanted: DispatchFilter) -> tuple[list[DispatchLine], bool]:
    """The lines, and whether they are the newest."""
    if asked.after:
        newer = store.newer_page(wanted, after=parse_cursor(asked.after), limit=asked.limit)
        if len(newer) == asked.limit:
            return newer, False
        return store.page(wanted, limit=asked.limit), True
    return store.page(wanted, before=asked.cursor, limit=asked.limit), asked.before is None


_KEYS: Mapping[SortKey, Callable[[TimedLine], Any]] = {
    "state": lambda timed: timed.line.state,
    "model": lambda timed: timed.line.model,
    "origin": lambda timed: timed.line.origin,
    "interval": lambda timed: timed.line.data_interval_start,
    "collected": lambda timed: timed.line.rows_collected,
    "predicted": lambda timed: timed.line.rows_predicted,
    "rejected": lambda timed: timed.line.rows_rejected,
    "persisted": lambda timed: timed.line.rows_persisted,
    "duration": lambda timed: timed.seconds,
}


def _by_column(store: EventStore, asked: ListQuery, wanted: DispatchFilter) -> Listing:
    newest = store.page(wanted, limit=SORTED_AT_MOST + 1)
    found = measure_lines(store, newest[:SORTED_AT_MOST], store.now())
    lines = sort_lines(found, asked.sort or "duration", descending=asked.descending)
    end = asked.skip + asked.limit

    def at(skip: int) -> str:
        return asked.link("dispatches", before=None, after=None, skip=str(skip) if skip else None)

    return Listing(
        lines[asked.skip : end],
        newest=at(0) if asked.skip else None,
        newer=at(max(0, asked.skip - asked.limit)) if asked.skip else None,
        older=at(end) if end < len(lines) else None,
        cut_at=SORTED_AT_MOST if len(newest) > SORTED_AT_MOST else None,
    )


def sort_lines(lines: list[TimedLine], key: SortKey, *, descending: bool) -> list[TimedLine]:
    """Lines by a column, equal ones as they are; what has no value comes last in both orders."""
    value = _KEYS[key]
    known = [timed for timed in lines if value(timed) is not None]
    unknown = [timed for timed in lines if value(timed) is None]
    return [*sorted(known, key=value, reverse=descending), *unknown]
