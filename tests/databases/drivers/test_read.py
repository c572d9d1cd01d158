"""What holds for reading through every way in: streaming, one snapshot, parameters, and readable failures."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.databases.engines.registry import engine_named
from mlops_plugin.databases.opening import open_database
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import ConnectionUnusable, DatabaseError, DriverMissing, UnsupportedType
from support.servers import PASSWORD, Server, start_mariadb, start_postgres
from support.ways_in import WayIn, spec_of, sqlite_way

_ROWS = "INSERT INTO t VALUES (1, 'ä?', 0.5), (2, '😀', NULL), (3, NULL, 1e300)"


def _fill(way: WayIn) -> None:
    text = "VARCHAR(20)" + (" CHARACTER SET utf8mb4" if way.engine == "mysql" else "")
    way.execute(f"CREATE TABLE t (id BIGINT, word {text}, score DOUBLE PRECISION)", _ROWS)


def test_batches_are_no_larger_than_asked_for(way: WayIn) -> None:
    _fill(way)
    with way.open() as database:
        batches = list(database.read("SELECT id, word, score FROM t ORDER BY id", batch_rows=2))
    assert all(1 <= batch.num_rows <= 2 for batch in batches)
    assert pa.Table.from_batches(batches).to_pydict() == {
        "id": [1, 2, 3],
        "word": ["ä?", "😀", None],
        "score": [0.5, None, 1e300],
    }


def test_a_wide_table_comes_in_batches_of_fewer_rows(tmp_path: Path) -> None:
    way = sqlite_way(tmp_path)
    way.execute("CREATE TABLE t (x REAL)")
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) "
    query = f"{numbers} SELECT i AS id, {', '.join(f'0.5 AS x{number}' for number in range(999))} FROM n"
    with way.open() as database:
        rows = [batch.num_rows for batch in database.read(query, batch_rows=50_000)]
    assert max(rows) == 1_000
    assert sum(rows) == 3_000


def test_empty_result_still_has_its_columns_and_types(way: WayIn) -> None:
    _fill(way)
    with way.open() as database:
        found = database.read("SELECT id, word, score FROM t WHERE id > 99", batch_rows=10).read_all()
        assert found.num_rows == 0
        assert found.schema.names == ["id", "word", "score"]
        assert found.schema.types == [pa.int64(), pa.string(), pa.float64()]
        assert database.describe("SELECT id, word, score FROM t;\n").types == found.schema.types


def test_one_row_arrives(way: WayIn) -> None:
    _fill(way)
    with way.open() as database:
        found = database.read("SELECT word FROM t WHERE id = 2", batch_rows=50_000).read_all()
    assert found.to_pylist() == [{"word": "😀"}]


def test_single_precision_numbers_do_not_spill_into_the_rows_beside_them(way: WayIn) -> None:
    single = {"odbc-mariadb": "FLOAT", "mysql": "DOUBLE"}.get(way.name, "REAL")  # a FLOAT is refused there
    values = [0.5, None, 1.25, -3.0, None, 1e30, 0.75]
    rows = ", ".join(f"({n}, {'NULL' if value is None else value})" for n, value in enumerate(values))
    way.execute(f"CREATE TABLE numbers (id INTEGER, value {single})", f"INSERT INTO numbers VALUES {rows}")
    with way.open() as database:
        for batch_rows in (1, 2, 3, 100):
            query = "SELECT value FROM numbers ORDER BY id"
            found = database.read(query, batch_rows=batch_rows).read_all().column(0).to_pylist()
            assert found == [None if value is None else pytest.approx(value) for value in values]


def test_parameters_fill_marks_and_nothing_else(way: WayIn) -> None:
    _fill(way)
    query = "SELECT id, '?' AS mark, '100%' AS percent FROM t WHERE word = ? AND id >= ? /* ? */ -- ?\n"
    with way.open() as database:
        found = database.read(query, batch_rows=10, parameters=("ä?", 1)).read_all()
        injected = database.read(query, batch_rows=10, parameters=("' OR 1=1 -- ", 1)).read_all()
        missing = database.read(query, batch_rows=10, parameters=(None, 1)).read_all()
    assert found.to_pylist() == [{"id": 1, "mark": "?", "percent": "100%"}]
    assert injected.num_rows == 0
    assert missing.num_rows == 0


def test_reader_that_is_dropped_half_way_leaves_a_usable_connection(way: WayIn) -> None:
    _fill(way)
    with way.open() as database:
        reader = database.read("SELECT id FROM t ORDER BY id", batch_rows=1)
        reader.read_next_batch()
        del reader
        database.read("SELECT id FROM t ORDER BY id", batch_rows=1)  # not even begun
        found = database.read("SELECT count(*) AS n FROM t", batch_rows=1).read_all()
    assert found.to_pylist() == [{"n": 3}]


def test_names_with_spaces_quotes_and_unicode_arrive(way: WayIn) -> None:
    quote = engine_named(way.engine).quote
    names = ["a b", 'do"uble', "back`tick", "ümläut", "per%cent", "ask?"]
    if way.name == "odbc-mariadb":
        names.remove("ask?")  # MariaDB's driver takes the mark for a parameter even in a quoted name
    way.execute(f"CREATE TABLE {quote('my table')} ({', '.join(f'{quote(name)} INTEGER' for name in names)})")
    with way.open() as database:
        found = database.read(f"SELECT * FROM {quote('my table')}", batch_rows=10).read_all()
        assert found.schema.names == names
        assert database.columns(TableName("my table")) == tuple(names)
        assert database.columns(TableName("no table")) is None


def test_missing_table_and_wrong_column_are_the_drivers_own_words(way: WayIn) -> None:
    _fill(way)
    for query in ("SELECT * FROM no_such_thing", "SELECT no_such_thing FROM t"):
        with way.open() as database, pytest.raises(DatabaseError, match="no_such_thing") as error:
            database.read(query, batch_rows=10)
        assert "connection 'way'" in str(error.value)
        with way.open() as database, pytest.raises(DatabaseError, match="no_such_thing"):
            database.describe(query)


# Fails for the last of many rows, when the first have long arrived.
_FAILS_LATE = {
    "mysql": "SELECT CAST(seq AS SIGNED) AS id,"
    " CASE WHEN seq = 150000 THEN (SELECT 1 UNION SELECT 2) ELSE 1 END AS a FROM seq_1_to_150000",
    "postgres": "SELECT n AS id, 1 / (150000 - n) AS a FROM generate_series(1, 150000) AS t(n)",
    "sqlite": "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 150000)"
    " SELECT n AS id, CASE WHEN n = 150000 THEN abs(-9223372036854775807 - 1) ELSE 1 END AS a FROM t",
    "duckdb": "SELECT range AS id, CASE WHEN range = 149999 THEN error('late') ELSE 1 END AS a"
    " FROM range(150000)",
}


def test_error_after_the_first_rows_is_the_drivers_own_words(way: WayIn) -> None:
    _fill(way)
    with way.open() as database, pytest.raises(DatabaseError) as error:
        database.read(_FAILS_LATE[way.engine], batch_rows=1000).read_all()
    assert error.value.conn_id == way.spec.conn_id
    assert error.value.driver_says


def test_interval_that_arrow_does_not_hold_is_an_error_of_the_database(postgres: Server) -> None:
    way = WayIn("postgres", spec_of(postgres.new_database()), None)
    with way.open() as database, pytest.raises(DatabaseError, match=r"'way': reading rows.*overflow"):
        database.read("SELECT INTERVAL '3000000 hours' AS a", batch_rows=9).read_all()


def test_statement_without_rows_is_no_query(way: WayIn) -> None:
    _fill(way)
    with way.open() as database, pytest.raises(DatabaseError):
        database.read("UPDATE t SET id = 4", batch_rows=10).read_all()
    assert way.rows("SELECT id FROM t ORDER BY id")[0] == (1,)


@pytest.mark.parametrize("start", [start_mariadb, start_postgres])
def test_server_that_is_gone_is_named(start: Callable[[], AbstractContextManager[Server]]) -> None:
    with start() as server, contextlib.ExitStack() as opened:
        new = server.new_database()
        specs = [spec_of(new, conn_type) for conn_type in (new.engine, "odbc")]
        databases = [opened.enter_context(open_database(spec)) for spec in specs]
        for database in databases:
            assert database.read("SELECT 1 AS one", batch_rows=1).read_all().num_rows == 1
        server.kill()
        for database in databases:
            with pytest.raises(DatabaseError, match="connection 'way'"):
                database.read("SELECT 1 AS one", batch_rows=1).read_all()
    for spec in specs:
        with pytest.raises(DatabaseError, match="connection '") as error:
            open_database(spec)
        _assert_no_secret(error.value)


@pytest.mark.parametrize(
    ("engine", "conn_type"),
    [("mariadb", "mysql"), ("mariadb", "odbc"), ("postgres", "postgres"), ("postgres", "odbc")],
)
def test_wrong_password_is_said_and_not_shown(
    engine: str, conn_type: str, request: pytest.FixtureRequest
) -> None:
    database = request.getfixturevalue(engine).new_database()
    for secret in ("wr:ong@pa/ss %41+é", "semi;colon{brace", "quo'te\"s"):
        with pytest.raises(DatabaseError, match="connection '") as error:
            open_database(spec_of(database, conn_type, password=secret))
        assert database.user in str(error.value)
        _assert_no_secret(error.value, secret)


def _assert_no_secret(error: BaseException, secret: str = PASSWORD) -> None:
    seen: BaseException | None = error
    while seen is not None:
        assert secret not in str(seen)
        seen = seen.__cause__


def test_missing_odbc_driver_names_what_is_installed_and_what_to_install() -> None:
    spec = ConnectionSpec("c", "odbc", host="h", password="s3cret", extra={"driver": "PostgreSQL Ultra"})
    with pytest.raises(DriverMissing) as error:
        open_database(spec)
    for words in ("'PostgreSQL Ultra'", "'MariaDB Unicode'", "apt-get install odbc-postgresql", "'c'"):
        assert words in str(error.value)
    _assert_no_secret(error.value, "s3cret")


_OPEN_BY_ODBC = """
from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.databases.opening import open_database
from mlops_plugin.errors import DriverMissing
try:
    open_database(ConnectionSpec("c", "odbc", host="h", extra={"driver": "MariaDB Unicode"}))
