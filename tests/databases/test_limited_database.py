"""No wait for a database's server is longer than its limit, on each way in, whatever the driver can do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from support.silent_proxy import SilentProxy, silent_proxy
from support.ways_in import INTO_MARIADB, WayIn, way_in

ROOT = Path(__file__).parents[2]
OUTER_LIMIT_S = 120  # far more than any of the limits below, far less than for ever
ON_SERVERS = ("odbc-mariadb", "mysql", "odbc-postgres", "postgres")
ROWS = {
    "mysql": "(SELECT CAST(seq AS SIGNED) AS seq FROM seq_1_to_200000) t",
    "postgres": "generate_series(1, 200000) AS t(seq)",
}

# Does what it is told, and prints how it ended.
CLIENT = """
import json, sys
from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.databases.opening import open_database
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import DatabaseError
from mlops_plugin.wait_limits import Limits

spec, doing, query = ConnectionSpec(**json.loads(sys.argv[1])), sys.argv[2], sys.argv[3]
limits = Limits(connect_s=4, statement_s=4, commit_s=4)
if doing == "slow":
    limits = Limits(connect_s=4, statement_s=60, commit_s=4)
errors, rows = [], 0

def attempt(work):
    try:
        return work()
    except DatabaseError as error:
        errors.append((type(error).__name__, error.doing, str(error)))

def read(database):
    global rows
    for batch in database.read(query, batch_rows=1000):
        rows += batch.num_rows

def work():
    with open_database(spec, limits=limits) as database:
        if doing in ("read", "slow"):
            attempt(lambda: read(database))
        elif doing == "describe":
            attempt(lambda: database.describe(query))
        elif doing == "execute":
            attempt(lambda: database.execute(query))
        elif doing == "columns":
            attempt(lambda: database.columns(TableName(query)))
        elif doing == "commit":
            database.execute(query)
            attempt(database.commit)
        attempt(database.rollback)

attempt(work)
print(json.dumps({"errors": errors, "rows": rows}))
"""


@pytest.fixture(params=ON_SERVERS)
def server_way(request: pytest.FixtureRequest, tmp_path: Path) -> WayIn:
    return way_in(request.param, request, tmp_path)


def ask(way: WayIn, proxy: SilentProxy, doing: str, query: str = "") -> tuple[list[list[str]], int]:
    """What another process got that did this through the proxy: errors (type, doing, words), rows read."""
    spec = json.dumps(asdict(replace(way.spec, port=proxy.port)))
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, spec, doing, query],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": "plugins", "PATH": "/usr/bin:/bin"},
        timeout=OUTER_LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return found["errors"], found["rows"]


def proxy_of(way: WayIn) -> tuple[str, int]:
    assert way.server is not None
    return way.server.host, way.server.port


def test_server_that_never_greets_is_given_up(server_way: WayIn) -> None:
    with silent_proxy(*proxy_of(server_way)) as proxy:
        proxy.is_silent = True
        ((_, doing, _),), _ = ask(server_way, proxy, "read", "SELECT 1 AS one")
    assert doing == "connecting"


@pytest.mark.parametrize(
    "doing",
    [
        "read",
        "commit",
        *(pytest.param(doing, marks=pytest.mark.long) for doing in ("describe", "execute", "columns")),
    ],
)
def test_server_that_goes_silent_is_given_up(server_way: WayIn, doing: str) -> None:
    server_way.execute("CREATE TABLE silent_here (id INTEGER PRIMARY KEY)")
    query = {
        "execute": "DELETE FROM silent_here",
        "commit": "INSERT INTO silent_here VALUES (1)",
        "columns": "silent_here",
    }.get(doing, "SELECT id FROM silent_here")
    with silent_proxy(*proxy_of(server_way)) as proxy:
        proxy.at = re.compile(b"COMMIT" if doing == "commit" else b"silent_here")
        if doing == "commit":
            proxy.armed_by = re.compile(b"silent_here")
        (first, second), _ = ask(server_way, proxy, doing, query)
        assert proxy.heard == 1, "nothing else was sent to the silent server"
    kind, _, words = first
    assert kind == "ServerSilent"
    assert f"127.0.0.1:{proxy.port}" in words
    assert "4 s" in words
    assert second[0] == "ServerSilent"  # and the connection is not used again: a late answer misleads nobody
    assert server_way.rows("SELECT count(*) FROM silent_here") == [(0,)]


def test_server_that_goes_silent_after_its_first_rows_is_given_up(server_way: WayIn) -> None:
    query = f"SELECT seq AS id, REPEAT('x', 400) AS filler FROM {ROWS[server_way.engine]}"
    with silent_proxy(*proxy_of(server_way)) as proxy:
        proxy.after_bytes = 40_000_000
        (first, _), rows = ask(server_way, proxy, "read", query)
    assert first[0] == "ServerSilent"
    assert 0 < rows < 200_000 or server_way.name == "odbc-mariadb"  # its driver may collect all rows first


def test_slow_query_is_no_silent_server(server_way: WayIn) -> None:
    asleep = "SLEEP(8)" if server_way.name in INTO_MARIADB else "CAST(pg_sleep(8) AS text)"
    with silent_proxy(*proxy_of(server_way)) as proxy:
        found = ask(server_way, proxy, "slow", f"SELECT 1 AS one, {asleep} AS slept")
    assert found == ([], 1)
