"""Leaves out rows that the sink has predictions of, by an anti-join that the database makes."""

from __future__ import annotations

from mlops_plugin.config.schema import SinkConfig
from mlops_plugin.databases.database import Database
from mlops_plugin.databases.selection import Condition
from mlops_plugin.databases.sink.dispatches_table import NO_RIGHT, DispatchesTable
from mlops_plugin.databases.sink.other_answers import OtherAnswers, find_other_answers
from mlops_plugin.databases.sink.predictions_table import DISPATCH_ID, table_columns
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import DatabaseError


def not_predicted(
    database: Database,
    sink: SinkConfig,
    *,
    key: tuple[str, ...],
    model: str,
    artifact_sha256: str,
    answered_by: str,
    dispatch_id: str,
) -> Condition | None:
    """The rows of a query that no other dispatch has predicted with this artifact; None: that is all rows.

    `answered_by` is a hash of the settings. If `mlops_dispatches` records that a prediction was made by other
    settings, its row is read again. Another model that writes the same table may have the same artifact, and
    keys of its own. Texts that only the sink's collation takes for each other are two keys: such a row must
    not be left out. What this very dispatch has written does not count, so that running it again reads the
    same rows. `database` is the sink's and the source's.
    """
    engine = database.engine
    table = TableName.parse(sink.table)
    if database.columns(table) is None:
        return None
    converted = engine.text_conversions(database, table)
    columns = table_columns(database, table) if converted else {}
    equal, in_bytes = [], []
    for column in key:
        name, folded = engine.quote(column), engine.fold(column)
        theirs, ours = f"predicted.{name}", converted.get(folded, "{}").format(f"selected.{name}")
        # The sink's column first: SQLite takes the collation of that side.
        equal.append(f"{theirs} = {ours}")
        if folded in converted and not columns[folded].compares_bytes:
            in_bytes.append(f"{engine.key_bytes(theirs)} = {engine.key_bytes(ours)}")
    if in_bytes:
        engine.compare_exactly(database)
    same_key = " AND ".join([*equal, *in_bytes])
    of_model, artifact, owner = (
        engine.beside_key(f"predicted.{engine.quote(name)}")
        for name in ("model", "artifact_sha256", DISPATCH_ID)
    )
    also = ""
    parameters: tuple[str, ...] = (model, artifact_sha256, dispatch_id)
    if others := _other_answers(database, sink, model, artifact_sha256, answered_by):
        also = f" AND NOT {others.of_owner(f'predicted.{engine.quote(DISPATCH_ID)}')}"
        parameters += others.parameters
    return Condition(
        f"NOT EXISTS (SELECT 1 FROM {table.quoted(engine)} predicted WHERE {same_key}"
        f" AND {of_model} = ? AND {artifact} = ? AND {owner} <> ?{also})",
        parameters,
    )


def _other_answers(
    database: Database, sink: SinkConfig, model: str, artifact_sha256: str, answered_by: str
) -> OtherAnswers | None:
    """See `find_other_answers`; None also without the column, or the right to read it."""
    dispatches = DispatchesTable(database, sink)
    try:
        if not dispatches.has_answered_by():
            return None
        return find_other_answers(dispatches, model, artifact_sha256, answered_by)
    except DatabaseError as error:
        if not NO_RIGHT.search(error.driver_says):
            raise
        database.rollback()
        return None
