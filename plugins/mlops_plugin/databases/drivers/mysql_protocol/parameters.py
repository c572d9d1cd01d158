"""Parameters of prepared statements in the binary protocol: of one execution, and of many rows of Arrow.

The bytes of many rows are made column by column with numpy, then put between each other.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlops_plugin.databases.moments import holds_other_years, utc_naive

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]

_DOUBLE, _LONGLONG, _DATE, _TIME, _DATETIME, _DECIMAL, _BLOB, _TEXT = 5, 8, 10, 11, 12, 246, 252, 253
_UNSIGNED = 0x80
_TYPES_FOLLOW = b"\x01"
_SEND_TYPES = 128  # a flag of the bulk command
_WIDEST = 16  # bytes, of a value of fixed width
_DAY_SECONDS = 86_400
_MICROSECONDS = 1_000_000
# Up to this many bytes a value, texts are put byte by byte; longer ones are sliced one by one.
_SHORT_TEXT = 64
# Lengths below the first number take so many bytes, with the mark before them.
_HEADS = ((0xFB, 1, None), (2**16, 3, 0xFC), (2**24, 4, 0xFD), (2**63 - 1, 9, 0xFE))
_DAY_FORM = [("length", "u1"), ("year", "<u2"), ("month", "u1"), ("day", "u1")]
_CLOCK_FORM = [("hour", "u1"), ("minute", "u1"), ("second", "u1"), ("micro", "<u4")]
_DATE_FORM = np.dtype(_DAY_FORM)
_DATETIME_FORM = np.dtype(_DAY_FORM + _CLOCK_FORM)
_TIME_FORM = np.dtype([("length", "u1"), ("is_negative", "u1"), ("days", "<u4"), *_CLOCK_FORM])


@dataclass(frozen=True)
class EncodedRows:
    """Rows of parameters: `data[offsets[i]:offsets[i + 1]]` are the bytes of row i.

    `types` are two bytes a column; `is_null` has a row for each row, a column for each column.
    """

    types: bytes
    data: Bytes
    offsets: Numbers
    is_null: npt.NDArray[np.bool_]


def encode_rows(batch: pa.RecordBatch, *, says_null: bool) -> EncodedRows:
    """The rows of a batch as parameters.

    `says_null`: a byte before each value says whether it is NULL, as MariaDB's bulk command wants it.
    Raises `ValueError` for a type that has no form here.
    """
    cells = [_encode(column) for column in batch.columns]
    mark = int(says_null)
    fixed = [cell for cell in cells if isinstance(cell, _FixedCells) and not cell.is_null.any()]
    if len(fixed) == len(cells) and batch.num_rows:
        return _encode_even(fixed, batch.num_rows, mark)
    is_null = np.column_stack([cell.is_null for cell in cells])
    sizes = np.column_stack([cell.sizes for cell in cells]) + mark
    begins = np.zeros(sizes.size + 1, np.int64)
    np.cumsum(sizes.ravel(), out=begins[1:])
    data = np.zeros(int(begins[-1]) + _WIDEST, np.uint8)
    places = begins[:-1].reshape(sizes.shape)
    for number, cell in enumerate(cells):
        if says_null:
            data[places[:, number]] = is_null[:, number]
        there = ~cell.is_null
        cell.put(data, places[there, number] + mark)
    offsets = np.append(places[:, 0], begins[-1])
    return EncodedRows(b"".join(cell.kind for cell in cells), data[: begins[-1]], offsets, is_null)


def _encode_even(cells: Sequence[_FixedCells], rows: int, mark: int) -> EncodedRows:
    """Rows of values of fixed width without a NULL, which all have one size."""
    size = sum(mark + cell.values.itemsize for cell in cells)
    data = np.zeros(rows * size, np.uint8)
    begin = 0
    for cell in cells:
        begin += mark
        np.ndarray(rows, cell.values.dtype, data, begin, (size,))[:] = cell.values
        begin += cell.values.itemsize
    is_null = np.zeros((rows, len(cells)), np.bool_)
    return EncodedRows(b"".join(cell.kind for cell in cells), data, np.arange(rows + 1) * size, is_null)


def one_execution(rows: EncodedRows, first: int, behind: int) -> bytes:
    """The parameters of one execution whose marks take the rows from `first` to before `behind`."""
    is_null = np.packbits(rows.is_null[first:behind].ravel(), bitorder="little")
    types = rows.types * (behind - first)
    data = rows.data[rows.offsets[first] : rows.offsets[behind]]
    return b"".join((is_null.tobytes(), _TYPES_FOLLOW, types, data.tobytes()))


def many_executions(rows: EncodedRows, first: int, behind: int) -> bytes:
    """The parameters of a bulk command; `rows` were encoded with `says_null`."""
    data = rows.data[rows.offsets[first] : rows.offsets[behind]]
    return b"".join((struct.pack("<H", _SEND_TYPES), rows.types, data.tobytes()))


def encode_values(values: Sequence[object]) -> bytes:
    """The parameters of one execution, from Python's values. Raises `ValueError` for an unknown type.

    Not by Arrow: it would load pandas to look at a list.
    """
    if not values:
        return b""
    bits = sum(1 << place for place, value in enumerate(values) if value is None)
    encoded = [_encode_value(value) for value in values]
    return b"".join(
        (
            bits.to_bytes((len(values) + 7) // 8, "little"),
            _TYPES_FOLLOW,
            *(bytes(kind) for kind, _ in encoded),
            *(data for _, data in encoded),
        )
    )


def _encode_value(value: object) -> tuple[tuple[int, int], bytes]:
    """A value's type in two bytes, and its bytes; none for None."""
    match value:
        case None:
            return (_TEXT, 0), b""
        case int() if -(2**63) <= value < 2**63:  # booleans, too
            return (_LONGLONG, 0), struct.pack("<q", value)
        case int() | Decimal():
            return (_DECIMAL, 0), _with_length(str(value).encode())
        case float():
            return (_DOUBLE, 0), struct.pack("<d", value)
        case str() | UUID():
            return (_TEXT, 0), _with_length(str(value).encode())
        case bytes():
            return (_BLOB, 0), _with_length(value)
        case datetime():
            at = utc_naive(value)
            day = struct.pack("<BHBB", 11, at.year, at.month, at.day)
            return (_DATETIME, 0), day + _clock_bytes(at.time())
        case date():
            return (_DATE, 0), struct.pack("<BHBB", 4, value.year, value.month, value.day)
        case time():
            return (_TIME, 0), struct.pack("<BBI", 12, 0, 0) + _clock_bytes(value)
    raise ValueError(f"a value of type {type(value).__name__} has no form in a MySQL statement")


