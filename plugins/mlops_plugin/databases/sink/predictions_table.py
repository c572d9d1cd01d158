"""The predictions table before rows go in: is it there, has it the columns, and how it is created.

`writer` asks at every dispatch, `mlops check --connect` in advance.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa

from mlops_plugin.config.schema import SinkConfig
from mlops_plugin.databases.database import Database
from mlops_plugin.databases.engines.engine import Engine
from mlops_plugin.databases.engines.table_column import TableColumn
from mlops_plugin.databases.sink.column_fit import require_fitting
from mlops_plugin.databases.sink.dispatches_table import DispatchesTable
from mlops_plugin.databases.sink.narrow_rows import (
    DISPATCH_NUMBER,
    PROVENANCE,
    alter_statements,
    can_be_narrow,
    is_possible,
    joined_with,
    narrow_schema,
    rows_table,
    view_statement,
)
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import DatabaseError, SinkError, UnsupportedType

DISPATCH_ID = "dispatch_id"
PREDICTED_AT = "predicted_at"
# What `formats.outputs` calls a model's answers.
_PROBABILITY = "probability_"
_ANSWER = re.compile(rf"prediction(_\d+)?|{_PROBABILITY}.*", re.DOTALL)
_TEXTS = ("text", "varchar", "char")  # kinds of columns
_ANSWER_OR_SCORE = re.compile(rf"{_ANSWER.pattern}|score", re.DOTALL)


@dataclass(frozen=True)
class SinkTable:
    """The table that takes the rows: the sink's own, or the one of narrow rows behind its `view`.

    `columns` by folded name and in their order, as `table_columns` gives them.
    """

    name: TableName
    columns: Mapping[str, TableColumn]
    view: TableName | None = None

    @property
    def is_narrow(self) -> bool:
        return self.view is not None

    @property
    def owner(self) -> str:
        """The column that tells whose a row is."""
        return DISPATCH_NUMBER if self.is_narrow else DISPATCH_ID

    def columns_to_clear(self, schema: pa.Schema, key: Sequence[str], engine: Engine) -> tuple[str, ...]:
        """The columns with answers that rows of `schema` do not have: another artifact gave them.

        Not what may be a column of the user's own: `score` (unless the table has our layout), columns that
        refuse NULL, and texts that are named like a probability.
        """
        written = set(map(engine.fold, schema.names))
        is_ours = self.is_narrow or self._has_our_layout(key, engine)
        answers = _ANSWER_OR_SCORE if is_ours else _ANSWER
        return tuple(
            column.name
            for folded, column in self.columns.items()
            if folded not in written
            and answers.fullmatch(column.name.casefold())
            and not column.refuses_null
            and not (column.kind in _TEXTS and column.name.casefold().startswith(_PROBABILITY))
        )

    def _has_our_layout(self, key: Sequence[str], engine: Engine) -> bool:
        """Whether the columns begin as `create_statement` puts them: key, answers, provenance."""
        names = list(self.columns)
        provenance = list(map(engine.fold, PROVENANCE))
        if provenance[0] not in names:
            return False
        end = names.index(provenance[0])
        return (
            set(names[: len(key)]) == set(map(engine.fold, key))
            and all(_ANSWER_OR_SCORE.fullmatch(name.casefold()) for name in names[len(key) : end])
            and names[end : end + len(provenance)] == provenance
        )

    def stored(self, schema: pa.Schema) -> pa.Schema:
        """The columns of a dispatch as they go into the table."""
        return narrow_schema(schema) if self.is_narrow else schema


def find_narrow(database: Database, sink: SinkConfig) -> SinkTable | None:
    """The narrow rows that a sink shows; None if it is a table, or a view that is not ours.

    Raises `SinkError` for a view that was renamed.
    """
    engine, table = database.engine, TableName.parse(sink.table)
    if not can_be_narrow(engine, table):
        return None
    is_own = engine.view_holds(database, table, joined_with(DispatchesTable(database, sink)))
    found = None if is_own is None else _ours(database, table)
    if found is not None and not is_own:
        raise SinkError(
            f"connection '{database.conn_id}': view {table} shows the dispatches of another table: new rows "
            f"would seem to come from those; give {table} and {found.name} their former names, or let the "
            "model write another table"
        )
    return found


def find_rows(database: Database, table: TableName) -> SinkTable | None:
    """The table of narrow rows of a sink, whether or not its view is there."""
    return _ours(database, table) if database.columns(rows_table(table)) is not None else None


def new_view(database: Database, sink: SinkConfig, rows: SinkTable, schema: pa.Schema) -> str:
    """The statement that makes the view of rows that are there, of the columns that they have."""
    known = {*rows.columns, *map(database.engine.fold, PROVENANCE)}
    columns = [name for name in schema.names if database.engine.fold(name) in known]
    dispatches = DispatchesTable(database, sink)
    return view_statement(database, TableName.parse(sink.table), dispatches, columns, "CREATE")


def _ours(database: Database, table: TableName) -> SinkTable | None:
    rows = rows_table(table)
    columns = table_columns(database, rows)
    is_ours = database.engine.fold(DISPATCH_NUMBER) in columns
    return SinkTable(rows, columns, table) if is_ours else None


def check_table(
    database: Database,
    sink: SinkConfig,
    *,
    key: Sequence[str],
    schema: pa.Schema,
    is_searched_by_key: bool = False,
) -> SinkTable | None:
    """The table that takes the rows; None if `create: true` is to make it.

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
        with suppress(DatabaseError):  # what is known already must not get lost
            rows = find_rows(database, table) if is_possible(engine, table, schema) else None
            if rows is not None:  # whose view was dropped: a table of the sink's name would hide them
                statement = new_view(database, sink, rows, schema)
        raise SinkError(
            f"connection '{database.conn_id}': there is no table {sink.table}; "
            f"set create: true, or create it:\n{statement}"
        )
    found = find_narrow(database, sink) if is_possible(engine, table, schema) else None
    if found is None:
        _require_columns(database, table, existing, schema)
        found = SinkTable(table, table_columns(database, table))
    else:
        _require_narrow_columns(database, sink, existing, found, schema)
    engine.require_transactions(database, found.name)
    require_fitting(database, found.name, found.columns, found.stored(schema), key, found.view)
    return found


