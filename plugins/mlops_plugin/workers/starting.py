"""Starts and kills the process of a model: what it inherits, and what it may print; `process` talks to it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlops_plugin.workers.last_words import LastWords
from mlops_plugin.workers.process_limits import Limits

_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_MAX_THREADS", "ARROW_IO_THREADS"),
    "1",
)
# What a model's process inherits; everything else may be a secret.
_ENVIRONMENT = frozenset(
    ("PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "LD_PRELOAD", "AIRFLOW_HOME")
)
_ENVIRONMENT_OF_LIBRARIES = (
    *("LC_", "OPENBLAS_", "OMP_", "MKL_", "KMP_", "GOMP_", "BLIS_", "NUMEXPR_", "ARROW_", "MALLOC_"),
    *("LOKY_", "SKLEARN_", "PYTHONHASHSEED", "PYTHONWARNINGS"),
)
END_TIMEOUT_S = 5.0


@dataclass
class Started:
    """A process, the caller's end of its socket, and what it prints."""

    popen: subprocess.Popen[bytes]
    socket: socket.socket
    said: LastWords

    def kill(self) -> None:
        """End the process, whatever it is doing, and what it may have started; it may have ended."""
        if self.popen.poll() is None:
            for pid in _stopped_family(self.popen.pid):
                _signal(os.kill, pid, signal.SIGKILL)
            _signal(os.killpg, self.popen.pid, signal.SIGKILL)

    def release(self) -> None:
        """Reap the process after `kill`, and hear what it has printed."""
        self.popen.wait(END_TIMEOUT_S)
        if self.popen.stdin is not None:
            self.popen.stdin.close()
        self.said.finish(END_TIMEOUT_S)


def start(limits: Limits, tell: Callable[[str], None] | None = None) -> Started:
    """Start a process that waits for a model to load; `tell` hears the first lines that it prints."""
    ours, theirs = socket.socketpair()
    said = LastWords(tell)
    memory_bytes = (limits.memory_mb or 0) << 20
    with theirs:
        popen = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlops_plugin.workers.worker"),
                *(str(theirs.fileno()), str(memory_bytes)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said.write_end,
            pass_fds=(theirs.fileno(),),
            env=_environment(is_one_thread=not limits.is_step),
            start_new_session=True,
        )
    said.listen()
    return Started(popen, ours, said)


def _stopped_family(pid: int) -> list[int]:
    """The processes that this one has started, and theirs, stopped so that they start no more.

    There are some only where seccomp cannot deny them; Linux tells, and the process is their reaper.
    """
    if sys.platform != "linux":
        return []
    _signal(os.kill, pid, signal.SIGSTOP)
    found: list[int] = []
    while new := [child for parent in (pid, *found) for child in _children(parent) if child not in found]:
        for child in new:
            _signal(os.kill, child, signal.SIGSTOP)
        found += new
    return found


def _children(pid: int) -> list[int]:
    try:
        threads = [*Path(f"/proc/{pid}/task").iterdir()]
        return [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    except OSError:
        return []


def _signal(send: Callable[[int, int], None], pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        send(pid, number)


def _environment(*, is_one_thread: bool) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT or name.startswith(_ENVIRONMENT_OF_LIBRARIES)
    }
    path = os.pathsep.join(dict.fromkeys(entry for entry in sys.path if entry))
    # PYTHONSAFEPATH: the folder where the caller happens to run is no place to import from, or to read.
    own = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    return {**kept, **(_ONE_THREAD if is_one_thread else {}), **own}
