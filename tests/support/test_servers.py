"""The private servers that other tests stand on."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from support import kept_connections
from support.servers import Server, ServerDatabase, start_mariadb, start_postgres


@pytest.mark.parametrize("engine", ["mariadb", "postgres"])
def test_each_new_database_is_empty_and_its_own(engine: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(engine)
    first, second = server.new_database(), server.new_database()
    for database in (first, second):
        database.execute("CREATE TABLE t (word VARCHAR(20))")
        database.execute(f"INSERT INTO t VALUES ('{database.database} 😀')")
    assert first.rows("SELECT word FROM t") == [(f"{first.database} 😀",)]
    assert second.rows("SELECT word FROM t") == [(f"{second.database} 😀",)]


def test_database_that_is_taken_back_is_given_again_as_a_new_one(postgres: Server) -> None:
    used = postgres.new_database()
    used.execute(
        "CREATE SCHEMA other",
        "CREATE TABLE other.t (id SERIAL PRIMARY KEY, word TEXT)",
        "CREATE VIEW v AS SELECT * FROM other.t",
        "CREATE TYPE mood AS ENUM ('good')",
        "CREATE FUNCTION one() RETURNS INT LANGUAGE sql AS 'SELECT 1'",
        "CREATE EXTENSION citext",
        "REVOKE USAGE ON SCHEMA public FROM PUBLIC",
    )
    before = _number(used)
    _wait_until_left(used)
    again, new = _given_after(postgres, used), postgres.new_database()
    assert _number(again) == before
    assert again.database not in (used.database, new.database)
    dumped = [
        database.rows(
            "SELECT nspname, nspowner::regrole::text, nspacl::text, coalesce(relname, '')"
            " FROM pg_namespace AS n LEFT JOIN pg_class ON relnamespace = n.oid WHERE nspname !~ 'toast|temp'"
            " UNION ALL SELECT 'type', typname, '', '' FROM pg_type"
            " UNION ALL SELECT 'function', proname, '', '' FROM pg_proc"
            " UNION ALL SELECT 'extension', extname, '', '' FROM pg_extension ORDER BY 1, 2, 4"
        )
        for database in (again, new)
    ]
    assert dumped[0] == dumped[1]


def test_database_that_cannot_be_made_as_new_is_not_given_again(postgres: Server) -> None:
    used = postgres.new_database()
    for change in (
        "ALTER DATABASE {name} SET search_path = other",
        "REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC",
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
        "SELECT lo_create(0)",
    ):
        used.execute(change.format(name=used.database))
        before = _number(used)
        _wait_until_left(used)
        given = _given_after(postgres, used)
        assert _number(given) > before, change
        used = given


def test_database_that_somebody_is_connected_to_is_given_again_later(postgres: Server) -> None:
    used = postgres.new_database()
    number = _number(used)
    with used.cursor() as cursor:
        given = _given_after(postgres, used)
        assert _number(given) != number
        cursor.execute("SELECT 1")
    deadline = time.monotonic() + 30
    while _number(given) != number and time.monotonic() < deadline:
        time.sleep(0.1)
        given = postgres.new_database()
    assert _number(given) == number


def test_what_a_connection_has_set_and_locked_is_not_left_to_the_next(postgres: Server) -> None:
    database = postgres.new_database()
    database.execute("SET application_name = 'first'", "CREATE TEMP TABLE t ()", "SELECT pg_advisory_lock(7)")
    look = "SELECT current_setting('application_name'), to_regclass('t')"
    assert database.rows(look) == [("", None)]
    number = "(SELECT oid FROM pg_database WHERE datname = current_database())"
    assert database.rows(f"SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND database = {number}") == []
    database.execute("BEGIN", "CREATE TABLE u ()")  # rolled back with what it began
    assert database.rows("SELECT to_regclass('u')") == [(None,)]
    database.execute(f"ALTER DATABASE {database.database} SET application_name = 'second'")
    assert database.rows(look) == [("second", None)]


def test_a_connection_that_has_ended_meanwhile_is_replaced(postgres: Server) -> None:
    database = postgres.new_database()
    ((process,),) = database.rows("SELECT pg_backend_pid()")
    assert database.rows("SELECT pg_backend_pid()") == [(process,)]
    administrator = database.connect()
    with administrator.cursor() as cursor:
        cursor.execute(f"SELECT pg_terminate_backend({process}, 30000)")  # and waits for its end
    administrator.close()
    assert database.rows("SELECT 1") == [(1,)]


def _given_after(server: Server, used: ServerDatabase) -> ServerDatabase:
    """What the server gives next if only this one has been taken back."""
    server.taken_back.clear()
    server.take_back(used)
    return server.new_database()


def _wait_until_left(used: ServerDatabase) -> None:
    """PostgreSQL ends a connection some time after its client has closed it."""
    kept_connections.let_go(used.port)
    administration = replace(used, database="postgres")
    connected = f"SELECT 1 FROM pg_stat_activity WHERE datname = '{used.database}' AND usename IS NOT NULL"
    deadline = time.monotonic() + 30
    while administration.rows(connected) and time.monotonic() < deadline:
        time.sleep(0.01)


def _number(database: ServerDatabase) -> int:
    """PostgreSQL's own, which a new name does not change; those of later databases are higher."""
    ((number,),) = database.rows("SELECT oid::bigint FROM pg_database WHERE datname = current_database()")
    return int(number)


@pytest.mark.parametrize("start", ["start_mariadb", "start_postgres"])
def test_server_and_its_files_end_with_a_process_that_is_killed(start: str) -> None:
    # Not pytest's folder: PostgreSQL's user must get in.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        script = (
            f"import time\nfrom support import servers\n"
            f"with servers.{start}() as server:\n print(server.process.pid, flush=True)\n time.sleep(60)"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
            env={**os.environ, "TMPDIR": folder},
        ) as owner:
            assert owner.stdout is not None
            pid = int(owner.stdout.readline())
            owner.kill()
        deadline = time.monotonic() + 30
        while (_is_running(pid) or list(Path(folder).iterdir())) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not _is_running(pid)
        assert list(Path(folder).iterdir()) == []


@pytest.mark.parametrize(
    ("start", "settings", "expected"),
    [
        (start_mariadb, "SELECT @@innodb_flush_log_at_trx_commit, @@innodb_flush_method", (1, "O_DIRECT")),
        (
            start_postgres,
            "SELECT string_agg(setting, ' ') FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit')",
            ("on on",),
        ),
    ],
)
def test_durable_server_waits_for_the_disk_and_leaves_no_files_when_stopped(
    start: Callable[..., AbstractContextManager[Server]], settings: str, expected: tuple[object, ...]
) -> None:
    with start(is_durable=True) as server:
        folder = server.log.parent
        assert server.administration.rows(settings) == [expected]
    assert not _is_running(server.process.pid)
    assert not folder.exists()


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return status != "Z"
