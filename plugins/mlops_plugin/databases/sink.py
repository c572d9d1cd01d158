"""Writes one dispatch's predictions into the configured table; the `persist` step calls it.

Everything happens in one transaction, so a dispatch is in the table as a whole or not at all, and writing it
again, for whatever reason, leaves the same rows.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa

from mlops_plugin.config.schema import SinkConfig
from mlops_plugin.databases.database import Database
from mlops_plugin.databases.dialects import parse_table
from mlops_plugin.databases.predictions_table import (
    DISPATCH_ID,
    check_table,
    create_table,
    read_rows,
    unique_keys,
)
from mlops_plugin.databases.stored_rows import StoredRows
from mlops_plugin.errors import DatabaseError, KeyColumnError, MlopsError, SinkError

LOCK_WAIT_S = 600
_REFUSED_TWICE = re.compile(r"duplicate|unique", re.IGNORECASE)


def write_predictions(
    database: Database,
    sink: SinkConfig,
    *,
    key: tuple[str, ...],
    dispatch_id: str,
    batches: pa.RecordBatchReader,
) -> int:
    """Persist a dispatch and return how many of its rows the database itself counts afterwards.

    `batches` hold the key columns, the predictions, and dispatch_id, model, artifact_sha256 and predicted_at.
    Raises `SinkError` for a table that does not fit or a value that the engine cannot hold, `KeyColumnError`
    for a key that is missing, NULL or there twice, `UnsupportedType` for a column without a type there, and
    `DatabaseError` for everything else; the table is then as it was before.
    """
    _require_columns(batches.schema, key)
    if sink.mode == "upsert" and database.dialect.name == "ansi":
        raise SinkError(
            f"connection '{database.conn_id}': this engine is not known well enough for mode upsert; "
            "use append or replace"
        )
    if not check_table(database, sink, key=key, schema=batches.schema):
        batches, is_empty = _peeked(batches)
        if is_empty:  # nothing to take back or to write; and without a value, SQLite cannot tell a key's type
            return 0
        create_table(database, sink, key=key, schema=batches.schema)
    database.commit()
    write = _Write(database, sink, key, dispatch_id, StoredRows(batches, key, database.dialect))
    modes = {"append": _append, "upsert": _upsert, "replace": _replace}
    with _exclusively(database, sink), _one_transaction(database):
        _lock_table(write)
        return write.counted(modes[sink.mode])


def _peeked(batches: pa.RecordBatchReader) -> tuple[pa.RecordBatchReader, bool]:
    """The same rows, and whether there are none."""
    source = iter(batches)
    first = next((batch for batch in source if batch.num_rows), None)
    if first is None:
        return batches, True
    return pa.RecordBatchReader.from_batches(batches.schema, chain([first], source)), False


@dataclass(frozen=True)
class _Write:
    """What the three modes share: where one dispatch's rows go."""

    database: Database
    sink: SinkConfig
    key: tuple[str, ...]
    dispatch_id: str
    rows: StoredRows

    @property
    def table(self) -> str:
        return self.database.dialect.quote_table(self.sink.table)

    @property
    def folded_key(self) -> frozenset[str]:
        return frozenset(self.database.dialect.fold(column) for column in self.key)

    def quoted(self, columns: tuple[str, ...], of: str = "") -> list[str]:
        return [of + self.database.dialect.quote(column) for column in columns]

    def key_equals(self, one: str, other: str) -> str:
        pairs = zip(self.quoted(self.key, f"{one}."), self.quoted(self.key, f"{other}."), strict=True)
        return " AND ".join(f"{left} = {right}" for left, right in pairs)

    def staged_keys(self, stage: _Stage) -> str:
        """The staged keys to join with: MySQL gives an index to a subquery, not to a temporary table."""
        if stage.is_keyed:
            return stage.name
        return f"(SELECT DISTINCT {', '.join(self.quoted(self.key))} FROM {stage.name})"

    def number(self, query: str) -> int:
        return int(read_rows(self.database, query, [self.dispatch_id])[0][0])

    def insert(self, table: str) -> None:
        try:
            inserted = self.database.insert(table, self.rows.reader())
        except MlopsError as error:
            if self.rows.refusal is not None and self.rows.refusal is not error:
                raise self.rows.refusal from error
            if isinstance(error, DatabaseError) and _REFUSED_TWICE.search(error.driver_says):
                raise KeyColumnError(self._twice(error.driver_says)) from error
            raise
        if inserted != self.rows.count:
            self._refuse_count(inserted)

    def counted(self, mode: Callable[[_Write], int]) -> int:
        persisted = mode(self)
        if persisted != self.rows.count:
            self._refuse_count(persisted)
        return persisted

    def _refuse_count(self, found: int) -> None:
        raise SinkError(
            f"connection '{self.database.conn_id}': {self.rows.count} rows were sent to {self.sink.table}, "
            f"but {found} arrived; a trigger, a rule, or a collation that takes two keys for one changes them"
        )

    def _twice(self, found: str) -> str:
        own = " and its unique key has to include dispatch_id" if self.sink.mode == "append" else ""
        key = ", ".join(self.key)
        return (
            f"connection '{self.database.conn_id}': {self.sink.table} would hold a key ({key}) twice: "
            f"{found}; each key has to be there once per dispatch{own}"
        )

    def refuse_duplicates(self, table: str, condition: str = "1 = 1") -> None:
        """Raise `KeyColumnError` with a sample where rows of a table share their key."""
        key = ", ".join(self.quoted(self.key))
        query = (
            f"SELECT {key}, COUNT(*) AS times FROM {table} WHERE {condition} GROUP BY {key}"
            f" HAVING COUNT(*) > 1 {self.database.dialect.first_rows.format(rows=1)}"
        )
        parameters = [self.dispatch_id] if "?" in condition else []
        for *values, times in read_rows(self.database, query, parameters):
            sample = ", ".join(f"{name} = {value!r}" for name, value in zip(self.key, values, strict=True))
            raise KeyColumnError(self._twice(f"{sample} comes {times} times"))


