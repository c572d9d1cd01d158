"""The SELECTs around a place in a query, found by its tokens."""

from __future__ import annotations

import pytest

from mlops_plugin.databases.query_scopes import find_scopes


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("SELECT a FROM x WHERE b = 1 AND t > 'M' ORDER BY a", ["SELECT v\nFROM x\nWHERE (b = 1)"]),
        (
            "SELECT a FROM x WHERE b BETWEEN 1 AND 2 AND t > 'M' AND (c OR d) GROUP BY a",
            ["SELECT v\nFROM x\nWHERE (b BETWEEN 1 AND 2) AND ((c OR d))"],
        ),
        ("SELECT a FROM x WHERE b = 1 AND c OR t > 'M'", ["SELECT v\nFROM x\nWHERE "]),
        (
            "SELECT a FROM x LEFT JOIN y ON x.a = LEFT(y.a, 1) AND t > 'M' JOIN z ON z.a OR z.b WHERE c",
            ["SELECT v\nFROM x LEFT JOIN y ON x.a = LEFT(y.a, 1) JOIN z ON z.a OR z.b\nWHERE (c)"],
        ),
        (
            "SELECT a FROM x JOIN y ON t > 'M', z",
            ["SELECT v\nFROM x JOIN y ON 1 = 1 , z\nWHERE "],
        ),
        (
            "SELECT a FROM x UNION ALL SELECT a FROM y WHERE t > 'M' LIMIT 3",
            ["SELECT v\nFROM y\nWHERE "],
        ),
        (
            "WITH n AS (SELECT a FROM z) SELECT a FROM x "
            "WHERE a IN (SELECT b FROM y WHERE t > 'M') AND c = 'q)'",
            [
                "WITH n AS (SELECT a FROM z) SELECT v\nFROM y\nWHERE ",
                "WITH n AS (SELECT a FROM z) SELECT v\nFROM x\nWHERE (c = 'q)')",
            ],
        ),
        (
            "SELECT CASE WHEN t > 'M' THEN EXTRACT(HOUR FROM u) END FROM (SELECT t, u FROM x) y WHERE b",
            ["SELECT v\nFROM (SELECT t, u FROM x) y\nWHERE (b)"],
        ),
        ("SELECT t > 'M'", []),
    ],
)
def test_each_scope_asks_for_something_else_of_the_same_rows(query: str, asked: list[str]) -> None:
    place = query.index("t > 'M'")
    scopes = find_scopes(query, "postgres", place, [place])
    assert [scope.select("v", scope.conditions) for scope in scopes] == asked
