"""A fork server, as a process that forks tasks starts it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from mlops_plugin.workers import forking
from mlops_plugin.workers.starting import start_fork_server


@contextlib.contextmanager
def started_fork_server() -> Iterator[int]:
    """The process id of one that was started where a secret is in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MY_SECRET", "s3cret")
        patch.setenv(forking.VARIABLE, "")
        start_fork_server()
        process = forking.SERVERS.pop()
        _wait_until_it_listens(os.environ[forking.VARIABLE])
        yield process.pid
        assert process.stdin is not None
        process.stdin.close()  # as when whoever started it is gone
        assert process.wait(60) == -signal.SIGKILL


@contextlib.contextmanager
def fork_server_beside() -> Iterator[str]:
    """The value of `forking.VARIABLE` for who wants to use one; this process does not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(forking.VARIABLE, "")
        start_fork_server()
        name = os.environ[forking.VARIABLE]
    process = forking.SERVERS.pop()
    _wait_until_it_listens(name)
    yield name
    assert process.stdin is not None
    process.stdin.close()
    process.wait(60)


def wait_until(look: Callable[[], bool], within_s: float = 120) -> None:
    """Wait, for up to two minutes unless said otherwise."""
    deadline = time.monotonic() + within_s
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _wait_until_it_listens(name: str) -> None:
    def listens() -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            return client.connect_ex(f"\0{name}") == 0

    wait_until(listens)
