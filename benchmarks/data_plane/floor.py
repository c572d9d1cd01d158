"""The floors of the data plane: reading alone and writing alone, by the driver of the connection.

Both load their rows and nothing around them: no checks, files, events, or counting.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.databases.opening import open_database
from mlops_plugin.databases.sink.narrow_rows import DISPATCH_NUMBER
from mlops_plugin.databases.table_name import TableName

BATCH_ROWS = 50_000


def read(spec: ConnectionSpec, query: str) -> int:
    """Read all rows of a query and drop them; returns how many."""
    with open_database(spec) as database:
        return sum(batch.num_rows for batch in database.read(query, batch_rows=BATCH_ROWS))


def write(
    spec: ConnectionSpec, rows_file: Path, table: str, replaced: Sequence[str], dispatch: int = 0
) -> None:
    """Insert the rows of an Arrow file into a table, in one transaction.

    The `replaced` columns, if there are any, take over their values in rows whose key is there. The rows are
    those of another dispatch then: a server leaves a row alone that would not change.
    """
    with open_database(spec) as database, pa.OSFile(str(rows_file)) as source:
        rows = pa.ipc.open_stream(source)
        if replaced:
            database.upsert(TableName.parse(table), _of_dispatch(dispatch, rows), replaced)
        else:
            database.insert(TableName.parse(table), rows)
        database.commit()


def _of_dispatch(number: int, rows: pa.RecordBatchReader) -> pa.RecordBatchReader:
    place = rows.schema.get_field_index(DISPATCH_NUMBER)
    field = rows.schema.field(place)
    batches = (
        batch.set_column(place, field, pa.repeat(pa.scalar(number, field.type), batch.num_rows))
        for batch in rows
    )
    return pa.RecordBatchReader.from_batches(rows.schema, batches)
