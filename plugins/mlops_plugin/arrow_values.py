"""Arrow values of Python's and NumPy's, and back, by their bytes: drivers, formats and the pipeline use it.

`pa.array`, `pa.scalar` and `to_numpy` import pandas first, to recognize its values. A task that has none is
0.4 s of the processor shorter without.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from datetime import datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_PLAIN: dict[pa.DataType, type] = {pa.int64(): int, pa.float64(): float, pa.bool_(): bool}
_CLOCK = pa.time64("us")
_WRITTEN_TIME = re.compile(r"([01]\d|2[0-3]):\d\d(:\d\d(\.\d{1,6})?)?", re.ASCII)  # not 24:00
_WRITTEN_DECIMAL = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d{1,3})?", re.ASCII | re.IGNORECASE)
_INT64 = range(-(2**63), 2**63)
_MOST_TEXT = 2**31 - 1  # bytes of one array of texts


def array_of_numbers(numbers: np.ndarray[Any, Any]) -> pa.Array:
    """The entries of an array of numbers or booleans in one dimension; NaN stays NaN."""
    if numbers.dtype.kind not in "biuf" or numbers.ndim != 1:
        return pa.array(numbers)
    plain = np.ascontiguousarray(numbers, numbers.dtype.newbyteorder("="))
    kind = pa.from_numpy_dtype(plain.dtype)
    stored = np.packbits(plain, bitorder="little") if plain.dtype.kind == "b" else plain
    return pa.Array.from_buffers(kind, len(plain), [None, pa.py_buffer(stored)])


def array_of_texts(texts: Sequence[str | None]) -> pa.StringArray:
    """Texts, or NULL for None."""
    encoded = [b"" if text is None else text.encode() for text in texts]
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    if offsets[-1] > _MOST_TEXT:
        return pa.array(texts, pa.string())
    is_there = None
    if None in texts:
        bits = np.packbits([text is not None for text in texts], bitorder="little")
        is_there = pa.py_buffer(bits)
    content = pa.py_buffer(b"".join(encoded))
    return pa.StringArray.from_buffers(
        len(encoded), pa.py_buffer(offsets.astype(np.int32)), content, is_there
    )


def array_of(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """`pa.array`, without pandas for texts, integers of 64 bits, doubles and booleans; None is NULL."""
    dtype = _PLAIN.get(kind)
    if kind == pa.string() and all(value is None or type(value) is str for value in values):
        return array_of_texts(values)
    if dtype is None or not all(value is None or type(value) is dtype for value in values):
        return pa.array(values, kind)
    if dtype is int and not all(value is None or value in _INT64 for value in values):
        return pa.array(values, kind)
    numbers = array_of_numbers(np.array([dtype() if value is None else value for value in values], dtype))
    if None not in values:
        return numbers
    is_there = np.packbits([value is not None for value in values], bitorder="little")
    return pa.Array.from_buffers(kind, len(values), [pa.py_buffer(is_there), numbers.buffers()[1]])


def doubles_of(column: pa.DoubleArray) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The numbers of a column of doubles, NaN for NULL; without NULL its own memory, which is read-only."""
    offset = column.offset
    numbers = np.frombuffer(column.buffers()[1] or b"", np.float64)[offset : offset + len(column)]
    if not column.null_count:
        return numbers
    return np.where(booleans_of(column.is_null()), np.nan, numbers)


def booleans_of(column: pa.BooleanArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """The values of a column of booleans without NULL."""
    bits = np.frombuffer(column.buffers()[1] or b"", np.uint8)
    behind = column.offset + len(column)
    return np.unpackbits(bits, count=behind, bitorder="little")[column.offset :].astype(np.bool_)


def text_scalar(text: str) -> pa.Scalar:
    return array_of_texts([text])[0]


def time_scalar(value: datetime, kind: pa.DataType) -> pa.Scalar:
    """An aware time; `kind` counts microseconds."""
    number = struct.pack("=q", (value - _EPOCH) // timedelta(microseconds=1))
    return pa.Array.from_buffers(kind, 1, [None, pa.py_buffer(number)])[0]


def row_of(values: Sequence[object]) -> pa.RecordBatch:
    """A batch of one row, its columns named by their places; types as `pa.array` finds them."""
    names = [str(place) for place in range(len(values))]
    return pa.RecordBatch.from_arrays([_array_of_one(value) for value in values], names=names)


def _array_of_one(value: object) -> pa.Array:
    kind = type(value)  # not a class of it: an enumeration, NumPy's float
    if value is None:
        return pa.nulls(1)
    if kind is str:
        return array_of_texts([str(value)])
    if kind is bool or kind is float or (kind is int and value in _INT64):
        return array_of_numbers(np.array([value]))
    return pa.array([value])


def as_clock_times(column: pa.Array) -> pa.Array:
    """time64[us] of times of day, or of what databases give for them.

    MySQL's TIME is a span over its own protocol, and SQLite has texts. Raises `ValueError` for a value that
    is no time of a day.
    """
    if pa.types.is_duration(column.type):
        spans = column.cast(pa.duration("us")).to_pylist()
        return pa.array([None if span is None else _time_after_midnight(span) for span in spans], _CLOCK)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return pa.array([None if text is None else _time_of(text) for text in column.to_pylist()], _CLOCK)
    return column.cast(_CLOCK)


def as_spans(column: pa.Array) -> pa.Array:
    """duration[us] since midnight of times of day."""
    return column.cast(_CLOCK).cast(pa.int64()).cast(pa.duration("us"))


def as_decimals(column: pa.Array) -> list[Decimal | None]:
    """The decimals of a column of decimals, whole numbers, or texts of digits, each with its own digits.

    Doubles are none: the digits of a decimal are not those of the double next to it, and Arrow would round
    them to whole numbers. Raises `ValueError` for a text that is no number.
    """
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return [None if text is None else _decimal_of(text) for text in column.to_pylist()]
    if pa.types.is_integer(column.type) or pa.types.is_null(column.type):
        return [None if number is None else Decimal(number) for number in column.to_pylist()]
    if not pa.types.is_decimal(column.type):
        raise ValueError(f"a {column.type} is no decimal")
    decimals: list[Decimal | None] = column.to_pylist()
    return decimals


def _decimal_of(text: str) -> Decimal:
    if not _WRITTEN_DECIMAL.fullmatch(text):
        raise ValueError(f"{text!r} is no decimal as in '1.50'")
    return Decimal(text)


def _time_after_midnight(span: timedelta) -> time:
    if not timedelta(0) <= span < timedelta(days=1):
        raise ValueError(f"{span} is no time of a day; leave such rows out in the query")
    return (_EPOCH + span).time()


def _time_of(text: str) -> time:
    if not _WRITTEN_TIME.fullmatch(text):
        raise ValueError(f"{text!r} is no time of a day as in '09:30:00'")
    return time.fromisoformat(text)
