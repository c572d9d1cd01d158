"""One dispatch at a time writes a table: waits end and name who is writing; no dead worker is in the way."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from mlops_plugin.databases.database import Database, read_rows
from mlops_plugin.databases.sink import table_lock
from mlops_plugin.databases.sink.table_lock import only_writer
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import DatabaseError, TrySuperseded
from mlops_plugin.wait_limits import Limits
from support.silent_proxy import silent_proxy
from support.ways_in import INTO_MARIADB, WayIn, way_in

TABLE = TableName("predictions")
PATIENT = Limits(lock_s=90)
IMPATIENT = Limits(lock_s=4)


@pytest.fixture(params=["odbc-mariadb", "mysql", "odbc-postgres", "postgres"])
def server_way(request: pytest.FixtureRequest, tmp_path: Path) -> WayIn:
    way = way_in(request.param, request, tmp_path)
    way.execute("CREATE TABLE predictions (id INTEGER PRIMARY KEY)")
    return way


@contextmanager
def writing(way: WayIn, limits: Limits = PATIENT, dispatch: str = "d1") -> Iterator[Database]:
    with way.open(limits=limits) as database, only_writer(database, TABLE, dispatch, unchecked):
        yield database
        database.rollback()


def unchecked() -> None:
    """No newer try."""


def test_holder_is_named_to_who_waits_in_vain(server_way: WayIn) -> None:
    own = "CONNECTION_ID()" if server_way.name in INTO_MARIADB else "pg_backend_pid()"
    with writing(server_way, dispatch="d-first") as first:
        ((session,),) = read_rows(first, f"SELECT {own} AS id")
        with pytest.raises(DatabaseError) as caught, writing(server_way, Limits(lock_s=1), "d-second"):
            pass
    assert str(session) in caught.value.driver_says
    assert "user" in caught.value.driver_says
    if server_way.name not in INTO_MARIADB:  # MariaDB does not tell what a session is called
        assert "d-first" in caught.value.driver_says
    with writing(server_way):
        pass  # it is free again


def test_lock_of_a_worker_that_was_cut_off_is_free_soon(server_way: WayIn) -> None:
    assert server_way.server is not None
    limits = Limits(connect_s=5, commit_s=2, statement_s=5, idle_s=2)
    with silent_proxy(server_way.server.host, server_way.server.port) as proxy:
        cut_off = replace(server_way, spec=replace(server_way.spec, port=proxy.port))
        with cut_off.open(limits=limits) as database, only_writer(database, TABLE, "d1", unchecked):
            database.execute("INSERT INTO predictions VALUES (1)")
            proxy.is_silent = True  # the server does not hear that the worker has gone
            with writing(server_way) as successor:
                successor.execute("INSERT INTO predictions VALUES (1)")
                successor.commit()
    assert server_way.rows("SELECT id FROM predictions") == [(1,)]


def test_try_that_is_superseded_waits_no_longer(server_way: WayIn) -> None:
    def check() -> None:
        raise TrySuperseded("a newer try has started")

    with (
        writing(server_way),
        server_way.open(limits=replace(PATIENT, statement_s=4)) as database,
        pytest.raises(TrySuperseded),
        only_writer(database, TABLE, "d2", check),
    ):
        pass


@pytest.fixture(params=["odbc-postgres", "postgres"])
def postgres_way(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WayIn:
    way = way_in(request.param, request, tmp_path)
    way.execute("CREATE TABLE predictions (id INTEGER PRIMARY KEY)")
    monkeypatch.setattr(table_lock, "_TURN_S", 1.0)
    return way


@contextmanager
def suspended_in_the_middle_of_its_rows(way: WayIn, dispatch: str) -> Iterator[list[DatabaseError]]:
    """A process that writes stands still; it goes on at the end. Yields what it then meets."""
    schema, met = pa.schema([("id", pa.int32())]), list[DatabaseError]()
    is_suspended, go_on = threading.Event(), threading.Event()

    def rows() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch([pa.array([1], pa.int32())], schema)
        is_suspended.set()
        assert go_on.wait(60)
        yield pa.record_batch([pa.array([2], pa.int32())], schema)

    def write() -> None:
        try:
            with writing(way, dispatch=dispatch) as database:
                database.insert(TABLE, pa.RecordBatchReader.from_batches(schema, rows()))
                database.commit()
        except DatabaseError as error:
            met.append(error)

    process = threading.Thread(target=write)
    process.start()
    assert is_suspended.wait(60)
    try:
        yield met
    finally:
        go_on.set()
        process.join(60)


def test_session_of_a_suspended_try_is_ended_by_a_newer_one(postgres_way: WayIn) -> None:
    with suspended_in_the_middle_of_its_rows(postgres_way, "d1") as met:
        with writing(postgres_way, dispatch="d1") as successor:
            successor.execute("INSERT INTO predictions VALUES (1)")
            successor.commit()
        assert met == []
    assert postgres_way.rows("SELECT id FROM predictions") == [(1,)]
    assert len(met) == 1


def test_session_of_another_dispatch_is_never_ended(postgres_way: WayIn) -> None:
    with suspended_in_the_middle_of_its_rows(postgres_way, "d1") as met:
        with pytest.raises(DatabaseError) as caught, writing(postgres_way, IMPATIENT, "d2"):
            pass
        assert "d1" in caught.value.driver_says
    assert (postgres_way.rows("SELECT id FROM predictions ORDER BY id"), met) == ([(1,), (2,)], [])


def test_try_that_is_superseded_ends_no_session(postgres_way: WayIn) -> None:
    def check() -> None:
        raise TrySuperseded("a newer try has started")

    with (
        suspended_in_the_middle_of_its_rows(postgres_way, "d1") as met,
        postgres_way.open(limits=IMPATIENT) as database,
        pytest.raises(TrySuperseded),
        only_writer(database, TABLE, "d1", check),
    ):
        pass
    assert (postgres_way.rows("SELECT id FROM predictions ORDER BY id"), met) == ([(1,), (2,)], [])


@pytest.mark.long  # it waits ten seconds
def test_file_that_another_process_has_locked_is_given_up(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    way = way_in("sqlite", request, tmp_path)
    way.execute("CREATE TABLE predictions (id INTEGER PRIMARY KEY)")
    with way.open() as first, way.open() as second:
        first.execute("INSERT INTO predictions VALUES (1)")
        with pytest.raises(DatabaseError, match="database is locked"):
            second.execute("INSERT INTO predictions VALUES (2)")
        first.commit()
    assert way.rows("SELECT id FROM predictions") == [(1,)]


@pytest.mark.parametrize("name", INTO_MARIADB)
def test_lock_is_asked_for_once_a_turn(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    way = way_in(name, request, tmp_path)
    assert way.server is not None
    asked: list[str] = []
    with silent_proxy(way.server.host, way.server.port) as proxy:
        proxy.at, proxy.stays_open = re.compile(rb"\bGET_LOCK"), True
        proxy.on_match = lambda: asked.append("GET_LOCK")
        with replace(way, spec=replace(way.spec, port=proxy.port)).open() as database:
            assert database.engine.take_lock(database, TABLE, "d1", 1)
    assert len(asked) == 1 if name == "mysql" else 1 <= len(asked) <= 2  # prepared, then run
