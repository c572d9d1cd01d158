"""The predictions table before rows go in: is it there, has it the columns, and how it is created.

`databases.sink` asks at every dispatch, `mlops check --connect` in advance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from mlops_plugin.config.schema import SinkConfig
from mlops_plugin.databases.database import Database, read_rows
from mlops_plugin.databases.dialects import Dialect, parse_table
from mlops_plugin.databases.sink.column_fit import require_fitting
from mlops_plugin.databases.sink.table_columns import TableColumn, table_columns
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
    """The table's columns (see `table_columns`); None where `create: true` is to make it.

    `schema` is what will be written, `is_searched_by_key` as in `create_statement`. Raises `SinkError` for
    a missing table (with the statement that creates it), for missing columns (with the statements that add
    them), for a table whose engine cannot take back half a dispatch, and for columns whose type would
    change values.
    """
    dialect = database.dialect
    table = dialect.quote_table(sink.table)
    existing = database.columns(table)
    if existing is None:
        statement = create_statement(
            dialect, sink, key=key, schema=schema, is_searched_by_key=is_searched_by_key
        )
        if sink.create:
            return None
        raise SinkError(
            f"connection '{database.conn_id}': there is no table {sink.table}; "
            f"set create: true, or create it:\n{statement}"
        )
    known = {dialect.fold(column) for column in existing}
    missing = [field for field in schema if dialect.fold(field.name) not in known]
    if missing:
        names = ", ".join(f"'{field.name}'" for field in missing)
        statements = "\n".join(f"ALTER TABLE {table} ADD {_column(dialect, field)};" for field in missing)
        raise SinkError(
            f"connection '{database.conn_id}': table {sink.table} has no column {names}; add:\n{statements}"
        )
    if dialect.name == "mysql":
        _refuse_without_transactions(database, sink)
    columns = table_columns(database, sink.table)
    require_fitting(database, sink.table, columns, schema, key)
    return columns


def create_table(
    database: Database,
    sink: SinkConfig,
    *,
    key: Sequence[str],
    schema: pa.Schema,
    is_searched_by_key: bool = False,
) -> None:
    """Create the table and commit; harmless where another dispatch creates it at the same moment."""
    database.commit()
    statement = create_statement(
        database.dialect, sink, key=key, schema=schema, is_searched_by_key=is_searched_by_key
    )
    try:
        database.execute(statement)
        database.commit()
    except DatabaseError:
        # CREATE TABLE IF NOT EXISTS would not do: PostgreSQL fails in this race all the same.
        database.rollback()
        if database.columns(database.dialect.quote_table(sink.table)) is None:
            raise
        check_table(database, sink, key=key, schema=schema)


def create_statement(
    dialect: Dialect,
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
    columns = [_column(dialect, field, in_index=field.name in primary) for field in schema]
    lines = [*columns, f"PRIMARY KEY ({_names(dialect, primary)})"]
    if sink.mode == "append" and is_searched_by_key:
        lines.append(f"UNIQUE ({_names(dialect, [*key, DISPATCH_ID])})")
    engine = " ENGINE=InnoDB" if dialect.name == "mysql" else ""
    body = ",\n  ".join(lines)
    return f"CREATE TABLE {dialect.quote_table(sink.table)} (\n  {body}\n){engine}"


def unique_keys(database: Database, table: str) -> frozenset[frozenset[str]]:
    """The column sets that the engine keeps unique, folded; `table` as the configuration writes it.

    An index over part of a column or an expression appears with the name '' among its columns. One that
    generates its own numbers (MySQL's AUTO_INCREMENT) is left out: no row of ours collides with it. For
    an engine that cannot be asked, none.
    """
    dialect = database.dialect
    parts = parse_table(table)
    schema = parts[-2] if len(parts) > 1 else None
    if dialect.name == "mysql":
        rows = read_rows(database, _MYSQL_UNIQUE, [schema, parts[-1]])
    elif dialect.name == "postgresql":
        rows = read_rows(database, _POSTGRESQL_UNIQUE, [dialect.quote_table(table)])
    elif dialect.name == "sqlite":
        pragmas = [parts[-1], schema or "main"]
        rows = read_rows(database, _SQLITE_UNIQUE, pragmas * 2)
    else:
        rows = []
    found: dict[object, set[str]] = {}
    generated = set()
    for index, column, is_generated in rows:
        found.setdefault(index, set()).add(dialect.fold(column or ""))
        if is_generated:
            generated.add(index)
    return frozenset(frozenset(columns) for index, columns in found.items() if index not in generated)


def _refuse_without_transactions(database: Database, sink: SinkConfig) -> None:
    parts = parse_table(sink.table)
    query = (
        "SELECT t.engine AS engine, e.transactions AS transactions FROM information_schema.tables t"
        " LEFT JOIN information_schema.engines e ON e.engine = t.engine"
        " WHERE t.table_schema = COALESCE(?, DATABASE()) AND t.table_name = ?"
    )
    for engine, transactions in read_rows(
        database, query, [parts[-2] if len(parts) > 1 else None, parts[-1]]
    ):
        if engine is not None and transactions != "YES":
            raise SinkError(
                f"connection '{database.conn_id}': table {sink.table} uses the engine {engine}, which has no "
                "transactions: a dispatch that fails half-way would stay there; run "
                f"ALTER TABLE {database.dialect.quote_table(sink.table)} ENGINE=InnoDB"
            )


def _column(dialect: Dialect, field: pa.Field, *, in_index: bool = False) -> str:
    try:
        column_type = dialect.column_type(field.type, is_key=in_index)
    except UnsupportedType as error:
        raise UnsupportedType(f"column '{field.name}': {error}") from error
    required = " NOT NULL" if in_index else ""
    return f"{dialect.quote(field.name)} {column_type}{required}"


def _names(dialect: Dialect, columns: Sequence[str]) -> str:
    return ", ".join(dialect.quote(column) for column in columns)


# Each: index, column (NULL for an expression), whether the engine generates the values.
_MYSQL_UNIQUE = """
SELECT s.index_name AS name,
       CASE WHEN s.sub_part IS NULL THEN s.column_name END AS col,
       CASE WHEN c.extra LIKE '%auto_increment%' THEN 1 ELSE 0 END AS is_generated
FROM information_schema.statistics s
LEFT JOIN information_schema.columns c
  ON c.table_schema = s.table_schema AND c.table_name = s.table_name AND c.column_name = s.column_name
WHERE s.table_schema = COALESCE(?, DATABASE()) AND s.table_name = ? AND s.non_unique = 0
"""
# Columns after the first indnkeyatts are only carried along; a deferred constraint takes no ON CONFLICT.
_POSTGRESQL_UNIQUE = """
SELECT CAST(i.indexrelid AS bigint) AS name, CAST(a.attname AS text) AS col, 0 AS is_generated
FROM pg_index i
CROSS JOIN LATERAL unnest(CAST(i.indkey AS int2[])) WITH ORDINALITY AS k(attnum, position)
LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = to_regclass(?) AND i.indisunique AND i.indisvalid AND i.indimmediate
  AND i.indpred IS NULL AND k.position <= i.indnkeyatts
"""
# The primary key of a table with an INTEGER PRIMARY KEY is in no index.
_SQLITE_UNIQUE = """
SELECT l.name AS name, c.name AS col, 0 AS is_generated
FROM pragma_index_list(?, ?) l CROSS JOIN pragma_index_info(l.name) c
WHERE l."unique" = 1 AND l.partial = 0
UNION ALL
SELECT '', name, 0 FROM pragma_table_info(?, ?) WHERE pk > 0
"""