except DriverMissing as error:
    print(error)
"""


def test_missing_odbc_library_names_the_package(tmp_path: Path) -> None:
    (tmp_path / "libodbc.so.2").touch()  # found first, and no library
    done = subprocess.run(
        [sys.executable, "-c", _OPEN_BY_ODBC],
        env={"PYTHONPATH": str(Path(__file__).parents[3] / "plugins"), "LD_LIBRARY_PATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert "connection 'c'" in done.stdout
    assert "apt-get install unixodbc" in done.stdout


_OPEN_EACH = """
from pathlib import Path
from mlops_plugin.config.schema import EventsConfig
from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.databases.opening import open_database
from mlops_plugin.errors import DriverMissing
from mlops_plugin.events.address import StoreAddress

def store(kind):
    events = EventsConfig(connection="c")
    return StoreAddress.of(events, ConnectionSpec("c", kind, host="h"), Path()).create_engine()

opened = [(open_database, ConnectionSpec("c", kind, host="/h.db", extra={"driver": "MariaDB Unicode"}))
          for kind in ("mysql", "postgres", "sqlite", "odbc", "duckdb")]
for open_it, what in [*opened, (store, "mysql"), (store, "postgres")]:
    try:
        open_it(what)
    except DriverMissing as error:
        print(str(error).rpartition("pip install ")[2])