def _require_columns(
    database: Database, table: TableName, existing: Sequence[str], schema: pa.Schema
) -> None:
    engine = database.engine
    if missing := _missing(engine, existing, schema):
        is_of_view = engine.fold(DISPATCH_NUMBER) in map(engine.fold, existing)
        if is_of_view and DISPATCH_ID in (field.name for field in missing):
            raise SinkError(
                f"connection '{database.conn_id}': table {table} holds the rows that a view shows; "
                "let the model write another table"
            )
        alter = f"ALTER TABLE {table.quoted(engine)} ADD"
        _refuse_missing(database, table, missing, [f"{alter} {_column(engine, field)}" for field in missing])


def _require_narrow_columns(
    database: Database, sink: SinkConfig, shown: Sequence[str], rows: SinkTable, schema: pa.Schema
) -> None:
    """The same for the table of rows and the view, which both must have a column."""
    engine, table = database.engine, TableName.parse(sink.table)
    missing = _missing(engine, list(rows.columns), rows.stored(schema))
    hidden = _missing(engine, shown, schema)
    if not missing and not hidden:
        return
    alter = f"ALTER TABLE {rows.name.quoted(engine)} ADD"
    statements = [f"{alter} {_column(engine, field)}" for field in missing]
    known = [*rows.columns, *(engine.fold(field.name) for field in missing)]
    columns = [*shown, *(field.name for field in hidden)]
    statements += alter_statements(database, table, DispatchesTable(database, sink), columns, known)
    missing += [field for field in hidden if field not in missing]
    _refuse_missing(database, table, missing, statements)


def _missing(engine: Engine, existing: Sequence[str], schema: pa.Schema) -> list[pa.Field]:
    known = {engine.fold(column) for column in existing}
    return [field for field in schema if engine.fold(field.name) not in known]


def _refuse_missing(
    database: Database, table: TableName, missing: Sequence[pa.Field], statements: Sequence[str]
) -> None:
    names = ", ".join(f"'{field.name}'" for field in missing)
    listed = "\n".join(f"{statement};" for statement in statements)
    raise SinkError(f"connection '{database.conn_id}': table {table} has no column {names}; add:\n{listed}")


def create_statement(
    engine: Engine,
    sink: SinkConfig,
    *,
    key: Sequence[str],
    schema: pa.Schema,
    is_searched_by_key: bool = False,
    is_narrow: bool = False,
) -> str:
    """The CREATE TABLE that a sink in this mode needs. Raises `UnsupportedType` naming the column.

    `is_searched_by_key`: in mode append the table gets a second index, with which a key is found without
    its dispatch; it costs a third of the time of writing. `is_narrow`: that of the rows behind a view.
    """
    table = TableName.parse(sink.table)
    made = SinkTable(rows_table(table), {}, table) if is_narrow else SinkTable(table, {})
    owner, schema = made.owner, made.stored(schema)
    # By dispatch first: a dispatch's rows then lie together, at the end of what it adds. By key first, each
    # goes between rows of other dispatches, and writing becomes slower with each dispatch that is there.
    primary = [owner, *key] if sink.mode == "append" else list(key)
    columns = _columns(engine, schema, primary)
    if is_narrow and owner not in primary:
        columns[-1] += " NOT NULL"  # the owner comes last
    lines = [*columns, f"PRIMARY KEY ({_names(engine, primary)})"]
    if sink.mode == "append" and is_searched_by_key:
        lines.append(f"UNIQUE ({_names(engine, [*key, owner])})")
    body = ",\n  ".join(lines)
    return f"CREATE TABLE {made.name.quoted(engine)} (\n  {body}\n){engine.table_options}"


def table_columns(database: Database, table: TableName) -> dict[str, TableColumn]:
    """A table's columns as the engine declares them, by folded name and in their order."""
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
