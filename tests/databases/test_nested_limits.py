"""Which row limits of subqueries and CTEs decide what rows a whole query returns."""

from __future__ import annotations

import pytest

from mlops_plugin.databases.query_parts import parse_query

CUTS = (
    "SELECT * FROM (SELECT * FROM t ORDER BY id LIMIT 5) x",
    "WITH recent AS (SELECT * FROM t ORDER BY at DESC LIMIT 5) SELECT * FROM recent",
    "WITH r AS (SELECT * FROM t LIMIT 5), s AS (SELECT * FROM r) SELECT * FROM s JOIN u ON u.id = s.id",
    "SELECT * FROM u JOIN (SELECT * FROM t ORDER BY id LIMIT 5) x ON x.id = u.id",
    "SELECT * FROM u WHERE id IN (SELECT id FROM t ORDER BY at LIMIT 10)",
    "(SELECT id FROM a LIMIT 5) UNION ALL SELECT id FROM b",
    "SELECT * FROM (SELECT id FROM t LIMIT 1) x",
    "SELECT * FROM ((SELECT id FROM a LIMIT 5) UNION (SELECT id FROM b)) x",
    "SELECT * FROM (SELECT * FROM t LIMIT 5) x LEFT JOIN u ON u.id=x.id",
    "SELECT id, count(*) FROM (SELECT * FROM t LIMIT 100) x GROUP BY id",
    "SELECT * FROM u WHERE id NOT IN (SELECT id FROM t LIMIT 5)",
    "SELECT * FROM t WHERE a = 1 AND EXISTS (SELECT 1 FROM u LIMIT 1) AND id IN (SELECT id FROM v LIMIT 7)",
    "SELECT * FROM a RIGHT JOIN (SELECT * FROM b LIMIT 5) x ON a.id = x.id",
    "SELECT * FROM a CROSS JOIN (SELECT * FROM b LIMIT 5) x",
    "SELECT * FROM a, (SELECT * FROM b LIMIT 5) x WHERE a.id = x.id",
    "WITH r AS (SELECT * FROM t LIMIT 5) SELECT * FROM u WHERE id IN (SELECT id FROM r)",
    "SELECT * FROM t WHERE (id, b) IN (SELECT id, b FROM u LIMIT 4)",
)
LOOKS_UP = (
    "SELECT *, (SELECT v FROM u WHERE u.id=t.id ORDER BY at DESC LIMIT 1) AS last FROM t",
    "SELECT * FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.id=t.id LIMIT 1)",
    "SELECT * FROM t WHERE at > (SELECT at FROM u ORDER BY at DESC LIMIT 1 OFFSET 10)",
    "SELECT * FROM t LEFT JOIN (SELECT * FROM u LIMIT 100) x ON x.id=t.id",
    "SELECT * FROM t CROSS JOIN (SELECT rate FROM rates ORDER BY d DESC LIMIT 1) r",
    "SELECT * FROM t CROSS JOIN (SELECT AVG(v) AS m FROM (SELECT v FROM t ORDER BY at DESC LIMIT 100) l) r",
    "WITH m AS (SELECT v FROM t ORDER BY at DESC LIMIT 1) SELECT t.*, m.v FROM t CROSS JOIN m",
    "WITH m AS (SELECT v FROM t LIMIT 10) SELECT t.*, (SELECT avg(v) FROM m) AS a FROM t",
    "WITH unused AS (SELECT v FROM t LIMIT 10) SELECT * FROM t",
    "SELECT * FROM t WHERE id IN (SELECT id FROM u ORDER BY at DESC LIMIT 1)",
    "SELECT * FROM t LIMIT 5",
    "SELECT * FROM (SELECT * FROM t) x",
    "SELECT CASE WHEN x THEN (SELECT 1 FROM u LIMIT 1) END AS v FROM t",
    "SELECT COALESCE((SELECT v FROM u LIMIT 1), 0) AS v FROM t",
)
ENGINES = ("sqlite", "mysql", "postgresql")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("query", CUTS)
def test_a_limit_that_decides_which_rows_there_are_is_found(engine: str, query: str) -> None:
    parts = parse_query(query, engine)
    assert parts.limit is None
    assert parts.nested_limit is not None
    assert parts.nested_limit.startswith("LIMIT ")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("query", LOOKS_UP)
def test_a_limit_that_only_looks_up_a_value_is_left_alone(engine: str, query: str) -> None:
    parts = parse_query(query, engine)
    assert parts.is_understood
    assert parts.nested_limit is None


@pytest.mark.parametrize(
    ("engine", "query", "is_cut"),
    [
        ("postgresql", "SELECT * FROM (SELECT id FROM t OFFSET 3) x", True),
        ("postgresql", "SELECT * FROM u WHERE id = ANY (SELECT id FROM t LIMIT 5)", True),
        ("postgresql", "SELECT * FROM (SELECT * FROM t LIMIT ALL) x", False),
        (
            "postgresql",
            "SELECT t.*, l.v FROM t JOIN LATERAL (SELECT v FROM u WHERE u.id=t.id LIMIT 1) l ON true",
            False,
        ),
        (
            "postgresql",
            "SELECT t.*, l.v FROM t LEFT JOIN LATERAL (SELECT v FROM u WHERE u.id=t.id LIMIT 3) l ON true",
            False,
        ),
        ("postgresql", "SELECT t.*, l.v FROM t, LATERAL (SELECT v FROM u WHERE u.id=t.id LIMIT 3) l", False),
        (
            "postgresql",
            "SELECT t.*, ARRAY(SELECT v FROM u WHERE u.id=t.id ORDER BY at LIMIT 3) AS vs FROM t",
            False,
        ),
        (
            "mssql",
            "SELECT t.*, l.v FROM t CROSS APPLY (SELECT TOP 1 v FROM u WHERE u.id=t.id ORDER BY at DESC) l",
            False,
        ),
        ("mssql", "SELECT t.*, l.v FROM t OUTER APPLY (SELECT TOP 3 v FROM u WHERE u.id=t.id) l", False),
        ("mssql", "SELECT t.*, (SELECT TOP 1 v FROM u) AS v FROM t", False),
        ("mssql", "SELECT * FROM (SELECT TOP 5 * FROM t ORDER BY id) x", True),
        ("mssql", "SELECT * FROM (SELECT * FROM t ORDER BY id OFFSET 0 ROWS FETCH NEXT 5 ROWS ONLY) x", True),
    ],
)
def test_forms_of_one_dialect_are_told_apart(engine: str, query: str, is_cut: bool) -> None:
    parts = parse_query(query, engine)
    assert parts.is_understood
    assert (parts.nested_limit is not None) == is_cut
