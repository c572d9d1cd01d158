"""The private servers that other tests stand on."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from support.servers import Server, start_mariadb, start_postgres


@pytest.mark.parametrize("engine", ["mariadb", "postgres"])
def test_each_new_database_is_empty_and_its_own(engine: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(engine)
    first, second = server.new_database(), server.new_database()
    for database in (first, second):
        database.execute("CREATE TABLE t (word VARCHAR(20))")
        database.execute(f"INSERT INTO t VALUES ('{database.database} 😀')")
    assert first.rows("SELECT word FROM t") == [(f"{first.database} 😀",)]
    assert second.rows("SELECT word FROM t") == [(f"{second.database} 😀",)]


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


@pytest.mark.parametrize("start", [start_mariadb, start_postgres])
def test_server_that_is_stopped_leaves_no_files(start: Callable[[], AbstractContextManager[Server]]) -> None:
    with start() as server:
        folder = server.log.parent
    assert not _is_running(server.process.pid)
    assert not folder.exists()


def test_durable_servers_wait_for_the_disk() -> None:
    with start_mariadb(is_durable=True) as server:
        asked = "SELECT @@innodb_flush_log_at_trx_commit, @@innodb_flush_method"
        assert server.new_database().rows(asked) == [(1, "O_DIRECT")]
    with start_postgres(is_durable=True) as server:
        asked = (
            "SELECT string_agg(setting, ' ') FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit')"
        )
        assert server.new_database().rows(asked) == [("on on",)]


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return status != "Z"
