"""Cases are searched, sorted and paged by the database, through every way into one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.databases.opening import open_database
from mlops_plugin.errors import CaseError, DatabaseError, KeyColumnError
from mlops_plugin.serving.cases import Cases, CaseView, open_cases
from ways_in import WayIn
from workshop import Workshop

# A comment at the end, marks in a literal: what people write.
_QUERY = "SELECT name, id, size, '100% ?' AS note FROM things -- and so on"


def _model(workshop: Workshop, **showroom: Any) -> ModelConfig:
    workshop.add_model("churn", showroom={"cases": "SELECT id FROM customers", **showroom})
    return workshop.model()


@contextmanager
def _cases(way: WayIn, model: ModelConfig, rows: int = 60) -> Iterator[Cases]:
    names = {7: "O''Brien_100%", 8: "O''Brienx100x", 9: "ä!b"}
    values = ", ".join(
        f"({n}, '{names.get(n, f'Name {n:03}')}', {'NULL' if n % 10 == 0 else n % 3})"
        for n in range(1, rows + 1)
    )
    way.execute(
        "CREATE TABLE things (id INTEGER PRIMARY KEY, name VARCHAR(50), size INTEGER)",
        f"INSERT INTO things VALUES {values}",
    )
    with open_database(way.spec) as database:
        yield Cases(model, database, _QUERY)


def _ids(cases: Cases, **view: Any) -> list[int]:
    return [int(value) for value in cases.page(CaseView(**view)).rows.column("id").to_pylist()]


def test_pages_hold_every_case_once(way: WayIn, workshop: Workshop) -> None:
    with _cases(way, _model(workshop)) as cases:
        pages = [cases.page(CaseView(sort="size", page=n, page_rows=25)) for n in (1, 2, 3)]
        assert [page.has_more for page in pages] == [True, True, False]
        assert [page.rows.num_rows for page in pages] == [25, 25, 10]
        assert pages[0].rows.column_names == ["id", "name", "size", "note"]
        ids = [int(value) for page in pages for value in page.rows.column("id").to_pylist()]
        assert sorted(ids) == list(range(1, 61))
        assert cases.page(CaseView(page=9)).rows.num_rows == 0


def test_sorting_is_by_any_column_and_the_key_decides(way: WayIn, workshop: Workshop) -> None:
    with _cases(way, _model(workshop)) as cases:
        assert _ids(cases, page_rows=3) == [1, 2, 3]
        assert _ids(cases, is_descending=True, page_rows=3) == [60, 59, 58]
        assert _ids(cases, search="1", sort="id", is_descending=True)[:2] == [51, 41]
        assert _ids(cases, sort="name", page_rows=2)[:1] in ([1], [9])  # what an umlaut is, collations say
        with pytest.raises(CaseError, match="no column 'size; DROP TABLE things'"):
            cases.page(CaseView(sort="size; DROP TABLE things"))


def test_searching_takes_text_as_it_is(way: WayIn, workshop: Workshop) -> None:
    with _cases(way, _model(workshop, search=["name", "id"])) as cases:
        assert _ids(cases, search="name 012") == [12]
        assert _ids(cases, search="O'Brien_100%") == [7]
        assert _ids(cases, search="!") == [9]
        assert _ids(cases, search="' OR '1'='1") == []
        assert _ids(cases, search="60") == [60]
        assert _ids(cases, search="\ud800") == []
        assert _ids(cases, search="Name\0 060") == [60]
        assert _ids(cases, page=10**40) == []


def test_a_search_looks_into_the_key_where_nothing_else_is_configured(way: WayIn, workshop: Workshop) -> None:
    with _cases(way, _model(workshop)) as cases:
        assert _ids(cases, search="7") == [7, 17, 27, 37, 47, 57]


def test_chosen_cases_are_found_by_key(way: WayIn, workshop: Workshop) -> None:
    with _cases(way, _model(workshop)) as cases:
        rows = cases.chosen([("3",), (50,)]).read_all().to_pylist()
        assert [(int(row["id"]), row["name"]) for row in rows] == [(3, "Name 003"), (50, "Name 050")]
        with pytest.raises(CaseError, match=r"of 2 chosen cases 1 are not .*: 999;"):
            cases.chosen([(3,), (999,)])
        with pytest.raises(CaseError, match="at least one"):
            cases.chosen([])


def test_a_key_of_several_columns_is_compared_whole(way: WayIn, workshop: Workshop) -> None:
    workshop.add_model("churn", key=["id", "name"])
    with _cases(way, workshop.model()) as cases:
        assert cases.chosen([("4", "Name 004")]).read_all().num_rows == 1
        with pytest.raises(CaseError, match="5 / Name 004"):
            cases.chosen([("5", "Name 004")])


def test_without_a_query_of_its_own_the_showroom_shows_the_sources(workshop: Workshop) -> None:
    workshop.add_model(
        "churn", source={"query": "SELECT id, a, b, c FROM customers WHERE '{{ ds }}' > '2020-01-01'; "}
    )
    with open_cases(workshop.model(), workshop.deployment) as cases:
        assert cases.columns == ("id", "a", "b", "c")
        assert cases.page(CaseView()).rows.num_rows == 5
        assert cases.sample().num_rows == 5


def test_cases_without_the_key_are_refused(workshop: Workshop) -> None:
    model = _model(workshop, cases="SELECT a FROM customers")
    with (
        pytest.raises(KeyColumnError, match=r"showroom\.cases: the query returns no key column id"),
        open_cases(model, workshop.deployment),
    ):
        pass


def test_a_page_reads_no_more_than_a_page(workshop: Workshop) -> None:
    # Only the first rows can be read: whoever reads on, fails. (Types of SQLite are told from 1000 values.)
    with sqlite3.connect(workshop.folder / "source.db") as source:
        source.execute("CREATE TABLE mine (id INTEGER PRIMARY KEY, a REAL)")
        source.executemany("INSERT INTO mine VALUES (?, 1)", [(n,) for n in range(1, 3001)])
    source.close()
    query = "SELECT id, CASE WHEN id > 2000 THEN abs(-9223372036854775807 - 1) ELSE a END AS a FROM mine"
    model = _model(workshop, cases=query)
    with open_cases(model, workshop.deployment) as cases:
        assert len(_ids(cases, page_rows=25, page=1)) == 25
        with pytest.raises(DatabaseError, match="overflow"):
            cases.page(CaseView(page=21, page_rows=100))
