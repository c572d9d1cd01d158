"""Every Arrow type on every way out: a value is stored as it is or refused by name; a key finds its row."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa
import pytest

from mlops_plugin.errors import MlopsError
from support.sinks import Mode, predictions
from support.ways_in import WayIn
from support.written_types import WAYS_OUT, WRITTEN, WrittenType

_MANY_DIGITS = Context(prec=60)
_NAMES = [name for names in WAYS_OUT.values() for name in names]
_REFUSED = [
    pytest.param(name, number, row, id=f"{name}-{row.arrow_type}-{number}")
    for name in _NAMES
    for number, row in enumerate(WRITTEN)
    if name in row.refused
]
_KEYS = [
    pytest.param(name, number, row, id=f"{name}-{row.arrow_type}-{number}")
    for name in _NAMES
    for number, row in enumerate(WRITTEN)
    if name not in row.refused and row.tried_as_keys
]


@pytest.mark.parametrize("name", _NAMES)
def test_values_of_every_type_are_stored_as_they_are(
    name: str, mode: Mode, way_named: Callable[[str], WayIn]
) -> None:
    """All types side by side in one table, each with NULLs."""
    way, table = way_named(name), f"v_{mode}"
    columns = {f"v{number}": row for number, row in enumerate(WRITTEN) if name not in row.refused}
    count = max(len(row.values) for row in columns.values()) + 1
    padded = {column: [*row.values, *[None] * (count - len(row.values))] for column, row in columns.items()}
    arrays = {column: row.array(padded[column]) for column, row in columns.items()}
    for _ in range(2):
        assert way.write(predictions(range(count), **arrays), mode, table=table) == count
    shown = ", ".join(_shown(way, column, row) for column, row in columns.items())
    rows = way.rows(f"SELECT {shown} FROM {table} ORDER BY id")
    for (column, row), stored in zip(columns.items(), zip(*rows, strict=True), strict=True):
        expected = [_comparable(value) for value in padded[column]]
        assert [_as_written(value, row) for value in stored] == expected, row.arrow_type


@pytest.mark.parametrize(("name", "number", "row"), _REFUSED)
def test_a_type_that_is_not_written_is_refused_by_name(
    name: str, number: int, row: WrittenType, way_named: Callable[[str], WayIn]
) -> None:
    way = way_named(name)
    rows = predictions(range(len(row.values)), value=row.array(row.values))
    for key in ("id", "value"):
        with pytest.raises(MlopsError, match=row.refused[name]):
            way.write(rows, "upsert", table=f"r{number}_{key}", key=(key,))


@pytest.mark.parametrize(("name", "number", "row"), _KEYS)
def test_a_second_dispatch_with_a_key_updates_exactly_that_row(
    name: str, number: int, row: WrittenType, way_named: Callable[[str], WayIn]
) -> None:
    way, table, keys = way_named(name), f"k{number}", list(row.tried_as_keys)
    for dispatch, of_it in (("d1", keys), ("d2", keys[:1])):
        rows = predictions(range(len(of_it)), dispatch=dispatch, key=row.array(of_it)).drop_columns(["id"])
        way.write(rows, "upsert", dispatch=dispatch, table=table, key=("key",))
    found = way.rows(f"SELECT dispatch_id, {_shown(way, _quoted(way, 'key'), row)} FROM {table}")
    expected = [("d2", keys[0]), *[("d1", key) for key in keys[1:]]]
    assert _sorted((dispatch, _as_written(key, row)) for dispatch, key in found) == _sorted(
        (dispatch, _comparable(key)) for dispatch, key in expected
    )


# Of one type each, alike in all but one column of any two keys.
_COMPOUND = {
    "number": WrittenType(pa.int64(), [-(2**63), 2**63 - 1]),
    "word": WrittenType(pa.string(), ["a", "A", "😀", ""]),
    "amount": WrittenType(pa.decimal128(20, 4), [Decimal("0.0001"), Decimal("-0.0001")]),
    "day": WrittenType(pa.date32(), [date(1, 1, 1), date(9999, 12, 31)]),
    "moment": WrittenType(
        pa.timestamp("us"), [datetime(2026, 1, 2, 3, 4, 5, 6), datetime(2026, 1, 2, 3, 4, 5, 7)]
    ),
    "at": WrittenType(
        pa.timestamp("us", "UTC"),
        [datetime(2026, 1, 2, 3, 4, 5, 6, UTC), datetime(1969, 1, 2, 3, 4, 5, 7, UTC)],
    ),
    "clock": WrittenType(pa.time64("us"), [time(0, 0, 0, 1), time(0, 0, 0, 2)]),
    "flag": WrittenType(pa.bool_(), [True, False]),
}


@pytest.mark.parametrize("name", _NAMES)
def test_a_compound_key_of_every_type_tells_rows_apart(
    name: str, mode: Mode, way_named: Callable[[str], WayIn]
) -> None:
    way, table = way_named(name), f"compound_{mode}"
    first = tuple(row.values[0] for row in _COMPOUND.values())
    keys = [first]
    for position, row in enumerate(_COMPOUND.values()):
        keys += [(*first[:position], value, *first[position + 1 :]) for value in row.values[1:]]

    def write(dispatch: str, of_it: Sequence[Any]) -> int:
        values = zip(*of_it, strict=True)
        arrays = {name: row.array(of) for (name, row), of in zip(_COMPOUND.items(), values, strict=True)}
        rows = predictions(range(len(of_it)), dispatch=dispatch, **arrays).drop_columns(["id"])
        return int(way.write(rows, mode, dispatch=dispatch, table=table, key=tuple(_COMPOUND)))

    assert write("d1", keys) == len(keys)
    for _ in range(2):
        assert write("d2", keys[1:3]) == 2
    left = {"append": keys, "upsert": [keys[0], *keys[3:]], "replace": []}[mode]
    shown = ", ".join(_shown(way, _quoted(way, name), row) for name, row in _COMPOUND.items())
    found = [
        (dispatch, *(_as_written(value, row) for value, row in zip(key, _COMPOUND.values(), strict=True)))
        for dispatch, *key in way.rows(f"SELECT dispatch_id, {shown} FROM {table}")
    ]
    expected = [("d1", *key) for key in left] + [("d2", *key) for key in keys[1:3]]
    assert _sorted(found) == _sorted((row[0], *map(_comparable, row[1:])) for row in expected)


def _quoted(way: WayIn, column: str) -> str:
    return f"`{column}`" if way.engine == "mysql" else f'"{column}"'


def _shown(way: WayIn, column: str, row: WrittenType) -> str:
    """A column so that another client gets all of it."""
    if way.engine == "sqlite":  # the answer travels as JSON, which has no bytes
        return f"CASE typeof({column}) WHEN 'blob' THEN hex({column}) ELSE {column} END"
    if way.engine == "postgres" and pa.types.is_floating(row.arrow_type):
        return (
            f"CAST({column} AS DOUBLE PRECISION)"  # a REAL comes with the shortest text that tells it apart
        )
    return column


def _as_written(stored: Any, row: WrittenType) -> Any:
    """A stored value as it was written: SQLite has text for most types, clients have their own classes."""
    wanted = next(value for value in row.values if value is not None)
    match stored:
        case memoryview():
            return bytes(stored)
        case timedelta():
            return (datetime.min + stored).time()
        case str() if isinstance(wanted, bytes):
            return bytes.fromhex(stored)
        case str() if isinstance(wanted, (datetime, date, time)):
            return _comparable(type(wanted).fromisoformat(stored))
        case str() if isinstance(wanted, (int, Decimal)):
            return _comparable(Decimal(stored))
    return _comparable(stored)


def _comparable(value: Any) -> Any:
    """Numbers of every class by value, doubles bit by bit, times in UTC."""
    match value:
        case bool() | int() | Decimal():
            return Decimal(value).normalize(_MANY_DIGITS)
        case float():
            return struct.pack("d", value)
        case datetime():
            return (value.astimezone(UTC) if value.tzinfo else value).replace(tzinfo=None)
    return value


def _sorted(rows: Any) -> list[Any]:
    return sorted(rows, key=repr)
