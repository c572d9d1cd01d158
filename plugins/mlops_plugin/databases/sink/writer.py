"""Writes one dispatch's predictions into the configured table; the `persist` step calls it.

Everything happens in one transaction, so a dispatch is in the table as a whole or not at all, and writing it
again, for whatever reason, leaves the same rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain

import pyarrow as pa

from mlops_plugin.databases.database import Database, read_rows
from mlops_plugin.databases.sink.column_fit import decimals_in_texts
from mlops_plugin.databases.sink.creation import create_sink
from mlops_plugin.databases.sink.dispatches_table import DispatchesTable, Standing
from mlops_plugin.databases.sink.narrow_rows import narrowed
from mlops_plugin.databases.sink.other_answers import find_other_answers
from mlops_plugin.databases.sink.predictions_table import (
    DISPATCH_ID,
    SinkTable,
    check_table,
    find_rows,
    table_columns,
    unique_keys,
)
from mlops_plugin.databases.sink.sink_write import SinkWrite
from mlops_plugin.databases.sink.stored_rows import StoredRows
from mlops_plugin.databases.sink.table_lock import only_writer
from mlops_plugin.databases.sink.upsert import upsert
from mlops_plugin.databases.sink.value_checks import value_checks
from mlops_plugin.databases.sink.write_request import WriteRequest, Written
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import CommitUncertain, DatabaseError, KeyColumnError, PredictionsGone, SinkError

_log = logging.getLogger(__name__)


def write_predictions(database: Database, request: WriteRequest, batches: pa.RecordBatchReader) -> Written:
    """Persist a dispatch and return how many of its rows the database itself counts afterwards.

    `batches` hold the key columns, the predictions, and dispatch_id, model, artifact_sha256 and predicted_at.
    Raises `SinkError` for a table that does not fit or a value that the engine cannot hold, `KeyColumnError`
    for a key that is missing, NULL or there twice, `UnsupportedType` for a column without a type there, and
    `DatabaseError` for everything else; the table is then as it was before. `StaleTry`: a newer try of this
    dispatch has written. Only `CommitUncertain` leaves open whether the rows were written.
    """
    sink, key = request.sink, request.key
    _require_columns(batches.schema, key)
    if sink.mode == "upsert" and not database.engine.supports_upsert:
        raise SinkError(
            f"connection '{database.conn_id}': mode upsert is not supported on this engine; use "
            "append or replace"
        )
    # First: a view of narrow rows cannot be read without it.
    dispatches = DispatchesTable(database, sink) if request.registration is not None else None
    if dispatches is not None and not dispatches.ensure():
        dispatches = None
    registration = request.registration
    if registration is not None and registration.answered_by is not None:
        is_kept = dispatches is not None and dispatches.ensure_answered_by()
        answered_by = registration.answered_by if is_kept else None
        request = replace(request, registration=replace(registration, answered_by=answered_by))
    place = _find_place(database, request, batches.schema)
    if place is None:
        batches, is_empty = _peeked(batches)
        if is_empty:  # nothing to take back or to write; and without a value, SQLite cannot tell a key's type
            _register_empty(database, request, dispatches)
            return Written(0)
        if request.goes_behind is not None and find_rows(database, TableName.parse(sink.table)) is None:
            raise _predictions_gone(database, request)
        create_sink(database, request, batches.schema, dispatches)
        place = _find_place(database, request, batches.schema)
        if place is None:
            raise SinkError(f"connection '{database.conn_id}': {sink.table} was dropped while it was created")
    if place.is_narrow and dispatches is None:
        raise SinkError(_without_dispatches(database, request))
    database.commit()
    with alone_in(database, place.name, request.dispatch_id, request.check):
        if table_columns(database, place.name) != place.columns:
            place = _changed_place(database, request, place, batches.schema)
        request.prepare(database)
        written = _write_in_order(database, request, place, batches, dispatches)
        request.check()
    return written


def _without_dispatches(database: Database, request: WriteRequest) -> str:
    if request.registration is not None:
        return DispatchesTable(database, request.sink).missing()
    return (
        f"connection '{database.conn_id}': {request.sink.table} shows predictions of registered dispatches; "
        "give this dispatch a table of its own"
    )


def _predictions_gone(database: Database, request: WriteRequest) -> PredictionsGone:
    table = request.sink.table
    model = "MODEL" if request.registration is None else request.registration.model
    return PredictionsGone(
        f"connection '{database.conn_id}': {table} no longer has the predictions of dispatch "
        f"{request.goes_behind}, and this one has read only the rows from the watermark on: the table was "
        "dropped, restored from a backup, or is another database's; to predict all rows again, run mlops "
        f"cursor {model} --reset; to go on without them, run mlops cursor {model} --set with the value that "
        f"mlops cursor {model} shows; then clear 'persist', or dispatch again"
    )


def _holds(database: Database, place: SinkTable, dispatches: DispatchesTable, dispatch_id: str) -> bool:
    """Whether a table has a dispatch: it is registered, or wrote rows while it could not be."""
    if dispatches.ids(dispatch_id):
        return True
    if place.is_narrow:  # its rows belong to registered dispatches only
        return False
    engine = database.engine
    owner, table = engine.as_text(engine.quote(DISPATCH_ID)), place.name.quoted(engine)
    rows = f"SELECT 1 AS found FROM {table} WHERE {owner} = ? {engine.any_rows(1)}"
    return bool(read_rows(database, rows, [dispatch_id]))


def _find_place(database: Database, request: WriteRequest, schema: pa.Schema) -> SinkTable | None:
    searched = request.is_searched_by_key
    return check_table(database, request.sink, key=request.key, schema=schema, is_searched_by_key=searched)


def _changed_place(
    database: Database, request: WriteRequest, place: SinkTable, schema: pa.Schema
) -> SinkTable:
    """The table as it is, after somebody has changed it while others kept its lock."""
    found = _find_place(database, request, schema)
    if found is None or found.name != place.name:
        raise SinkError(
            f"connection '{database.conn_id}': {request.sink.table} was dropped or exchanged while this "
            "dispatch waited to write it; try again"
        )
    return found


@contextmanager
def alone_in(
    database: Database, table: TableName, dispatch_id: str, check: Callable[[], None]
) -> Iterator[None]:
    """One transaction, commits at the end, in which no other dispatch changes the table.

    Begin it with nothing done. Raises as `only_writer` does, and `CommitUncertain` if the answer to its
    commit is lost.
    """
    with only_writer(database, table, dispatch_id, check), _one_transaction(database):
        for statement in database.engine.begin_write(table.quoted(database.engine)):
            database.execute(statement)
        yield


def _write_in_order(
    database: Database,
    request: WriteRequest,
    place: SinkTable,
    batches: pa.RecordBatchReader,
    dispatches: DispatchesTable | None,
) -> Written:
    """Write what no newer dispatch has written, and register the dispatch."""
    modes: dict[str, Callable[[SinkWrite], int | Written]]
    modes = {"append": _append, "upsert": upsert, "replace": _replace}
    registration, mode = request.registration, request.sink.mode
    if dispatches is None or registration is None:
        return _prepared(database, request, place, batches, 0).counted(modes[mode])
    standing = dispatches.compare(request.dispatch_id, registration)
    if request.goes_behind is not None and not _holds(database, place, dispatches, request.goes_behind):
        raise _predictions_gone(database, request)
    if standing.other_model is not None and mode != "append":
        _log.warning(
            "connection '%s': model '%s' was the last to write %s; in mode %s, dispatches of %s replace its "
            "predictions: let each model write its own table",
            database.conn_id,
            standing.other_model,
            request.sink.table,
            mode,
            registration.model,
        )
    number = _number(database, place, standing, mode)
    write = _prepared(database, request, place, batches, number)
    write = replace(write, is_again=standing.is_registered)
    if standing.newer:
        if mode == "replace":
            return write.counted(_leave_all)
        write = replace(write, dispatches=dispatches)
    is_replaced = standing.is_registered and not _keeps_tries(place, mode)
    earlier = dispatches.ids(request.dispatch_id) if is_replaced else []
    if place.is_narrow and mode == "append" and earlier:
        _delete_numbers(write, earlier)
    written = write.counted(modes[mode])
    dispatches.forget(earlier)
    dispatches.register(request.dispatch_id, registration, number)
    if mode == "replace":
        dispatches.forget_others(request.dispatch_id)
    return written


def _prepared(
    database: Database, request: WriteRequest, place: SinkTable, batches: pa.RecordBatchReader, number: int
) -> SinkWrite:
    if place.is_narrow:
        batches = narrowed(batches, number)
    checks = value_checks(database, place.name, place.columns, batches.schema, request.key, place.view)
    texts = decimals_in_texts(database.engine, place.columns, batches.schema)
    rows = StoredRows(batches, request.key, database.engine, checks, texts)
    return SinkWrite(database, request, place, rows, number)


def _keeps_tries(place: SinkTable, mode: str) -> bool:
    """Whether rows of an earlier try may stay: the source may have lost their keys since."""
    return place.is_narrow and mode == "upsert"


def _number(database: Database, place: SinkTable, standing: Standing, mode: str) -> int:
    """The dispatch's `id` in the table of dispatches, which narrow rows carry."""
    if place.is_narrow and standing.last_id == 0:
        # The table of dispatches is a new one. Rows of before it must not become this dispatch's.
        column, rows = database.engine.quote(place.owner), place.name.quoted(database.engine)
        ((last_id,),) = read_rows(database, f"SELECT COALESCE(MAX({column}), 0) AS last_id FROM {rows}")
        return int(last_id) + 1
    return standing.last_id + 1 if _keeps_tries(place, mode) else standing.id