def _append(write: _Write) -> int:
    """Add the rows, after taking out what an earlier try of this dispatch has left."""
    own = f"{write.quoted((DISPATCH_ID,))[0]} = ?"
    write.database.execute(f"DELETE FROM {write.table} WHERE {own}", [write.dispatch_id])
    write.insert(write.table)
    _refuse_duplicates_unless_unique(write, own)
    return write.number(f"SELECT COUNT(*) AS written FROM {write.table} WHERE {own}")


def _replace(write: _Write) -> int:
    """Exchange all rows. Not by TRUNCATE: it commits on its own on some engines, and readers would see it."""
    own = f"{write.quoted((DISPATCH_ID,))[0]} = ?"
    write.database.execute(f"DELETE FROM {write.table}")
    write.insert(write.table)
    _refuse_duplicates_unless_unique(write, own)
    return write.number(f"SELECT COUNT(*) AS written FROM {write.table} WHERE {own}")


def _refuse_duplicates_unless_unique(write: _Write, own: str) -> None:
    fold = write.database.dialect.fold
    per_dispatch = {fold(column) for column in (*write.key, DISPATCH_ID)}
    if not any(columns <= per_dispatch for columns in unique_keys(write.database, write.sink.table)):
        write.refuse_duplicates(write.table, own)


@dataclass(frozen=True)
class _Stage:
    """The temporary table of an upsert; `is_keyed`: the engine keeps the key unique in it."""

    name: str  # quoted
    is_keyed: bool


def _upsert(write: _Write) -> int:
    """Put the rows aside in a temporary table, then let the engine insert or update by key."""
    database = write.database
    unique = unique_keys(database, write.sink.table)
    stage = _create_stage(write, unique)
    write.insert(stage.name)
    if not stage.is_keyed:
        write.refuse_duplicates(stage.name)
    _refuse_lookalikes(write, stage)
    for statement in _merge(write, stage, unique):
        database.execute(statement)
    own = f"{write.quoted((DISPATCH_ID,), 't.')[0]} = ?"
    found = (
        f"FROM {write.staged_keys(stage)} s JOIN {write.table} t ON {write.key_equals('s', 't')} WHERE {own}"
    )
    if stage.is_keyed:
        persisted = write.number(f"SELECT COUNT(*) AS written {found}")
    else:
        # DISTINCT over the table's own columns: its collation may take two of our keys for one.
        key = ", ".join(write.quoted(write.key, "t."))
        persisted = write.number(f"SELECT COUNT(*) AS written FROM (SELECT DISTINCT {key} {found}) w")
    # On MySQL, DROP TABLE without TEMPORARY would commit.
    database.execute(f"DROP {'TEMPORARY ' if database.dialect.name == 'mysql' else ''}TABLE {stage.name}")
    return persisted


