"""Any value of a type, stored by another client, goes through a dispatch and is there again as it was.

Stored, collected, staged, written by the sink and read by the other client; hypothesis looks for a value that
any of it changes. All types travel in one table, so that a few examples try many values.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_plugin.pipeline.staging import Shelf
from sinks import provenance
from ways_in import WayIn, way_in

_EXAMPLES = 15
_DIGITS = Context(prec=40)
_ROWS = 25
_WAYS = ("odbc-mariadb", "mysql", "odbc-postgres", "postgres")


@dataclass(frozen=True)
class Stored:
    """A column of the source in each engine's words, and values for it."""

    mysql: str
    postgres: str
    values: st.SearchStrategy[Any]


# Without NUL, which PostgreSQL has not, and without lone surrogates, which are no text.
_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
_FINITE = st.floats(allow_nan=False, allow_infinity=False)
# MySQL drops the sign of a negative zero.
_DOUBLES = _FINITE.map(lambda value: value or 0.0)
_MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))
_COLUMNS = {
    "small": Stored("SMALLINT", "SMALLINT", st.integers(-(2**15), 2**15 - 1)),
    "whole": Stored("INT", "INTEGER", st.integers(-(2**31), 2**31 - 1)),
    "large": Stored("BIGINT", "BIGINT", st.integers(-(2**63), 2**63 - 1)),
    "amount": Stored(
        "DECIMAL(30,7)",
        "NUMERIC(30,7)",
        st.integers(-(10**30) + 1, 10**30 - 1).map(lambda digits: _DIGITS.scaleb(Decimal(digits), -7)),
    ),
    "score": Stored("DOUBLE", "DOUBLE PRECISION", _DOUBLES),
    "flag": Stored("BOOLEAN", "BOOLEAN", st.booleans()),
    "word": Stored("VARCHAR(40) CHARACTER SET utf8mb4", "VARCHAR(40)", _TEXTS),
    "essay": Stored("LONGTEXT CHARACTER SET utf8mb4", "TEXT", _TEXTS),
    "bytes": Stored("VARBINARY(60)", "BYTEA", st.binary(max_size=60)),
    "day": Stored("DATE", "DATE", st.dates()),
    "moment": Stored("DATETIME(6)", "TIMESTAMP", _MOMENTS),
    "clock": Stored("TIME(6)", "TIME", st.times()),
}


@pytest.mark.parametrize("name", _WAYS)
def test_a_value_of_any_type_is_there_again_as_it_was(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    way = way_in(name, request, tmp_path)
    kinds = {column: getattr(stored, way.engine) for column, stored in _COLUMNS.items()}
    # On MySQL a TIME arrives as a duration, which no sink takes: the error says so, and to what to cast it.
    if name == "mysql":
        del kinds["clock"]
    columns = ", ".join(f"{column} {kind}" for column, kind in kinds.items())
    way.execute(f"CREATE TABLE source (id INTEGER PRIMARY KEY, {columns})")
    rows = st.lists(
        st.tuples(*(st.none() | _COLUMNS[column].values for column in kinds)), min_size=1, max_size=_ROWS
    )

    # The tables are emptied between examples; the server outlives them.
    @settings(
        max_examples=_EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(rows)
    def round_trip(values: list[tuple[Any, ...]]) -> None:
        _fill(way, values)
        _dispatch(way, tmp_path, list(kinds))
        shown = ", ".join(kinds)
        source, sink = (way.rows(f"SELECT {shown} FROM {table} ORDER BY id") for table in ("source", "sink"))
        assert _comparable(source) == _comparable(values)
        assert _comparable(sink) == _comparable(values)

    round_trip()


def _fill(way: WayIn, values: Sequence[tuple[Any, ...]]) -> None:
    """As the other client writes them."""
    assert way.server is not None
    connection = way.server.connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM source")
            marks = ", ".join(["%s"] * (len(values[0]) + 1))
            numbered = [(number, *row) for number, row in enumerate(values)]
            cursor.executemany(f"INSERT INTO source VALUES ({marks})", numbered)
    finally:
        connection.close()


def _dispatch(way: WayIn, folder: Path, columns: list[str]) -> None:
    """Collect, stage and persist, without a model in between: what it answers is not what was stored."""
    shelf = Shelf(str(folder / "shelf"))
    with way.open() as database:
        rows = database.read(f"SELECT id, {', '.join(columns)} FROM source", batch_rows=10)
        file, _ = shelf.put("collect", rows.schema, rows)
    with shelf.rows(file) as staged:
        table = staged.read_all()
    for name, constants in provenance(table.num_rows, "d1").items():
        table = table.append_column(name, constants)
    assert way.write(table, "replace", table="sink") == table.num_rows


def _comparable(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [tuple(map(_plain, row)) for row in rows]


def _plain(value: Any) -> Any:
    match value:
        case bool():
            return int(value)
        case float():
            return struct.pack("d", value)
        case memoryview():
            return bytes(value)
        case timedelta():
            return (datetime.min + value).time()
    return value
