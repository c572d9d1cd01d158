"""Asks `workers.fork_server` for processes; without one, `workers.starting` starts a new Python.

A model's process inherits an allow-list of environment variables, as all others may be secrets.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

# The name of the server's socket; set where tasks are forked, and not passed on to models.
VARIABLE = "MLOPS_FORK_SERVER"
_ANSWER_S = 5.0
_UNKNOWN_STATUS = 255  # the server ended before the process, and took the status with it
SERVERS: list[subprocess.Popen[bytes]] = []  # a server ends when nobody holds its standard input any more

_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_MAX_THREADS", "ARROW_IO_THREADS"),
    "1",
)
_ENVIRONMENT = frozenset(
    ("PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "LD_PRELOAD", "AIRFLOW_HOME")
)
_ENVIRONMENT_OF_LIBRARIES = (
    *("LC_", "OPENBLAS_", "OMP_", "MKL_", "KMP_", "GOMP_", "BLIS_", "NUMEXPR_", "ARROW_", "MALLOC_"),
    *("LOKY_", "SKLEARN_", "PYTHONHASHSEED", "PYTHONWARNINGS"),
)


class Child(Protocol):
    """What `Popen` and `ForkedChild` have in common."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...


class ForkedChild:
    """A process that the server has forked; it is killed and reaped when this end is closed."""

    def __init__(self, caller: socket.socket, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._caller = caller
        self._pidfd = pidfd
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while the process lives."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; raises `subprocess.TimeoutExpired`."""
        status = self._look(timeout)
        if status is None:
            raise subprocess.TimeoutExpired("the model's process", timeout or 0)
        return status

    def close(self) -> None:
        """Have the process reaped: its number may be another one's afterwards."""
        with self._lock:
            self._caller.close()
            if self._pidfd >= 0:
                os.close(self._pidfd)
                self._pidfd = -1

    def _look(self, timeout_s: float | None) -> int | None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self.returncode is None:
            with self._lock:
                if self.returncode is not None or self._pidfd < 0:  # another thread was here first
                    return self.returncode
                if _is_readable(self._pidfd, 0):
                    self.returncode = self._status()
                    break
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            _is_readable(self._pidfd, left)
        return self.returncode

    def _status(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._caller.settimeout(_ANSWER_S)
            return int(self._caller.recv(64))
        return _UNKNOWN_STATUS


def start_server(environment: Mapping[str, str]) -> None:
    """Start a server for this process and those that it forks; does nothing where Linux is not."""
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return
    name = f"mlops-{secrets.token_hex(16)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"\0{name}")  # the server listens once it has loaded the libraries
        server = subprocess.Popen(
            [sys.executable, "-m", "mlops_plugin.workers.fork_server", str(listener.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=(listener.fileno(),),
            env=dict(environment),
            start_new_session=True,
        )
    SERVERS.append(server)
    os.environ[VARIABLE] = name


def fork(
    environment: Mapping[str, str], memory_bytes: int, stdin: int, stderr: int, channel: int
) -> ForkedChild | None:
    """A process with these descriptors; None if there is no server, or its libraries were loaded with other
    settings. `sys.path` and the current folder are the caller's.
    """
    name = os.environ.get(VARIABLE)
    if not name:
        return None
    request = {
        "environment": dict(environment),
        "path": [entry for entry in sys.path if entry],
        "folder": str(Path.cwd()),
        "memory_bytes": memory_bytes,
    }
    caller = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        caller.settimeout(_ANSWER_S)
        caller.connect(f"\0{name}")
        socket.send_fds(caller, [json.dumps(request).encode()], [stdin, stderr, channel])
        answer, descriptors, _, _ = socket.recv_fds(caller, 64, 1)
        if answer and descriptors:
            return ForkedChild(caller, int(answer), descriptors[0])
    except OSError:
        pass  # it is not ready yet, has ended, or is overloaded
    caller.close()
    return None


def _is_readable(fd: int, timeout_s: float | None) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if timeout_s is None else max(0.0, timeout_s) * 1000))


def library_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """What libraries read once, when they are loaded."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(("LD_", *_ENVIRONMENT_OF_LIBRARIES))
        and name != "LC_CTYPE"  # Python sets that itself
    }


def environment_of_model(*, is_one_thread: bool, has_own_python: bool = False) -> dict[str, str]:
    """What a model's process gets of this one's environment, with the places where this one finds modules.

    `has_own_python`: without those places; the libraries there are another Python's.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT or name.startswith(_ENVIRONMENT_OF_LIBRARIES)
    }
    if has_own_python:
        return {**kept, **(_ONE_THREAD if is_one_thread else {})}
    path = os.pathsep.join(dict.fromkeys(entry for entry in sys.path if entry))
    # PYTHONSAFEPATH: the folder where the caller happens to run is no place to import from, or to read.
    own = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    return {**kept, **(_ONE_THREAD if is_one_thread else {}), **own}
