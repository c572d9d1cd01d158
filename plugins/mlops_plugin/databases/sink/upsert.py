"""Mode upsert: a dispatch's rows go into a temporary table, and from there into the sink, by key.

`writer` calls it within its transaction. Where `direct_upsert` is possible, there is no temporary table.
"""

from __future__ import annotations

import uuid

from mlops_plugin.databases.database import read_rows
from mlops_plugin.databases.engines.merge import Merge
from mlops_plugin.databases.sink import direct_upsert
from mlops_plugin.databases.sink.predictions_table import PREDICTED_AT, unique_keys
from mlops_plugin.databases.sink.sink_write import SinkWrite
from mlops_plugin.databases.sink.write_request import Written
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import KeyColumnError


def upsert(write: SinkWrite) -> Written:
    """Insert rows, or update those whose key is there already.

    Rows whose key has a row of a newer dispatch are left out.
    """
    database, engine = write.database, write.engine
    stage = engine.stage_name(write.table_name, f"mlops_stage_{uuid.uuid4().hex[:12]}")
    merge = _plan(write, stage)
    if direct_upsert.is_possible(write, merge):
        return Written(direct_upsert.upsert_directly(write))
    database.execute(engine.create_stage(merge))
    write.insert(stage)
    if not merge.is_keyed:
        write.refuse_duplicates(merge.stage)
    _refuse_lookalikes(write, merge)
    superseded = _leave_out_superseded(write, merge)
    key = ", ".join(merge.key)
    with write.leaving_others(f"({key}) IN (SELECT {key} FROM {merge.stage})"):
        for statement in engine.merge(merge):
            database.execute(statement)
    persisted = _count(write, merge)
    database.execute(engine.drop_stage(merge.stage))
    return Written(persisted, superseded)


def _leave_out_superseded(write: SinkWrite, merge: Merge) -> int:
    """Take the rows out of the stage whose key has a row of a newer dispatch; returns how many."""
    registration = write.request.registration
    if write.dispatches is None or registration is None:
        return 0
    key_equals = merge.key_equals("t", merge.stage)
    number = write.place.owner if write.place.is_narrow else None
    same_dispatch = write.dispatches.same_dispatch(number)
    write.dispatches.delete_superseded(
        merge.stage, key_equals, write.table, registration.order, same_dispatch
    )
    left = read_rows(write.database, f"SELECT COUNT(*) AS staged FROM {merge.stage}")
    return write.rows.count - int(left[0][0])


def _plan(write: SinkWrite, stage: TableName) -> Merge:
    unique = unique_keys(write.database, write.table_name)
    is_unique = write.folded_key in unique
    values = tuple(name for name in write.rows.schema.names if name not in write.key)
    return Merge(
        table=write.table,
        stage=stage.quoted(write.engine),
        key=tuple(write.quoted(write.key)),
        values=tuple(write.quoted(values)),
        is_unique=is_unique,
        is_only_unique=unique == {write.folded_key},
        is_keyed=is_unique and write.engine.keys_stage,
        cleared=tuple(write.quoted(write.place.columns_to_clear(write.rows.schema, write.key, write.engine))),
    )


def _count(write: SinkWrite, merge: Merge) -> int:
    """How many staged rows the table now holds as this try's.

    Raises `SinkError` if it also holds others of their keys.
    """
    # An earlier try's rows have the same dispatch_id; narrow ones have a number per try, and no time.
    names = tuple({PREDICTED_AT} & {*write.rows.schema.names}) if write.is_again else ()
    time = tuple(write.quoted(names))
    staged = merge.stage if merge.is_keyed else merge.distinct(*time)
    joined = f"FROM {staged} s JOIN {write.table} t ON {merge.key_equals('s', 't')}"
    own = " AND ".join([write.own("t."), *(f"t.{column} = s.{column}" for column in time)])
    if merge.is_keyed:
        return write.count(f"SELECT COUNT(*) AS written {joined} WHERE {own}")
    # By the table's own columns: its collation may take two of our keys for one.
    key = ", ".join(write.quoted(write.key, "t."))
    each = f"SELECT COUNT(*) AS held, COUNT(CASE WHEN {own} THEN 1 END) AS ours {joined} GROUP BY {key}"
    counts = "COUNT(*) AS written, COUNT(CASE WHEN held > ours THEN 1 END) AS kept"
    query = f"SELECT {counts} FROM ({each}) w WHERE ours > 0"
    ((written, kept),) = read_rows(write.database, query, write.own_parameters)
    if int(kept):
        write.refuse_kept()
    return int(written)


def _refuse_lookalikes(write: SinkWrite, merge: Merge) -> None:
    """Raise `KeyColumnError` if a staged key would take the place of another one's row.

    A collation may take 'Ann' for 'ann', or 'a' for 'a ' (MySQL's do, all but one; PostgreSQL's if somebody
    has made one that does): the row of the one would silently become the row of the other.
    """
    engine = write.engine
    texts = write.lookalikes
    of_stage, of_table = write.quoted(texts, "s."), write.quoted(texts, "t.")
    # Bytes tell texts apart that a collation takes for one.
    pairs_of_bytes = [
        (engine.key_bytes(ours), engine.key_bytes(theirs))
        for ours, theirs in zip(of_stage, of_table, strict=True)
    ]
    differ = " OR ".join(f"{ours} <> {theirs}" for ours, theirs in pairs_of_bytes if ours and theirs)
    if not differ:
        return
    # As text: a driver may read no citext.
    shown = map(engine.exact_text, [*of_stage, *of_table])
    pairs = ", ".join(f"{name} AS k{number}" for number, name in enumerate(shown))
    query = (
        f"SELECT {pairs} FROM {merge.stage} s JOIN {merge.table} t"
        # The table's column first: SQLite takes the collation of that side.
        f" ON {merge.key_equals('t', 's')} WHERE {differ} {engine.any_rows(1)}"
    )
    for values in read_rows(write.database, query):
        found = zip(texts, values[: len(texts)], values[len(texts) :], strict=True)
        column, ours, theirs = next(each for each in found if each[1] != each[2])
        raise KeyColumnError(
            f"connection '{write.database.conn_id}': {write.sink.table} holds the key {column} = {theirs!r}, "
            f"which its collation treats as equal to {ours!r} of this dispatch: one would replace the other; "
            "give the column a collation that distinguishes them, or make such keys equal in the query"
        )
