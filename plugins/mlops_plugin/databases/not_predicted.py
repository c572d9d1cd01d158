"""Leaves out rows that the sink has predictions of, by an anti-join that the database makes."""

from __future__ import annotations

from mlops_plugin.config.schema import SinkConfig
from mlops_plugin.databases.database import Database, read_rows
from mlops_plugin.databases.dialects import parse_table
from mlops_plugin.databases.selection import Condition
from mlops_plugin.databases.sink.predictions_table import DISPATCH_ID

# Collation of each column of a table that has one.
_MYSQL_TEXTS = (
    "SELECT column_name AS name, collation_name AS collation, character_set_name AS charset"
    " FROM information_schema.columns"
    " WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ? AND collation_name IS NOT NULL"
)
_POSTGRESQL_TEXTS = (
    "SELECT CAST(attname AS text) AS name FROM pg_attribute WHERE attrelid = to_regclass(?) AND attnum > 0"
    " AND CAST(CAST(atttypid AS regtype) AS text) IN ('text', 'character varying')"
)


def not_predicted(
    database: Database, sink: SinkConfig, *, key: tuple[str, ...], artifact_sha256: str, dispatch_id: str
) -> Condition | None:
    """The rows of a query that no other dispatch has predicted with this artifact; None: that is all rows.

    Keys are compared as the sink compares them. What this very dispatch has written does not count, so
    that running it again reads the same rows again. `database` is the sink's and the source's.
    """
    dialect = database.dialect
    table = dialect.quote_table(sink.table)
    if database.columns(table) is None:
        return None
    converted = _conversions(database, sink)
    equal = []
    for column in key:
        name = dialect.quote(column)
        ours = converted.get(dialect.fold(column), "{}").format(f"selected.{name}")
        # The sink's column first: SQLite takes the collation of that side.
        equal.append(f"predicted.{name} = {ours}")
    artifact, owner = (f"predicted.{dialect.quote(name)}" for name in ("artifact_sha256", DISPATCH_ID))
    return Condition(
        f"NOT EXISTS (SELECT 1 FROM {table} predicted WHERE {' AND '.join(equal)}"
        f" AND {artifact} = ? AND {owner} <> ?)",
        (artifact_sha256, dispatch_id),
    )


def _conversions(database: Database, sink: SinkConfig) -> dict[str, str]:
    """Per text column of the sink (folded): the source's value as text of the same collation."""
    dialect = database.dialect
    parts = parse_table(sink.table)
    if dialect.name == "mysql":
        place = [parts[-2] if len(parts) > 1 else None, parts[-1]]
        return {
            dialect.fold(name): f"CONVERT({{}} USING {charset}) COLLATE {collation}"
            for name, collation, charset in read_rows(database, _MYSQL_TEXTS, place)
        }
    if dialect.name == "postgresql":
        # A UUID or an enum arrives as text, and is compared with none.
        found = read_rows(database, _POSTGRESQL_TEXTS, [dialect.quote_table(sink.table)])
        return {dialect.fold(name): "CAST({} AS text)" for (name,) in found}
    return {}
