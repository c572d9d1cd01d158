"""Mode upsert: a dispatch's rows go into a temporary table, and from there into the sink, by key.

`databases.sink` calls it within its transaction.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import pyarrow as pa

from mlops_plugin.databases.database import read_rows
from mlops_plugin.databases.dialects import parse_table
from mlops_plugin.databases.sink.predictions_table import DISPATCH_ID, unique_keys
from mlops_plugin.databases.sink.sink_write import SinkWrite
from mlops_plugin.errors import KeyColumnError


@dataclass(frozen=True)
class _Stage:
    """The temporary table of an upsert; `is_keyed`: the engine keeps the key unique in it."""

    name: str  # quoted
    is_keyed: bool


def upsert(write: SinkWrite) -> int:
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
    joined = f"{_staged_keys(write, stage)} s JOIN {write.table} t ON {write.key_equals('s', 't')}"
    found = f"FROM {joined} WHERE {own}"
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


def _refuse_lookalikes(write: SinkWrite, stage: _Stage) -> None:
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


def _create_stage(write: SinkWrite, unique: frozenset[frozenset[str]]) -> _Stage:
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


def _staged_keys(write: SinkWrite, stage: _Stage) -> str:
    """The staged keys to join with: MySQL gives an index to a subquery, not to a temporary table."""
    if stage.is_keyed:
        return stage.name
    return f"(SELECT DISTINCT {', '.join(write.quoted(write.key))} FROM {stage.name})"


def _merge(write: SinkWrite, stage: _Stage, unique: frozenset[frozenset[str]]) -> list[str]:
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


def _delete_staged(write: SinkWrite, stage: _Stage) -> str:
    """Delete what the staged rows replace, in the form for which each engine builds an index or a hash."""
    match write.database.dialect.name:
        case "mysql":
            keys = _staged_keys(write, stage)
            return f"DELETE t FROM {write.table} t JOIN {keys} s ON {write.key_equals('t', 's')}"
        case "sqlite":
            key = ", ".join(write.quoted(write.key))
            return f"DELETE FROM {write.table} WHERE ({key}) IN (SELECT {key} FROM {stage.name})"
        case _:
            same_key = write.key_equals("s", write.table)
            return f"DELETE FROM {write.table} WHERE EXISTS (SELECT 1 FROM {stage.name} s WHERE {same_key})"