# Bytes tell texts apart that a collation takes for one. (On SQLite, counting what arrived finds it.)
_BYTES = {"mysql": "CAST({0} AS BINARY)", "mssql": "CAST({0} AS VARBINARY(8000))"}


def _refuse_lookalikes(write: _Write, stage: _Stage) -> None:
    """Raise `KeyColumnError` where a staged key would take the place of another one's row.

    A collation may take 'Ann' for 'ann', or 'a' for 'a ' (MySQL's do, all but one): the row of the one would
    silently become the row of the other.
    """
    as_bytes = _BYTES.get(write.database.dialect.name)
    texts = tuple(name for name in write.key if pa.types.is_string(write.rows.schema.field(name).type))
    if as_bytes is None or not texts:
        return
    of_stage, of_table = write.quoted(texts, "s."), write.quoted(texts, "t.")
    differ = " OR ".join(
        f"{as_bytes.format(ours)} <> {as_bytes.format(theirs)}"
        for ours, theirs in zip(of_stage, of_table, strict=True)
    )
    pairs = ", ".join(f"{name} AS k{number}" for number, name in enumerate([*of_stage, *of_table]))
    query = (
        f"SELECT {pairs} FROM {stage.name} s JOIN {write.table} t"
        f" ON {write.key_equals('s', 't')} WHERE {differ} {write.database.dialect.first_rows.format(rows=1)}"
    )
    for values in read_rows(write.database, query):
        found = zip(texts, values[: len(texts)], values[len(texts) :], strict=True)
        column, ours, theirs = next(each for each in found if each[1] != each[2])
        raise KeyColumnError(
            f"connection '{write.database.conn_id}': {write.sink.table} holds the key {column} = {theirs!r}, "
            f"which its collation takes for the {ours!r} of this dispatch: one would take the other's place; "
            "give the column a collation that tells them apart, or make such keys alike in the query"
        )


def _create_stage(write: _Write, unique: frozenset[frozenset[str]]) -> _Stage:
    """An empty temporary table with the target's own types and collations."""
    dialect = write.database.dialect
    name = f"mlops_stage_{uuid.uuid4().hex[:12]}"
    columns = ", ".join(write.quoted(tuple(write.rows.schema.names)))
    select = f"SELECT {columns} FROM {write.table} WHERE 1 = 0"
    if dialect.name == "mssql":
        stage = dialect.quote(f"#{name}")
        write.database.execute(f"SELECT {columns} INTO {stage} FROM {write.table} WHERE 1 = 0")
        return _Stage(stage, is_keyed=False)
    schemas = {
        "mysql": parse_table(write.sink.table)[:-1],  # there may be no current one
        "postgresql": ("pg_temp",),
        "sqlite": ("temp",),
    }
    stage = ".".join(dialect.quote(part) for part in (*schemas[dialect.name], name))
    # Only where the table has such an index: its columns are known to take one. Looking for duplicates and
    # counting then cost a tenth: without it, each sorts all keys once more.
    is_keyed = dialect.name == "mysql" and write.folded_key in unique
    key = f" (PRIMARY KEY ({', '.join(write.quoted(write.key))}))" if is_keyed else ""
    engine = " ENGINE=InnoDB" if dialect.name == "mysql" else ""
    write.database.execute(f"CREATE TEMPORARY TABLE {stage}{key}{engine} AS {select}")
    return _Stage(stage, is_keyed)


