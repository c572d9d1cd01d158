"""Chooses which rows of its query a dispatch reads, and moves the model's watermark.

A dispatch reads only new rows (`source.cursor`), only rows without a prediction by the same artifact
(`source.skip_predicted`), or all rows.

No row is skipped: mark X means that some dispatch read and persisted all rows from the mark before X up to
X, and that mark means the same for the rows before it. So any dispatch that succeeds covers the rows up to
its greatest value, whenever it began and whichever others failed beside it. Only a person breaks that chain
with `mlops cursor`: the mark gets a new generation, and dispatches of an earlier one no longer move it. With
a mark of another scope (`mark_scope`), dispatches fail until somebody says where to start: to go on from it
may skip rows, to start again may append predictions twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from mlops_plugin.config.schema import CursorConfig, ModelConfig
from mlops_plugin.databases.cursor_bounds import between, from_on
from mlops_plugin.databases.database import Database
from mlops_plugin.databases.engines.engine import Engine
from mlops_plugin.databases.moments import holds_instants, utc_naive
from mlops_plugin.databases.not_predicted import not_predicted
from mlops_plugin.databases.selection import Condition
from mlops_plugin.errors import CursorError, EmptyInterval
from mlops_plugin.events.details.step_reports import CollectReport, IncrementRead, MarkScope
from mlops_plugin.events.fencing import TryToken
from mlops_plugin.events.marks import Watermark, move_mark, newest_mark
from mlops_plugin.events.store import EventStore
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.reading.answering import answered_by
from mlops_plugin.pipeline.reading.cursor_values import (
    Column,
    Kind,
    Value,
    check_lag,
    column_kind,
    from_moment,
    kind_of,
    parse,
    parse_input,
    serialize,
    subtract_lag,
)
from mlops_plugin.pipeline.reading.mark_scope import (
    is_foreign,
    read_up_to,
    scope_if_foreign,
    scope_of,
    scope_words,
    times_differ,
    zone_words,
)

if TYPE_CHECKING:
    from mlops_plugin.pipeline.staging.records import Judge  # which has notes of increments


@dataclass(frozen=True)
class Skipped:
    """The model whose rows are left out: hashes of artifact, signed input, and all that answers."""

    artifact_sha256: str
    input_sha256: str | None
    answered_by: str

    @classmethod
    def of(cls, model: ModelConfig, judge: Judge) -> Self:
        artifact, signed = judge.artifact_sha256, judge.input_sha256
        return cls(artifact, signed, answered_by(model, artifact, signed))


class Increment:
    """The rows that a dispatch reads, as `conditions` on its query, and the greatest value among them.

    `first` is the value at which it starts; None: at the beginning, or it reads its own data interval.
    `follows_dispatch`: `first` is from a mark that a dispatch has moved, not a person. `skipped`: rows that
    this model has predicted or rejected are left out.
    """

    def __init__(
        self,
        model: ModelConfig,
        conditions: tuple[Condition, ...] = (),
        *,
        first: Value | None = None,
        generation: int = 0,
        follows_dispatch: bool = False,
        skipped: Skipped | None = None,
    ) -> None:
        self.conditions = conditions
        self._model = model
        self._where = cursor_path(model)
        self._cursor = model.source.cursor
        self._first = first
        self._generation = generation
        self._follows_dispatch = follows_dispatch
        self.skipped = skipped
        self._greatest: Value | None = None
        self._holds_instants: bool | None = None

    def see(self, batch: pa.RecordBatch) -> None:
        """Remember the greatest value. Raises `CursorError` for NULL and for values that are no cursor."""
        if self._cursor is None or batch.num_rows == 0:
            return
        column_kind(self._where, self._cursor.column, batch.schema, may_be_text=True)
        values = batch.column(self._cursor.column)
        if values.null_count:
            raise CursorError(
                f"{self._where}.column: '{self._cursor.column}' is NULL in {values.null_count} of "
                f"{batch.num_rows} rows, which would never be read as new; give them a value in the query, "
                f"e.g. COALESCE({self._cursor.column}, created_at), or leave them out"
            )
        greatest = _greatest(self._where, values)
        self._holds_instants = holds_instants(batch.schema.field(self._cursor.column))
        kind = kind_of(greatest)
        known = self._greatest if self._greatest is not None else self._first
        if known is not None and not _is_comparable(known, greatest):
            raise CursorError(
                f"{self._where}.column: '{self._cursor.column}' holds values of type {kind}, but its "
                f"watermark or earlier rows are of type {kind_of(known)}; cast it in the query, or set the "
                "watermark again with `mlops cursor`"
            )
        check_lag(self._where, self._cursor.lag, kind)
        if self._greatest is None or _instant(self._greatest) < _instant(greatest):
            self._greatest = greatest

    @property
    def reads_last_again(self) -> bool:
        """Whether the last row that was read before is read again, if it is still there."""
        return self._follows_dispatch and self.skipped is None

    def read(self) -> IncrementRead | None:
        """What was read, for the note and the record; None if the model has no cursor and skips nothing."""
        if self._cursor is None and self.skipped is None:
            return None
        known = self._greatest if self._greatest is not None else self._first
        return IncrementRead(
            column=self._cursor.column if self._cursor else None,
            kind=None if known is None else kind_of(known),
            first=None if self._first is None else serialize(self._first),
            greatest=None if self._greatest is None else serialize(self._greatest),
            generation=self._generation,
            skipped_artifact=None if self.skipped is None else self.skipped.artifact_sha256,
            skipped_answers=None if self.skipped is None else self.skipped.answered_by,
            scope=None if self._cursor is None else scope_of(self._model),
            holds_instants=self._holds_instants,
        )


def choose_increment(
    dispatch: Dispatch,
    store: EventStore,
    database: Database,
    query: str,
    judge: Callable[[], Judge],
) -> Increment:
    """Choose what a dispatch reads. `query` is rendered, `database` is the source, `judge` finds the model.

    A dispatch that runs again, after a failure or because its run was cleared, starts where it started the
    first time. Raises `CursorError`.
    """
    model = dispatch.model
    source = model.source
    conditions = []
    skipped: Skipped | None = None
    if source.skip_predicted:
        skipped = Skipped.of(model, judge())
        condition = not_predicted(
            database,
            model.sink,
            key=model.key,
            model=model.name,
            artifact_sha256=skipped.artifact_sha256,
            answered_by=skipped.answered_by,
            dispatch_id=dispatch.id,
        )
        conditions += [condition] if condition else []
    if source.cursor is None:
        return Increment(model, tuple(conditions), skipped=skipped)
    if dispatch.reads_own_interval:
        conditions.append(_interval(dispatch, source.cursor, database, query))
        return Increment(model, tuple(conditions), skipped=skipped)
    begin = _beginning(dispatch, source.cursor, store, database, query)
    if begin.first is not None:
        conditions.append(from_on(database.engine, source.cursor.column, begin.first))
    return Increment(
        model,
        tuple(conditions),
        first=begin.first,
        generation=begin.generation,
        follows_dispatch=begin.follows_dispatch,
        skipped=skipped,
    )


def advance_mark(
    dispatch: Dispatch, store: EventStore, increment: IncrementRead | None, token: TryToken
) -> Watermark | None:
    """Move the model's mark to the greatest value that a dispatch has persisted, never backwards.

    `increment` is the one that was logged with the persisted rows. Returns the mark if it moved. Raises
    `TrySuperseded` if the token's try is not the newest.
    """
    cursor = dispatch.model.source.cursor
    if not dispatch.moves_mark or cursor is None or increment is None:
        return None
    greatest, kind = _stored_value(increment.greatest, increment.kind), increment.kind
    if greatest is None or kind is None or increment.column != cursor.column:  # another column is set
        return None

    def move(newest: Watermark | None) -> str | None:
        if (newest.generation if newest else 0) != increment.generation:
            return None
        old = _value_of(newest, cursor)
        is_later = old is None or (_is_comparable(old, greatest) and _instant(old) < _instant(greatest))
        return serialize(greatest) if is_later else None

    return move_mark(store, dispatch.model.name, cursor.column, kind, token, move)


def cursor_path(model: ModelConfig) -> str:
    """The path of the model's cursor in the configuration."""
    return f"models.{model.name}.source.cursor"


