"""Cases are searched, sorted and paged by the database, through every way into one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.databases.opening import open_database
from mlops_plugin.errors import CaseError, DatabaseError, KeyColumnError, UnsupportedType
from mlops_plugin.serving.case_paging import Place
from mlops_plugin.serving.case_values import text_of
from mlops_plugin.serving.cases import MOST_COUNTED, CasePage, Cases, CaseView, open_cases
from support.ways_in import WayIn, way_in
from support.workshop import Workshop

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
        pages = _pages(cases, CaseView(sort="size", page_rows=25))
        assert [page.next is not None for page in pages] == [True, True, False]
        assert [page.rows.num_rows for page in pages] == [25, 25, 10]
        assert pages[0].rows.column_names == ["id", "name", "size", "note"]
        ids = [int(value) for page in pages for value in page.rows.column("id").to_pylist()]
        assert sorted(ids) == list(range(1, 61))
        assert cases.page(CaseView(place=Place((60,)))).rows.num_rows == 0


def _pages(cases: Cases, view: CaseView) -> list[CasePage]:
    """All pages, one after the other."""
    pages = [cases.page(view)]
    while (place := pages[-1].next) is not None:
        assert len(pages) < 100
        pages.append(cases.page(replace(view, place=place)))
    return pages


# Values that are equal, NULL or no double's: 0.1 and 0.7 in single precision.
_CROWD = [
    (n, n % 4 or None, [0.1, 0.7, None, -0.3, 1e30][n % 5], f"{'aAbÄ'[n % 4]}{n % 3}") for n in range(1, 38)
]


def _literal(value: Any) -> str:
    return "NULL" if value is None else f"'{value}'" if isinstance(value, str) else repr(value)


@contextmanager
def _crowd(way: WayIn, workshop: Workshop, key: Sequence[str]) -> Iterator[Cases]:
    single = {"odbc-mariadb": "FLOAT", "mysql": "DOUBLE"}.get(way.name, "REAL")  # a FLOAT is refused there
    rows = ", ".join(f"({', '.join(map(_literal, row))})" for row in _CROWD)
    way.execute(
        f"CREATE TABLE crowd (id INTEGER PRIMARY KEY, size INTEGER, weight {single}, word VARCHAR(20))",
        f"INSERT INTO crowd VALUES {rows}",
    )
    workshop.add_model("churn", key=list(key), showroom={"search": ["word"]})
    with open_database(way.spec) as database:
        yield Cases(workshop.model(), database, "SELECT * FROM crowd")


def test_pages_by_any_column_in_any_direction_are_the_whole_cut_in_pieces(
    way: WayIn, workshop: Workshop
) -> None:
    with _crowd(way, workshop, ["word", "id"]) as cases:
        for sort, is_descending, search in product((None, *cases.columns), (False, True), ("", "a")):
            view = CaseView(search, sort, is_descending, page_rows=5)
            whole = cases.page(replace(view, page_rows=100))
            assert (whole.previous, whole.next) == (None, None)
            everything = whole.rows.to_pylist()
            pages = _pages(cases, view)
            assert [row for page in pages for row in page.rows.to_pylist()] == everything
            # And back again, from the last page.
            back = [pages[-1]]
            while (place := back[-1].previous) is not None:
                back.append(cases.page(replace(view, place=place)))
            assert [page.rows.to_pylist() for page in back[::-1]] == [page.rows.to_pylist() for page in pages]


def test_pages_leave_no_case_out_and_are_in_order(way: WayIn, workshop: Workshop) -> None:
    with _crowd(way, workshop, ["id"]) as cases:
        for sort, is_descending in product(("id", "size", "weight"), (False, True)):
            pages = _pages(cases, CaseView(sort=sort, is_descending=is_descending, page_rows=4))
            found = [(row[sort], row["id"]) for page in pages for row in page.rows.to_pylist()]
            assert sorted(key for _, key in found) == [row[0] for row in _CROWD]
            values = [pair for pair in found if pair[0] is not None]
            assert values == sorted(values, reverse=is_descending)
            nulls = [place for place, pair in enumerate(found) if pair[0] is None]
            assert nulls in ([], list(range(len(nulls))), list(range(len(values), len(found))))


def test_as_many_are_counted_as_the_pages_hold(way: WayIn, workshop: Workshop) -> None:
    with _crowd(way, workshop, ["word", "id"]) as cases:
        for search in ("", "a", "Ä", "nothing like it"):
            held = sum(page.rows.num_rows for page in _pages(cases, CaseView(search, page_rows=10)))
            assert cases.count(search) == held


def test_no_more_are_counted_than_is_said(workshop: Workshop) -> None:
    for more, counted in ((MOST_COUNTED - 5, MOST_COUNTED), (3, MOST_COUNTED + 1)):
        workshop.add_rows(more)
        with open_cases(workshop.model(), workshop.deployment) as cases:
            assert cases.count("") == counted


def test_a_row_without_a_key_is_no_case(way: WayIn, workshop: Workshop) -> None:
    way.execute("CREATE TABLE loose (id INTEGER)", "INSERT INTO loose VALUES (1), (NULL), (2), (NULL), (3)")
    with open_database(way.spec) as database:
        cases = Cases(_model(workshop), database, "SELECT id FROM loose")
        assert [page.rows.to_pylist() for page in _pages(cases, CaseView(page_rows=2))] == [
            [{"id": 1}, {"id": 2}],
            [{"id": 3}],
        ]
        assert cases.count("") == 3


def test_large_keys_are_told_apart(way: WayIn, workshop: Workshop) -> None:
    keys = [2**53 + n for n in range(9)]  # a double knows every other one
    values = ", ".join(f"({key})" for key in keys)
    way.execute("CREATE TABLE large (id BIGINT PRIMARY KEY)", f"INSERT INTO large VALUES {values}")
    with open_database(way.spec) as database:
        cases = Cases(_model(workshop), database, "SELECT id + 0 AS id FROM large")
        pages = _pages(cases, CaseView(page_rows=2))
        assert [int(row["id"]) for page in pages for row in page.rows.to_pylist()] == keys
        assert cases.chosen([(keys[3],)]).read_all().to_pylist() == [{"id": keys[3]}]


@pytest.mark.parametrize("name", ["mysql", "duckdb"])
def test_keys_of_64_bits_without_a_sign_are_paged_and_chosen(
    name: str, request: pytest.FixtureRequest, workshop: Workshop, tmp_path: Path
) -> None:
    way, keys = way_in(name, request, tmp_path), [5, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1]
    kind = "BIGINT UNSIGNED" if name == "mysql" else "UBIGINT"
    way.execute(f"CREATE TABLE hashed (id {kind} PRIMARY KEY)")
    way.execute(f"INSERT INTO hashed VALUES {', '.join(f'({key})' for key in keys)}")
    with open_database(way.spec) as database:
        cases = Cases(_model(workshop), database, "SELECT id FROM hashed")
        pages = _pages(cases, CaseView(page_rows=2))
        assert [row["id"] for page in pages for row in page.rows.to_pylist()] == keys
        assert cases.chosen([(str(key),) for key in keys]).read_all().column("id").to_pylist() == keys
        with pytest.raises(CaseError, match="not a valid uint64"):
            cases.chosen([(2**64,)])


def test_pages_leave_no_case_out_that_a_collation_takes_for_another(way: WayIn, workshop: Workshop) -> None:
    kind, _ = _LOOSE[way.engine]
    if way.engine == "postgres":
        way.execute(_LOOSE_COLLATION)
    names = ["Ann", "ann", "ANN", "Bob", "bob", "Cy"]
    rows = ", ".join(f"('{name}', {number % 2})" for number, name in enumerate(names))
    way.execute(f"CREATE TABLE people (id {kind}, size INTEGER)", f"INSERT INTO people VALUES {rows}")
    with open_database(way.spec) as database:
        cases = Cases(_model(workshop), database, "SELECT id, size FROM people")
        for is_descending, page_rows in product((False, True), (1, 2, 4)):
            view = CaseView(is_descending=is_descending, page_rows=page_rows)
            pages = _pages(cases, view)
            assert sorted(row["id"] for page in pages for row in page.rows.to_pylist()) == sorted(names)
            assert all(page.rows.num_rows for page in pages)
            back = [pages[-1]]
            while (place := back[-1].previous) is not None:
                back.append(cases.page(replace(view, place=place)))
            assert {row["id"] for page in back for row in page.rows.to_pylist()} == {*names}


_KEYS_OF_BYTES = [b"", b"\0\xff", b"'?", b"\\x2f", b"\xff\0"]


def test_keys_of_bytes_are_paged_and_chosen(way: WayIn, workshop: Workshop) -> None:
    kind = {"mysql": "VARBINARY(9)", "postgres": "BYTEA"}.get(way.engine, "BLOB")
    begin = "'\\x" if way.engine == "postgres" else "X'"
    way.execute(f"CREATE TABLE hashes (id {kind} PRIMARY KEY)")
    for key in _KEYS_OF_BYTES:
        way.execute(f"INSERT INTO hashes VALUES ({begin}{key.hex()}')")
    with open_database(way.spec) as database:
        cases = Cases(_model(workshop), database, "SELECT id, '?' AS mark FROM hashes")
        for is_descending in (False, True):
            pages = _pages(cases, CaseView(page_rows=1, is_descending=is_descending))
            found = [row["id"] for page in pages for row in page.rows.to_pylist()]
            assert found == sorted(_KEYS_OF_BYTES, reverse=is_descending)
        some = cases.chosen([(key.hex(),) for key in _KEYS_OF_BYTES[1:4]])
        assert some.read_all().column("id").to_pylist() == sorted(_KEYS_OF_BYTES[1:4])


_MEMBERS = ["z", "10", "b", "9", "A"]  # which is not the order of texts


@pytest.mark.parametrize("name", ["mysql", "odbc-mariadb", "postgres", "duckdb"])
def test_pages_by_an_enum_leave_no_case_out(
    name: str, request: pytest.FixtureRequest, workshop: Workshop, tmp_path: Path
) -> None:
    way, members = way_in(name, request, tmp_path), ", ".join(f"'{each}'" for each in _MEMBERS)
    if way.engine == "mysql":
        kind = f"ENUM({members}) COLLATE utf8mb4_bin"
    else:
        kind = "mood"
        way.execute(f"CREATE TYPE mood AS ENUM ({members})")
    rows = ", ".join(f"('{one}', '{two}')" for one, two in zip(_MEMBERS, _MEMBERS[::-1], strict=True))
    way.execute(f"CREATE TABLE moods (id {kind}, other {kind})", f"INSERT INTO moods VALUES {rows}")
    with open_database(way.spec) as database:
        cases = Cases(_model(workshop), database, "SELECT id, other FROM moods")
        for sort, is_descending in product((None, "other"), (False, True)):
            view = CaseView(sort=sort, is_descending=is_descending, page_rows=2)
            found = [row["id"] for page in _pages(cases, view) for row in page.rows.to_pylist()]
            whole = cases.page(replace(view, page_rows=9)).rows.column("id").to_pylist()
            assert found == whole
            assert sorted(found) == sorted(_MEMBERS)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("TIME", "'-01:00:00'"),  # would be one o'clock
        ("DECIMAL(38, 38)", "0.12345678901234567890123456789012345678"),  # the last digit would be a zero
        ("BIT(8)", "b'1'"),  # would be bytes
    ],
)
def test_over_odbc_a_value_that_its_driver_changes_is_refused_as_in_a_dispatch(
    kind: str, value: str, request: pytest.FixtureRequest, workshop: Workshop, tmp_path: Path
) -> None:
    way = way_in("odbc-mariadb", request, tmp_path)
    way.execute(f"CREATE TABLE odd (id INTEGER, a {kind})", f"INSERT INTO odd VALUES (1, {value})")
    workshop.connections["source"] = way.airflow_connection
    workshop.add_model("churn", source={"query": "SELECT id, a FROM odd"})
    with (
        workshop.entered(),
        pytest.raises(UnsupportedType),
        open_cases(workshop.model(), workshop.deployment) as cases,
    ):
        cases.page(CaseView())


def test_behind_a_case_that_is_gone_there_is_nothing(way: WayIn, workshop: Workshop) -> None:
    with _crowd(way, workshop, ["id"]) as cases:
        assert cases.page(CaseView(sort="size", place=Place((99,)))).rows.num_rows == 0


def test_sorting_is_by_any_column_and_the_key_decides(way: WayIn, workshop: Workshop) -> None:
    with _cases(way, _model(workshop)) as cases:
        assert _ids(cases, page_rows=3) == [1, 2, 3]
        assert _ids(cases, is_descending=True, page_rows=3) == [60, 59, 58]
        assert _ids(cases, search="1", sort="id", is_descending=True)[:2] == [51, 41]
        assert _ids(cases, sort="name", page_rows=2)[:1] in ([1], [9])  # what an umlaut is, collations say
        with pytest.raises(CaseError, match="'size; DROP TABLE things'"):
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


@pytest.mark.parametrize("name", ["mysql", "odbc-mariadb", "postgres", "odbc-postgres"])
def test_what_is_shown_of_a_key_is_found(
    name: str, request: pytest.FixtureRequest, workshop: Workshop, tmp_path: Path
) -> None:
    way = way_in(name, request, tmp_path)
    moments = "'2026-01-02 03:04:05.6'", "'2026-01-02'"
    kinds = {"TIMESTAMP(6)": moments, "DOUBLE PRECISION": ("1e300", "2e300")}
    if way.engine == "mysql":
        kinds |= {"DATETIME(6)": moments, "VARBINARY(9)": ("X'00FF2F'", "X'61'")}
    else:
        kinds |= {"TIMESTAMPTZ": moments, "BYTEA": (r"'\x00FF2F'", r"'\x61'")}
    for number, (kind, (one, other)) in enumerate(kinds.items()):
        way.execute(f"CREATE TABLE t{number} (id {kind})", f"INSERT INTO t{number} VALUES ({one}), ({other})")
        with open_database(way.spec) as database:
            cases = Cases(_model(workshop), database, f"SELECT id FROM t{number}")
            for key in cases.page(CaseView()).rows.column("id").to_pylist():
                assert cases.count(text_of(key)) == 1, kind
            for odd in ("inf", "nan", "zz", "0001-01-01T00:00:00+14:00"):
                assert cases.count(odd) == 0, kind


def test_a_search_looks_into_the_key_where_nothing_else_is_configured(way: WayIn, workshop: Workshop) -> None:
    with _cases(way, _model(workshop)) as cases:
        assert _ids(cases, search="7") == [7, 17, 27, 37, 47, 57]


def test_chosen_cases_are_found_by_key(way: WayIn, workshop: Workshop) -> None:
    with _cases(way, _model(workshop)) as cases:
        rows = cases.chosen([("3",), (50,)]).read_all().to_pylist()
        assert [(int(row["id"]), row["name"]) for row in rows] == [(3, "Name 003"), (50, "Name 050")]
        with pytest.raises(CaseError, match=r"\b2 .*\b1 .*: 999;"):
            cases.chosen([(3,), (999,)])
        with pytest.raises(CaseError):
            cases.chosen([])


def test_a_key_of_several_columns_is_compared_whole(way: WayIn, workshop: Workshop) -> None:
    workshop.add_model("churn", key=["id", "name"])
    with _cases(way, workshop.model()) as cases:
        assert cases.chosen([("4", "Name 004")]).read_all().num_rows == 1
        with pytest.raises(CaseError, match="5 / Name 004"):
            cases.chosen([("5", "Name 004")])


def test_a_case_is_not_taken_for_another_that_its_collation_calls_equal(workshop: Workshop) -> None:
    with sqlite3.connect(workshop.folder / "source.db") as source:
        source.execute("CREATE TABLE parts (code TEXT COLLATE NOCASE, size INTEGER)")
        source.executemany("INSERT INTO parts VALUES (?, ?)", [("AB1", 1), ("ab1", 2), ("Ab1", 3)])
    source.close()
    workshop.add_model("churn", key=["code"], source={"query": "SELECT code, size FROM parts"})
    with workshop.ready(), open_cases(workshop.model(), workshop.deployment) as cases:
        assert cases.chosen([("ab1",)]).read_all().column("size").to_pylist() == [2]
        both = cases.chosen([("Ab1",), ("AB1",)]).read_all()
        assert sorted(both.column("size").to_pylist()) == [1, 3]


_LOOSE_COLLATION = (
    "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false)"
)
# What a collation takes for each other, and is another case.
_LOOSE = {
    "mysql": ("VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci", ("ann", "\u00c4nn", "Ann ")),
    "postgres": ("VARCHAR(20) COLLATE loose", ("ann", "\u00c4nn")),
    "sqlite": ("VARCHAR(20) COLLATE NOCASE", ("ann",)),
}


def test_a_case_that_is_gone_is_not_replaced_by_one_that_its_collation_calls_equal(
    way: WayIn, workshop: Workshop
) -> None:
    kind, others = _LOOSE[way.engine]
    if way.engine == "postgres":
        way.execute(_LOOSE_COLLATION)
    way.execute(f"CREATE TABLE people (id {kind}, size INTEGER)", "INSERT INTO people VALUES ('Ann', 1)")
    way.execute("INSERT INTO people VALUES ('Bob', 2)")
    with open_database(way.spec) as database:
        cases = Cases(_model(workshop), database, "SELECT id, size FROM people")
        assert cases.chosen([("Ann",)]).read_all().num_rows == 1
        for other in others:
            statement, parameters = cases.chosen_query([(other,)])
            assert database.read(statement, batch_rows=9, parameters=parameters).read_all().num_rows == 1
            for chosen in ([(other,)], [("Bob",), (other,)]):
                with pytest.raises(CaseError, match=f" 1 are not among the cases, or no longer: {other};"):
                    cases.chosen(chosen)
            with pytest.raises(CaseError, match=" 1 are not "):
                cases.chosen([("Ann",), (other,)])


_UUID = "6f9619ff-8b86-d011-b42d-00cf4fc964ff"


def test_a_key_that_is_only_written_otherwise_is_found(way: WayIn, workshop: Workshop) -> None:
    # Of each type: what is stored, and how else it may be asked for.
    spelled: dict[str, tuple[str, list[Any]]] = {
        "CHAR(6)": ("ab", ["ab"]),
        "DECIMAL(10, 2)": ("3.50", ["3.5", 3.5, "3.500"]),
        "DOUBLE PRECISION": ("4", ["4", 4, "4.0"]),
        "BIGINT": ("4", [4, "4", " 4"]),
    }
    if way.engine != "sqlite":
        spelled["UUID"] = (_UUID, [_UUID, _UUID.upper()])
    for number, (kind, (stored, asked)) in enumerate(spelled.items()):
        way.execute(f"CREATE TABLE t{number} (id {kind})", f"INSERT INTO t{number} VALUES ('{stored}')")
        with open_database(way.spec) as database:
            cases = Cases(_model(workshop), database, f"SELECT id FROM t{number}")
            for key in asked:
                assert cases.chosen([(key,)]).read_all().num_rows == 1, (kind, key)


def test_two_hundred_cases_are_found_each_by_its_own_key(way: WayIn, workshop: Workshop) -> None:
    with _cases(way, _model(workshop), rows=450) as cases:
        wanted = list(range(2, 402, 2))
        rows = cases.chosen([(str(key),) for key in reversed(wanted)]).read_all()
        assert [int(key) for key in rows.column("id").to_pylist()] == wanted
        assert rows.column("name").to_pylist()[-1] == "Name 400"
        with pytest.raises(CaseError, match="201 cases were chosen; the Showroom runs at most 200"):
            cases.chosen([(key,) for key in range(1, 202)])


def test_a_key_that_tells_no_cases_apart_is_refused_before_all_of_them_are_read(workshop: Workshop) -> None:
    workshop.add_rows(2000)
    workshop.add_model("churn", source={"query": "SELECT id % 2 AS id, a, b, c FROM customers"})
    with (
        open_cases(workshop.model(), workshop.deployment) as cases,
        pytest.raises(CaseError, match="more than 1000 rows have the keys"),
    ):
        cases.chosen([(1,)])


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
        pytest.raises(KeyColumnError, match=r"showroom\.cases: .*\bid\b"),
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
        assert len(_ids(cases, page_rows=25)) == 25
        with pytest.raises(DatabaseError, match="overflow"):
            cases.page(CaseView(place=Place((2000,)), page_rows=100))
