"""Records of the rows that `infer` rejects: one per violation, on disk if they are many, counted by reason.

A record has the key, the row's number among those collected, the column, the reason and the value as text.
"""

from __future__ import annotations

import functools
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from mlops_plugin.databases.sink.write_request import Order
from mlops_plugin.pipeline.validation.column_check import kind_of

# Column (None: the row as a whole), reason, and how many rows.
Reason = tuple[str | None, str, int]

VALUE_CHARS = 200
REASON_CHARS = 300
MAX_REASONS = 200  # further ones are counted together
OTHER_REASONS = "other reasons"
_IN_MEMORY_BYTES = 16 << 20
_RECORD = (
    pa.field("row", pa.int64(), nullable=False),
    pa.field("column_name", pa.string()),
    pa.field("reason", pa.string(), nullable=False),
    pa.field("value", pa.string()),
)


@dataclass(frozen=True)
class Refused:
    """Why rows of a batch are rejected: `places` are their positions in it, `values` what is found there."""

    column: str | None
    reason: str
    places: pa.Int64Array
    values: pa.Array | None = None

    @classmethod
    def of_mask(cls, column: str | None, reason: str, rows: pa.BooleanArray, values: pa.Array | None) -> Self:
        """The rows of a mask; `values` are those of all rows."""
        places = pc.indices_nonzero(rows).cast(pa.int64())
        return cls(column, reason, places, None if values is None else values.take(places))

    def within(self, places: pa.Int64Array) -> Refused:
        """The same for a larger batch; `places` are the rows of this one in it."""
        return replace(self, places=places.take(self.places))


class Rejections:
    """Takes records batch by batch; `batches` gives them back in the rows' order. Close it after use."""

    def __init__(self, key: Sequence[pa.Field]) -> None:
        self.rows = 0
        self._key = key
        self._counts: Counter[tuple[str | None, str]] = Counter()
        self._file: IO[bytes] | None = None
        self._writer: Any = None

    @functools.cached_property
    def schema(self) -> pa.Schema:
        """Of the records."""
        return pa.schema([*self._key, *_RECORD])

    @property
    def reasons(self) -> list[Reason]:
        """Column, reason and how many rows, the most frequent first."""
        return [(column, reason, count) for (column, reason), count in self._counts.most_common()]

    def add(self, batch: pa.RecordBatch, first_row: int, refused: Sequence[Refused]) -> None:
        """Keep a record for each refused value of a batch that begins with row `first_row`."""
        if not refused:
            return
        records = pa.concat_tables([self._records(batch, first_row, one) for one in refused])
        self.rows += pc.count_distinct(records.column("row")).as_py()
        order = pc.sort_indices(records.column("row"))  # stable: columns stay in the contract's order
        self._write(records.take(order))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All records; nothing can be added any more."""
        if self._writer is None or self._file is None:
            return
        self._writer.close()
        self._file.seek(0)
        yield from pa.ipc.open_stream(pa.PythonFile(self._file, mode="r"))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _records(self, batch: pa.RecordBatch, first_row: int, refused: Refused) -> pa.Table:
        places, count = refused.places, len(refused.places)
        column, reason = refused.column, refused.reason[:REASON_CHARS]
        entry = (column, reason)
        if entry not in self._counts and len(self._counts) >= MAX_REASONS:
            entry = (None, OTHER_REASONS)
        self._counts[entry] += count
        values = pa.nulls(count, pa.string()) if refused.values is None else texts(refused.values)
        keys = [batch.column(name).take(places) for name in self.schema.names[: len(self._key)]]
        explanations = [pa.repeat(pa.scalar(column, pa.string()), count), pa.repeat(pa.scalar(reason), count)]
        arrays = [*keys, pc.add(places, first_row), *explanations, values]
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _write(self, records: pa.Table) -> None:
        if self._writer is None:
            # On disk if they are many: every row of a table may be invalid.
            self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 - `close` closes it
            self._writer = pa.ipc.new_stream(pa.PythonFile(self._file, mode="w"), self.schema)
        for batch in records.combine_chunks().to_batches():
            self._writer.write_batch(batch)


@dataclass(frozen=True)
class RejectedRows:
    """The records of a dispatch's rejected rows (see `Rejections`), and when and by whom they were rejected.

    `order` is the dispatch's among those of its model. `judged_by`: see `quarantine.judgement`; None if other
    dispatches must judge these rows again. `collected_at`: when the source was asked for the rows; None if
    that is not known.
    """

    records: pa.RecordBatchReader
    rows: int
    at: datetime
    artifact_sha256: str
    order: Order
    judged_by: str | None
    collected_at: datetime | None


def texts(values: pa.Array) -> pa.StringArray:
    """Each value as text of at most `VALUE_CHARS` characters; NULL stays."""
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    kind = values.type
    if kind_of(kind) in ("integer", "boolean", "null") or pa.types.is_decimal(kind):
        return values.cast(pa.string())
    if kind_of(kind) == "text":
        return pc.utf8_slice_codeunits(values.cast(pa.string()), 0, VALUE_CHARS)
    return pa.array([_text(value) for value in values.to_pylist()], pa.string())


def _text(value: Any) -> str | None:
    match value:
        case None:
            return None
        case float():
            text = repr(value)
        case date() | time():
            text = value.isoformat()
        case bytes():
            text = value[:VALUE_CHARS].hex()
        case uuid.UUID():
            text = str(value)
        case _:
            text = str(value)
    return text[:VALUE_CHARS]


def key_texts(rows: pa.RecordBatch, key: Sequence[str]) -> pa.StringArray:
    """One text for the key of each row: equal for equal keys, different for different ones.

    Made of the source's own values, so that no engine's types, collations or zones come between.
    """
    parts = []
    for name in key:
        values = rows.column(name)
        if isinstance(values, pa.DictionaryArray):
            values = values.dictionary_decode()
        if kind_of(values.type) in ("text", "integer") or pa.types.is_decimal(values.type):
            text = values.cast(pa.string())
        else:
            text = pa.array([_whole_text(value) for value in values.to_pylist()], pa.string())
        escaped = pc.replace_substring(pc.replace_substring(text, "\\", "\\\\"), "/", "\\/")
        parts.append(escaped)
    return parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, "/")


def _whole_text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat() if isinstance(value, date | time) else str(value)


def merged_reasons(parts: Iterable[Iterable[Reason]]) -> list[Reason]:
    """The reasons of several parts as those of the whole, the most frequent first."""
    counts: Counter[tuple[str | None, str]] = Counter()
    for part in parts:
        for column, reason, rows in part:
            counts[column, reason] += rows
    return [(column, reason, rows) for (column, reason), rows in counts.most_common()]


def format_reasons(reasons: Sequence[Reason], most: int = 3) -> str:
    """The most frequent reasons as text for people."""
    parts = [
        f"'{column}' {reason} ({count})" if column else f"{reason} ({count})"
        for column, reason, count in reasons[:most]
    ]
    return ", ".join(parts)