def undecided_start(model: ModelConfig, value: object, scope: MarkScope) -> str:
    """Why a mark of another scope leaves open where to start, and how to decide it."""
    cursor = model.source.cursor
    start = "the first row" if cursor is None or cursor.initial is None else str(cursor.initial)
    return (
        f"{cursor_path(model)}: the watermark {value} is that of {scope_words(scope)}, not of "
        f"{scope_words(scope_of(model))}; to go on behind it, run mlops cursor {model.name} --set '{value}'; "
        f"to start at {start}, run mlops cursor {model.name} --reset"
    )


def check_column(model: ModelConfig, cursor: CursorConfig, columns: pa.Schema, engine: Engine) -> Column:
    """The type of the cursor column. Raises `CursorError` if the column, lag or initial value is invalid."""
    where = cursor_path(model)
    column = column_kind(where, cursor.column, columns, may_be_text=engine.values_have_types)
    check_lag(where, cursor.lag, column)
    if cursor.initial is not None:
        parse_input(f"{where}.initial", str(cursor.initial), column)
    return column


@dataclass(frozen=True)
class _Beginning:
    """The value at which a dispatch starts (None: all rows), the mark's generation, and see `Increment`."""

    first: Value | None
    generation: int
    follows_dispatch: bool = False


def _beginning(
    dispatch: Dispatch, cursor: CursorConfig, store: EventStore, database: Database, query: str
) -> _Beginning:
    where = cursor_path(dispatch.model)
    column = columns = None
    if not database.engine.values_have_types:  # SQLite has types by value, and there may be no row
        columns = database.describe(query)
        column = check_column(dispatch.model, cursor, columns, database.engine)
    found = None if columns is None else holds_instants(columns.field(cursor.column))
    mark = newest_mark(store, dispatch.model.name)
    generation = mark.generation if mark else 0
    value, scope = _value_of(mark, cursor), scope_of(dispatch.model)
    read = None if value is None else read_up_to(store, mark)
    foreign = scope_if_foreign(read, scope)
    if value is not None and read is not None and foreign is None and column == kind_of(value):
        _require_same_times(dispatch.model, cursor, value, read.holds_instants, found)
    earlier = _earlier_beginning(dispatch, cursor, store, scope, found)
    if earlier is not None:
        return earlier
    if foreign is not None:
        raise CursorError(undecided_start(dispatch.model, value, foreign))
    if value is None:
        first = None if cursor.initial is None else _initial(dispatch.model, cursor, column, columns)
        return _Beginning(first, generation)
    if column not in (None, kind_of(value)):
        raise CursorError(
            f"{where}.column: '{cursor.column}' holds values of type {column}, but the watermark is "
            f"the {kind_of(value)} {serialize(value)}; set it again: mlops cursor {dispatch.model.name} "
            "--set VALUE, or --reset"
        )
    check_lag(where, cursor.lag, kind_of(value))
    follows_dispatch = mark is not None and mark.dispatch_id is not None
    return _Beginning(subtract_lag(value, cursor.lag), generation, follows_dispatch)


