"""The order of a dispatch among the dispatches of its model, fixed before it reads its source.

`step_runner` takes it in `plan` or `collect`; the sink decides by it whose prediction of a key counts.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, time, timedelta
from itertools import chain
from typing import Protocol, TypeVar
from zoneinfo import ZoneInfo

import pyarrow as pa

from mlops_plugin.databases.sink.write_request import Order
from mlops_plugin.errors import DispatchesOverlap
from mlops_plugin.events.order import has_later, take_number
from mlops_plugin.events.store import EventStore
from mlops_plugin.pipeline.dispatch import Dispatch

_ATTEMPTS = 8
_IN_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
# What Airflow derives from a run's dates. `run_after` and the rest may be asked of `dag_run` as well.
_OF_INTERVAL = re.compile(
    r"\b(data_interval_(start|end)|logical_date|execution_date|run_after|ds|ds_nodash|ts|ts_nodash"
    r"|ts_nodash_with_tz|(prev|next)_(data_interval|execution_date|ds|start_date)\w*"
    r"|(yesterday|tomorrow)_ds\w*)\b"
)
_OF_ITS_ENDS = re.compile(r"\b(data_interval_(start|end)|(prev|next)_(data_interval|start_date)\w*)\b")
# Else the query has a day only, the same in all runs for it.
_OF_ITS_MOMENT = re.compile(
    r"\b(logical_date|execution_date|run_after|ts|ts_nodash|ts_nodash_with_tz|(prev|next)_execution_date\w*)\b"
)
# Names that users have chosen, like `params.ds`; what `params.get('day', ds)` falls back on is the run's.
_TEXT = r"(?:'[^']*'|\"[^\"]*\")"
_OF_USERS = re.compile(
    rf"\b(?:params|conf|var)\b(?:\s*(?:\.\s*get\s*\(\s*{_TEXT}|\[\s*{_TEXT}\s*\]|\.\s*\w+))+"
)


class HasRows(Protocol):
    """An open source."""

    def rows(self) -> pa.RecordBatchReader: ...


_Source = TypeVar("_Source", bound=HasRows)


def take_order(dispatch: Dispatch, store: EventStore) -> Order:
    """A place behind all dispatches of the model that have begun to read. Raises `EventStoreError`."""
    end = interval_end(dispatch)
    return Order(take_number(store, dispatch.model.name, dispatch.id, end), end)


def interval_end(dispatch: Dispatch) -> datetime | None:
    """The end of the data interval by which the dispatch chooses its rows; None if it reads what is there.

    If its SQL names the logical date only, which of a run by hand is behind the end: the logical date, or
    the end of that day if the SQL uses its date alone.
    """
    source = dispatch.model.source
    is_by_cursor = source.cursor is not None and not dispatch.is_quarantined
    reads_interval = is_by_cursor and dispatch.reads_own_interval
    if dispatch.data_interval is None or not (reads_interval or uses_interval(source.query)):
        return None
    end = dispatch.data_interval[1]
    if reads_interval or dispatch.logical_date is None or _names(_OF_ITS_ENDS, source.query):
        return end
    if _names(_OF_ITS_MOMENT, source.query):
        return max(end, dispatch.logical_date)
    zone = ZoneInfo(dispatch.model.timezone)
    next_day = dispatch.logical_date.astimezone(zone).date() + timedelta(days=1)
    return max(end, datetime.combine(next_day, time(), zone))


def uses_interval(query: str) -> bool:
    """Whether a query's template names the data interval, or a date that Airflow derives from it."""
    return _names(_OF_INTERVAL, query)


def _names(sought: re.Pattern[str], query: str) -> bool:
    blocks = (_OF_USERS.sub("", block.group()) for block in _IN_TEMPLATE.finditer(query))
    return any(map(sought.search, blocks))


@contextlib.contextmanager
def open_in_order(
    dispatch: Dispatch, store: EventStore, open_source: Callable[[], AbstractContextManager[_Source]]
) -> Iterator[tuple[_Source, pa.RecordBatchReader, Order | None]]:
    """An open source, its rows and its order, such that the order of dispatches is that of their snapshots.

    Between the number and the first row another dispatch may take a number and read sooner: then the source
    is opened once more, behind it. Raises `DispatchesOverlap` if that happens again and again. A dry run
    needs no order.
    """
    if dispatch.is_dry_run:
        with open_source() as source:
            yield source, source.rows(), None
        return
    for _ in range(_ATTEMPTS):
        order = take_order(dispatch, store)
        with open_source() as source:
            rows = _begun(source.rows())
            if not has_later(store, dispatch.model.name, order.number, order.interval_end):
                yield source, rows, order
                return
    raise DispatchesOverlap(
        f"models.{dispatch.model.name}: {_ATTEMPTS} times in a row another dispatch of this model began "
        "while this one waited for its first row, so it is unknown which has the newer rows; let fewer run "
        "at once (max_active_runs), or try again"
    )


def _begun(rows: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """The same rows; the first batch is here, so the database has fixed what the statement sees."""
    batches = iter(rows)
    first = next(batches, None)
    return pa.RecordBatchReader.from_batches(rows.schema, chain([] if first is None else [first], batches))