def _clock_bytes(clock: time) -> bytes:
    return struct.pack("<BBBI", clock.hour, clock.minute, clock.second, clock.microsecond)


def _with_length(data: bytes) -> bytes:
    size, mark = next((size, mark) for most, size, mark in _HEADS if len(data) < most)
    length = len(data).to_bytes(size if mark is None else size - 1, "little")
    return (b"" if mark is None else bytes((mark,))) + length + data


class _Cells(Protocol):
    """The values of one column, encoded. `sizes` are in bytes, 0 for a NULL."""

    kind: bytes
    is_null: npt.NDArray[np.bool_]
    sizes: Numbers

    def put(self, data: Bytes, places: Numbers) -> None:
        """Put the values that are not NULL where they belong, each at its place."""
        ...


class _FixedCells:
    def __init__(self, kind: int, values: npt.NDArray[Any], column: pa.Array, flags: int = 0) -> None:
        self.kind = bytes((kind, flags))
        self.is_null = _nulls(column)
        self.sizes = np.where(self.is_null, 0, values.itemsize)
        self.values = values

    def put(self, data: Bytes, places: Numbers) -> None:
        values = self.values[~self.is_null]
        # Every place of the data as a value, of which only the right ones are written.
        anywhere = np.ndarray((len(data) - values.itemsize + 1,), values.dtype, data, 0, (1,))
        anywhere[places] = values


class _TextCells:
    def __init__(self, kind: int, column: pa.Array) -> None:
        self.kind = bytes((kind, 0))
        self.is_null = _nulls(column)
        texts = column.cast(pa.large_binary())
        _, offsets, data = texts.buffers()
        self._offsets = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
        self._data = np.frombuffer(data or b"", np.uint8)
        self._lengths = np.diff(self._offsets)
        self._heads = np.select(
            [self._lengths < most for most, _, _ in _HEADS], [size for _, size, _ in _HEADS]
        )
        self.sizes = np.where(self.is_null, 0, self._heads + self._lengths)

    def put(self, data: Bytes, places: Numbers) -> None:
        lengths, heads = self._lengths[~self.is_null], self._heads[~self.is_null]
        for _, size, mark in _HEADS:
            of_size = heads == size
            if mark is None:
                data[places[of_size]] = lengths[of_size]
                continue
            data[places[of_size]] = mark
            for place in range(size - 1):
                data[places[of_size] + 1 + place] = lengths[of_size] >> 8 * place & 0xFF
        begins = self._offsets[:-1][~self.is_null]
        places = places + heads
        if int(lengths.sum()) > _SHORT_TEXT * len(lengths):
            for begin, length, place in zip(begins.tolist(), lengths.tolist(), places.tolist(), strict=True):
                data[place : place + length] = self._data[begin : begin + length]
            return
        within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        data[within + np.repeat(places, lengths)] = self._data[within + np.repeat(begins, lengths)]


