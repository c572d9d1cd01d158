"""What the parser finds in a query, in the dialect of its engine."""

from __future__ import annotations

import pytest

from mlops_plugin.databases.query_parts import parse_query

UNION = "SELECT a FROM t UNION ALL SELECT b FROM u"


@pytest.mark.parametrize(
    ("engine", "query", "limit"),
    [
        ("mysql", "SELECT a FROM t LIMIT 5", "LIMIT 5"),
        ("mysql", "SELECT a FROM t ORDER BY a LIMIT 2, 3;", "LIMIT 2, 3"),
        ("mysql", "(SELECT a FROM t LIMIT 5);", "LIMIT 5"),
        ("mysql", "SELECT a FROM t /*!50000 LIMIT 5 */", "LIMIT 5"),
        ("mysql", f"{UNION} ORDER BY a LIMIT 5", "LIMIT 5"),
        ("postgresql", "SELECT a FROM t FETCH FIRST ROW ONLY", "FETCH FIRST ROW ONLY"),
        ("postgresql", "SELECT a FROM t OFFSET 7", "OFFSET 7"),
        ("postgresql", "WITH x AS (SELECT 1 AS a) SELECT a FROM x LIMIT 1", "LIMIT 1"),
        ("postgresql", "SELECT a FROM t ORDER BY a USING > LIMIT 3", "LIMIT 3"),  # not understood
        ("sqlite", "SELECT a FROM t LIMIT 5 OFFSET 1", "LIMIT 5 OFFSET 1"),
        ("mssql", "SELECT TOP (5) WITH TIES a FROM t ORDER BY a", "TOP"),
        ("mssql", "SELECT a FROM t ORDER BY a OFFSET 5 ROWS FETCH NEXT 5 ROWS ONLY", None),
        ("ansi", "SELECT a FROM t FETCH FIRST 5 ROWS ONLY", "FETCH FIRST 5 ROWS ONLY"),
    ],
)
def test_a_row_limit_of_the_whole_query_is_found(engine: str, query: str, limit: str | None) -> None:
    found = parse_query(query, engine).limit
    assert found is not None
    assert limit is None or found.text == limit
    assert query[found.start : found.end] == found.text or "/*!" in query


@pytest.mark.parametrize(
    ("engine", "query"),
    [
        ("mysql", "SELECT * FROM (SELECT a FROM t ORDER BY a LIMIT 5) x"),
        ("mysql", "(SELECT a FROM t LIMIT 5) UNION (SELECT b FROM u LIMIT 5)"),
        ("mysql", "SELECT a FROM t -- LIMIT 5\n# LIMIT 5\n/* LIMIT 5 */"),
        ("mysql", r"SELECT 'it\'s LIMIT 5' AS a, \"LIMIT 5\" AS b FROM t"),
        ("mysql", "SELECT 5--1 AS a"),
        ("postgresql", "WITH x AS (SELECT a FROM t LIMIT 5) SELECT a FROM x"),
        ("postgresql", "SELECT a FROM t WHERE b IN (SELECT c FROM u LIMIT 5)"),
        ("postgresql", "SELECT $$ LIMIT 5 $$ AS a, E'\\' LIMIT 5' AS b FROM t"),
        ("postgresql", "SELECT a FROM t LIMIT ALL OFFSET 0"),
        ("postgresql", 'SELECT "limit", offset, t.top FROM t'),
        ("sqlite", "SELECT [limit], `offset` FROM t"),
        ("sqlite", "SELECT '\\' AS a /* ' LIMIT 5 */ FROM t"),
        ("mssql", "SELECT TOP 100 PERCENT a FROM t ORDER BY a"),
    ],
)
def test_what_only_looks_like_a_row_limit_is_none(engine: str, query: str) -> None:
    assert parse_query(query, engine).limit is None


