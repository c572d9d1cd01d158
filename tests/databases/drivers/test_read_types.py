"""Every type of every engine, at its limits: a value arrives as stored, or a cast that keeps it is named."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mlops_plugin.databases.database import Database
from mlops_plugin.databases.opening import open_database
from mlops_plugin.errors import UnsupportedType
from support import type_matrix
from support.servers import Server
from support.stored_types import WAYS, Arrives, Refused, StoredType, TooLong
from support.ways_in import WayIn, spec_of, way_in

_ADVICE = re.compile(r"; write (.+) AS ([`\"]a[`\"]) in the query")
_CELLS = [
    pytest.param(ways, place, row, number, id=f"{ways[place]}-{row.sql}-{number}")
    for ways, rows in WAYS.values()
    for place in range(len(ways))
    for number, row in enumerate(rows)
]
_OF_POSTGRESQL = (
    "CREATE TYPE mood AS ENUM ('sad', 'häppy')",
    "CREATE DOMAIN amount AS numeric(5,2)",
    "CREATE TYPE pair AS (n integer, word text)",
)


@pytest.fixture(scope="module")
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The way in of a name; its tables t0, t1, ... hold the rows of the engine's matrix."""
    found: dict[str, WayIn] = {}

    def way_of(ways: tuple[str, ...], name: str) -> WayIn:
        if name not in found:
            rows = next(rows for names, rows in WAYS.values() if names == ways)
            folder = tmp_path_factory.mktemp(name)
            way = way_in(name, request, folder)
            # MySQL takes a date of zeros only when asked to.
            first = {
                "mysql": ("SET sql_mode = ''",),
                "postgres": _OF_POSTGRESQL,
                "duckdb": _OF_POSTGRESQL[:1],
            }.get(way.engine, ())
            way.execute(*first, *(statement for n, row in enumerate(rows) for statement in _filling(n, row)))
            found[name] = way
        return found[name]

    return way_of


def _filling(number: int, row: StoredType) -> list[str]:
    """NULLs on both sides: a reader that guesses types from the first row would guess wrong."""
    sql = re.sub(r" \(an? .*| ?without a type", "", row.sql)
    values = ["NULL", *row.values, "NULL"]
    return [
        f"CREATE TABLE t{number} (n INTEGER, a {sql})",
        f"INSERT INTO t{number} VALUES " + ", ".join(f"({n}, {value})" for n, value in enumerate(values)),
    ]


@pytest.mark.parametrize(("ways", "place", "row", "number"), _CELLS)
def test_value_arrives_as_stored_or_a_cast_that_keeps_it_is_named(
    ways: tuple[str, ...], place: int, row: StoredType, number: int, filled: Any
) -> None:
    way, outcome = filled(ways, ways[place]), row.outcomes[place]
    match outcome:
        case Arrives(arrow_type, values):
            expected = list(row.values.values()) if values is None else list(values)
            with way.open() as database:
                assert _read(database, "a", number) == (arrow_type, _comparable(expected))
                assert str(database.describe(f"SELECT a FROM t{number}").types[0]) == arrow_type
        case TooLong(size, arrow_type):
            with way.open() as database, pytest.raises(UnsupportedType, match="'a' of type") as error:
                _read(database, "a", number)
            assert f"max_text_bytes to {size} or more" in str(error.value)
            with way.open(max_text_bytes=size) as database:
                assert _read(database, "a", number) == (arrow_type, _comparable([*row.values.values()]))
        case Refused(cast, values):
            with way.open() as database, pytest.raises(UnsupportedType, match="'a' of type") as error:
                _read(database, "a", number)
            advice = _ADVICE.search(str(error.value))
            assert advice, str(error.value)
            assert advice[1] == cast
            with way.open() as database:
                _, found = _read(database, f"{advice[1]} AS {advice[2]}", number)
            assert _as_numbers(found, values) == _comparable(values)


def _read(database: Database, column: str, number: int) -> tuple[str, list[str]]:
    rows = database.read(f"SELECT {column} FROM t{number} ORDER BY n", batch_rows=1).read_all()
    first, *values, last = rows.column("a").to_pylist()
    assert (first, last) == (None, None)
    return str(rows.schema.types[0]), _comparable(values)


def _comparable(values: Any) -> list[str]:
    """Bit by bit: a negative zero is not a zero, and a NaN is one."""
    return [
        repr(value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else value)
        for value in values
    ]


def _as_numbers(found: list[str], expected: Any) -> list[str]:
    """A double comes back as text where there is no other way; it has to be the same double."""
    return [
        repr(float(value.strip("'"))) if isinstance(wanted, float) else value
        for value, wanted in zip(found, expected, strict=True)
    ]


def test_a_text_without_room_names_every_column_that_may_hold_it(mariadb: Server) -> None:
    query = "SELECT REPEAT('x', 5000) AS a, 1 AS b, REPEAT('y', 4999) AS c"
    with (
        open_database(spec_of(mariadb.new_database(), "odbc")) as database,
        pytest.raises(UnsupportedType, match=r"'a' of type \w+ or 'c' of type \w+ .*\b5000 bytes"),
    ):
        database.read(query, batch_rows=1).read_all()


def test_matrix_in_the_documentation_is_the_one_that_is_tested() -> None:
    page = Path(type_matrix.PAGE).read_text(encoding="utf-8")
    assert type_matrix.renewed(page) == page, "run: PYTHONPATH=plugins:tests python -m support.type_matrix"