def _delete_numbers(write: SinkWrite, numbers: list[int]) -> None:
    listed = ", ".join(map(str, numbers))
    owner = write.engine.quote(write.place.owner)
    write.database.execute(f"DELETE FROM {write.table} WHERE {owner} IN ({listed})")


def _register_empty(database: Database, request: WriteRequest, dispatches: DispatchesTable | None) -> None:
    """In mode replace, a dispatch without rows counts as well, although there is no table to empty yet."""
    registration = request.registration
    if dispatches is None or registration is None or request.sink.mode != "replace":
        return
    database.commit()
    with alone_in(database, dispatches.table, request.dispatch_id, request.check):
        standing = dispatches.compare(request.dispatch_id, registration)
        if standing.newer == 0:
            dispatches.forget(dispatches.ids(request.dispatch_id))
            dispatches.register(request.dispatch_id, registration, standing.id)
        request.check()


def _leave_all(write: SinkWrite) -> Written:
    """Only count the rows: the whole table is newer."""
    for _ in write.rows.reader():
        pass
    return Written(0, write.rows.count)


def _peeked(batches: pa.RecordBatchReader) -> tuple[pa.RecordBatchReader, bool]:
    """The same rows, and whether there are none."""
    source = iter(batches)
    first = next((batch for batch in source if batch.num_rows), None)
    if first is None:
        return batches, True
    return pa.RecordBatchReader.from_batches(batches.schema, chain([first], source)), False