@pytest.mark.parametrize(
    ("engine", "query", "outside"),
    [
        ("mysql", "SELECT id, b FROM o ORDER BY b DESC", ["selected.b DESC"]),
        ("mysql", "SELECT id, b FROM o ORDER BY o.b DESC, 1", ["selected.b DESC", "1"]),
        ("mysql", "SELECT * FROM o ORDER BY b, lower(name) DESC", ["selected.b", "lower(name) DESC"]),
        ("mysql", f"{UNION} ORDER BY a", ["selected.a"]),
        ("mysql", "SELECT a, SUM(b) FROM o GROUP BY a ORDER BY SUM(b) DESC", ["2 DESC"]),
        ("mysql", "SELECT a FROM o ORDER BY a LOCK IN SHARE MODE", ["selected.a"]),
        ("mysql", "SELECT a FROM o ORDER BY RAND(7)", ["RAND(7)"]),
        ("postgresql", 'SELECT a AS "x y" FROM t ORDER BY "x y" NULLS LAST', ['selected."x y" NULLS LAST']),
        (
            "postgresql",
            "SELECT *, -b AS c FROM t ORDER BY -b DESC NULLS FIRST",
            ["selected.c DESC NULLS FIRST"],
        ),
        (
            "postgresql",
            "SELECT t.*, u.z FROM t JOIN u ON t.i = u.i ORDER BY u.z, t.q",
            ["selected.z", "selected.q"],
        ),
        ("postgresql", "SELECT a, rank() OVER (ORDER BY b) AS r FROM t ORDER BY r", ["selected.r"]),
        ("sqlite", "SELECT a FROM t ORDER BY a COLLATE NOCASE", ["a COLLATE NOCASE"]),
        ("mssql", "SELECT a FROM t ORDER BY a OPTION (RECOMPILE)", ["selected.a"]),
        # Not among the columns, or another column of that name is.
        ("mysql", "SELECT id FROM o ORDER BY b", [None]),
        ("mysql", "SELECT upper(b) AS b FROM o ORDER BY lower(b)", [None]),
        ("postgresql", "SELECT a AS b FROM t x ORDER BY x.b", [None]),
        ("postgresql", "SELECT t.* FROM t JOIN u ON t.i = u.i ORDER BY u.z", [None]),
        ("postgresql", "SELECT * FROM t LEFT JOIN u USING (i) ORDER BY u.i", [None]),
        ("postgresql", "SELECT a FROM t ORDER BY (SELECT max(b) FROM u)", [None]),
        ("postgresql", "SELECT a FROM t ORDER BY a USING >", [None]),
    ],
)
def test_each_term_of_an_order_is_said_outside_or_known_to_be_lost(
    engine: str, query: str, outside: list[str | None]
) -> None:
    assert [term.outside for term in parse_query(query, engine).order_terms] == outside


@pytest.mark.parametrize(
    "query",
    [
        "SELECT rank() OVER (ORDER BY a) AS r FROM t",
        "SELECT * FROM (SELECT a FROM t ORDER BY a) x",
        "SELECT string_agg(a, ',' ORDER BY a) AS s FROM t",
        "SELECT 'ORDER BY a' AS s FROM t -- ORDER BY a",
    ],
)
def test_an_order_of_a_part_is_not_the_querys(query: str) -> None:
    assert parse_query(query, "postgresql").order is None


@pytest.mark.parametrize(
    ("query", "statements"),
    [
        ("SELECT 1; SELECT 2", 2),
        ("SELECT 1;;x", 2),
        ("; SELECT 1", 1),
        ("SELECT ';'; -- ;", 1),
        ("-- SELECT 1", 0),
        ("/* SELECT 1 */ ; -- x", 0),
    ],
)
def test_statements_are_counted(query: str, statements: int) -> None:
    assert parse_query(query, "postgresql").statements == statements


@pytest.mark.parametrize(
    ("query", "is_query"),
    [
        ("CALL cases_of(1)", False),
        ("{call cases_of(1)}", True),  # the driver says it
        ("EXEC cases_of", False),
        ("DELETE FROM t RETURNING id", False),
        ("PRAGMA table_info(t)", False),
        ("WITH x AS (SELECT 1) SELECT * FROM x", True),
        ("(SELECT 1)", True),
        ("VALUES (1)", True),
        ("TABLE t", True),
    ],
)
def test_what_is_no_query_is_known_by_its_first_word(query: str, is_query: bool) -> None:
    assert parse_query(query, "postgresql").is_query == is_query


def test_operators_of_jsonb_are_told_from_question_marks_in_texts() -> None:
    query = "SELECT '?' AS \"?\", tags ? 'a', tags ?| x, tags ?& y FROM j -- ?"
    assert [mark.text for mark in parse_query(query, "postgresql").question_marks] == ["?", "?|", "?&"]