def _merge(write: _Write, stage: _Stage, unique: frozenset[frozenset[str]]) -> list[str]:
    """The statements that bring the staged rows into the table."""
    dialect = write.database.dialect
    names = tuple(write.rows.schema.names)
    insert = (
        f"INSERT INTO {write.table} ({', '.join(write.quoted(names))})"
        f" SELECT {', '.join(write.quoted(names, 's.'))} FROM {stage.name} s WHERE 1 = 1"
    )
    values = tuple(name for name in names if name not in write.key)
    key = write.folded_key
    # MySQL updates the row of whichever unique key collides: with a second one that may be the wrong row.
    if dialect.name == "mysql" and unique == {key}:
        pairs = zip(write.quoted(values), write.quoted(values, "s."), strict=True)
        updates = ", ".join(f"{column} = {value}" for column, value in pairs)
        return [f"{insert} ON DUPLICATE KEY UPDATE {updates}"]
    if dialect.name in ("postgresql", "sqlite") and key in unique:
        pairs = zip(write.quoted(values), write.quoted(values, "excluded."), strict=True)
        updates = ", ".join(f"{column} = {value}" for column, value in pairs)
        return [f"{insert} ON CONFLICT ({', '.join(write.quoted(write.key))}) DO UPDATE SET {updates}"]
    return [_delete_staged(write, stage), insert]


def _delete_staged(write: _Write, stage: _Stage) -> str:
    """Delete what the staged rows replace, in the form for which each engine builds an index or a hash."""
    match write.database.dialect.name:
        case "mysql":
            keys = write.staged_keys(stage)
            return f"DELETE t FROM {write.table} t JOIN {keys} s ON {write.key_equals('t', 's')}"
        case "sqlite":
            key = ", ".join(write.quoted(write.key))
            return f"DELETE FROM {write.table} WHERE ({key}) IN (SELECT {key} FROM {stage.name})"
        case _:
            same_key = write.key_equals("s", write.table)
            return f"DELETE FROM {write.table} WHERE EXISTS (SELECT 1 FROM {stage.name} s WHERE {same_key})"


@contextmanager
def _one_transaction(database: Database) -> Iterator[None]:
    try:
        yield
        database.commit()
    except BaseException:
        with suppress(DatabaseError):  # the connection may be gone, and the work with it
            database.rollback()
        raise


@contextmanager
def _exclusively(database: Database, sink: SinkConfig) -> Iterator[None]:
    """One dispatch at a time per table on MySQL, where LOCK TABLES would commit.

    Without it two deletes may both lock the same empty gap, and both inserts then wait for the other.
    """
    if database.dialect.name != "mysql":
        yield
        return
    parts = parse_table(sink.table)
    name = "SHA1(CONCAT('mlops ', COALESCE(?, DATABASE()), '.', ?))"
    parameters = [parts[-2] if len(parts) > 1 else None, parts[-1]]
    query = f"SELECT GET_LOCK({name}, {LOCK_WAIT_S}) AS is_held"
    if read_rows(database, query, parameters) != [(1,)]:
        raise DatabaseError(
            database.conn_id,
            f"waiting for another dispatch that writes {sink.table}",
            f"no lock within {LOCK_WAIT_S} s",
        )
    try:
        yield
    finally:
        with suppress(DatabaseError):  # it ends with the connection anyway
            read_rows(database, f"SELECT RELEASE_LOCK({name}) AS is_released", parameters)
            database.commit()


def _lock_table(write: _Write) -> None:
    """Begin the transaction so that no other dispatch writes into it; readers go on reading."""
    statements = {
        # A table without STRICT would take a value that does not fit and cut it.
        "mysql": [
            "SET SESSION sql_mode = CONCAT_WS(',', NULLIF(@@SESSION.sql_mode, ''), 'STRICT_ALL_TABLES')"
        ],
        "postgresql": [
            f"SET LOCAL lock_timeout = '{LOCK_WAIT_S}s'",
            f"LOCK TABLE {write.table} IN SHARE ROW EXCLUSIVE MODE",
        ],
        "mssql": [f"DELETE FROM {write.table} WITH (TABLOCKX) WHERE 1 = 0"],
        # A transaction that begins by reading cannot wait for its turn to write.
        "sqlite": [f"DELETE FROM {write.table} WHERE 1 = 0"],
    }
    for statement in statements.get(write.database.dialect.name, []):
        write.database.execute(statement)


def _require_columns(schema: pa.Schema, key: tuple[str, ...]) -> None:
    missing = [column for column in key if column not in schema.names]
    if missing:
        raise KeyColumnError(
            f"the predictions have no key column {', '.join(repr(name) for name in missing)}"
        )
    if DISPATCH_ID not in schema.names:
        raise SinkError("the predictions do not say which dispatch they belong to: column 'dispatch_id'")
