"""The first predictions that a dispatch left in its sink, for people to look at."""

from __future__ import annotations

import contextlib
import queue
import threading
from dataclasses import dataclass
from typing import Any

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import DatabaseError, MlopsError
from mlops_plugin.pipeline.deployment import Deployment

# A read that was given up still runs until its database answers; these are all that may do so at once.
_places = threading.BoundedSemaphore(4)


@dataclass(frozen=True)
class PredictionRows:
    """Rows as Python values, in no particular order; `rows` is empty where later dispatches replaced them."""

    table: str
    columns: list[str]
    rows: list[list[Any]]


def first_predictions(
    deployment: Deployment, model: ModelConfig, dispatch_id: str, *, limit: int, timeout_s: float
) -> PredictionRows:
    """At most `limit` rows of a dispatch, by `dispatch_id`, within `timeout_s`.

    Raises `DatabaseError` where the sink does not answer in time or refuses, and whatever else opening it
    may raise.
    """
    sink = model.sink
    doing = f"reading {sink.table}"
    if not _places.acquire(blocking=False):
        raise DatabaseError(sink.connection, doing, "earlier reads still wait for an answer; try again later")
    answers: queue.Queue[PredictionRows | MlopsError] = queue.Queue()

    def read() -> None:
        try:
            answers.put(_read(deployment, model, dispatch_id, limit))
        except MlopsError as error:
            answers.put(error)
        finally:
            _places.release()

    # A daemon: an API server that stops waits for no database.
    threading.Thread(target=read, name=f"predictions of {model.name}", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise DatabaseError(sink.connection, doing, f"no answer within {timeout_s:g} s") from None
    if isinstance(answer, MlopsError):
        raise answer
    return answer


def _read(deployment: Deployment, model: ModelConfig, dispatch_id: str, limit: int) -> PredictionRows:
    with contextlib.closing(deployment.database(model.sink.connection)) as database:
        dialect = database.dialect
        query = (
            f"SELECT * FROM {dialect.quote_table(model.sink.table)} WHERE {dialect.quote('dispatch_id')} = ?"
        )
        query = f"{query} {dialect.first_rows.format(rows=limit)}"
        reader = database.read(query, batch_rows=limit, parameters=[dispatch_id])
        rows = reader.read_all().slice(0, limit)
        values = [column.to_pylist() for column in rows.columns]
        return PredictionRows(
            model.sink.table, rows.column_names, [list(row) for row in zip(*values, strict=True)]
        )
