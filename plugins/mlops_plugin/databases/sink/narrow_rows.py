"""Narrow rows: what a dispatch's rows share stands once, in `mlops_dispatches`; a view shows both together.

`predictions_table` asks whether a sink has this form, and `creation` makes it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from mlops_plugin.arrow_values import array_of_numbers
from mlops_plugin.databases.database import Database
from mlops_plugin.databases.engines.engine import Engine
from mlops_plugin.databases.sink.dispatches_table import DispatchesTable
from mlops_plugin.databases.table_name import TableName

# Of a row: the `id` of its dispatch in `mlops_dispatches`. The column also tells that a table is one of ours.
DISPATCH_NUMBER = "mlops_dispatch"
# What a row has in the other form, and the view shows.
PROVENANCE = ("dispatch_id", "model", "artifact_sha256", "predicted_at")
_SUFFIX = "_rows"
_NUMBER = pa.field(DISPATCH_NUMBER, pa.int32(), nullable=False)
# Engines differ in how a text literal says these.
_NOT_IN_LITERALS = "'\\"


def rows_table(table: TableName) -> TableName:
    """The table of the rows that the view `table` shows."""
    return replace(table, name=table.name + _SUFFIX)


def can_be_narrow(engine: Engine, table: TableName) -> bool:
    """Whether a sink of this name can have narrow rows: on this engine, and within its names."""
    return (
        engine.stores_narrow_rows
        and not set(_NOT_IN_LITERALS) & set(table.name)
        and engine.takes_name(rows_table(table).name)
    )


def is_possible(engine: Engine, table: TableName, schema: pa.Schema) -> bool:
    """Whether rows of `schema` can be narrow in a sink of this name."""
    taken = {engine.fold(DISPATCH_NUMBER)} & set(map(engine.fold, schema.names))
    return can_be_narrow(engine, table) and not taken and set(PROVENANCE) <= set(schema.names)


def narrow_schema(schema: pa.Schema) -> pa.Schema:
    """The columns of the table of rows."""
    return pa.schema([*(field for field in schema if field.name not in PROVENANCE), _NUMBER])


def narrowed(rows: pa.RecordBatchReader, number: int) -> pa.RecordBatchReader:
    """The same rows with the dispatch's number in place of their provenance."""
    schema = narrow_schema(rows.schema)
    kept = [position for position, name in enumerate(rows.schema.names) if name not in PROVENANCE]

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in rows:
            numbers = array_of_numbers(np.full(batch.num_rows, number, np.int32))
            columns = [*(batch.column(position) for position in kept), numbers]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def view_statement(
    database: Database, table: TableName, dispatches: DispatchesTable, columns: Sequence[str], verb: str
) -> str:
    """The statement that makes (`verb`) the view, which shows these columns in this order."""
    engine = database.engine
    shown = ", ".join(_shown(engine, column) for column in columns)
    sink_table, identity, number = map(engine.quote, ("sink_table", "id", DISPATCH_NUMBER))
    rows, entries = (engine.within_view(of).quoted(engine) for of in (rows_table(table), dispatches.table))
    # LEFT: a row shows itself although somebody has deleted its dispatch.
    return (
        f"{verb} VIEW {table.quoted(engine)} AS SELECT {shown} FROM {rows} r LEFT JOIN {entries} d"
        f" ON d.{sink_table} = {joined_with(dispatches)} AND d.{identity} = r.{number}"
    )


def joined_with(dispatches: DispatchesTable) -> str:
    """The literal in a view that says whose dispatches it shows."""
    return f"'{dispatches.sink_table}'"


def alter_statements(
    database: Database,
    table: TableName,
    dispatches: DispatchesTable,
    shown: Sequence[str],
    known: Collection[str],
) -> list[str]:
    """What shows new columns: `shown` are the view's columns, new ones last, `known` those of the rows."""
    engine = database.engine
    ours = {*known, *map(engine.fold, PROVENANCE)}
    columns = [column for column in shown if engine.fold(column) in ours]
    if engine.replaces_views:
        return [view_statement(database, table, dispatches, columns, "CREATE OR REPLACE")]
    drop = f"DROP VIEW {table.quoted(engine)}"
    return [drop, view_statement(database, table, dispatches, columns, "CREATE")]


def _shown(engine: Engine, column: str) -> str:
    name = engine.quote(column)
    if engine.fold(column) not in map(engine.fold, PROVENANCE):
        return f"r.{name} AS {name}"
    if engine.fold(column) == engine.fold("predicted_at"):
        return f"{engine.moment_of_text(f'd.{name}')} AS {name}"
    return f"d.{name} AS {name}"
