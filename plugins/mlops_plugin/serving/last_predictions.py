"""The last prediction of each of some cases, as the predictions table has it: the list of cases shows it.

Only a key that is the same value in both is the same case: what an engine takes for equal (a text and a
number, texts that differ in case) is compared again here.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.databases.database import Database, read_rows
from mlops_plugin.databases.engines.engine import Engine
from mlops_plugin.databases.moments import utc_naive
from mlops_plugin.databases.sink.dispatches_table import DispatchesTable
from mlops_plugin.databases.sink.narrow_rows import DISPATCH_NUMBER
from mlops_plugin.databases.sink.predictions_table import DISPATCH_ID, SinkTable, find_narrow
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import MlopsError, SinkError
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.serving.case_paging import Key
from mlops_plugin.serving.case_values import parameter_of
from mlops_plugin.serving.cases import SERVER_SHARE

_log = logging.getLogger(__name__)

PREDICTION = "prediction"
PROBABILITY = "probability_"  # of the columns that a model with classes has
_OF_ROW = (PREDICTION, DISPATCH_ID, "model", "predicted_at")
_WITHIN_S = 5.0  # of a table without an index on the key, all rows may have to be read
_PAUSE_S = 60.0  # after a look-up that failed: a slow or dead server is not asked by every page


@dataclass(frozen=True)
class LastPrediction:
    """A row of the predictions table.

    `has_probabilities`: in this row. The columns may be another model's, or those of an earlier artifact.
    """

    prediction: Any
    dispatch_id: str
    predicted_at: datetime | None
    has_probabilities: bool = False


@dataclass(frozen=True)
class _Found:
    """The same, with what says which of two counts: see `dispatches_table.newer`."""

    last: LastPrediction
    number: int | None
    interval_end: str | None

    @property
    def order(self) -> tuple[int, datetime]:
        """Rows whose dispatch is not registered are older than all others."""
        at = self.last.predicted_at
        return -1 if self.number is None else self.number, datetime.min if at is None else utc_naive(at)

    def is_after(self, earlier: _Found) -> bool:
        """Whether it counts before a row that is earlier by `order`."""
        ends = (self.interval_end, earlier.interval_end)
        return None in ends or str(ends[0]) >= str(ends[1])


@dataclass
class LastPredictions:
    """Looks them up; one for each process, which remembers where that has just failed."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _paused: dict[str, float] = field(default_factory=dict)  # by model: until when

    def find(
        self, model: ModelConfig, deployment: Deployment, keys: Sequence[Key]
    ) -> dict[Key, LastPrediction] | None:
        """By key, those of `keys` that were predicted; None if that cannot be found out."""
        with self._lock:
            if time.monotonic() < self._paused.get(model.name, 0.0):
                return None
        try:
            return find_last(model, deployment, keys)
        except MlopsError as error:
            _log.info("models.%s: its last predictions cannot be shown: %s", model.name, error)
            with self._lock:
                self._paused[model.name] = time.monotonic() + _PAUSE_S
            return None


def find_last(model: ModelConfig, deployment: Deployment, keys: Sequence[Key]) -> dict[Key, LastPrediction]:
    """By key, those of `keys` that this model has predicted.

    Raises `MlopsError` if the table cannot be read, or not in time.
    """
    if not keys:
        return {}
    limited = replace(deployment, limits=deployment.limits.of_probe(_WITHIN_S))
    names = _key_names(model)
    exact = {*names, DISPATCH_ID, "number"}
    with contextlib.closing(limited.database(model.sink.connection, exact_columns=exact)) as database:
        database.engine.limit_statements(database, SERVER_SHARE * limited.limits.statement_s)
        if database.columns(TableName.parse(model.sink.table)) is None:
            return {}
        return _newest(model, keys, _rows(model, database, keys))


def _key_names(model: ModelConfig) -> list[str]:
    """What the query calls the key's columns; theirs may be names that it needs itself."""
    return [f"key_{number}" for number in range(len(model.key))]


