"""A query's own order, limit, operators and kind, beside settings that choose among its rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mlops_plugin.errors import MlopsError, QueryError
from mlops_plugin.pipeline.reading.query_check import find_problems, require_usable
from support.servers import ServerDatabase
from support.ways_in import WAYS_IN, WayIn
from support.workshop import Workshop

Place = tuple[Workshop, WayIn]
COLUMNS = "id, a, b, c, changed"
# Which are the first five of 50, by b downwards: b is n * 37 modulo 101.
FIRST_FIVE = [8, 19, 30, 38, 49]
LIMITED = f"SELECT {COLUMNS} FROM t ORDER BY changed LIMIT 5"
SETTINGS: dict[str, dict[str, Any]] = {
    "cursor": {"cursor": {"column": "changed"}},
    "skip_predicted": {"skip_predicted": True},
    "partitions": {"partitions": {"column": "id", "count": 3}},
    "pages": {"pages": {"column": "id"}},
}


@pytest.fixture
def place(way: WayIn, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A workshop whose source is any database in turn, with 50 rows."""
    monkeypatch.setenv("AIRFLOW_CONN_SOURCE", way.airflow_connection)
    moment = "TEXT" if way.engine == "sqlite" else "TIMESTAMP" if way.engine == "postgres" else "DATETIME"
    real = "DOUBLE PRECISION" if way.engine == "postgres" else "DOUBLE"
    way.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, a {real}, b {real}, c {real}, changed {moment})")
    way.fill("t", [(n, n, n * 37 % 101, 1, f"2026-01-01 00:00:{n:02}") for n in range(1, 51)])
    return workshop, way


def predicted(workshop: Workshop, query: str, *, limit: int | None = None, **source: Any) -> list[int]:
    """Dispatch a query's rows, and return the ids of the dispatch's predictions."""
    workshop.add_model("churn", source={"query": query, **source}, sink={"connection": "source"})
    dispatch = workshop.dispatch(row_limit=limit)
    workshop.run(dispatch)
    return sorted(row["id"] for row in stored(workshop) if row["dispatch_id"] == dispatch.id)


def stored(workshop: Workshop) -> list[dict[str, Any]]:
    with workshop.deployment.database("source") as database:
        rows = database.read("SELECT id, dispatch_id FROM churn_predictions", batch_rows=1000).read_all()
    found: list[dict[str, Any]] = rows.to_pylist()
    return found


_WITH_A_COMMENT = 1
ORDERED = (
    f"SELECT {COLUMNS} FROM t ORDER BY b DESC",
    f"SELECT {COLUMNS} FROM t ORDER BY t.b DESC; -- the end",
    f"SELECT {COLUMNS}, -b AS d FROM t ORDER BY -b",
    f"SELECT {COLUMNS} FROM t WHERE id < 9 UNION SELECT {COLUMNS} FROM t WHERE id > 8 ORDER BY b DESC",
    f"WITH x AS (SELECT * FROM t) SELECT {COLUMNS} FROM x ORDER BY 3 DESC",
    "SELECT * FROM t ORDER BY b + 0 DESC",
)


def orders() -> Iterator[Any]:
    """Each query on each engine; over ODBC, where an engine is sent the same statement, only one of them."""
    for way in WAYS_IN:
        for number, query in enumerate(ORDERED):
            again = way.startswith("odbc") and number != _WITH_A_COMMENT
            yield pytest.param(way, query, marks=[pytest.mark.long] if again else [])


@pytest.mark.parametrize("setting", ["cursor", "skip_predicted"])
@pytest.mark.parametrize(("way", "query"), tuple(orders()), indirect=["way"])
def test_a_row_limit_takes_the_first_rows_by_the_querys_order(place: Place, setting: str, query: str) -> None:
    workshop, _ = place
    # The cursor has a condition from the first dispatch on, the anti-join from when there is a table.
    more: dict[str, Any] = {"skip_predicted": True}
    if setting == "cursor":
        more = {"cursor": {"column": "changed", "initial": "2025-01-01"}}
    else:
        predicted(workshop, "SELECT id + 100 AS id, a, b, c FROM t WHERE id = 1")
    assert predicted(workshop, query, limit=5, **more) == FIRST_FIVE


def test_pages_do_not_change_which_rows_are_the_first(place: Place) -> None:
    workshop, way = place
    if way.engine == "sqlite":
        return  # it has no pages, see test_pages
    query = f"SELECT {COLUMNS} FROM t ORDER BY b DESC"
    assert predicted(workshop, query, limit=5, pages={"column": "id", "rows": 10}) == FIRST_FIVE


def test_an_order_by_what_is_not_selected_is_refused_with_a_row_limit_only(place: Place) -> None:
    workshop, _ = place
    query = "SELECT id, a, 1 AS b, c, changed FROM t ORDER BY t.b DESC"
    cursor = {"column": "changed", "initial": "2025-01-01"}
    with pytest.raises(QueryError, match=r"t\.b DESC"):
        predicted(workshop, query, limit=5, cursor=cursor)
    assert len(predicted(workshop, query, cursor=cursor)) == 50


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_limit_of_the_query_is_refused_beside_what_chooses_rows(place: Place, setting: str) -> None:
    workshop, _ = place
    with pytest.raises(QueryError, match=rf"config\.yaml:\d+: .*source\.query: 'LIMIT 5'.*source\.{setting}"):
        predicted(workshop, LIMITED, **SETTINGS[setting])
    (problem,) = find_problems(workshop.model())
    assert (problem.path, setting in problem.message) == ("models.churn.source.query", True)
    assert workshop.config_file.read_text().splitlines()[(problem.line or 0) - 1].strip().startswith("query:")


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_limit_in_a_subquery_is_refused_beside_what_chooses_rows(place: Place, setting: str) -> None:
    workshop, _ = place
    nested = f"SELECT * FROM ({LIMITED}) x WHERE id <> 2"
    with pytest.raises(QueryError, match=rf"config\.yaml:\d+: .*'LIMIT 5' in a subquery.*source\.{setting}"):
        predicted(workshop, nested, **SETTINGS[setting])
    (problem,) = find_problems(workshop.model())
    assert problem.path == "models.churn.source.query"


