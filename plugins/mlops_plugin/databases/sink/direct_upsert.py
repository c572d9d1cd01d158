"""Mode upsert without a temporary table: the driver inserts rows, or updates those whose key is there.

`upsert` calls it for narrow rows with keys of whole numbers, which no collation takes for each other. What
has arrived is counted by the dispatch's number, which no row had before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mlops_plugin.arrow_values import integers_of
from mlops_plugin.databases.engines.merge import Merge
from mlops_plugin.databases.sink.sink_write import SinkWrite

if TYPE_CHECKING:
    import numpy.typing as npt

# Reading this many rows of a table one after the other costs as much as finding one by its key.
_READ_PER_KEY = 20
_KEYS_AT_ONCE = 1_000  # MariaDB makes a table of longer lists


def is_possible(write: SinkWrite, merge: Merge) -> bool:
    """Whether the rows of this dispatch can go straight into its table.

    Not if a newer dispatch may have rows there: they are compared beside a temporary table.
    """
    return (
        write.database.upserts
        and write.place.is_narrow
        and write.dispatches is None
        and merge.is_only_unique
        and not merge.cleared
        and all(_is_whole_number(write, column) for column in write.key)
    )


def _is_whole_number(write: SinkWrite, column: str) -> bool:
    in_table = write.place.columns[write.engine.fold(column)]
    return in_table.kind == "int" and pa.types.is_integer(write.rows.schema.field(column).type)


def upsert_directly(write: SinkWrite) -> int:
    """Send all rows; returns how many the table holds as this dispatch's.

    Raises `KeyColumnError` with a sample if a key occurred twice: its later row replaced the earlier one.
    """
    keys = _Keys(write)
    values = [name for name in write.rows.schema.names if name not in write.key]
    write.send(lambda: write.database.upsert(write.table_name, keys.reader(), values))
    arrived = _count(write, keys)
    if arrived < write.rows.count:
        keys.refuse_repeated()
    return arrived


class _Keys:
    """The keys of the rows that were sent: eight bytes or less for each number."""

    def __init__(self, write: SinkWrite) -> None:
        self._write = write
        self._kept: list[list[npt.NDArray[Any]]] = []

    def reader(self) -> pa.RecordBatchReader:
        rows = self._write.rows

        def batches() -> Iterator[pa.RecordBatch]:
            for batch in rows.reader():
                # Copied: a batch is one piece of memory, which a part of it would keep.
                self._kept.append([integers_of(batch.column(name)).copy() for name in self._write.key])
                yield batch

        return pa.RecordBatchReader.from_batches(rows.schema, batches())

    def of(self, place: int) -> npt.NDArray[Any]:
        """The numbers of one column of the key."""
        import numpy as np

        return np.concatenate([key[place] for key in self._kept])

    def refuse_repeated(self) -> None:
        """Raise `KeyColumnError` with the first key that occurs several times, if there is one."""
        import numpy as np

        columns = np.column_stack([self.of(place) for place in range(len(self._write.key))])
        found, times = np.unique(columns, axis=0, return_counts=True)
        for place in np.flatnonzero(times > 1)[:1]:
            named = zip(self._write.key, found[place].tolist(), strict=True)
            sample = ", ".join(f"{name} = {value}" for name, value in named)
            raise self._write.repeated(sample, int(times[place]))


def _count(write: SinkWrite, keys: _Keys) -> int:
    """How many rows the table holds as this dispatch's.

    No index has the dispatch's number: it would cost every row an entry. So the whole table is read, or what
    has these keys where that is less.
    """
    query = f"SELECT COUNT(*) AS written FROM {write.table} WHERE {write.own()}"
    sent = write.rows.count
    if not sent:
        return 0
    if sent * _READ_PER_KEY >= write.engine.estimated_rows(write.database, write.table_name):
        return write.count(query)
    column, *_ = write.quoted(write.key)
    numbers = sorted({*keys.of(0).tolist()})
    return sum(
        write.count(f"{query} AND {column} IN ({', '.join(map(str, numbers[at : at + _KEYS_AT_ONCE]))})")
        for at in range(0, len(numbers), _KEYS_AT_ONCE)
    )
