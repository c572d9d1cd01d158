"""Settings of a server, or of its user, under which it would change values or leave rows out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest

from mlops_plugin.databases.database import read_rows
from mlops_plugin.errors import DatabaseError, KeyColumnError
from support.servers import Server
from support.sinks import MODES, Mode, predictions
from support.ways_in import INTO_MARIADB, WayIn, spec_of, sqlite_odbc_way


@pytest.fixture(params=INTO_MARIADB)
def lax_way(request: pytest.FixtureRequest, mariadb: Server) -> Iterator[WayIn]:
    """A way into a MariaDB whose sessions cut values and results, if they do not say otherwise."""
    server = mariadb.new_database()
    conn_type = "odbc" if request.param.startswith("odbc") else None
    (before,) = mariadb.administration.rows("SELECT @@GLOBAL.sql_mode, @@GLOBAL.sql_select_limit")
    mariadb.administration.execute("SET GLOBAL sql_mode = '', GLOBAL sql_select_limit = 2")
    yield WayIn(request.param, spec_of(server, conn_type), server)
    mariadb.administration.execute(
        f"SET GLOBAL sql_mode = '{before[0]}', GLOBAL sql_select_limit = {before[1]}"
    )


def test_value_that_does_not_fit_is_refused(lax_way: WayIn) -> None:
    lax_way.write(predictions([1], pa.array([7])), "append")
    lax_way.execute("ALTER TABLE predictions MODIFY prediction TINYINT")
    for mode in MODES:
        with pytest.raises(DatabaseError, match=r"(?i)out of range"):
            lax_way.write(predictions([2, 3], pa.array([8, 1000]), dispatch=mode), mode, dispatch=mode)
    assert lax_way.rows("SELECT id, prediction FROM predictions") == [(1, 7)]


@pytest.mark.parametrize("sql_mode", ["EMPTY_STRING_IS_NULL", "ORACLE"])
def test_empty_text_stays_one(lax_way: WayIn, mariadb: Server, sql_mode: str) -> None:
    mariadb.administration.execute(f"SET GLOBAL sql_mode = '{sql_mode}'")
    way = replace(lax_way, is_narrow=True)
    for mode in MODES:
        rows = predictions([1, 2], pa.array(["", "x"]), dispatch=mode)
        way.write(rows, mode, dispatch=mode, table=f"t_{mode}")
        assert way.rows(f"SELECT prediction FROM t_{mode} ORDER BY id") == [("",), ("x",)]


@pytest.mark.parametrize("mode", MODES)
def test_key_of_zero_is_not_numbered_anew(mariadb_way: WayIn, mode: Mode) -> None:
    mariadb_way.execute(
        "CREATE TABLE predictions (id BIGINT AUTO_INCREMENT PRIMARY KEY, prediction DOUBLE, dispatch_id "
        "VARCHAR(36), model TEXT, artifact_sha256 VARCHAR(64), predicted_at DATETIME(6))"
    )
    mariadb_way.write(predictions([0, 7]), mode)
    assert mariadb_way.rows("SELECT id FROM predictions ORDER BY id") == [(0,), (7,)]


def test_all_rows_are_read(lax_way: WayIn) -> None:
    lax_way.execute("CREATE TABLE t (id INT)", "INSERT INTO t VALUES (1), (2), (3), (4), (5)")
    with lax_way.open() as database:
        assert database.read("SELECT id FROM t", batch_rows=10).read_all().num_rows == 5


@pytest.mark.parametrize("conn_type", ["postgres", "odbc"])
def test_texts_of_a_database_in_latin1_arrive_as_they_are(
    postgres: Server, monkeypatch: pytest.MonkeyPatch, conn_type: str
) -> None:
    server = postgres.database(f"latin_{conn_type}")
    created = f"CREATE DATABASE {server.database} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
    postgres.administration.execute(created)
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")  # as a locale of ISO-8859-1 does over ODBC
    way = WayIn(conn_type, spec_of(server, conn_type), server)
    texts = ["é", "Ã©"]  # in Latin-1 the second one has the bytes that the first one has in UTF-8
    way.write(predictions(texts), "upsert")
    with way.open() as database:
        read = database.read("SELECT id FROM predictions", batch_rows=10).read_all()
    assert sorted(read.column(0).to_pylist()) == sorted(texts)
    assert sorted(server.rows("SELECT id FROM predictions")) == sorted((text,) for text in texts)


def test_table_without_a_schema_is_the_one_on_the_search_path(postgres: Server) -> None:
    server = postgres.new_database()
    way = WayIn("postgres", spec_of(server), server)
    way.write(predictions([1]), "upsert")
    server.execute("CREATE SCHEMA mlops", f"ALTER DATABASE {server.database} SET search_path = mlops, public")
    way.write(predictions([1, 2], dispatch="d2"), "upsert", dispatch="d2")
    way.write(predictions([3], dispatch="d3"), "append", dispatch="d3")
    assert way.stored("id, dispatch_id", "public.predictions") == [(1, "d2"), (2, "d2"), (3, "d3")]


def test_settings_of_a_data_source_change_no_value(postgres: Server) -> None:
    own = "SET DateStyle TO 'SQL, DMY'; SET extra_float_digits TO -3"
    changes = {"LFConversion": 1, "TrueIsMinus1": 1, "BoolsAsChar": 0, "ConnSettings": own}
    server = postgres.new_database()
    extra = {"driver": server.odbc_driver, **changes}
    way = WayIn("odbc-postgres", spec_of(server, "odbc", extra=extra), server)
    texts, thirds, moments = ["a\nb", "a\r\nb"], [1 / 3, 0.1 + 0.2], [datetime(2026, 2, 3, 4, 5, 6, 7)] * 2
    rows = predictions(texts, thirds, is_true=pa.array([True, False]), at=pa.array(moments))
    way.write(rows, "append")
    columns = ["id", "prediction", "is_true", "at"]
    with way.open() as database:
        read = database.read("SELECT id, prediction, is_true, at FROM predictions", batch_rows=10).read_all()
    assert read.sort_by("id").to_pylist() == rows.select(columns).sort_by("id").to_pylist()
    assert way.stored(", ".join(columns)) == sorted(zip(texts, thirds, (True, False), moments, strict=True))


@pytest.mark.parametrize("changes", [{"CHARSET": "utf8"}, {"INITSTMT": "SET NAMES latin1"}])
def test_character_set_of_a_data_source_changes_no_text(mariadb: Server, changes: dict[str, str]) -> None:
    server = mariadb.new_database()
    extra = {"driver": server.odbc_driver, **changes}
    way = WayIn("odbc-mariadb", spec_of(server, "odbc", extra=extra), server)
    texts = ["é", "Ã©", "😀"]
    way.write(predictions(texts), "upsert")
    with way.open() as database:
        read = database.read("SELECT id FROM predictions", batch_rows=10).read_all()
    assert sorted(read.column(0).to_pylist()) == sorted(texts)
    assert way.stored("id") == sorted((text,) for text in texts)


def test_data_source_without_transactions_keeps_no_half_of_a_dispatch(tmp_path: Path) -> None:
    way = sqlite_odbc_way(tmp_path)
    way = replace(way, spec=replace(way.spec, extra={**way.spec.extra, "NoTXN": 1}))
    way.write(predictions([1, 2]), "replace")
    with pytest.raises(KeyColumnError):
        way.write(predictions([3, 4, 3], dispatch="d2"), "replace", dispatch="d2")
    assert way.stored("id, dispatch_id") == [(1, "d1"), (2, "d1")]


def test_data_source_that_reconnects_goes_on_with_no_other_session(mariadb: Server) -> None:
    server = mariadb.new_database()
    extra = {"driver": server.odbc_driver, "AUTO_RECONNECT": 1}
    way = WayIn("odbc-mariadb", spec_of(server, "odbc", extra=extra), server)
    with way.open() as database:
        ((session,),) = read_rows(database, "SELECT CAST(CONNECTION_ID() AS CHAR) AS session")
        server.execute(f"KILL {session}")
        with pytest.raises(DatabaseError):
            database.execute("DO GET_LOCK('mlops', 1)")