def _append(write: SinkWrite) -> Written:
    """Add the rows, after taking out what an earlier try of this dispatch has left."""
    if not write.place.is_narrow:
        write.database.execute(f"DELETE FROM {write.table} WHERE {write.own()}", write.own_parameters)
    with write.leaving_others(write.own(), write.own_parameters):
        write.insert(write.table_name)
    _refuse_duplicates_unless_unique(write)
    count = f"SELECT COUNT(*) AS written FROM {write.table} WHERE {write.own()}"
    arrived = write.count(count)
    if write.request.distinct_by_artifact is None:
        return Written(arrived)
    _delete_predicted(write, write.request.distinct_by_artifact)
    persisted = write.count(count)
    return Written(persisted, arrived - persisted)


def _delete_predicted(write: SinkWrite, artifact_sha256: str) -> None:
    """Delete the dispatch's rows whose keys another dispatch has predicted with the same artifact.

    Of the same model, as another one may have keys of its own, and by the same settings.
    """
    engine, registration = write.engine, write.request.registration
    assert registration is not None  # noqa: S101 -- whose rows are distinct says whose they are
    owner, model, artifact = write.quoted((write.place.owner, "model", "artifact_sha256"), "other.")
    parameters = [*write.own_parameters, write.dispatch_id, registration.model, artifact_sha256]
    others = f"{owner} <> ? AND {model} = ? AND {artifact} = ?"
    dispatches = DispatchesTable(write.database, write.sink)
    other_answers = None
    if registration.answered_by is not None:
        other_answers = find_other_answers(
            dispatches, registration.model, artifact_sha256, registration.answered_by
        )
    if write.place.is_narrow:
        number, sink_table, model, of = map(engine.quote, ("id", "sink_table", "model", "artifact_sha256"))
        # EXISTS: of IN, SQLite makes a search by key and each dispatch in turn.
        entry = f"d.{sink_table} = ? AND d.{model} = ? AND d.{of} = ? AND d.{number} = {owner}"
        if other_answers is not None:
            entry += f" AND {other_answers.is_same('d.' + engine.quote('answered_by'))}"
        same_artifact = f"EXISTS (SELECT 1 FROM {dispatches.name} d WHERE {entry})"
        others = f"{owner} <> {write.number:d} AND {same_artifact}"
        parameters = [dispatches.sink_table, registration.model, artifact_sha256]
        parameters += [] if other_answers is None else [other_answers.answered_by]
    elif other_answers is not None:
        others += f" AND NOT {other_answers.of_owner(owner)}"
        parameters += other_answers.parameters
    key, texts = write.quoted(write.key), write.quoted(write.lookalikes)
    statement = engine.delete_repeated(write.table, key, write.own("own."), others, texts)
    write.database.execute(statement, parameters)