def _encode(column: pa.Array) -> _Cells:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _encode(column.dictionary_decode())
    if pa.types.is_null(kind):
        return _FixedCells(_TEXT, np.zeros(len(column), np.uint8), column)
    if pa.types.is_boolean(kind) or pa.types.is_signed_integer(kind):
        return _FixedCells(_LONGLONG, _numbers(column, pa.int64()), column)
    if pa.types.is_unsigned_integer(kind):
        return _FixedCells(_LONGLONG, _numbers(column, pa.uint64()), column, _UNSIGNED)
    if pa.types.is_floating(kind):
        return _FixedCells(_DOUBLE, _numbers(column, pa.float64()), column)
    if pa.types.is_decimal(kind):
        return _TextCells(_DECIMAL, column.cast(pa.string()))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _TextCells(_TEXT, column)
    if pa.types.is_temporal(kind):
        return _encode_time(column)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return _TextCells(_BLOB, column)
    raise ValueError(f"values of type {kind} have no form in a MySQL statement")


def _encode_time(column: pa.Array) -> _Cells:
    if holds_other_years(column):
        raise ValueError("a date lies outside the years 1 to 9999")
    if pa.types.is_date(column.type):
        days = _days(_numbers(column, pa.date32()).astype(np.int64), _DATE_FORM)
        days["length"] = days.itemsize - 1
        return _FixedCells(_DATE, days, column)
    if pa.types.is_timestamp(column.type):
        micros = _numbers(column.cast(pa.timestamp("us", column.type.tz)), pa.int64())
        days, time = np.divmod(micros, _DAY_SECONDS * _MICROSECONDS)
        return _FixedCells(_DATETIME, _clock(_days(days, _DATETIME_FORM), time), column)
    if pa.types.is_time(column.type):
        micros = _numbers(column.cast(pa.time64("us")), pa.int64())
    else:
        micros = _numbers(column.cast(pa.duration("us")), pa.int64())
    days, time = np.divmod(np.abs(micros), _DAY_SECONDS * _MICROSECONDS)
    values = np.zeros(len(micros), _TIME_FORM)
    values["is_negative"] = micros < 0
    values["days"] = days
    return _FixedCells(_TIME, _clock(values, time), column)


def _days(days: Numbers, form: np.dtype[Any]) -> npt.NDArray[Any]:
    """A year, a month and a day for each number of days since 1970."""
    dates = days.astype("M8[D]")
    months = dates.astype("M8[M]")
    values = np.zeros(len(days), form)
    values["year"] = months.astype("M8[Y]").astype(np.int64) + 1970
    values["month"] = months.astype(np.int64) % 12 + 1
    values["day"] = (dates - months).astype(np.int64) + 1
    return values


def _clock(values: npt.NDArray[Any], micros: Numbers) -> npt.NDArray[Any]:
    seconds, values["micro"] = np.divmod(micros, _MICROSECONDS)
    minutes, values["second"] = np.divmod(seconds, 60)
    values["hour"], values["minute"] = np.divmod(minutes, 60)
    values["length"] = values.itemsize - 1
    return values


def _numbers(column: pa.Array, kind: pa.DataType) -> npt.NDArray[Any]:
    """The numbers in a column, with 0 for a NULL."""
    if pa.types.is_temporal(column.type) and not pa.types.is_temporal(kind):
        column = column.view(kind)
    elif column.type != kind:
        column = column.cast(kind)
    if pa.types.is_temporal(kind):
        column = column.view(pa.int32())
    # By its buffer: Arrow's own ways to fill NULLs load pandas.
    numbers = _buffer(column, column.type.to_pandas_dtype())
    if not column.null_count:
        return numbers
    return np.where(_nulls(column), 0, numbers).astype(numbers.dtype)


def _nulls(column: pa.Array) -> npt.NDArray[np.bool_]:
    if not column.null_count:
        return np.zeros(len(column), np.bool_)
    return _buffer(column.is_null().cast(pa.uint8()), np.uint8).view(np.bool_)


def _buffer(column: pa.Array, dtype: Any) -> npt.NDArray[Any]:
    """The numbers of a column as they lie in memory; what a NULL has there means nothing."""
    return np.frombuffer(column.buffers()[1] or b"", dtype)[column.offset : column.offset + len(column)]
