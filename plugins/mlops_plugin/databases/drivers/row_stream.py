"""Shapes a driver's Arrow batches for the pipeline: size, exact types, and dates that exist everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from mlops_plugin.databases.moments import holds_other_years
from mlops_plugin.databases.source_column import SourceColumn
from mlops_plugin.errors import DatabaseError

_MOST_VALUES = 1_000_000  # of one batch: 8 MB of doubles, which `infer` holds some six times
_MOST_JOINED_BYTES = 2**25
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def stream(
    columns: Sequence[SourceColumn], schema: pa.Schema, batches: Iterable[pa.RecordBatch], batch_rows: int
) -> pa.RecordBatchReader:
    """A reader of `rows_at_once` rows a batch at most, with every column exactly as `schema` says.

    `columns` are those of the query, one for each of `schema`. Raises `UnsupportedType` while reading,
    for a value that `schema` does not hold exactly.
    """
    require_names(columns[0].conn_id, schema.names)
    most_rows = rows_at_once(len(schema), batch_rows)

    def shaped() -> Iterator[pa.RecordBatch]:
        for batch in batches:
            exact = _exact(columns, batch, schema)
            for start in range(0, exact.num_rows, most_rows):
                yield exact.slice(start, most_rows)

    return pa.RecordBatchReader.from_batches(schema, shaped())


def rows_at_once(columns: int, batch_rows: int) -> int:
    """How many rows a batch may have: `batch_rows`, and fewer of a wide table, whose memory they bound."""
    return max(1, min(batch_rows, _MOST_VALUES // max(columns, 1)))


def joined(batches: Iterable[pa.RecordBatch], most_rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in fewer batches, of `most_rows` at most, for a driver whose batches are small.

    Each batch costs every step the same, however few its rows are.
    """
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        if waiting and (rows + batch.num_rows > most_rows or size + batch.nbytes > _MOST_JOINED_BYTES):
            yield pa.concat_batches(waiting)
            waiting, rows, size = [], 0, 0
        waiting.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
    if waiting:
        yield pa.concat_batches(waiting)


def require_names(conn_id: str, names: Iterable[str]) -> None:
    """Raise `DatabaseError` if two columns of a query share a name, or one has none."""
    seen: set[str] = set()
    for name in names:
        if not name or name in seen:
            twice = f"it returns two columns named '{name}'" if name else "it returns a column without a name"
            raise DatabaseError(
                conn_id, "running the query", f"{twice}; give each its own name: SELECT ... AS name"
            )
        seen.add(name)


def _exact(sources: Sequence[SourceColumn], batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = []
    for source, field, column in zip(sources, schema, batch.columns, strict=True):
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        if column.type != field.type:
            try:
                column = _cast(column, field.type)
            except pa.ArrowInvalid as error:
                raise source.refusal(
                    f"holds a value that {field.type} cannot hold: {error}",
                    is_number=pa.types.is_decimal(field.type),  # NUMERIC's NaN
                ) from error
        _check_times(source, column)
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
    if pa.types.is_floating(wanted) and pa.types.is_string(column.type):
        return _doubles(column, wanted)
    return pc.cast(column, wanted, safe=True)


def _doubles(texts: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Decimals written out, each as the nearest double."""
    numbers = pc.cast(texts, wanted)
    # Arrow makes an infinity of a number that is too large.
    is_too_large = pc.and_(pc.is_inf(numbers), pc.invert(pc.match_substring(texts, "inf", ignore_case=True)))
    if pc.any(is_too_large).as_py():
        raise pa.ArrowInvalid("a number outside the range of a double")
    return numbers


def _uuid_texts(column: pa.Array) -> pa.Array:
    """UUIDs of 16 bytes as the text that everybody writes."""
    return pa.array(
        [None if value is None else str(UUID(bytes=value)) for value in column.to_pylist()], pa.string()
    )


def _check_times(source: SourceColumn, column: pa.Array) -> None:
    """Refuse what is no date or time of day in Python, and would be read as another one."""
    # PostgreSQL's infinity and years before Christ are numbers here.
    if holds_other_years(column):
        raise source.refusal("holds a date that is infinite or outside the years 1 to 9999")
    if not pa.types.is_time(column.type):
        return
    numbers = column.view(pa.int64() if pa.types.is_time64(column.type) else pa.int32())
    found = pc.min_max(numbers).as_py()
    if found["min"] is not None and (
        found["min"] < 0 or found["max"] >= 86_400 * _PER_SECOND[column.type.unit]
    ):
        raise source.refusal("holds a time outside one day")


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
                column if column.type == field.type else _written(column, field)
                for column, field in zip(batch.columns, self.schema, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def reader(self) -> pa.RecordBatchReader:
        """These rows as ADBC takes them."""
        return pa.RecordBatchReader.from_batches(self.schema, iter(self))


def _written(column: pa.Array, field: pa.Field) -> pa.Array:
    arrow_type = field.type
    if (
        pa.types.is_timestamp(column.type)
        and column.type.tz is not None
        and not pa.types.is_timestamp(arrow_type)
    ):
        column = column.cast(pa.timestamp(column.type.unit))  # the same instant in UTC, without zone
    if pa.types.is_fixed_size_binary(arrow_type) and pa.types.is_string(column.type):
        return _uuid_bytes(column, arrow_type)
    try:
        return pc.cast(column, arrow_type)
    except pa.ArrowInvalid as error:
        raise pa.ArrowInvalid(f"column '{field.name}': {error}") from error


def _uuid_bytes(column: pa.Array, arrow_type: pa.DataType) -> pa.Array:
    texts = column.to_pylist()
    return pa.array([None if text is None else UUID(text).bytes for text in texts], arrow_type)