"""


def test_a_driver_that_is_not_installed_is_named_by_its_package(tmp_path: Path) -> None:
    drivers = {
        "mysql": "mysql-connector-python",
        "adbc_driver_postgresql": "adbc-driver-postgresql",
        "adbc_driver_sqlite": "adbc-driver-sqlite",
        "arrow_odbc": "arrow-odbc",
        "adbc_driver_duckdb": "duckdb",
    }
    for module in (*drivers, "psycopg2"):  # found first, and says what Python says of a missing one
        (tmp_path / f"{module}.py").write_text(f"raise ModuleNotFoundError(name={module!r})\n")
    done = subprocess.run(
        [sys.executable, "-c", _OPEN_EACH],
        env={"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[3] / 'plugins'}"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    of_store = ["mysql-connector-python", "psycopg2-binary"]
    assert done.stdout.splitlines() == [*drivers.values(), *of_store]


def test_missing_data_source_and_missing_driver_name_are_said() -> None:
    with pytest.raises(ConnectionUnusable, match="DSN"):
        open_database(ConnectionSpec("c", "odbc", extra={"dsn": "nowhere"}))
    with pytest.raises(ConnectionUnusable, match="connection 'c'"):
        open_database(ConnectionSpec("c", "odbc", host="h"))
    with pytest.raises(ConnectionUnusable, match="'http'"):
        open_database(ConnectionSpec("c", "http", host="h"))


def test_missing_sqlite_file_is_an_error_and_stays_missing(tmp_path: Path) -> None:
    path = tmp_path / "nothing.db"
    with open_database(ConnectionSpec("c", "sqlite", host=str(path))) as database:
        assert database.columns(TableName("t")) is None
        with pytest.raises(DatabaseError, match=r"nothing\.db"):
            database.read("SELECT 1", batch_rows=1)
    assert not path.exists()
    other = tmp_path / "no.db"
    other.write_text("this is no database, " * 100)
    with pytest.raises(DatabaseError, match="connection 'c'"):
        open_database(ConnectionSpec("c", "sqlite", host=str(other)))


@pytest.mark.parametrize(
    ("literals", "expected"),
    [
        (["NULL"] * 3 + ["1", "0.5"], [None, None, None, 1.0, 0.5]),
        (["1", "2.5", "9007199254740992"], [1.0, 2.5, 2.0**53]),
        (["NULL", "NULL", "'text'"], [None, None, "text"]),
        (["NULL", "NULL", "x'00'"], [None, None, b"\x00"]),
        (["1", "0.5", "9007199254740993"], None),
        (["1", "'1'"], None),
        (["0.5", "x'00'"], None),
    ],
)
def test_sqlite_column_of_mixed_values_is_right_or_refused(
    literals: list[str], expected: list[Any] | None, tmp_path: Path
) -> None:
    way = sqlite_way(tmp_path)
    way.execute("CREATE TABLE t (a)", *(f"INSERT INTO t VALUES ({literal})" for literal in literals))
    with way.open() as database:
        if expected is None:
            with pytest.raises(UnsupportedType, match="column 'a'"):
                database.read("SELECT a FROM t", batch_rows=1)
        else:
            found = database.read("SELECT a FROM t ORDER BY rowid", batch_rows=1).read_all()
            assert found.column("a").to_pylist() == expected


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("conn_type", "driver"),
    [("mysql", ""), ("postgres", ""), ("odbc", "MariaDB Unicode"), ("odbc", "PostgreSQL Unicode")],
)
def test_connecting_to_a_server_that_never_answers_ends(conn_type: str, driver: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        spec = ConnectionSpec(
            "c",
            conn_type,
            host="127.0.0.1",
            port=silent.getsockname()[1],
            login="u",
            password="s3cret",
            schema="d",
            extra={"driver": driver},
        )
        with pytest.raises(DatabaseError, match="connection '"):
            open_database(spec)
