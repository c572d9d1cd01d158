"""Writes one dispatch's predictions into the configured table; the `persist` step calls it.

Everything happens in one transaction, so a dispatch is in the table as a whole or not at all, and writing it
again, for whatever reason, leaves the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain

import pyarrow as pa

from mlops_plugin.databases.database import Database
from mlops_plugin.databases.sink.dispatches_table import DispatchesTable
from mlops_plugin.databases.sink.predictions_table import (
    DISPATCH_ID,
    check_table,
    create_table,
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
from mlops_plugin.errors import CommitUncertain, DatabaseError, KeyColumnError, SinkError


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
    table = TableName.parse(sink.table)
    searched = request.is_searched_by_key
    columns = check_table(database, sink, key=key, schema=batches.schema, is_searched_by_key=searched)
    if columns is None:
        batches, is_empty = _peeked(batches)
        if is_empty:  # nothing to take back or to write; and without a value, SQLite cannot tell a key's type
            _register_empty(database, request)
            return Written(0)
        create_table(database, sink, key=key, schema=batches.schema, is_searched_by_key=searched)
        columns = table_columns(database, table)
    checks = value_checks(database, table, columns, batches.schema, key)
    dispatches = DispatchesTable(database, sink) if request.registration is not None else None
    if dispatches is not None and not dispatches.ensure():
        dispatches = None
    database.commit()
    write = SinkWrite(database, request, StoredRows(batches, key, database.engine, checks), dispatches)
    with alone_in(database, table, request.dispatch_id, request.check):
        request.prepare(database)
        written = _write_in_order(write)
        request.check()
    return written


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


def _write_in_order(write: SinkWrite) -> Written:
    """Write what no newer dispatch has written, and register the dispatch."""
    modes: dict[str, Callable[[SinkWrite], int | Written]]
    modes = {"append": _append, "upsert": upsert, "replace": _replace}
    dispatches, registration, mode = write.dispatches, write.request.registration, write.sink.mode
    if dispatches is None or registration is None:
        return write.counted(modes[mode])
    standing = dispatches.compare(write.dispatch_id, registration)
    if standing.newer == 0:
        write = replace(write, dispatches=None)  # nothing to leave alone
    elif mode == "replace":
        return write.counted(_leave_all)
    written = write.counted(modes[mode])
    dispatches.register(write.dispatch_id, registration, standing)
    if mode == "replace":
        dispatches.forget_others(write.dispatch_id)
    return written


def _register_empty(database: Database, request: WriteRequest) -> None:
    """In mode replace, a dispatch without rows counts as well, although there is no table to empty yet."""
    if request.registration is None or request.sink.mode != "replace":
        return
    dispatches = DispatchesTable(database, request.sink)
    if not dispatches.ensure():
        return
    database.commit()
    with alone_in(database, dispatches.table, request.dispatch_id, request.check):
        standing = dispatches.compare(request.dispatch_id, request.registration)
        if standing.newer == 0:
            dispatches.register(request.dispatch_id, request.registration, standing)
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
    own = f"{write.quoted((DISPATCH_ID,))[0]} = ?"
    write.database.execute(f"DELETE FROM {write.table} WHERE {own}", [write.dispatch_id])
    write.insert(write.table_name)
    _refuse_duplicates_unless_unique(write, own)
    count = f"SELECT COUNT(*) AS written FROM {write.table} WHERE {own}"
    arrived = write.number(count)
    if write.request.distinct_by_artifact is None:
        return Written(arrived)
    _delete_predicted(write, write.request.distinct_by_artifact)
    persisted = write.number(count)
    return Written(persisted, arrived - persisted)


def _delete_predicted(write: SinkWrite, artifact_sha256: str) -> None:
    """Delete the dispatch's rows whose keys another dispatch has predicted with the same artifact."""
    owner, artifact = write.quoted((DISPATCH_ID, "artifact_sha256"))
    statement = write.engine.delete_repeated(write.table, write.quoted(write.key), owner, artifact)
    write.database.execute(statement, [write.dispatch_id, write.dispatch_id, artifact_sha256])


def _replace(write: SinkWrite) -> int:
    """Exchange all rows. Not by TRUNCATE: it commits on its own on some engines, and readers would see it."""
    own = f"{write.quoted((DISPATCH_ID,))[0]} = ?"
    write.database.execute(f"DELETE FROM {write.table}")
    write.insert(write.table_name)
    _refuse_duplicates_unless_unique(write, own)
    return write.number(f"SELECT COUNT(*) AS written FROM {write.table} WHERE {own}")


def _refuse_duplicates_unless_unique(write: SinkWrite, own: str) -> None:
    fold = write.engine.fold
    per_dispatch = {fold(column) for column in (*write.key, DISPATCH_ID)}
    if not any(columns <= per_dispatch for columns in unique_keys(write.database, write.table_name)):
        write.refuse_duplicates(write.table, own)


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
