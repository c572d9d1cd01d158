"""The processes of this checkout's Airflow: found by a mark in their environment, not by name or pid file.

Every process that `start` begins carries `MLOPS_LOCAL_STACK=<checkout>`, and so do its descendants: a lost
file, a reboot or a pid that a stranger got in the meantime cannot mislead `stop`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from local_stack.progress import LocalStackError, Tick

MARK = "MLOPS_LOCAL_STACK"
COMPONENT = "MLOPS_LOCAL_COMPONENT"
PROC = Path("/proc")
TERM_WAIT_S = 10.0  # the scheduler with LocalExecutor may hang on SIGTERM
KILL_WAIT_S = 20.0
SEEN_WITHIN_S = 5.0


@dataclass(frozen=True)
class Process:
    """A running process of this checkout."""

    pid: int
    component: str
    environment: Mapping[str, str]

    @property
    def is_leader(self) -> bool:
        """Whether `start` started it, and not one of its children (a task, for example)."""
        try:
            return os.getsid(self.pid) == self.pid
        except ProcessLookupError:
            return False


def find(checkout: Path) -> list[Process]:
    """All living processes of this checkout's Airflow that this user may see."""
    if not (PROC / "self" / "environ").exists():
        raise LocalStackError(
            "make up, down and status need Linux's /proc; elsewhere use docker-compose.yaml"
        )
    return [process for pid in _pids() if (process := _read(pid, checkout)) is not None]


def components(checkout: Path) -> dict[str, Process]:
    """The living processes that `start` has started, by component."""
    return {process.component: process for process in find(checkout) if process.is_leader}


def start(
    component: str, command: Sequence[str], log: Path, *, env: Mapping[str, str], checkout: Path
) -> subprocess.Popen[bytes]:
    """Begin a component in a session of its own, so that closing the terminal does not end it."""
    # setproctitle (which Airflow uses) would overwrite the environment that /proc shows; this forbids it.
    marked = {**env, MARK: str(checkout), COMPONENT: component, "SPT_NOENV": "1"}
    if log.exists():
        log.replace(previous(log))
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=checkout,
            env=marked,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
        )
    # While the kernel loads a program, /proc shows no environment, so the process could not be found yet.
    seen_by = time.monotonic() + SEEN_WITHIN_S
    while process.poll() is None and MARK not in _environment(process.pid) and time.monotonic() < seen_by:
        time.sleep(0.001)
    return process


def previous(log: Path) -> Path:
    """Where `start` keeps the log of the previous start."""
    return log.with_suffix(".previous.log")


def stop(checkout: Path, tick: Tick, component: str | None = None) -> int:
    """End every process of this checkout's Airflow, or of one component; returns how many there were.

    Raises if one survives.
    """

    def find_them() -> list[Process]:
        return [process for process in find(checkout) if component in (None, process.component)]

    found = find_them()
    for process in found:
        if process.is_leader:
            _signal(process, checkout, signal.SIGTERM)
    started = time.monotonic()
    while remaining := find_them():
        waited = time.monotonic() - started
        tick(f"{len(remaining)} processes left")
        if waited > TERM_WAIT_S:
            for process in remaining:
                _signal(process, checkout, signal.SIGKILL)
        if waited > TERM_WAIT_S + KILL_WAIT_S:
            pids = ", ".join(str(process.pid) for process in remaining)
            raise LocalStackError(f"these processes survived SIGKILL: {pids}")
        time.sleep(0.2)
    return len(found)


def check_port(host: str, port: int) -> None:
    """Raise `LocalStackError`, naming the holder if it can be known, unless `host:port` is free."""
    taken = f"port {port} is taken by {{}}; stop it, or choose another port: make up PORT={port + 1}"
    if (holder := listener(port)) is not None:
        raise LocalStackError(taken.format(holder))
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as failure:
        if failure.errno == errno.EADDRINUSE:
            raise LocalStackError(taken.format("another process")) from failure
        raise LocalStackError(f"cannot listen on {host} port {port}: {failure.strerror}") from failure


def listener(port: int) -> str | None:
    """Who listens on a TCP port, IPv4 or IPv6, in words; None if nobody does."""
    inodes = {inode for table in ("tcp", "tcp6") for inode in _listening(PROC / "net" / table, port)}
    if not inodes:
        return None
    sockets = {f"socket:[{inode}]" for inode in inodes}
    for pid in _pids():
        with contextlib.suppress(OSError):
            if any(str(entry.readlink()) in sockets for entry in (PROC / str(pid) / "fd").iterdir()):
                command = (
                    (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
                owner = _environment(pid).get(MARK)
                whose = f", the Airflow of {owner}" if owner else ""
                return f"process {pid} ({command.strip()[:60]}{whose})"
    return "a process of another user"


def _listening(table: Path, port: int) -> Iterator[str]:
    """Inodes of the sockets that listen on a port, from one of Linux's socket tables."""
    if not table.exists():
        return
    for line in table.read_text().splitlines()[1:]:
        fields = line.split()
        local, state, inode = fields[1], fields[3], fields[9]
        if state == "0A" and int(local.rpartition(":")[2], 16) == port:
            yield inode


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())


def _environment(pid: int) -> dict[str, str]:
    """A process's environment as it was started; empty for a stranger's, a dead or a zombie process."""
    try:
        raw = (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return {}
    pairs = (entry.decode(errors="replace").partition("=") for entry in raw.split(b"\0") if b"=" in entry)
    return {name: value for name, _, value in pairs}


def _read(pid: int, checkout: Path) -> Process | None:
    environment = _environment(pid)
    if environment.get(MARK) != str(checkout):
        return None
    return Process(pid, environment.get(COMPONENT, "?"), environment)


def _signal(process: Process, checkout: Path, number: int) -> None:
    """Signal a process unless it ended in the meantime and its pid is now somebody else's."""
    if _read(process.pid, checkout) is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
