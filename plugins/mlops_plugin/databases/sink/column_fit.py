"""Refuses, before a row is sent, a table whose column types would change what is written into them.

Engines round, cut and convert without an error: MySQL a double in a FLOAT or an INT, PostgreSQL a time in a
`timestamp(0)`, SQLite a text that looks like a number. What types alone tell is refused here, by every
dispatch and by `mlops check --connect`; what depends on the value is left to `value_checks`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from mlops_plugin.databases.database import Database
from mlops_plugin.databases.engines.arrow_kinds import digits_of, value_kind
from mlops_plugin.databases.engines.engine import Engine
from mlops_plugin.databases.engines.table_column import UNJUDGED, TableColumn
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import SinkError, UnsupportedType

# Written by this project with microseconds in it, whatever the rows are.
_ALWAYS_FRACTIONS = frozenset({"predicted_at", "quarantined_at"})
_EXACT_IN_DOUBLE = 15  # decimal digits
_WRITTEN_AS_TEXT = frozenset({"varchar", "text"})
_MOMENTS = frozenset({"timestamp", "timestamp_utc"})
# Kind of value -> kinds of column that hold it, each value or those that `value_checks` lets through.
_HELD_BY: Mapping[str, frozenset[str]] = {
    "int": frozenset({"int", "decimal", "float32", "float64", "bit", "year"}) | _WRITTEN_AS_TEXT,
    "bool": frozenset({"bool", "int", "bit"}),
    "float32": frozenset({"float32", "float64"}),
    "float64": frozenset({"float64"}),
    "decimal": frozenset({"decimal"}) | _WRITTEN_AS_TEXT,
    "text": frozenset({"char", "enum", "uuid", "json", "binary", "fixed binary", "date", "time", "timestamp"})
    | _WRITTEN_AS_TEXT,
    "binary": frozenset({"binary", "fixed binary", "blob"}),
    "date": frozenset({"date", "timestamp"}) | _WRITTEN_AS_TEXT,
    "time": frozenset({"time"}) | _WRITTEN_AS_TEXT,
    "timestamp": _MOMENTS | _WRITTEN_AS_TEXT,
    "timestamp_utc": _MOMENTS | _WRITTEN_AS_TEXT,
}


def require_fitting(
    database: Database,
    table: TableName,
    columns: Mapping[str, TableColumn],
    schema: pa.Schema,
    key: Sequence[str],
    view: TableName | None = None,
) -> None:
    """Raise `SinkError` for all columns that would change values of `schema`, with what to alter.

    `columns` by folded name, as `predictions_table.table_columns` gives them; `view` shows them, if any.
    """
    engine = database.engine
    problems = []
    for field in schema:
        column = columns.get(engine.fold(field.name))
        if column is not None and (loss := _loss(engine, column, field)):
            wanted = alteration(engine, table, field, view, is_key=field.name in key)
            problems.append(f"column '{field.name}' is {column.shown}, which {loss}; {wanted}")
    if problems:
        found = "\n".join(problems)
        raise SinkError(f"connection '{database.conn_id}': table {table} would change values:\n{found}")


def alteration(
    engine: Engine, table: TableName, field: pa.Field, view: TableName | None, *, is_key: bool
) -> str:
    """What to do so that a column takes every value of `field`."""
    try:
        wanted = engine.column_type(field.type, is_key=is_key)
    except UnsupportedType:
        return "cast it in the query"
    shown = None if view is None else view.quoted(engine)
    return engine.alteration(table.quoted(engine), engine.quote(field.name), wanted, shown)


def decimals_in_texts(engine: Engine, columns: Mapping[str, TableColumn], schema: pa.Schema) -> set[str]:
    """The columns of decimals, or integers beyond 63 bits, that the table has as texts.

    On SQLite none: there every decimal is a text.
    """
    if engine.values_have_types:
        return set()
    found = ((field, columns.get(engine.fold(field.name))) for field in schema)
    return {
        field.name
        for field, column in found
        if value_kind(field.type) == "decimal" and column is not None and column.kind in _WRITTEN_AS_TEXT
    }


def _loss(engine: Engine, column: TableColumn, field: pa.Field) -> str | None:
    """What the column does to values of this type, as in "which rounds ..."; None if it takes them."""
    kind = value_kind(field.type)
    if column.kind == UNJUDGED:
        return None
    if kind not in _HELD_BY:
        return None  # no column type at all: the table's own rows are refused for that
    if engine.values_have_types:
        return _loss_by_affinity(column, kind, field.type)
    if kind == "decimal":
        return _loss_of_decimals(column, *digits_of(field.type))
    if column.kind not in _HELD_BY[kind]:
        return _ROUNDS.get((kind, column.kind), f"does not hold every {field.type} unchanged")
    if field.name in _ALWAYS_FRACTIONS and column.fraction < 6 and column.kind in _MOMENTS:
        return "drops its microseconds"
    return None


_ROUNDS = {
    ("float64", "float32"): "rounds a double to seven digits",
    ("float64", "int"): "rounds a double to a whole number",
    ("float64", "decimal"): "rounds a double to its decimal places",
    ("float32", "int"): "rounds a float to a whole number",
    ("float32", "decimal"): "rounds a float to its decimal places",
    ("timestamp", "date"): "drops the time of day",
    ("timestamp_utc", "date"): "drops the time of day",
    ("int", "bool"): "stores every number but 0 as the same value",
}


def _loss_of_decimals(column: TableColumn, digits: int, scale: int) -> str | None:
    if column.kind == "decimal" and column.scale < scale:
        return f"rounds numbers with {scale} decimal places to {column.scale}"
    if column.kind in _HELD_BY["decimal"] or (column.kind == "int" and scale == 0):
        return None
    if column.kind == "float64" and digits <= _EXACT_IN_DOUBLE:
        return None
    return f"does not hold every number of {digits} digits, {scale} of them decimal places, unchanged"


def _loss_by_affinity(column: TableColumn, kind: str, arrow_type: pa.DataType) -> str | None:
    if kind in ("float32", "float64") and column.kind == "text":
        return "turns numbers into text with 15 digits"
    if kind == "decimal" and column.kind not in ("text", "none"):
        return f"converts {arrow_type} to a double"
    return None
