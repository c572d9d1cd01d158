"""Sends golden rows through a temporary table of the source: `mlops check --round-trip`.

The only part of `mlops check` that writes, and what it writes is gone when the connection is closed.
"""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING

import pyarrow as pa

from mlops_plugin.databases.engines.merge import Merge
from mlops_plugin.databases.selection import as_subquery
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import DatabaseError

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ModelConfig
    from mlops_plugin.databases.database import Database
    from mlops_plugin.formats.runtime import Runtime
    from mlops_plugin.formats.signature.signature import Signature
    from mlops_plugin.pipeline.deployment import Deployment

_NUMBER = "mlops_golden_row"


def verify_round_trip(
    model: ModelConfig, deployment: Deployment, query: str, runtime: Runtime, signature: Signature
) -> int:
    """Write golden rows in the query's own column types, read them back, and ask the model; returns how many.

    Rows that those types have no room for are left out. Raises `GoldenRowMismatch` for another answer, and
    `DatabaseError` if the source's user may not make a temporary table.
    """
    from mlops_plugin.formats.signature.comparison import verify_batch
    from mlops_plugin.formats.signature.golden_rows import as_read, golden_batch
    from mlops_plugin.pipeline.validation.contract import Contract

    with contextlib.closing(deployment.source(model)) as database:
        rows = database.describe(query)
        batch, places = as_read(golden_batch(signature), rows)
        kept = _with_room(database, query, batch, rows) if places else []
        if not kept:
            return 0
        places = [places[at] for at in kept]
        read = _write_and_read(database, query, batch.take(pa.array(kept)), rows)
    contract = Contract.of(model)
    if contract is not None:
        read = contract.bind(read.schema).check(read).rows
    runtime.check(read.schema)
    verify_batch(runtime, signature, read, places, tolerance=model.model.tolerance)
    return len(places)


def _with_room(database: Database, query: str, batch: pa.RecordBatch, rows: pa.Schema) -> list[int]:
    """The places of rows that the table takes: over ODBC an integer has 64 bits, whatever its column has."""
    everything = list(range(batch.num_rows))
    try:
        _write_and_read(database, query, batch, rows)
    except DatabaseError as error:
        kept = []
        for place in everything:
            with contextlib.suppress(DatabaseError):
                _write_and_read(database, query, batch.slice(place, 1), rows)
                kept.append(place)
        if not kept:
            raise error from error.__cause__
        return kept
    return everything


def _write_and_read(database: Database, query: str, batch: pa.RecordBatch, rows: pa.Schema) -> pa.RecordBatch:
    """The rows as they come back from a temporary table, in the types in which the query returns them."""
    engine = database.engine
    stage = engine.stage_name(TableName("golden"), f"mlops_golden_{uuid.uuid4().hex[:12]}")
    columns = tuple(engine.enclose(name) for name in batch.schema.names)
    number = engine.quote(_NUMBER)
    selected = f"SELECT 0 AS {number}, {', '.join(columns)} FROM {as_subquery(query, engine.name)}"
    merge = Merge(
        table=f"({selected}) golden",
        stage=stage.quoted(engine),
        key=(number,),
        values=columns,
        is_unique=False,
        is_only_unique=False,
    )
    numbered = batch.append_column(_NUMBER, pa.array(range(batch.num_rows), pa.int32()))
    try:
        database.execute(engine.create_stage(merge))
        database.insert(stage, pa.RecordBatchReader.from_batches(numbered.schema, [numbered]))
        back = f"SELECT {', '.join(columns)} FROM {merge.stage} ORDER BY {number}"
        table = database.read(back, batch_rows=batch.num_rows).read_all()
    finally:
        database.rollback()
    # A driver cannot describe a table that only this transaction knows: a boolean may come as text.
    described = pa.schema([rows.field(name) for name in table.schema.names])
    (found,) = table.cast(described).combine_chunks().to_batches()
    return found
