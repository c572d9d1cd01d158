"""Creates a sink that is missing: one table, or a table of narrow rows and the view that shows them.

`writer` calls it before its transaction: on MySQL, each statement here commits.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from mlops_plugin.databases.database import Database
from mlops_plugin.databases.sink.dispatches_table import NO_RIGHT, ONE_ENTRY_KEY, DispatchesTable
from mlops_plugin.databases.sink.narrow_rows import is_possible, rows_table
from mlops_plugin.databases.sink.predictions_table import (
    check_table,
    create_statement,
    find_rows,
    new_view,
    unique_keys,
)
from mlops_plugin.databases.sink.write_request import WriteRequest
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import DatabaseError


def create_sink(
    database: Database, request: WriteRequest, schema: pa.Schema, dispatches: DispatchesTable | None
) -> None:
    """Create the sink and commit; harmless if another dispatch creates it at the same moment.

    `dispatches`: the table beside it, which is there; None if it could not be created.
    """
    sink, table = request.sink, TableName.parse(request.sink.table)
    is_narrow = dispatches is not None and _can_be_narrow(database, request, schema, dispatches)
    made = rows_table(table) if is_narrow else table
    statement = create_statement(
        database.engine,
        sink,
        key=request.key,
        schema=schema,
        is_searched_by_key=request.is_searched_by_key,
        is_narrow=is_narrow,
    )
    _create(database, statement, lambda: database.columns(made) is not None)
    if is_narrow and (rows := find_rows(database, table)) is not None:
        view = new_view(database, sink, rows, schema)
        _create(database, view, lambda: database.columns(table) is not None)
    check_table(database, sink, key=request.key, schema=schema)


def _can_be_narrow(
    database: Database, request: WriteRequest, schema: pa.Schema, dispatches: DispatchesTable
) -> bool:
    engine, table = database.engine, TableName.parse(request.sink.table)
    if not request.is_narrow or not is_possible(engine, table, schema):
        return False
    rows = rows_table(table)
    try:
        exists = database.columns(rows) is not None
    except DatabaseError as error:
        if not NO_RIGHT.search(error.driver_says):
            raise
        database.rollback()
        return False
    if exists:
        # Of ours: its view was dropped, or its creation stopped half-way. Another table would hide its rows.
        return find_rows(database, table) is not None
    # Each try of an upsert needs an entry of its own: rows that only an earlier one had stay as they are.
    one_entry = frozenset(map(engine.fold, ONE_ENTRY_KEY))
    if one_entry in unique_keys(database, dispatches.table):
        return False
    return engine.may_create_narrow(database, table, rows)


def _create(database: Database, statement: str, exists: Callable[[], bool]) -> None:
    """Run a statement and commit, unless what it makes is there already."""
    database.commit()  # SQLite: a transaction that begins by reading cannot wait for its turn to write
    try:
        database.execute(statement)
        database.commit()
    except DatabaseError:
        # CREATE TABLE IF NOT EXISTS would not do: PostgreSQL fails in this race all the same.
        database.rollback()
        if not exists():
            raise
