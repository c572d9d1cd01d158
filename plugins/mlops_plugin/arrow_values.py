"""Arrow values of Python's and NumPy's, and back, by their bytes: drivers, formats and the pipeline use it.

`pa.array`, `pa.scalar` and `to_numpy` import pandas first, to recognize its values. A task that has none is
0.4 s of the processor shorter without.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Sequence
from datetime import datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_PLAIN: dict[pa.DataType, type] = {pa.int64(): int, pa.float64(): float, pa.bool_(): bool}
_CLOCK, _SPAN = pa.time64("us"), pa.duration("us")
_WRITTEN_TIME = re.compile(r"([01]\d|2[0-3]):\d\d(:\d\d(\.\d{1,6})?)?", re.ASCII)  # not 24:00
_WRITTEN_DECIMAL = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d{1,3})?", re.ASCII | re.IGNORECASE)
# As PostgreSQL writes an interval without months, and MySQL and people write a TIME: '1 day -02:00:00'.
_WRITTEN_SPAN = re.compile(
    r"(?=.)(?:([-+]?\d{1,9}) days?(?: |$))?(?:([-+]?)(\d{1,9}):(\d\d):(\d\d)(?:\.(\d{1,6}))?)?", re.ASCII
)
_INT64 = range(-(2**63), 2**63)
_MOST_TEXT = 2**31 - 1  # bytes of one array of texts
MOST_EXACT = 2**53  # of whole numbers, up to which doubles have all of them
_MOST_ZEROS = 22  # of powers of ten, up to which each is a double
_DECIMAL_BITS = 128
# Metadata of a field of doubles that are integers in the source: some clients make Python's of them.
INTEGERS = {b"mlops_holds": b"integers"}
# Of a field of texts that its engine may sort by another order than the one it compares them in: an ENUM.
LABELS = {b"mlops_holds": b"labels"}
_WRITTEN_INSTANT = re.compile(r"timestamp\[(s|ms|us|ns), tz=(.+)\]")
_WRITTEN_DECIMAL_TYPE = re.compile(r"decimal128\((\d+), (-?\d+)\)")
_PLAIN_DTYPES: dict[str, tuple[Callable[[pa.DataType], bool], ...]] = {
    "int64": (pa.types.is_integer,),
    "float64": (pa.types.is_floating,),
    "bool": (pa.types.is_boolean,),
    "str": (pa.types.is_string, pa.types.is_large_string),
    "datetime64[us]": (pa.types.is_timestamp,),
    "timedelta64[us]": (pa.types.is_duration,),
    "date": (pa.types.is_date,),
    "time": (pa.types.is_time,),
    "decimal": (pa.types.is_decimal128,),
    "bytes": (pa.types.is_binary, pa.types.is_large_binary),
}


def holds_integers(field: pa.Field) -> bool:
    """Whether the doubles of a field of a query are integers in its database."""
    return INTEGERS.items() <= (field.metadata or {}).items()


def holds_labels(field: pa.Field) -> bool:
    """Whether the texts of a field of a query may be the members of an ENUM."""
    return LABELS.items() <= (field.metadata or {}).items()


def array_of_numbers(numbers: np.ndarray[Any, Any]) -> pa.Array:
    """The entries of an array of numbers or booleans in one dimension; NaN stays NaN."""
    if numbers.dtype.kind not in "biuf" or numbers.ndim != 1:
        return pa.array(numbers)
    plain = np.ascontiguousarray(numbers)
    if not plain.dtype.isnative:
        plain = plain.astype(plain.dtype.newbyteorder("="))
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


def as_doubles(column: pa.Array) -> pa.DoubleArray:
    """A column of numbers as doubles; decimals and large integers become those that are nearest to them.

    Arrow multiplies a decimal by a power of 0.1, which is no double itself: 0.57 becomes 0.5700000000000001,
    and so does one of eight numbers with two digits behind the point. Python divides, and so do databases.
    """
    if not pa.types.is_decimal(column.type):
        return column.cast(pa.float64(), safe=False)
    scale = column.type.scale
    if column.type.bit_width != _DECIMAL_BITS or abs(scale) > _MOST_ZEROS:
        values = [None if value is None else float(value) for value in column.to_pylist()]
        return array_of(values, pa.float64())
    words = np.frombuffer(column.buffers()[1] or b"", np.int64).reshape(-1, 2)
    low, high = words[column.offset : column.offset + len(column)].T
    power = 10.0 ** abs(scale)
    doubles = low / power if scale >= 0 else low * power
    is_exact = (high == low >> 63) & (low >= -MOST_EXACT) & (low <= MOST_EXACT)
    is_null = booleans_of(column.is_null()) if column.null_count else np.zeros(len(column), bool)
    for place in np.flatnonzero(~is_exact & ~is_null).tolist():
        doubles[place] = float(column[place].as_py())
    found = array_of_numbers(doubles)
    return pc.if_else(column.is_valid(), found, None) if column.null_count else found


def integers_of(column: pa.IntegerArray) -> np.ndarray[Any, np.dtype[np.integer[Any]]]:
    """The numbers of a column of integers without NULL: its own memory, which is read-only."""
    numbers = np.frombuffer(column.buffers()[1] or b"", column.type.to_pandas_dtype())
    return numbers[column.offset : column.offset + len(column)]


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
    if kind is int:
        return pa.array([Decimal(str(value))])  # of more than 64 bits
    return pa.array([value])


def type_named(text: str) -> pa.DataType:
    """The Arrow type that `str` shows so; raises `ValueError` for one that is nested, or unknown."""
    if zoned := _WRITTEN_INSTANT.fullmatch(text):
        return pa.timestamp(*zoned.groups())
    if digits := _WRITTEN_DECIMAL_TYPE.fullmatch(text):
        return pa.decimal128(*map(int, digits.groups()))
    return pa.type_for_alias(text)


def plain_dtype(kind: pa.DataType) -> str:
    """What pandas calls values of an Arrow type that Arrow does not hold, '' if it does not know them."""
    for dtype, tests in _PLAIN_DTYPES.items():
        if any(test(kind) for test in tests):
            return dtype
    return ""


def as_type(column: pa.Array, wanted: pa.DataType) -> pa.Array:
    """The column in another type of plain values.

    Doubles are rounded to it, numbers of 0 and 1 are booleans, and texts are times, dates and decimals.
    Raises `ValueError` or one of Arrow's errors for a value that the type cannot express.
    """
    match plain_dtype(wanted):
        case "int64":
            require_digits(column)
        case "float64":
            return _rounded(as_doubles(column), wanted)
        case "bool":
            return as_booleans(column)
        case "datetime64[us]":
            return as_instants(column, wanted)
        case "timedelta64[us]":
            column = as_spans(column)
        case "date":
            column = as_dates(column)
        case "time" if not pa.types.is_time(column.type):
            column = as_clock_times(column)
        case "decimal":
            return pa.array(as_decimals(column), wanted)
    return column.cast(wanted)


def _rounded(doubles: pa.DoubleArray, wanted: pa.DataType) -> pa.Array:
    """Doubles in as many bits or fewer; raises `ValueError` for one that would become infinite there."""
    rounded = doubles.cast(wanted, safe=False)
    is_beyond = pc.and_(pc.is_inf(rounded), pc.is_finite(doubles))
    if pc.any(is_beyond, min_count=0).as_py():
        raise ValueError(f"{doubles.filter(is_beyond)[0].as_py():g} would become infinite")
    return rounded


def require_digits(column: pa.Array) -> None:
    """Raise `ValueError` if a double is no longer the whole number that it was made of."""
    if pa.types.is_floating(column.type) and len(column) > column.null_count:
        most = max(abs(bound) for bound in pc.min_max(column).as_py().values())
        if most > MOST_EXACT and math.isfinite(most):
            raise ValueError(f"a double beyond 2^53, which has lost the last digits of {most:.0f}")


def as_booleans(column: pa.Array) -> pa.Array:
    """Truth values; MySQL and SQLite keep them as 0 and 1. Raises `ValueError` for another number."""
    if pa.types.is_boolean(column.type) or pa.types.is_null(column.type):
        return column.cast(pa.bool_())
    numbers = column.cast(pa.int64())
    if not pc.all(pc.is_in(numbers.drop_null(), value_set=pa.array([0, 1])), min_count=0).as_py():
        raise ValueError("a number that is neither 0 nor 1")
    return numbers.cast(pa.bool_())


def as_dates(column: pa.Array) -> pa.Array:
    """Dates; raises `ValueError` for a time that is no midnight."""
    if pa.types.is_date(column.type):
        return column
    dates = column.cast(pa.date32())
    if pa.types.is_timestamp(column.type) and not dates.cast(column.type).equals(column):
        raise ValueError("a time of day besides the date")
    return dates


def as_instants(column: pa.Array, wanted: pa.TimestampType) -> pa.Array:
    """Times, also of dates and texts; raises `ValueError` if one of both types has a time zone."""
    found = getattr(column.type, "tz", None)
    if pa.types.is_timestamp(column.type) and (found is None) != (wanted.tz is None):
        has, wants = ("a", "none") if found else ("no", "one")
        raise ValueError(f"the column has {has} time zone, but in training it had {wants}")
    if pa.types.is_string(column.type):
        column = column.cast(pa.timestamp("us", wanted.tz))
    return column.cast(wanted)


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
    """Durations of times of day, since midnight, or of what databases give for spans: intervals, and texts.

    Raises `ValueError` for a span with months, which are of no one length, and for a text that is no span.
    """
    if pa.types.is_duration(column.type):
        return column
    if pa.types.is_interval(column.type):
        return pa.array([None if span is None else _span_of(span) for span in column.to_pylist()], _SPAN)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        spans = [None if text is None else _written_span(text) for text in column.to_pylist()]
        return pa.array(spans, _SPAN)
    return column.cast(_CLOCK).cast(pa.int64()).cast(_SPAN)


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


def _span_of(span: pa.MonthDayNano) -> timedelta:
    if span.months:
        raise ValueError("a span with months, which have no fixed length; select their days instead")
    return timedelta(days=span.days, microseconds=span.nanoseconds // 1000)


def _written_span(text: str) -> timedelta:
    written = _WRITTEN_SPAN.fullmatch(text)
    if written is None:
        raise ValueError(f"{text!r} is no span as in '1 day 02:30:00'; months and years have no fixed length")
    days, sign, hours, minutes, seconds, fraction = written.groups("0")
    clock = timedelta(
        hours=int(hours), minutes=int(minutes), seconds=int(seconds), microseconds=int(f"{fraction:0<6}")
    )
    return timedelta(days=int(days)) + (-clock if sign == "-" else clock)


def _time_of(text: str) -> time:
    if not _WRITTEN_TIME.fullmatch(text):
        raise ValueError(f"{text!r} is no time of a day as in '09:30:00'")
    return time.fromisoformat(text)
