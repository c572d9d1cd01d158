"""Each connection to a server asks after a host that is gone; the kernel says when it will."""

from __future__ import annotations

import re
import time
from collections.abc import Container
from contextlib import suppress
from pathlib import Path

import pytest

from mlops_plugin.config.schema import EventsConfig
from mlops_plugin.databases.database import read_rows
from mlops_plugin.events.migrating import upgrade
from mlops_plugin.events.store import EventStore
from mlops_plugin.keepalive import KEEPALIVE_IDLE_S
from support.event_stories import connection_of
from support.servers import ServerDatabase
from support.ways_in import way_in

# Which timer runs for a socket, and after how many hundredths of a second it rings; see proc(5).
_LINE = re.compile(
    r"\s*\d+: \S+ \w+:(?P<port>\w{4}) 01 \S+ (?P<timer>\w\w):(?P<left>\w+) \S+ +\d+ +\d+ (?P<inode>\d+) "
)
_KEEPALIVE = "02"


def connections(port: int) -> dict[str, float]:
    """Of this process to a port here: after how many seconds the kernel asks whether the host is there.

    A negative number if it will not.
    """
    ours = {target for path in Path("/proc/self/fd").iterdir() if (target := target_of(path))}
    lines = [_LINE.match(line) for line in Path("/proc/net/tcp").read_text().splitlines()]
    there = [line for line in lines if line and int(line["port"], 16) == port]
    return {
        line["inode"]: int(line["left"], 16) / 100 if line["timer"] == _KEEPALIVE else -1
        for line in there
        if f"socket:[{line['inode']}]" in ours
    }


def target_of(path: Path) -> str:
    with suppress(OSError):  # it was closed meanwhile
        return str(path.readlink())
    return ""


def require_kept_alive(port: int, others: Container[str]) -> None:
    until = time.monotonic() + 60  # the server may have to acknowledge something first
    while (
        not (found := [s for inode, s in connections(port).items() if inode not in others]) or min(found) < 0
    ):
        assert time.monotonic() < until, f"connections {found}"
        time.sleep(0.05)
    assert max(found) <= KEEPALIVE_IDLE_S


@pytest.mark.parametrize("name", ["mysql", "odbc-postgres", "postgres"])
def test_database_whose_host_has_gone_is_asked_for(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    way = way_in(name, request, tmp_path)
    assert way.server is not None
    others = connections(way.server.port)
    with way.open() as database:
        read_rows(database, "SELECT 1 AS one")
        require_kept_alive(way.server.port, others)


@pytest.mark.parametrize("engine", ["mariadb", "postgres"])
def test_event_store_whose_host_has_gone_is_asked_for(engine: str, request: pytest.FixtureRequest) -> None:
    database: ServerDatabase = request.getfixturevalue(f"{engine}_database")
    others = connections(database.port)
    with EventStore.open(EventsConfig(), connection_of(database), Path("/nonexistent")) as store:
        upgrade(store.address)
        store.now()
        require_kept_alive(database.port, others)
