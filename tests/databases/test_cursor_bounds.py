"""Rows from a value on and rows of an interval, for each type that a cursor can have, on every engine."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest

from mlops_plugin.databases.cursor_bounds import between, from_on
from mlops_plugin.databases.engines.engine import CursorValue as Value
from mlops_plugin.databases.selection import narrowed
from mlops_plugin.databases.sql_text import question_marks
from mlops_plugin.errors import UnsupportedType
from support.ways_in import WayIn, sqlite_way

LARGE = 2**53  # from here on a double knows even numbers only
MOMENT = datetime(2026, 3, 29, 1, 59, 59, 999_999)
STEP = timedelta(microseconds=1)
FIVE_HOURS_EAST = timezone(timedelta(hours=5))


def types(way: WayIn) -> dict[str, str]:
    return {
        "mysql": {"time": "DATETIME(6)", "zoned": "TIMESTAMP(6) NULL"},
        "postgres": {"time": "TIMESTAMP(6)", "zoned": "TIMESTAMP(6) WITH TIME ZONE"},
        "sqlite": {"time": "TEXT", "zoned": "TEXT"},
        "duckdb": {"time": "TIMESTAMP", "zoned": "TIMESTAMPTZ"},
    }[way.engine]


def fill(way: WayIn) -> None:
    """Rows 1 to 4: the values before, at and after the bound, and none."""
    kinds = types(way)
    way.execute(
        f"CREATE TABLE t (id INTEGER, number BIGINT, day DATE, moment {kinds['time']},"
        f" zoned {kinds['zoned']})"
    )
    zone = "" if way.engine == "mysql" else "+00:00"
    moments = [str(MOMENT + step * STEP) for step in (-1, 0, 1)]
    way.execute(
        *(["SET time_zone = '+00:00'"] if way.engine == "mysql" else []),
        *(
            f"INSERT INTO t VALUES ({row}, {LARGE - 2 + row}, '2026-01-0{row}', '{moment}', '{moment}{zone}')"
            for row, moment in enumerate(moments, 1)
        ),
        "INSERT INTO t (id) VALUES (4)",
    )


def found(way: WayIn, column: str, *bounds: Value) -> list[int]:
    with way.open() as database:
        if len(bounds) == 2:
            condition = between(database.engine, column, bounds[0], bounds[1])
        else:
            condition = from_on(database.engine, column, bounds[0])
        query, parameters = narrowed("SELECT * FROM t", [condition], database.engine.name)
        rows = database.read(query, batch_rows=10, parameters=parameters).read_all()
    return sorted(rows.column("id").to_pylist())


BOUNDS: list[tuple[str, Value, Value]] = [
    ("number", LARGE, LARGE + 1),
    ("day", date(2026, 1, 2), date(2026, 1, 3)),
    ("moment", MOMENT, MOMENT + STEP),
    ("zoned", MOMENT.replace(tzinfo=UTC), (MOMENT + STEP).replace(tzinfo=UTC)),
    (
        "zoned",
        MOMENT.replace(tzinfo=UTC).astimezone(FIVE_HOURS_EAST),
        (MOMENT + STEP).replace(tzinfo=UTC).astimezone(FIVE_HOURS_EAST),
    ),
]


@pytest.mark.parametrize(("column", "bound", "end"), BOUNDS)
def test_bounds_are_exact_and_rows_without_a_value_are_not_passed_over(
    way: WayIn, column: str, bound: Value, end: Value
) -> None:
    fill(way)
    if way.engine == "sqlite" and isinstance(bound, datetime):
        # Its clock has milliseconds: a row too many is harmless, one too few is not.
        assert {2, 3, 4} <= set(found(way, column, bound))
        assert found(way, column, bound + timedelta(milliseconds=3)) == [4]
        first, last = bound - timedelta(milliseconds=2), bound + timedelta(milliseconds=2)
        assert found(way, column, first, last) == [1, 2, 3, 4]
        assert found(way, column, first - timedelta(hours=1), first) == [4]
        return
    assert found(way, column, bound) == [2, 3, 4]
    assert found(way, column, bound, end) == [2, 4]


def test_unsigned_integers_beyond_the_signed_ones(mariadb_way: WayIn) -> None:
    mariadb_way.execute("CREATE TABLE t (id INT, n BIGINT UNSIGNED)")
    mariadb_way.execute(f"INSERT INTO t VALUES (1, {2**64 - 2}), (2, {2**64 - 1}), (3, 5)")
    with mariadb_way.open() as database:
        for value, expected in ((2**64 - 1, [2]), (2**63, [1, 2]), (-5, [1, 2, 3])):
            condition = from_on(database.engine, "n", value)
            statement, parameters = narrowed("SELECT id, n FROM t", [condition], "mysql")
            counted = f"SELECT id FROM ({statement}) x ORDER BY id"
            rows = database.read(counted, batch_rows=10, parameters=parameters).read_all()
            assert rows.column("id").to_pylist() == expected


@pytest.mark.parametrize("kind", ["DATE", "DATETIME(6)", "TIMESTAMP"])
def test_date_of_zeros_is_not_passed_over(mariadb_way: WayIn, kind: str) -> None:
    """MySQL's own `IS NULL` finds it in columns that are NOT NULL, and in no others."""
    bound = date(2026, 1, 2) if kind == "DATE" else datetime(2026, 1, 2)
    mariadb_way.execute(
        "SET sql_mode = ''",
        f"CREATE TABLE t (id INT, moment {kind} NULL)",
        "INSERT INTO t VALUES (1, '2026-01-01'), (2, '2026-01-03')",
    )
    assert found(mariadb_way, "moment", bound) == [2]
    mariadb_way.execute("SET sql_mode = ''", "INSERT INTO t VALUES (3, 0)")
    with pytest.raises(UnsupportedType, match="'moment'"):
        found(mariadb_way, "moment", bound)
    with pytest.raises(UnsupportedType, match="'moment'"):
        found(mariadb_way, "moment", bound, bound + timedelta(days=1))


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-29T02:00:00",
        "2026-03-29 02:00:00Z",
        "2026-03-29 04:00:00.000000+02:00",
        "2026-03-28 21:00-05:00",
        "2026-03-30",
        "12:00",  # SQLite makes an hour of the year 2000 of it
        "soon",
        "2461128.5",
    ],
)
def test_sqlite_compares_times_of_any_form_and_passes_over_no_other_text(tmp_path: Path, text: str) -> None:
    way = sqlite_way(tmp_path)
    way.execute("CREATE TABLE t (id INTEGER, moment TEXT)", f"INSERT INTO t VALUES (1, '{text}')")
    assert found(way, "moment", MOMENT) == [1]
    way.execute("UPDATE t SET moment = '2026-03-29 03:59:00+02:00'")
    assert found(way, "moment", MOMENT) == []


@pytest.mark.parametrize("column", ["number", "moment"])
def test_an_index_on_the_column_finds_the_rows(mariadb_way: WayIn, column: str) -> None:
    kind = "BIGINT" if column == "number" else "DATETIME(6)"
    value = "seq" if column == "number" else "'2026-01-01' + INTERVAL seq SECOND"
    mariadb_way.execute(
        f"CREATE TABLE t (id INT PRIMARY KEY, {column} {kind}, INDEX (`{column}`))",
        f"INSERT INTO t SELECT seq, {value} FROM seq_1_to_5000",
        "ANALYZE TABLE t",
    )
    bound = 4_990 if column == "number" else datetime(2026, 1, 1, 1, 23, 10)
    with mariadb_way.open() as database:
        condition = from_on(database.engine, column, bound)
        query, (text,) = narrowed("SELECT * FROM t ORDER BY id", [condition], "mysql")
    (plan,) = mariadb_way.rows("EXPLAIN " + question_marks(query).replace("?", f"'{text}'"))
    assert plan[3] == "range"
