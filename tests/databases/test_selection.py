"""A query narrowed to some of its rows, on every engine."""

from __future__ import annotations

import pytest

from mlops_plugin.databases.database import read_rows
from mlops_plugin.databases.selection import Condition, narrowed, shown, some_rows
from support.ways_in import WayIn

QUERY = "SELECT id, name FROM t ORDER BY id; -- all of them"


@pytest.fixture
def filled(way: WayIn) -> WayIn:
    way.execute("CREATE TABLE t (id INTEGER, name VARCHAR(20))")
    way.execute("INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, 'it''s three?')")
    return way


def ids(way: WayIn, *conditions: Condition) -> list[int]:
    with way.open() as database:
        statement, parameters = narrowed(QUERY, conditions, database.engine.name)
        rows = database.read(statement, batch_rows=10, parameters=parameters).read_all()
    return sorted(rows.column("id").to_pylist())


def test_all_conditions_hold_for_the_rows_that_remain(filled: WayIn) -> None:
    with filled.open() as database:
        quote = database.engine.quote
    at_least = Condition(f"{quote('id')} >= ?", (2,))
    either = Condition(f"{quote('name')} = ? OR {quote('name')} = ?", ("one", "it's three?"))
    assert ids(filled, at_least) == [2, 3]
    assert ids(filled, at_least, either) == [3]
    assert ids(filled, either, at_least) == [3]


def test_without_conditions_the_query_is_as_it_was_written() -> None:
    assert narrowed(QUERY, (), "postgresql") == (QUERY, ())


def test_whether_there_is_any_row_is_asked_of_an_ordered_query_too(filled: WayIn) -> None:
    with filled.open() as database:
        engine = database.engine.name
        found = [
            len(read_rows(database, some_rows(query, engine, 1, "1 AS found")))
            for query in (QUERY, "SELECT id FROM t WHERE id > 3 ORDER BY id")
        ]
    assert found == [1, 0]


def test_no_order_stands_where_sql_server_refuses_it() -> None:
    assert "ORDER BY id" not in some_rows(QUERY, "mssql", 1)
    assert "ORDER BY id" in some_rows(f"{QUERY[:35]} OFFSET 0 ROWS FETCH NEXT 5 ROWS ONLY", "mssql", 1)


def test_what_fills_the_marks_is_shown_below_the_statement() -> None:
    assert shown("SELECT ?", (7, "x")) == "SELECT ?\n-- ? 1: 7\n-- ? 2: x"
    assert shown("SELECT 1", ()) == "SELECT 1"