def _replace(write: SinkWrite) -> int:
    """Exchange all rows. Not by TRUNCATE: it commits on its own on some engines, and readers would see it."""
    write.database.execute(f"DELETE FROM {write.table}")
    write.insert(write.table_name)
    _refuse_duplicates_unless_unique(write)
    own = f"COUNT(CASE WHEN {write.own()} THEN 1 END)"
    query = f"SELECT COUNT(*) AS held, {own} AS written FROM {write.table}"
    ((held, written),) = read_rows(write.database, query, write.own_parameters)
    if int(held) > int(written):
        write.refuse_kept()
    return int(written)


def _refuse_duplicates_unless_unique(write: SinkWrite) -> None:
    fold = write.engine.fold
    per_dispatch = {fold(column) for column in (*write.key, write.place.owner)}
    if not any(columns <= per_dispatch for columns in unique_keys(write.database, write.table_name)):
        write.refuse_duplicates(write.table, write.own())


@contextmanager
def _one_transaction(database: Database) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(DatabaseError):  # the connection may be gone, and the work with it
            database.rollback()
        raise
    try:
        database.commit()
    except DatabaseError as error:
        with suppress(DatabaseError):
            database.rollback()
        # The server may have committed before the connection broke: only the table can tell.
        raise CommitUncertain(error.conn_id, error.doing, error.driver_says) from error


def _require_columns(schema: pa.Schema, key: tuple[str, ...]) -> None:
    missing = [column for column in key if column not in schema.names]
    if missing:
        raise KeyColumnError(
            f"the predictions have no key column {', '.join(repr(name) for name in missing)}"
        )
    if DISPATCH_ID not in schema.names:
        raise SinkError("the predictions have no column 'dispatch_id', which names their dispatch")
