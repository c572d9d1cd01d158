"""The database servers of a soak and its staging disk, which fail as they are told, some for a while."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from support.faulty_proxy import FaultyProxy, Manner, faulty_proxy
from support.lasting_faults import LastingFaults
from support.servers import Server, ServerDatabase, start_mariadb, start_postgres
from support.workshop import Workshop

_BACK_S = 60.0  # until a killed server must answer again
_DISK_BYTES = 32 * 1024 * 1024
_BUSY_TRIES = 20
_NETWORK_S = (1.0, 12.0)
_STAGING_S = (1.0, 8.0)


@dataclass
class SoakedServers:
    """MariaDB has source, sink and events, PostgreSQL Airflow's own tables and a second sink."""

    mariadb: Server
    postgres: Server
    proxies: list[FaultyProxy]
    sinks: Mapping[str, ServerDatabase]  # past the proxies
    source: ServerDatabase
    choose: random.Random
    lasting: LastingFaults

    def kill(self, server: Server) -> bool:
        """End a server as a power cut would, and start it again."""
        server.kill()
        server.process = subprocess.Popen(
            server.process.args,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=server.log.parent,
            start_new_session=True,
        )
        deadline = time.monotonic() + _BACK_S
        while time.monotonic() < deadline:
            with suppress(Exception):
                server.administration.execute("SELECT 1")
                return True
            time.sleep(0.1)
        raise AssertionError(f"{server.engine} did not come back; its log: {server.log}")

    def treat(self, manner: Manner) -> bool:
        """The network to one of the servers hangs or is slow for a while."""
        proxy = self.choose.choice(self.proxies)

        def begin() -> bool:
            proxy.manner = manner
            return True

        def end() -> None:
            proxy.manner = "pass"

        return self.lasting.begin(f"network to port {proxy.port}", begin, end, _NETWORK_S)

    def reset(self) -> bool:
        self.choose.choice(self.proxies).reset()
        return True


@contextmanager
def soaked_servers(workshop: Workshop, choose: random.Random) -> Iterator[SoakedServers]:
    """Start them, and give the workshop its connections. What they have committed survives a SIGKILL."""
    with (
        start_mariadb("--innodb-flush-log-at-trx-commit=2") as mariadb,
        start_postgres("synchronous_commit=on", "max_connections=200") as postgres,
    ):
        rows, second = mariadb.new_database(), postgres.new_database()
        workshop.metadata = postgres.new_database()
        with faulty_proxy(rows.host, rows.port) as first, faulty_proxy(second.host, second.port) as other:
            behind, second_behind = replace(rows, port=first.port), replace(second, port=other.port)
            workshop.connections = {
                **dict.fromkeys(("source", "sink", "events"), behind.airflow_uri()),
                "by_odbc": behind.airflow_uri("odbc"),
                "second": second_behind.airflow_uri(),
            }
            sinks = {"sink": rows, "by_odbc": rows, "second": second}
            lasting = LastingFaults(choose)
            yield SoakedServers(mariadb, postgres, [first, other], sinks, rows, choose, lasting)


@dataclass(frozen=True)
class SoakedDisk:
    """A small disk of its own under staging."""

    folder: Path
    lasting: LastingFaults

    def fill(self) -> bool:
        """Nobody can write another byte for a while."""
        return self.lasting.begin("staging", self._fill, self._filler.unlink, _STAGING_S)

    def forbid_writing(self) -> bool:
        """It is read-only for a while; False if files were being written all the time."""
        return self.lasting.begin("staging", self._forbid, self._allow, _STAGING_S)

    @property
    def _filler(self) -> Path:
        return self.folder / "filler"

    def _fill(self) -> bool:
        with suppress(OSError), self._filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        return True

    def _forbid(self) -> bool:
        for _ in range(_BUSY_TRIES):
            if _mount("-o", "remount,ro", str(self.folder)):
                return True
            time.sleep(0.05)
        return False

    def _allow(self) -> None:
        assert _mount("-o", "remount,rw", str(self.folder))


@contextmanager
def soaked_disk(folder: Path, lasting: LastingFaults) -> Iterator[SoakedDisk | None]:
    """Mount it; None if we may not, which takes root."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.getuid() != 0 or not _mount("-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(folder)):
        yield None
        return
    try:
        yield SoakedDisk(folder, lasting)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def _mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode == 0
