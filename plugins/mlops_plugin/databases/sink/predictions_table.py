"""The predictions table before rows go in: is it there, has it the columns, and how it is created.

`writer` asks at every dispatch, `mlops check --connect` in advance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from mlops_plugin.config.schema import SinkConfig
from mlops_plugin.databases.database import Database
from mlops_plugin.databases.engines.engine import Engine
from mlops_plugin.databases.engines.table_column import TableColumn
from mlops_plugin.databases.sink.column_fit import require_fitting
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import DatabaseError, SinkError, UnsupportedType

DISPATCH_ID = "dispatch_id"


def check_table(
    database: Database,
    sink: SinkConfig,
    *,
    key: Sequence[str],
    schema: pa.Schema,
    is_searched_by_key: bool = False,
) -> Mapping[str, TableColumn] | None:
    """The table's columns (see `table_columns`); None if `create: true` is to make it.

    `schema` is what will be written, `is_searched_by_key` as in `create_statement`. Raises `SinkError` for
    a missing table (with the statement that creates it), for missing columns (with the statements that add
    them), for a table whose engine cannot take back half a dispatch, and for columns whose type would
    change values.
    """
    engine = database.engine
    table = TableName.parse(sink.table)
    existing = database.columns(table)
    if existing is None:
        statement = create_statement(
            engine, sink, key=key, schema=schema, is_searched_by_key=is_searched_by_key
        )
        if sink.create:
            return None
        raise SinkError(
            f"connection '{database.conn_id}': there is no table {sink.table}; "
            f"set create: true, or create it:\n{statement}"
        )
    known = {engine.fold(column) for column in existing}
    missing = [field for field in schema if engine.fold(field.name) not in known]
    if missing:
        names = ", ".join(f"'{field.name}'" for field in missing)
        alter = f"ALTER TABLE {table.quoted(engine)} ADD"
        statements = "\n".join(f"{alter} {_column(engine, field)};" for field in missing)
        raise SinkError(
            f"connection '{database.conn_id}': table {sink.table} has no column {names}; add:\n{statements}"
        )
    engine.require_transactions(database, table)
    columns = table_columns(database, table)
    require_fitting(database, table, columns, schema, key)
    return columns


def create_table(
    database: Database,
    sink: SinkConfig,
    *,
    key: Sequence[str],
    schema: pa.Schema,
    is_searched_by_key: bool = False,
) -> None:
    """Create the table and commit; harmless if another dispatch creates it at the same moment."""
    database.commit()
    statement = create_statement(
        database.engine, sink, key=key, schema=schema, is_searched_by_key=is_searched_by_key
    )
    try:
        database.execute(statement)
        database.commit()
    except DatabaseError:
        # CREATE TABLE IF NOT EXISTS would not do: PostgreSQL fails in this race all the same.
        database.rollback()
        if database.columns(TableName.parse(sink.table)) is None:
            raise
        check_table(database, sink, key=key, schema=schema)


def create_statement(
    engine: Engine,
    sink: SinkConfig,
    *,
    key: Sequence[str],
    schema: pa.Schema,
    is_searched_by_key: bool = False,
) -> str:
    """The CREATE TABLE that a sink in this mode needs. Raises `UnsupportedType` naming the column.

    `is_searched_by_key`: in mode append the table gets a second index, with which a key is found without
    its dispatch; it costs a third of the time of writing.
    """
    # By dispatch first: a dispatch's rows then lie together, at the end of what it adds. By key first, each
    # goes between rows of other dispatches, and writing becomes slower with each dispatch that is there.
    primary = [DISPATCH_ID, *key] if sink.mode == "append" else list(key)
    columns = _columns(engine, schema, primary)
    lines = [*columns, f"PRIMARY KEY ({_names(engine, primary)})"]
    if sink.mode == "append" and is_searched_by_key:
        lines.append(f"UNIQUE ({_names(engine, [*key, DISPATCH_ID])})")
    body = ",\n  ".join(lines)
    return f"CREATE TABLE {TableName.parse(sink.table).quoted(engine)} (\n  {body}\n){engine.table_options}"


def table_columns(database: Database, table: TableName) -> dict[str, TableColumn]:
    """A table's columns as the engine declares them, by folded name."""
    engine = database.engine
    return {engine.fold(column.name): column for column in engine.table_columns(database, table)}


def unique_keys(database: Database, table: TableName) -> frozenset[frozenset[str]]:
    """The column sets that the engine keeps unique, folded.

    An index over part of a column or an expression appears with the name '' among its columns. One that
    generates its own numbers (MySQL's AUTO_INCREMENT) is left out: no row of ours collides with it. For
    an engine that cannot be asked, none.
    """
    found: dict[object, set[str]] = {}
    generated = set()
    for index, column, is_generated in database.engine.unique_columns(database, table):
        found.setdefault(index, set()).add(database.engine.fold(column or ""))
        if is_generated:
            generated.add(index)
    return frozenset(frozenset(columns) for index, columns in found.items() if index not in generated)


def _columns(engine: Engine, schema: pa.Schema, primary: Sequence[str]) -> list[str]:
    """The columns of a new table; those of the primary key fit into one index together."""
    columns = {field.name: _column(engine, field, is_key=field.name in primary) for field in schema}
    types = engine.index_types([schema.field(name).type for name in primary])
    for name, column_type in zip(primary, types, strict=True):
        columns[name] = f"{engine.quote(name)} {column_type} NOT NULL"
    return list(columns.values())


def _column(engine: Engine, field: pa.Field, *, is_key: bool = False) -> str:
    try:
        column_type = engine.column_type(field.type, is_key=is_key)
    except UnsupportedType as error:
        raise UnsupportedType(f"column '{field.name}': {error}") from error
    return f"{engine.quote(field.name)} {column_type}"


def _names(engine: Engine, columns: Sequence[str]) -> str:
    return ", ".join(engine.quote(column) for column in columns)
