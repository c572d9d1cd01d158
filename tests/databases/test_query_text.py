"""A query as people write it: comments, semicolons, percent signs, WITH, and names that occur twice."""

from __future__ import annotations

import pytest

from mlops_plugin.databases.database import read_rows
from mlops_plugin.databases.sql_text import MARK, bare, mark, named_marks, numbered_marks, question_marks
from mlops_plugin.errors import DatabaseError
from support.ways_in import WayIn


def _fill(way: WayIn) -> None:
    way.execute("CREATE TABLE t (id INTEGER, word VARCHAR(20))", "INSERT INTO t VALUES (1, '5% of; a')")


def marked(query: str) -> str:
    """Its parameters behind an equals sign or `<>`, as a statement around a user's query marks them."""
    return query.replace("= ?", f"= {MARK}").replace("<> ?", f"<> {MARK}")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id FROM t -- the end",
        "SELECT id FROM t -- the end; really\n",
        "SELECT id FROM t /* the end; */",
        "\n SELECT id FROM t ;\n ",
        "SELECT id FROM t; -- the end",
        "-- the beginning; (\nSELECT id -- and ' the middle\nFROM t;;\n/* the\n end */;",
        "WITH x AS (SELECT id FROM t) SELECT id FROM x ORDER BY id;",
        "SELECT id FROM t WHERE word LIKE '5% of; %' AND '--' <> word AND '%s %(x)s' <> word",
        "(SELECT id FROM t WHERE id = 1)",
        "SELECT id FROM t UNION ALL SELECT id FROM t WHERE id = 2",
        "SELECT t.id FROM t, (SELECT 7 AS id) other WHERE other.id % 4 = 3",
    ],
)
def test_query_is_read_and_described_as_it_is_written(way: WayIn, query: str) -> None:
    _fill(way)
    if way.engine == "sqlite" and query.startswith("("):
        query = query[1:-1]  # no statement begins with a bracket there
    with way.open() as database:
        assert database.describe(query).names == ["id"]
        assert database.read(query, batch_rows=10).read_all().to_pylist() == [{"id": 1}]


def test_percent_signs_beside_parameters_stay(way: WayIn) -> None:
    _fill(way)
    query = (
        "SELECT id % 2 AS odd, 7%(id + 1) AS a, '%s %(p1)s %% ?' AS b FROM t "
        "WHERE id = ? AND word LIKE '%a' AND word <> ?; -- 100% ?"
    )
    with way.open() as database:
        found = database.read(marked(query), batch_rows=10, parameters=(1, "%s %(p1)s")).read_all()
    assert found.to_pylist() == [{"odd": 1, "a": 1, "b": "%s %(p1)s %% ?"}]


@pytest.mark.parametrize(
    "query", ["SELECT id, word, id FROM t", "SELECT a.id, b.id FROM t a JOIN t b ON a.id = b.id ORDER BY 1"]
)
def test_two_columns_of_one_name_are_refused_by_name(way: WayIn, query: str) -> None:
    _fill(way)
    with way.open() as database:
        for ask in (database.describe, lambda query: database.read(query, batch_rows=1)):
            with pytest.raises(DatabaseError, match=r"connection 'way'.*'id'"):
                ask(query)


def test_escapes_of_mysql_hide_what_stands_in_them(mariadb_way: WayIn) -> None:
    _fill(mariadb_way)
    query = r"""SELECT 'it\'s ?; -- ' AS a, "\"?" AS b, 5--1 AS c FROM t WHERE id = ? # the end; ?"""
    with mariadb_way.open() as database:
        found = database.read(marked(query), batch_rows=10, parameters=(1,)).read_all()
    assert found.to_pylist() == [{"a": "it's ?; -- ", "b": '"?', "c": 6}]


@pytest.mark.parametrize(
    ("engine", "query", "expected"),
    [
        ("mysql", "SELECT 5--1", "SELECT 5--1"),
        ("sqlite", "SELECT 5--1", "SELECT 5"),
        ("mysql", "SELECT 1 /*! FOR UPDATE */; /* x */", "SELECT 1 /*! FOR UPDATE */"),
        ("postgresql", "SELECT $a$; -- $a$ ; -- $a$", "SELECT $a$; -- $a$"),
        ("postgresql", "SELECT a # b", "SELECT a # b"),
        ("postgresql", "SELECT E'\\'; --'; --", "SELECT E'\\'; --'"),
        ("sqlite", "SELECT '\\'; -- '", "SELECT '\\'"),
        ("ansi", "", ""),
        ("ansi", ";-- nothing", ""),
        ("ansi", "SELECT 'unfinished; --", "SELECT 'unfinished; --"),
    ],
)
def test_a_query_ends_where_its_engine_says(engine: str, query: str, expected: str) -> None:
    assert bare(query, engine) == expected


def quoted_text(value: object) -> str | None:
    return f"'{value}'" if isinstance(value, str) else None


@pytest.mark.parametrize("value", ["it's", "back\\slash", "\\'", "a ? b $1", "'; DROP TABLE t; --", ""])
def test_a_text_parameter_arrives_as_it_is(way: WayIn, value: str) -> None:
    way.execute("CREATE TABLE t (id INTEGER, word VARCHAR(40))")
    way.fill("t", [(1, value), (2, "other")])
    with way.open() as database:
        found = read_rows(database, "SELECT id, '?' AS mark FROM t WHERE word = ?", [value])
    assert found == [(1, "?")]


def test_parameters_are_marked_where_our_own_sql_has_a_question_mark() -> None:
    ours = """SELECT '?', "?", a FROM t WHERE b = ? AND `?` = [?] AND d = ?"""
    wanted = ours.replace("b = ?", "b = $1").replace("d = ?", "d = 'x'")
    assert numbered_marks(ours, [1, "x"], quoted_text) == (wanted, (1,))
    assert named_marks("SELECT ?, `?`, '?', ?") == "SELECT %(p1)s, `?`, '?', %(p2)s"


def test_question_marks_of_a_users_query_stay_beside_marked_parameters() -> None:
    statement = "SELECT * FROM (SELECT a ? 'b', '?' FROM t) q WHERE " + mark('"?" = ?')
    assert numbered_marks(statement, [1], quoted_text) == (statement.replace(MARK, "$1"), (1,))
    assert question_marks(statement) == statement.replace(MARK, "?")


@pytest.mark.parametrize("name", ["a:1", "a:2", ":colon", "x:y:3"])
def test_a_column_may_have_a_colon_in_its_name(way: WayIn, name: str) -> None:
    _fill(way)
    quoted = way.quoted(name)
    with way.open() as database:
        query = f"SELECT 1 AS a, 2 AS {quoted}, 3 AS {way.quoted('a:7')}"
        assert database.describe(query).names == ["a", name, "a:7"]
        assert database.read(query, batch_rows=1).read_all().to_pylist() == [{"a": 1, name: 2, "a:7": 3}]
