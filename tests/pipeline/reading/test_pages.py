"""Pages: together they are all rows, each row once, from one snapshot, whatever the column holds."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_plugin.config.schema import PagesConfig
from mlops_plugin.databases.database import Database
from mlops_plugin.databases.selection import Condition, narrowed
from mlops_plugin.databases.sql_text import question_marks
from mlops_plugin.errors import ConfigError, DatabaseError, PartitionError
from mlops_plugin.pipeline.reading.pages import PageBounds, read_in_pages
from support.divided_table import fill
from support.random_examples import examples
from support.servers import ServerDatabase
from support.ways_in import WAYS_IN, WayIn, sqlite_way, way_in
from support.workshop import Workshop

QUERY = "SELECT id, v FROM t"
ON_SERVERS = [name for name in WAYS_IN if name != "sqlite"]
numbers = st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(-50, 50)


@settings(max_examples=examples(300), deadline=None)
@given(
    values=st.lists(numbers, max_size=60),
    unseen=st.lists(numbers, max_size=5),
    rows=st.integers(1, 20),
)
def test_pages_are_together_the_whole_and_do_not_overlap(
    values: list[int | None], unseen: list[int | None], rows: int
) -> None:
    """Also for rows that the ends were not found among."""
    ends = [value for value in values if value is not None]
    bounds = PageBounds('"v"', min(ends, default=None), max(ends, default=None), rows, "p")
    found: list[int] = []
    pages = 0
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
        connection.executemany("INSERT INTO t (v) VALUES (?)", [(value,) for value in [*values, *unseen]])
        while not bounds.at_end:
            statement, parameters = narrowed(QUERY, bounds.next_page(), "sqlite")
            page = connection.execute(question_marks(statement), parameters).fetchall()
            bounds.see(len(page))
            found += [row[0] for row in page]
            pages += 1
    assert sorted(found) == list(range(1, len(values) + len(unseen) + 1))
    assert pages < 200  # a gap of 2^64 is crossed in steps that grow


def test_pages_grow_and_shrink_to_the_rows_that_are_wanted() -> None:
    bounds = PageBounds("v", 0, 10**9, 1000, "p")
    widths = []
    for rows in (1000, 500, 0, 0, 64_000, 1000):
        before = bounds.next_page()[-1].parameters[0]
        bounds.see(rows)
        after = PageBounds.next_page(bounds)[-1].parameters[0]
        widths.append(after - before)  # type: ignore[operator]
    assert widths[0] == 1000
    assert widths[1] == 2000
    assert widths[3] > 10 * widths[1]
    assert widths[4] < widths[3] / 50


def read(database: Database, column: str, rows: int, *conditions: Condition) -> list[list[int]]:
    """The ids on each page."""
    pages = PagesConfig(column=column, rows=rows)
    reader = read_in_pages(database, "SELECT * FROM t -- all", conditions, pages, "p", 100)
    return [batch.column(0).to_pylist() for batch in reader if batch.num_rows]


@pytest.mark.parametrize("column", ["v_int", "v_date", "v_when", "v_zone", "v_decimal"])
@pytest.mark.parametrize("name", ON_SERVERS)
def test_every_engine_pages_by_every_type_of_column(
    name: str, column: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    way = fill(way_in(name, request, tmp_path))
    with way.open() as database:
        pages = read(database, column, 1)
        some = read(database, column, 1, Condition("id > ?", (2,)))
    assert sorted(number for page in pages for number in page) == [1, 2, 3, 4, 5, 6]
    assert len(pages) > 1
    assert sorted(number for page in some for number in page) == [3, 4, 5, 6]


@pytest.mark.parametrize("name", ON_SERVERS)
def test_all_pages_show_one_moment(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    way = way_in(name, request, tmp_path)
    way.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT)")
    way.execute("INSERT INTO t VALUES (1, 10), (2, 20), (3, 30), (4, 40)")
    found = []
    with way.open() as database:
        database.describe(QUERY)  # a transaction that has begun before is ended
        pages = read_in_pages(database, QUERY, (), PagesConfig(column="id", rows=1), "p", 100)
        for batch in pages:
            found += batch.to_pylist()
            if len(found) == 1:
                way.execute("UPDATE t SET v = 0", "DELETE FROM t WHERE id = 3", "INSERT INTO t VALUES (9, 9)")
    assert [(row["id"], row["v"]) for row in found] == [(1, 10), (2, 20), (3, 30), (4, 40)]


def test_where_there_are_no_pages_an_error_says_so(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    way = fill(way_in("odbc-mariadb", request, tmp_path))
    with way.open() as database:
        with pytest.raises(PartitionError, match=r"p\.column: 'v_text'"):
            read(database, "v_text", 1)
        with pytest.raises(PartitionError, match=r"p\.column: .*'nothing'"):
            read(database, "nothing", 1)
    with (
        fill_sqlite(tmp_path).open() as database,
        pytest.raises(DatabaseError, match="sqlite"),
    ):
        read(database, "id", 1)


def fill_sqlite(folder: Path) -> WayIn:
    way = sqlite_way(folder)
    way.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    return way


def test_no_rows_are_one_empty_page(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    way = way_in("odbc-mariadb", request, tmp_path)
    way.execute("CREATE TABLE t (id BIGINT PRIMARY KEY)")
    with way.open() as database:
        assert read(database, "id", 1) == []


@pytest.mark.parametrize(
    ("pages", "problem"),
    [
        ({}, "column"),
        ({"column": "id", "rows": 0}, "rows"),
        ({"column": "id", "count": 3}, "count"),
    ],
)
def test_wrong_pages_are_refused(workshop: Workshop, pages: dict[str, Any], problem: str) -> None:
    workshop.add_model("churn", source={"pages": pages})
    with pytest.raises(ConfigError, match=rf"pages.*{problem}"):
        workshop.loaded.model("churn")


def test_a_dispatch_in_pages_is_one_dispatch(on_server: tuple[Workshop, ServerDatabase]) -> None:
    """With a cursor: its mark is the greatest value of all pages."""
    workshop, database = on_server
    real = "DOUBLE" if database.engine == "mysql" else "DOUBLE PRECISION"
    database.execute(
        f"CREATE TABLE customers (id BIGINT PRIMARY KEY, a {real}, b {real}, c {real})",
        "INSERT INTO customers VALUES " + ", ".join(f"({n}, {n}, 1, 2)" for n in range(1, 31)),
    )
    source = {"pages": {"column": "id", "rows": 7}, "cursor": {"column": "id", "initial": 4}}
    workshop.add_model("churn", source=source, sink={"mode": "upsert"})
    workshop.run(dispatch := workshop.dispatch())

    record = workshop.record(dispatch.id)
    assert (record.rows_collected, record.rows_persisted) == (27, 27)
    assert (record.query or "").endswith("-- in pages of about 7 rows by id")
    assert database.rows("SELECT COUNT(*), MIN(id) FROM churn_predictions") == [(27, 4)]
    database.execute("INSERT INTO customers VALUES (31, 1, 2, 3)")
    workshop.run(second := workshop.dispatch())
    assert workshop.record(second.id).rows_collected == 2  # the mark's own row, and the new one