def _rows(model: ModelConfig, database: Database, keys: Sequence[Key]) -> list[tuple[Any, ...]]:
    """Key, then `_OF_ROW`, whether it has probabilities, and the order of its dispatch."""
    engine, dispatches = database.engine, DispatchesTable(database, model.sink)
    narrow = find_narrow(database, model.sink)
    columns = _columns(model, database, narrow)
    is_ordered = narrow is not None or _exists(dispatches)
    table = (narrow.name if narrow else TableName.parse(model.sink.table)).quoted(engine)
    shared = "d" if narrow else "t"
    key = [f"t.{engine.quote(name)}" for name in model.key]
    named = [f"{column} AS {name}" for column, name in zip(key, _key_names(model), strict=True)]
    named.append(f"t.{engine.quote(PREDICTION)} AS {PREDICTION}")
    named += [f"{shared}.{engine.quote(name)} AS {name}" for name in _OF_ROW[1:]]
    named.append(f"{_has_probabilities(engine, columns)} AS has_probabilities")
    parameters: list[Any] = []
    tables = f"{table} t"
    if is_ordered:
        named += [f"d.{engine.quote(name)} AS {name}" for name in ("number", "interval_end")]
        same = dispatches.same_dispatch(DISPATCH_NUMBER if narrow else None)
        join = "JOIN" if narrow else "LEFT JOIN"
        tables += f" {join} {dispatches.name} d ON d.{engine.quote('sink_table')} = ? AND {same}"
        parameters.append(dispatches.sink_table)
    one = " AND ".join(f"{column} = ?" for column in key)
    wanted = " OR ".join(f"({one})" for _ in keys)
    of_model = engine.beside_key(f"{shared}.{engine.quote('model')}")
    parameters += [model.name, *(parameter_of(_plain(value)) for each in keys for value in each)]
    query = f"SELECT {', '.join(named)} FROM {tables} WHERE {of_model} = ? AND ({wanted})"
    return [row if is_ordered else (*row, None, None) for row in read_rows(database, query, parameters)]


def _columns(model: ModelConfig, database: Database, narrow: SinkTable | None) -> list[str]:
    """Those of the rows' own table; raises `SinkError` if it lacks one that is needed."""
    fold, table = database.engine.fold, TableName.parse(model.sink.table)
    if narrow:
        columns = [column.name for column in narrow.columns.values()]
    else:
        columns = [*(database.columns(table) or ())]
    known = set(map(fold, columns))
    needed = [*model.key, PREDICTION] if narrow else [*model.key, *_OF_ROW]
    if missing := [name for name in needed if fold(name) not in known]:
        raise SinkError(f"table {table} has no column {', '.join(missing)}")
    return columns


def _has_probabilities(engine: Engine, columns: Iterable[str]) -> str:
    """1 if a row has one, else 0; a CASE, since engines limit how deep conditions may nest."""
    found = [name for name in columns if name.lower().startswith(PROBABILITY)]
    tests = "".join(f" WHEN t.{engine.quote(name)} IS NOT NULL THEN 1" for name in found)
    return f"CASE{tests} ELSE 0 END" if tests else "0"


def _exists(dispatches: DispatchesTable) -> bool:
    try:
        return dispatches.exists()
    except SinkError:  # of another version
        return False


def _newest(
    model: ModelConfig, keys: Sequence[Key], rows: Iterable[Sequence[Any]]
) -> dict[Key, LastPrediction]:
    asked = {tuple(map(_plain, key)): key for key in keys}
    found: dict[Key, list[_Found]] = {}
    width = len(model.key)
    for row in rows:
        prediction, dispatch_id, name, at, has_probabilities, number, interval_end = row[width:]
        key = asked.get(tuple(map(_plain, row[:width])))
        if key is None or name != model.name or _differ_in_zone(key, row[:width]):
            continue
        last = LastPrediction(prediction, str(dispatch_id), _moment(at), bool(int(has_probabilities)))
        found.setdefault(key, []).append(_Found(last, None if number is None else int(number), interval_end))
    return {key: _last_of(several).last for key, several in found.items()}


def _last_of(several: list[_Found]) -> _Found:
    first, *others = sorted(several, key=lambda one: one.order)
    for other in others:
        if other.is_after(first):
            first = other
    return first


def _plain(value: Any) -> Any:
    """A value of a key as it is compared: many engines store a time in UTC and a UUID as text."""
    if isinstance(value, datetime):
        return utc_naive(value)
    return str(value) if isinstance(value, uuid.UUID) else value


def _differ_in_zone(asked: Sequence[Any], stored: Sequence[Any]) -> bool:
    """Whether the table knows of an instant what the source does not: nobody can say that they are equal."""
    return any(
        isinstance(one, datetime) and one.tzinfo is None and other.tzinfo is not None
        for one, other in zip(asked, stored, strict=True)
    )


def _moment(value: Any) -> datetime | None:
    """A time of the table, in UTC; some engines store it as text."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    return utc_naive(value) if isinstance(value, datetime) else None
