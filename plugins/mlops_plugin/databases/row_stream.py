"""Shapes a driver's Arrow batches for the pipeline: size, exact types, and dates that exist everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from mlops_plugin.errors import DatabaseError, UnsupportedType

_EPOCH = date(1970, 1, 1)
_FIRST_DAY = (date.min - _EPOCH).days
_LAST_DAY = (date.max - _EPOCH).days
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def stream(
    conn_id: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch], batch_rows: int
) -> pa.RecordBatchReader:
    """A reader of at most `batch_rows` rows a batch, with every column exactly as `schema` says.

    Raises `UnsupportedType` while reading, for a value that `schema` does not hold exactly.
    """

    require_names(conn_id, schema.names)

    def shaped() -> Iterator[pa.RecordBatch]:
        for batch in batches:
            exact = _exact(conn_id, batch, schema)
            for start in range(0, exact.num_rows, batch_rows):
                yield exact.slice(start, batch_rows)

    return pa.RecordBatchReader.from_batches(schema, shaped())


def require_names(conn_id: str, names: Iterable[str]) -> None:
    """Raise `DatabaseError` where two columns of a query share a name, or one has none."""
    seen: set[str] = set()
    for name in names:
        if not name or name in seen:
            twice = f"it returns two columns '{name}'" if name else "it returns a column without a name"
            raise DatabaseError(
                conn_id, "running the query", f"{twice}; give each its own name: SELECT ... AS name"
            )
        seen.add(name)


def _exact(conn_id: str, batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = []
    for field, column in zip(schema, batch.columns, strict=True):
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        if column.type != field.type:
            try:
                column = _cast(column, field.type)
            except pa.ArrowInvalid as error:
                raise UnsupportedType(
                    f"connection '{conn_id}': column '{field.name}' holds a value that {field.type} cannot "
                    f"hold: {error}; cast the column in the query"
                ) from error
        _check_dates(conn_id, field, column)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _cast(column: pa.Array, wanted: pa.DataType) -> pa.Array:
    if pa.types.is_string(wanted) and pa.types.is_fixed_size_binary(column.type):
        return _uuid_texts(column)
    if pa.types.is_timestamp(wanted) and wanted.tz and pa.types.is_string(column.type):
        # PostgreSQL writes the zone of a session in UTC as +00.
        column = pc.cast(pc.replace_substring_regex(column, r"\+00$", ""), pa.timestamp(wanted.unit))
    if pa.types.is_time(wanted) and pa.types.is_string(column.type):
        # Arrow reads a time of day only together with a day.
        column = pc.cast(pc.binary_join_element_wise("1970-01-01", column, " "), pa.timestamp(wanted.unit))
    return pc.cast(column, wanted, safe=True)


def _uuid_texts(column: pa.Array) -> pa.Array:
    """UUIDs of 16 bytes as the text that everybody writes."""
    return pa.array(
        [None if value is None else str(UUID(bytes=value)) for value in column.to_pylist()], pa.string()
    )


def _check_dates(conn_id: str, field: pa.Field, column: pa.Array) -> None:
    # PostgreSQL's infinity and years before Christ arrive as numbers that mean another day elsewhere.
    if pa.types.is_date32(field.type):
        first, after_last = _FIRST_DAY, _LAST_DAY + 1
        numbers = column.view(pa.int32())
    elif pa.types.is_timestamp(field.type) and field.type.unit != "ns":
        per_day = 86_400 * _PER_SECOND[field.type.unit]
        first, after_last = _FIRST_DAY * per_day, (_LAST_DAY + 1) * per_day
        numbers = column.view(pa.int64())
    else:
        return
    found = pc.min_max(numbers).as_py()
    if found["min"] is not None and not first <= found["min"] <= found["max"] < after_last:
        raise UnsupportedType(
            f"connection '{conn_id}': column '{field.name}' holds a date that is infinite or outside the "
            "years 1 to 9999; leave such rows out or replace the value in the query, e.g. with NULL"
        )


class CountedRows:
    """Rows on their way into a table, in the types that its driver takes, counted."""

    def __init__(self, source: pa.RecordBatchReader, schema: pa.Schema) -> None:
        self.count = 0
        self.schema = schema
        self._source = source

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._source:
            self.count += batch.num_rows
            columns = [
                column if column.type == field.type else _written(column, field.type)
                for column, field in zip(batch.columns, self.schema, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def reader(self) -> pa.RecordBatchReader:
        """These rows as ADBC takes them."""
        return pa.RecordBatchReader.from_batches(self.schema, iter(self))


def _written(column: pa.Array, arrow_type: pa.DataType) -> pa.Array:
    if (
        pa.types.is_timestamp(column.type)
        and column.type.tz is not None
        and not pa.types.is_timestamp(arrow_type)
    ):
        column = column.cast(pa.timestamp(column.type.unit))  # the same instant in UTC, without zone
    return pc.cast(column, arrow_type)


def utc_naive(value: datetime) -> datetime:
    """An aware time as the same instant in UTC, without zone; a naive one as it is."""
    return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
