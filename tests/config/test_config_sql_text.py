from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_plugin.config.sql_text import check_connection, check_query, check_table
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import SinkError


@pytest.mark.parametrize(
    ("query", "checked"),
    [
        ("SELECT 1", "SELECT 1"),
        ("\n  SELECT 1;\n", "SELECT 1"),
        ("SELECT 1; ;; ", "SELECT 1"),
        ("SELECT 1; -- done", "SELECT 1; -- done"),
        (r"SELECT 'it\'s; fine' # a; b", r"SELECT 'it\'s; fine' # a; b"),
        ("SELECT {{ ';'.join(x) }} {# a; b #}", "SELECT {{ ';'.join(x) }} {# a; b #}"),
    ],
)
def test_a_query_passes_without_blanks_and_semicolons_at_its_end(query: str, checked: str) -> None:
    assert check_query(query) == checked


@pytest.mark.parametrize("query", ["", " \n\t", ";", "; ;"])
def test_an_empty_query_is_refused(query: str) -> None:
    with pytest.raises(ValueError, match=r"SELECT"):
        check_query(query)


def test_a_query_holds_no_nul_which_marks_parameters() -> None:
    with pytest.raises(ValueError, match="NUL"):
        check_query("SELECT 'a\0b'")


@pytest.mark.parametrize("conn_id", ["warehouse", "a.b-c_1", "x" * 250])
def test_a_connection_id_passes(conn_id: str) -> None:
    assert check_connection(conn_id) == conn_id


@pytest.mark.parametrize(
    "written",
    [
        "mysql://root:hunter2@db/x",
        "Driver=MariaDB;PWD=hunter2",
        "root@db hunter2",
        "root hunter2",
        "hunter2!",
        "",
        "x" * 251,
        "warehouse\n",
    ],
)
def test_what_is_no_connection_id_is_refused_and_not_shown(written: str) -> None:
    with pytest.raises(ValueError, match="Airflow connection") as refusal:
        check_connection(written)

    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    "table", ["t", "s.t", "c.s.t", '"a.b"', 's."a ""b"" c"', "Größe", "two words", "a-b"]
)
def test_a_table_name_passes(table: str) -> None:
    assert check_table(table) == table


@pytest.mark.parametrize(
    "table", ["", ".", "a.", ".a", "a.b.c.d", "a..b", '"a', 'a"b"', "t; DROP TABLE t", " a", "a ", "a\0"]
)
def test_what_is_no_table_name_is_refused(table: str) -> None:
    with pytest.raises(ValueError, match=r"'schema\.table'"):
        check_table(table)


@given(st.text(alphabet='ab."; \t\n', max_size=12))
def test_every_table_name_that_passes_is_one_for_the_databases(table: str) -> None:
    try:
        check_table(table)
    except ValueError:
        return
    try:
        parts = TableName.parse(table).parts
    except SinkError:
        pytest.fail(f"{table!r} passed")
    assert 1 <= len(parts) <= 3
