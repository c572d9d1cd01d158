"""Arrow arrays from the rows of a binary result: column by column, with numpy, without an object per value.

A row is a zero byte, a bit per column that says whether its value is NULL, and the values that are not, one
behind the other: numbers at their own width, texts behind their length, dates and times behind one byte that
says how much of them follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlops_plugin.databases.drivers.mysql_protocol.statements import Rows

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_FIRST_NULL_BIT = 2
# The lengths of longer values follow one of these bytes, in so many bytes.
_LONGER = {0xFC: 2, 0xFD: 3, 0xFE: 8}
# Up to this many bytes a value, texts are gathered byte by byte; longer ones are sliced one by one.
_SHORT_TEXT = 64
_DAY_SECONDS = 86_400
_MICROSECONDS = 1_000_000


class Cells:
    """The values of one column in some rows: where each begins, and which are NULL."""

    def __init__(self, buffer: Bytes, at: Numbers, is_null: Flags) -> None:
        self.buffer = buffer
        self.at = at
        self.is_null = is_null
        self._has_null = bool(is_null.any())

    def __len__(self) -> int:
        return len(self.at)

    def numbers(self, kind: npt.DTypeLike, offset: int = 0) -> npt.NDArray[Any]:
        """A number of each value; `kind` is numpy's, e.g. `<i4`. What a NULL gives means nothing."""
        dtype = np.dtype(kind)
        # Every place of the buffer as a number, of which only the right ones are looked at.
        anywhere = np.ndarray((len(self.buffer) - dtype.itemsize + 1,), dtype, self.buffer, 0, (1,))
        return anywhere[np.minimum(self.at + offset, len(anywhere) - 1)]

    def skip(self, sizes: Numbers | int) -> Numbers:
        """Where the values behind these begin, if these take so many bytes."""
        return self.at + (np.where(self.is_null, 0, sizes) if self._has_null else sizes)

    def validity(self) -> pa.Buffer | None:
        """Arrow's bits of what is not NULL; none if nothing is."""
        if not self._has_null:
            return None
        return pa.py_buffer(np.packbits(~self.is_null, bitorder="little"))


class Kind(Protocol):
    """How the values of a column are read: as an Arrow array, and where the next column's begin."""

    def read(self, cells: Cells) -> tuple[pa.Array, Numbers]: ...


class Number:
    """Numbers of a fixed width."""

    def __init__(self, dtype: str, arrow_type: pa.DataType) -> None:
        self.dtype = np.dtype(dtype)
        self._type = arrow_type

    def read(self, cells: Cells) -> tuple[pa.Array, Numbers]:
        array = self.array(cells.numbers(self.dtype), cells.validity())
        return array, cells.skip(self.dtype.itemsize)

    def array(self, values: npt.NDArray[Any], validity: pa.Buffer | None = None) -> pa.Array:
        """A copy of these values, which may lie apart in memory."""
        data = pa.py_buffer(np.array(values, self._type.to_pandas_dtype(), order="C"))
        return pa.Array.from_buffers(self._type, len(values), [validity, data])


class Text:
    """Texts, bytes, and everything that is sent as a text."""

    def __init__(self, arrow_type: pa.DataType) -> None:
        self._type = arrow_type

    def read(self, cells: Cells) -> tuple[pa.Array, Numbers]:
        begin, sizes = _lengths(cells)
        offsets = np.zeros(len(cells) + 1, np.int64)
        np.cumsum(sizes, out=offsets[1:])
        data = _gather(cells.buffer, begin, sizes, offsets)
        buffers = [cells.validity(), pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data)]
        array = pa.Array.from_buffers(self._type, len(cells), buffers)
        array.validate(full=True)  # that texts are UTF-8
        return array, np.where(cells.is_null, cells.at, begin + sizes)


class Bits:
    """BIT: up to eight bytes, the highest first."""

    def read(self, cells: Cells) -> tuple[pa.Array, Numbers]:
        begin, sizes = _lengths(cells)
        values = np.zeros(len(cells), np.uint64)
        of_bytes = Cells(cells.buffer, begin, cells.is_null)
        for place in range(int(sizes.max(initial=0))):
            more = place < sizes
            values[more] = values[more] << np.uint64(8) | of_bytes.numbers("u1", place)[more]
        data = [cells.validity(), pa.py_buffer(values)]
        return pa.Array.from_buffers(pa.uint64(), len(cells), data), np.where(
            cells.is_null, cells.at, begin + sizes
        )


class NotADate(ValueError):
    """A value of a date's type that is no date, e.g. one of zeros."""


class Moment:
    """DATE, DATETIME and TIMESTAMP: a year, a month and a day, and a time of day if it is not midnight."""

    def __init__(self, arrow_type: pa.DataType) -> None:
        self._type = arrow_type

    def read(self, cells: Cells) -> tuple[pa.Array, Numbers]:
        sizes = cells.numbers("u1").astype(np.int64)
        sizes[cells.is_null] = 0
        year, month, day = (cells.numbers(kind, at) for kind, at in (("<u2", 1), ("u1", 3), ("u1", 4)))
        months = (year.astype(np.int64) - 1970) * 12 + np.maximum(month, 1) - 1
        first, behind = (_first_day(months + more) for more in (0, 1))
        is_date = (sizes >= 4) & (month > 0) & (day > 0) & (day <= behind - first)
        if not (is_date | cells.is_null).all():
            row = int(np.argmin(is_date | cells.is_null))
            found = (year[row], month[row], day[row]) if sizes[row] else (0, 0, 0)
            raise NotADate("{:04}-{:02}-{:02}".format(*found))
        days = first + day - 1
        after = cells.skip(1 + sizes)
        if pa.types.is_date(self._type):
            data = pa.py_buffer(days.astype(np.int32))
        else:
            seconds = days * _DAY_SECONDS + _time_of_day(cells, 5, has_time=sizes >= 7)
            data = pa.py_buffer(seconds * _MICROSECONDS + _fraction(cells, 8, is_there=sizes >= 11))
        return pa.Array.from_buffers(self._type, len(cells), [cells.validity(), data]), after