@pytest.mark.parametrize("setting", ["cursor", "skip_predicted", "partitions"])
def test_a_limit_that_looks_up_a_value_loses_no_row(place: Place, setting: str) -> None:
    workshop, _ = place
    latest = "(SELECT id FROM t ORDER BY id LIMIT 1)"
    looked_up = f"SELECT {COLUMNS}, {latest} AS v FROM t WHERE EXISTS (SELECT id FROM t LIMIT 1)"
    assert len(predicted(workshop, looked_up, **SETTINGS[setting])) == 50


def test_a_limit_alone_is_the_users_meaning(place: Place) -> None:
    workshop, _ = place
    assert predicted(workshop, LIMITED) == [1, 2, 3, 4, 5]
    assert predicted(workshop, f"SELECT * FROM ({LIMITED}) x WHERE id <> 2") == [1, 3, 4, 5]
    text = f"SELECT {COLUMNS} FROM t WHERE 'LIMIT 5' <> 'x' AND id = 9 -- LIMIT 5"
    assert predicted(workshop, text, skip_predicted=True) == [9]


@pytest.mark.parametrize("statement", ["CALL cases_of()", "DELETE FROM t", "SELECT 1 AS id; SELECT 2 AS id"])
def test_what_is_not_one_select_is_refused_before_it_runs(place: Place, statement: str) -> None:
    workshop, way = place
    with pytest.raises(QueryError, match=r"models\.churn\.source\.query"):
        predicted(workshop, statement)
    assert len(find_problems(workshop.model())) == 1
    assert way.rows("SELECT count(*) FROM t") == [(50,)]


@pytest.mark.parametrize("conn_type", ["postgres", "odbc"])
@pytest.mark.parametrize(
    ("condition", "function"),
    [
        ("tags ? 'vip'", "jsonb_exists(tags, 'vip')"),
        ("tags ?| array['vip', '?']", "jsonb_exists_any(tags, array['vip', '?'])"),
        ("tags ?& array['vip']", "jsonb_exists_all(tags, array['vip'])"),
    ],
)
def test_operators_of_jsonb_work_or_are_refused_with_what_to_write(
    workshop: Workshop,
    postgres_database: ServerDatabase,
    monkeypatch: pytest.MonkeyPatch,
    conn_type: str,
    condition: str,
    function: str,
) -> None:
    uri = postgres_database.airflow_uri("odbc" if conn_type == "odbc" else None)
    monkeypatch.setenv("AIRFLOW_CONN_SOURCE", uri)
    postgres_database.execute(
        "CREATE TABLE j (id INT PRIMARY KEY, a FLOAT8, b FLOAT8, c FLOAT8, tags JSONB, at TIMESTAMP)",
        """INSERT INTO j VALUES (1, 1, 2, 3, '{"vip": 1}', '2026-01-01'), (2, 1, 2, 3, '{}', '2026-01-01')""",
    )
    cursor = {"column": "at", "initial": "2025-01-01"}
    for setting in ({}, {"cursor": cursor}, {"skip_predicted": True}):
        query = f"SELECT id, a, b, c, at FROM j WHERE {condition}"
        if conn_type == "odbc":
            with pytest.raises(QueryError, match=function.partition("(")[0]):
                predicted(workshop, query, **setting)
            query = query.replace(condition, function)
        assert predicted(workshop, query, **setting) in ([1], [])
    assert {row["id"] for row in stored(workshop)} == {1}


@pytest.mark.parametrize(
    ("query", "is_wrong"),
    [
        ("SELECT id, changed FROM t {{ 'LIMIT 5' }}", False),  # only rendering shows it
        ("SELECT id, changed FROM t LIMIT {{ params.row_limit }}", True),
        ("SELECT id, changed FROM t WHERE d < '{{ ds }}' LIMIT 5", True),
        ("SELECT id, changed FROM t {% if x %} LIMIT 5 {% endif %}", False),
        ("SELECT id, changed FROM t {# LIMIT 5 #}", False),
        ("SELECT TOP 5 id, changed FROM t", True),
        ("SELECT id, changed FROM t FETCH FIRST 5 ROWS ONLY", True),
        (r"SELECT 'it\'s' AS x, id, changed FROM t # LIMIT 5", False),  # of MySQL
        ("SELECT id, limit FROM t", False),
    ],
)
def test_check_without_a_connection_refuses_what_is_wrong_in_every_dialect(
    workshop: Workshop, query: str, is_wrong: bool
) -> None:
    workshop.add_model("churn", source={"query": query, "cursor": {"column": "changed"}})
    assert bool(find_problems(workshop.model())) == is_wrong


def test_a_predicate_of_partitions_is_one_condition(workshop: Workshop) -> None:
    workshop.add_model("churn", source={"partitions": {"predicates": ["id > 1); DROP TABLE t; --"]}})
    with pytest.raises(MlopsError, match="predicate"):
        require_usable(workshop.model(), "SELECT id FROM t", "sqlite")
