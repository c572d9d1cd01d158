"""Every Arrow type that a dispatch may write, at its limits, as a value and as a key, on every way out.

databases/test_written_types.py proves each row against real engines; `python -m type_matrix` prints them into
docs/databases.md.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

# The ways out by engine, as docs/databases.md shows them.
WAYS_OUT: dict[str, tuple[str, ...]] = {
    "MariaDB and MySQL": ("odbc-mariadb", "mysql"),
    "PostgreSQL": ("odbc-postgres", "postgres"),
    "SQLite": ("odbc-sqlite", "sqlite"),
    "DuckDB": ("duckdb",),
}


@dataclass(frozen=True)
class WrittenType:
    """Values of one Arrow type; `refused` has, by way out, what the error says where they are not written."""

    arrow_type: pa.DataType
    values: Sequence[Any]
    refused: dict[str, str] = field(default_factory=dict)
    keys: Sequence[Any] | None = None  # where not all values are tried as keys

    def array(self, values: Sequence[Any]) -> pa.Array:
        if isinstance(self.arrow_type, pa.UuidType):
            texts = [None if value is None else uuid.UUID(value).bytes for value in values]
            return pa.ExtensionArray.from_storage(self.arrow_type, pa.array(texts, pa.binary(16)))
        return pa.array(values, self.arrow_type)

    @property
    def tried_as_keys(self) -> Sequence[Any]:
        return self.values if self.keys is None else self.keys


def _everywhere(words: str) -> dict[str, str]:
    return {way: words for ways in WAYS_OUT.values() for way in ways}


def _integers(arrow_type: pa.DataType) -> WrittenType:
    bits = arrow_type.bit_width
    if pa.types.is_unsigned_integer(arrow_type):
        return WrittenType(arrow_type, [2**bits - 1, 0])
    return WrittenType(arrow_type, [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 0])


_UUID = "123e4567-e89b-12d3-a456-426655440000"
_DOUBLES = (0.1, 1 / 3, 5e-324, 2.225073858507201e-308, 1.7976931348623157e308, -1.7976931348623157e308)
# Each would be taken for its neighbour by an engine that folds case, accents or blanks.
_TEXTS = (
    "a",
    "A",
    "a ",
    " a",
    "ä",
    "Ä",
    "a\u0308",
    "äöü",
    "😀",
    "😁",
    "",
    "%",
    "?",
    "\\",
    "'\"`",
    "1",
    "01",
    "\r\n",
)
# MySQL's collations take a text for the same with and without blanks at its end.
_KEY_TEXTS = tuple(text for text in _TEXTS if not text.endswith("a "))
_BYTES = (b"", b"\0\xff", b"a", b"A", b"a\0", b"a ")
_DAYS = (date(1, 1, 1), date(1969, 12, 31), date(2000, 2, 29), date(9999, 12, 31))
_MOMENTS = (
    datetime(1, 1, 1, 0, 0, 0, 1),
    datetime(1969, 12, 31, 23, 59, 59, 999999),
    datetime(2026, 1, 2, 3, 4, 5, 123456),
    datetime(9999, 12, 31, 23, 59, 59, 999999),
)
_SECONDS = tuple(moment.replace(microsecond=0) for moment in _MOMENTS)
_CLOCK = (time(), time(0, 0, 0, 1), time(23, 59, 59, 999999))
_FINER = "would lose data.*cast it in the query"
_BY_SQLITES_DRIVER = "'value' of type .* is changed by SQLite's ODBC driver: use a connection of type sqlite"
_NO_COLUMN = _everywhere("'value'.*has no column type for .*cast it in the query")

WRITTEN = [
    *map(_integers, (pa.int8(), pa.int16(), pa.int32(), pa.int64())),
    *map(_integers, (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())),
    WrittenType(pa.bool_(), [True, False]),
    WrittenType(pa.float16(), [1.5, -65504.0]),
    WrittenType(pa.float32(), [1.10000002384185791015625, 16777215.0, 1.401298464324817e-45]),
    WrittenType(pa.float64(), _DOUBLES),
    WrittenType(pa.decimal128(10, 2), [Decimal("-12345678.91"), Decimal("0.00")]),
    WrittenType(pa.decimal128(38, 0), [Decimal("9" * 38), Decimal("-" + "9" * 38)]),
    WrittenType(pa.decimal128(38, 38), [Decimal("0." + "9" * 38), Decimal("-0." + "0" * 37 + "1")]),
    WrittenType(
        pa.decimal256(50, 10),
        [Decimal("9" * 40 + ".0123456789")],
        {"duckdb": "'value'.*no decimal of 50 digits"},
        keys=[],
    ),
    WrittenType(pa.string(), [*_TEXTS, "é" * 2500], keys=[*_KEY_TEXTS, "😀" * 255]),
    WrittenType(
        pa.string(),
        ["a\0b"],
        dict.fromkeys(("odbc-postgres", "postgres"), "'value' holds a text with a NUL character in row 1"),
    ),
    WrittenType(pa.large_string(), ["a", "😀"]),
    WrittenType(pa.string_view(), ["a", "😀"]),
    WrittenType(pa.dictionary(pa.int32(), pa.string()), ["a", "😀", "A"]),
    WrittenType(pa.binary(), [*_BYTES, b"\xff" * 70_000], {"odbc-sqlite": _BY_SQLITES_DRIVER}, keys=_BYTES),
    WrittenType(pa.large_binary(), [b"\0\xff"], {"odbc-sqlite": _BY_SQLITES_DRIVER}),
    WrittenType(pa.binary(3), [b"\0\0\0", b"a \0"], {"odbc-sqlite": _BY_SQLITES_DRIVER}),
    WrittenType(pa.uuid(), [_UUID, "ffffffff-ffff-ffff-ffff-ffffffffffff"]),
    WrittenType(pa.date32(), _DAYS),
    WrittenType(pa.date64(), _DAYS),
    WrittenType(pa.date32(), [4_000_000], _everywhere("'value' holds a date outside the years 1 to 9999")),
    WrittenType(pa.time32("s"), [time(), time(23, 59, 59)]),
    WrittenType(pa.time32("ms"), [time(0, 0, 0, 1000), time(23, 59, 59, 999000)]),
    WrittenType(pa.time64("us"), _CLOCK),
    WrittenType(pa.time64("ns"), [1], _everywhere(_FINER)),
    WrittenType(pa.timestamp("s"), _SECONDS),
    WrittenType(pa.timestamp("ms"), _SECONDS),
    WrittenType(pa.timestamp("us"), _MOMENTS),
    WrittenType(pa.timestamp("ns"), [1], _everywhere(_FINER)),
    WrittenType(pa.timestamp("us", "UTC"), [moment.replace(tzinfo=UTC) for moment in _MOMENTS]),
    WrittenType(pa.timestamp("us", "Asia/Tokyo"), [_MOMENTS[2].replace(tzinfo=UTC)]),
    WrittenType(pa.duration("us"), [timedelta(1)], _NO_COLUMN),
    WrittenType(pa.month_day_nano_interval(), [pa.MonthDayNano([1, 2, 3])], _NO_COLUMN),
    WrittenType(pa.list_(pa.int64()), [[1]], _NO_COLUMN),
    WrittenType(pa.struct([("a", pa.int64())]), [{"a": 1}], _NO_COLUMN),
    WrittenType(pa.null(), [None], _NO_COLUMN),
]