class Span:
    """TIME: a sign, days, and a time of day."""

    def read(self, cells: Cells) -> tuple[pa.Array, Numbers]:
        sizes = cells.numbers("u1").astype(np.int64)
        sizes[cells.is_null] = 0
        has_time = sizes >= 8
        days = np.where(has_time, cells.numbers("<u4", 2), 0).astype(np.int64)
        seconds = days * _DAY_SECONDS + _time_of_day(cells, 6, has_time=has_time)
        length = seconds * _MICROSECONDS + _fraction(cells, 9, is_there=sizes >= 12)
        is_negative = has_time & (cells.numbers("u1", 1) == 1)
        data = pa.py_buffer(np.where(is_negative, -length, length))
        array = pa.Array.from_buffers(pa.duration("us"), len(cells), [cells.validity(), data])
        return array, cells.skip(1 + sizes)


class Nothing:
    """A column of NULLs only."""

    def read(self, cells: Cells) -> tuple[pa.Array, Numbers]:
        return pa.nulls(len(cells)), cells.at


def read_columns(rows: Rows, kinds: Sequence[Kind]) -> Iterator[pa.Array]:
    """The columns of some rows, in order. Raises what their kinds raise."""
    begin = 1 + (len(kinds) + _FIRST_NULL_BIT + 7) // 8
    distance = _distance(rows, begin)
    numbers = [] if distance is None else [*takewhile(_is_number, kinds)]
    for kind in numbers:
        assert isinstance(kind, Number) and distance  # noqa: S101, PT018 -- for mypy
        place = int(rows.starts[0]) + begin
        yield kind.array(np.ndarray(len(rows.starts), kind.dtype, rows.buffer, place, (distance,)))
        begin += kind.dtype.itemsize
    if len(numbers) == len(kinds):
        return
    are_null, at = _nulls(rows, len(kinds)), rows.starts + begin
    for number, kind in enumerate(kinds[len(numbers) :], len(numbers)):
        array, at = kind.read(Cells(rows.buffer, at, are_null[number]))
        yield array


def _is_number(kind: Kind) -> bool:
    return isinstance(kind, Number)


def _distance(rows: Rows, begin: int) -> int | None:
    """How far apart rows lie that have no NULL, if that is the same for all.

    Then so are their first values, up to one whose size may differ. Those begin at `begin` of each row.
    """
    distances = np.diff(rows.starts)
    if not len(distances) or (distances != distances[0]).any():
        return None
    distance, place = int(distances[0]), int(rows.starts[0]) + 1
    nulls = np.ndarray((len(rows.starts), begin - 1), np.uint8, rows.buffer, place, (distance, 1))
    return None if nulls.any() else distance


def _nulls(rows: Rows, columns: int) -> Flags:
    """Which values are NULL, by column and row."""
    bitmap_bytes = (columns + _FIRST_NULL_BIT + 7) // 8
    bits = rows.buffer[rows.starts[:, None] + 1 + np.arange(bitmap_bytes)]
    by_row = np.unpackbits(bits, axis=1, bitorder="little")[:, _FIRST_NULL_BIT:]
    return np.ascontiguousarray(by_row.T).view(np.bool_)


def _lengths(cells: Cells) -> tuple[Numbers, Numbers]:
    """Where each text begins and how many bytes it has; a NULL has none."""
    sizes = cells.numbers("u1").astype(np.int64)
    begin = cells.at + 1
    sizes[cells.is_null] = 0
    if sizes.max(initial=0) >= min(_LONGER):
        for mark, width in _LONGER.items():
            longer = np.flatnonzero(sizes == mark)
            if len(longer):
                few = Cells(cells.buffer, begin[longer], cells.is_null[longer])
                mask = (1 << 8 * width) - 1
                begin[longer] += width
                # Not looked at again: no value has the length of a mark after this.
                sizes[longer] = -(few.numbers("<u8") & np.uint64(mask)).astype(np.int64)
        sizes = np.abs(sizes)
    return begin, sizes


def _gather(buffer: Bytes, begin: Numbers, sizes: Numbers, offsets: Numbers) -> Bytes:
    total = int(offsets[-1])
    if total > _SHORT_TEXT * len(sizes):
        ends = (begin + sizes).tolist()
        view = buffer.data
        parts = [view[start:end] for start, end in zip(begin.tolist(), ends, strict=True)]
        return np.frombuffer(b"".join(parts), np.uint8)
    return buffer[np.arange(total) + np.repeat(begin - offsets[:-1], sizes)]


def _first_day(months: Numbers) -> Numbers:
    """The days since 1970 of the first of each month; months are counted from January 1970 too."""
    return months.astype("M8[M]").astype("M8[D]").astype(np.int64)


def _time_of_day(cells: Cells, at: int, *, has_time: Flags) -> Numbers:
    hours, minutes, seconds = (cells.numbers("u1", at + place).astype(np.int64) for place in range(3))
    return np.where(has_time, hours * 3600 + minutes * 60 + seconds, 0)


def _fraction(cells: Cells, at: int, *, is_there: Flags) -> Numbers:
    return np.where(is_there, cells.numbers("<u4", at), 0).astype(np.int64)
