"""The first rows that a dispatch left in its sink or in the quarantine, for people to look at."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from mlops_plugin.config.schema import ModelConfig, SinkConfig
from mlops_plugin.databases.database import read_rows
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import DatabaseError, MlopsError
from mlops_plugin.pipeline.deployment import Deployment

_T = TypeVar("_T")

# An abandoned read still runs until its database answers; only so many may do so at once.
_places = threading.BoundedSemaphore(4)


@dataclass(frozen=True)
class FirstRows:
    """Rows as Python values, in no order; `rows` is empty if later dispatches replaced them."""

    table: str
    columns: list[str]
    rows: list[list[Any]]


def first_predictions(
    deployment: Deployment, model: ModelConfig, dispatch_id: str, *, limit: int, timeout_s: float
) -> FirstRows:
    """At most `limit` predictions of a dispatch, within `timeout_s`; raises as `_first_rows` does."""
    return _first_rows(deployment, model.sink, dispatch_id, limit, timeout_s)


def first_rejections(
    deployment: Deployment, model: ModelConfig, dispatch_id: str, *, limit: int, timeout_s: float
) -> FirstRows:
    """At most `limit` records of rows that a dispatch rejected, within `timeout_s`; raises likewise."""
    return _first_rows(deployment, model.quarantine_sink, dispatch_id, limit, timeout_s)


def count_predictions(
    deployment: Deployment, model: ModelConfig, dispatch_id: str, *, timeout_s: float
) -> int:
    """How many predictions of a dispatch are in the sink now, within `timeout_s`; raises likewise."""

    def count() -> int:
        with contextlib.closing(deployment.database(model.sink.connection)) as database:
            table, engine = TableName.parse(model.sink.table), database.engine
            if database.columns(table) is None:
                return 0
            own = f"{engine.quote('dispatch_id')} = ?"
            query = f"SELECT COUNT(*) AS found FROM {table.quoted(engine)} WHERE {own}"
            return int(read_rows(database, query, [dispatch_id])[0][0])

    return _within(model.sink, count, timeout_s)


def _first_rows(
    deployment: Deployment, sink: SinkConfig, dispatch_id: str, limit: int, timeout_s: float
) -> FirstRows:
    """Rows of a table by `dispatch_id`; raises as `_within` does."""
    return _within(sink, lambda: _read(deployment, sink, dispatch_id, limit), timeout_s)


def _within(sink: SinkConfig, work: Callable[[], _T], timeout_s: float) -> _T:
    """Ask the sink's database something in a thread that can be abandoned.

    Raises `DatabaseError` if the database does not answer in time or refuses, and whatever else opening it
    raises.
    """
    doing = f"reading {sink.table}"
    if not _places.acquire(blocking=False):
        raise DatabaseError(
            sink.connection, doing, "too many earlier reads are still waiting for an answer; try again later"
        )
    answers: queue.Queue[_T | MlopsError] = queue.Queue()

    def read() -> None:
        answer: _T | MlopsError
        try:
            answer = work()
        except MlopsError as error:
            answer = error
        finally:
            _places.release()
        answers.put(answer)  # only now: who has the answer may ask again at once

    # A daemon: an API server that stops waits for no database.
    threading.Thread(target=read, name=f"rows of {sink.table}", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise DatabaseError(sink.connection, doing, f"no answer within {timeout_s:g} s") from None
    if isinstance(answer, MlopsError):
        raise answer
    return answer


def _read(deployment: Deployment, sink: SinkConfig, dispatch_id: str, limit: int) -> FirstRows:
    with contextlib.closing(deployment.database(sink.connection)) as database:
        engine = database.engine
        table = TableName.parse(sink.table).quoted(engine)
        query = f"SELECT * FROM {table} WHERE {engine.quote('dispatch_id')} = ?"
        query = f"{query} {engine.any_rows(limit)}"
        reader = database.read(query, batch_rows=limit, parameters=[dispatch_id])
        rows = reader.read_all().slice(0, limit)
        values = [column.to_pylist() for column in rows.columns]
        return FirstRows(sink.table, rows.column_names, [list(row) for row in zip(*values, strict=True)])