def _require_same_times(
    model: ModelConfig, cursor: CursorConfig, value: Value, before: bool | None, found: bool | None
) -> None:
    """Raise `CursorError` if the column's times mean something else than when the mark became `value`."""
    if times_differ(before, found):
        raise CursorError(
            f"{cursor_path(model)}.column: '{cursor.column}' was changed: its times were "
            f"{zone_words(before)} when the watermark became {serialize(value)}, and are "
            f"{zone_words(found)} now; set it again: mlops cursor {model.name} --set VALUE, or --reset"
        )


def _initial(
    model: ModelConfig, cursor: CursorConfig, column: Column | None, columns: pa.Schema | None
) -> Value:
    """The configuration's `initial`, for a column of this type; None: SQLite's has none."""
    where, text = f"{cursor_path(model)}.initial", str(cursor.initial)
    supposed: Column = "integer" if isinstance(cursor.initial, int) else "text"
    if columns is not None and holds_instants(columns.field(cursor.column)):
        moment = parse_input(where, text, "timestamp with time zone", model.timezone)
        return utc_naive(moment) if isinstance(moment, datetime) else moment
    return parse_input(where, text, column or supposed, model.timezone)


def _earlier_beginning(
    dispatch: Dispatch, cursor: CursorConfig, store: EventStore, scope: MarkScope, found: bool | None
) -> _Beginning | None:
    """Where this dispatch started when it first collected this column of these rows; None if it never has.

    `found`: whether the column holds instants now.
    """
    for event in store.events(dispatch.id):
        increment = event.details.increment if isinstance(event.details, CollectReport) else None
        if increment is None or is_foreign(increment.scope, scope):
            continue
        if increment.column == cursor.column and not times_differ(increment.holds_instants, found):
            return _Beginning(_stored_value(increment.first, increment.kind), increment.generation)
    return None


