"""The floors of the data plane: reading alone and writing alone, straight through arrow-odbc."""

from __future__ import annotations

from pathlib import Path

import arrow_odbc
import pyarrow as pa

BATCH_ROWS = 50_000
INSERT_ROWS = 5_000


def read(address: str, query: str) -> int:
    """Read all rows of a query and drop them; returns how many."""
    connection = arrow_odbc.connect(address + "FORWARDONLY=1;NO_CACHE=1;")
    reader = connection.read_arrow_batches(query, batch_size=BATCH_ROWS, fetch_concurrently=False)
    return sum(batch.num_rows for batch in reader)


def write(address: str, rows_file: Path, table: str) -> None:
    """Insert the rows of an Arrow file into a table, in one transaction."""
    connection = arrow_odbc.connect(address, autocommit=False)
    with pa.OSFile(str(rows_file)) as source:
        file = pa.ipc.open_file(source)
        batches = (file.get_batch(number) for number in range(file.num_record_batches))
        reader = pa.RecordBatchReader.from_batches(file.schema, batches)
        connection.insert_into_table(reader, table, chunk_size=INSERT_ROWS)
    connection.commit()