def _stored_value(text: str | None, kind: Kind | None) -> Value | None:
    """A value as `Increment.read` has recorded it."""
    return None if text is None or kind is None else parse(text, kind)


def _interval(dispatch: Dispatch, cursor: CursorConfig, database: Database, query: str) -> Condition:
    if dispatch.data_interval is None:
        raise CursorError(f"models.{dispatch.model.name}: this dispatch has no data interval to read")
    is_untyped = database.engine.values_have_types
    where = cursor_path(dispatch.model)
    columns = database.describe(query)
    column = column_kind(where, cursor.column, columns, may_be_text=is_untyped)
    if column == "integer" and not (is_untyped and isinstance(cursor.lag, timedelta)):
        raise CursorError(
            f"{cursor_path(dispatch.model)}: a backfill reads the rows of its data interval, a time, "
            f"but '{cursor.column}' holds integers; go back with `mlops cursor {dispatch.model.name} --set "
            "VALUE` and an ordinary dispatch instead"
        )
    begin, end = dispatch.data_interval
    if begin >= end:
        raise EmptyInterval(
            f"models.{dispatch.model.name}: this dispatch reads the rows of its data interval, but that "
            f"begins at {begin} and ends at {end}; write the earlier time first, or, with a schedule "
            "that has no periods, dispatch without an interval"
        )
    kind: Column = "text" if column == "integer" else column
    zone = "UTC" if holds_instants(columns.field(cursor.column)) else dispatch.model.timezone
    first, last = (from_moment(moment, kind, zone) for moment in dispatch.data_interval)
    return between(database.engine, cursor.column, first, last)


def _value_of(mark: Watermark | None, cursor: CursorConfig) -> Value | None:
    """The mark's value; None if there is none, or if it belongs to another column."""
    if mark is None or mark.value is None or mark.cursor_column != cursor.column:
        return None
    kind: Any = mark.value_kind
    return parse(mark.value, kind)


def _greatest(where: str, values: pa.Array) -> Value:
    if pa.types.is_string(values.type):
        values = _times(where, values)
    if pa.types.is_timestamp(values.type) and values.type.unit == "ns":
        # Down: a cast goes up before 1970, past rows of the same microsecond.
        whole = pc.floor_temporal(values, unit="microsecond")
        values = pc.cast(whole, pa.timestamp("us", values.type.tz))
    greatest: Value = pc.max(values).as_py()
    return greatest


def _times(where: str, texts: pa.Array) -> pa.Array:
    """Parse texts as times: all without a zone, or all with one."""
    problem: Exception | None = None
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            return pc.cast(texts, kind)
        except pa.ArrowInvalid as error:
            problem = problem or error
    raise CursorError(
        f"{where}.column: its texts are not all times in the same form, all with or all without a time zone: "
        f"{problem}; write times as 2026-01-31 06:00:00, and correct or leave out the others in the query"
    ) from problem


def _is_comparable(one: Value, other: Value) -> bool:
    return type(one) is type(other)


def _instant(value: Value) -> Any:
    """A value that can be compared: on SQLite, texts with a zone may follow texts without."""
    return utc_naive(value) if isinstance(value, datetime) else value
