"""Starts and kills the process of a model: what it inherits, and what it may print; `process` talks to it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlops_plugin.environments.building import START_WORKER
from mlops_plugin.formats.artifact import copy_artifact
from mlops_plugin.formats.signature.signature import read_content, signature_uri
from mlops_plugin.workers.forking import Child, ForkedChild, environment_of_model, fork, start_server
from mlops_plugin.workers.last_words import LastWords
from mlops_plugin.workers.process_limits import Limits

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ArtifactConfig

Socket = socket.socket
END_TIMEOUT_S = 5.0
# No limit of the kernel counts memory that was written and then made read-only, nor tables of pages.
_WATCH_S = 0.25
_UNCOUNTED_BYTES = 256 << 20  # as much as libraries have of it, and stacks
_PROCESSORS = os.cpu_count() or 1
MOST_THREADS = 500 + _PROCESSORS * (_PROCESSORS + 16)  # each thread of joblib may have a team of OpenMP's


@dataclass
class Started:
    """A process, the caller's end of its socket, and what it prints."""

    child: Child
    socket: Socket
    output: LastWords
    line: Socket  # the process ends when nobody holds this any more
    most_bytes: int | None = None  # of its own memory
    exceeded: Literal["", "memory", "threads"] = ""  # what it was killed for
    _is_released: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Kill the process, from another thread, once it uses more than it may."""
        threading.Thread(target=self._watch, daemon=True, name="model's limits").start()

    def _watch(self) -> None:
        while not self._is_released.wait(_WATCH_S) and self.child.poll() is None:
            used_bytes, threads = _used(self.child.pid)
            if self.most_bytes is not None and used_bytes > self.most_bytes:
                self.exceeded = "memory"
            elif threads > MOST_THREADS:
                self.exceeded = "threads"
            if self.exceeded:
                self.kill()
                return

    def kill(self) -> None:
        """End the process, whatever it is doing, and what it may have started; it may have ended."""
        if self.child.poll() is None:
            for pid in _stopped_family(self.child.pid):
                _signal(os.kill, pid, signal.SIGKILL)
            _signal(os.killpg, self.child.pid, signal.SIGKILL)

    def memory_bytes(self) -> int | None:
        """Resident memory now; None once the process has ended."""
        try:
            with open(f"/proc/{self.child.pid}/statm", encoding="ascii") as file:  # noqa: PTH123 - not a real file
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return None

    def describe_end(self) -> str:
        """How the process has ended; waits a moment for that."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(END_TIMEOUT_S)
        code = self.child.returncode
        if code is None:
            return "a closed connection"
        return f"exit status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"

    def release(self) -> None:
        """Reap the process after `kill`, and hear what it has printed."""
        self._is_released.set()
        with contextlib.suppress(subprocess.TimeoutExpired):  # the kernel is still taking it apart
            self.child.wait(END_TIMEOUT_S)
        self.line.close()
        if isinstance(self.child, ForkedChild):
            self.child.close()
        self.output.finish(END_TIMEOUT_S)


def start(
    limits: Limits, tell: Callable[[str], None] | None = None, own_python: Path | None = None
) -> Started:
    """Start a process that waits for a model to load; `tell` hears the first lines that it prints.

    `own_python`: that of the model's environment, in place of this one.
    """
    output = LastWords(tell)
    memory_bytes = (limits.memory_mb or 0) << 20
    environment = environment_of_model(
        is_one_thread=not limits.is_step, has_own_python=own_python is not None
    )
    command = [sys.executable, "-m", "mlops_plugin.workers.worker"]
    if own_python is not None:
        command = [str(own_python), "-I", str(START_WORKER)]
    # Not a pipe: the process could open its other end, and live on without a caller.
    stdin, line = socket.socketpair()
    try:
        with stdin:
            child: Child | None = None
            if limits.is_step and own_python is None:
                with _channel() as (ours, channel):
                    child = fork(environment, memory_bytes, stdin.fileno(), output.write_end, channel)
                if child is None:
                    ours.close()  # a server that is late may still fork a process that listens there
            if child is None:
                with _channel() as (ours, channel):
                    arguments = [*command, str(channel), str(memory_bytes)]
                    child = _start_python(arguments, environment, stdin.fileno(), output.write_end, channel)
    except BaseException:
        line.close()
        raise
    output.listen()
    started = Started(child, ours, output, line, memory_bytes + _UNCOUNTED_BYTES if memory_bytes else None)
    started.watch()
    return started


@contextlib.contextmanager
def _channel() -> Iterator[tuple[Socket, int]]:
    """The caller's end of a new channel, and the number of the process's end, which is closed afterwards."""
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            yield ours, theirs.fileno()
    except BaseException:
        ours.close()
        raise


@contextlib.contextmanager
def local_artifact(artifact: ArtifactConfig) -> Iterator[Path | None]:
    """A remote artifact as a file that lasts while the model is loaded; None for a local one.

    The model's process has no network and no credentials, so the caller fetches the file and its signature.
    """
    uri = artifact.uri
    if "://" not in uri:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="mlops-artifact-") as folder:
        path = Path(folder) / (Path(uri.partition("?")[0]).name or "artifact")
        copy_artifact(artifact, path)
        if (signature := read_content(signature_uri(uri))) is not None:
            Path(signature_uri(str(path))).write_bytes(signature)
        yield path


def start_fork_server() -> None:
    """Have the models of steps that this process forks start quicker; see `workers.fork_server`."""
    start_server(environment_of_model(is_one_thread=False))


def _start_python(
    command: list[str], environment: dict[str, str], stdin: int, stderr: int, channel: int
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        pass_fds=(channel,),
        env=environment,
        start_new_session=True,
    )


def _used(pid: int) -> tuple[int, int]:
    """Bytes of a process's own memory, with what was swapped out and what maps it, and its threads.

    Zeros where there is no /proc. Memory that the caller shares with it is not its own.
    """
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - not a real file
            found = dict(line.split(":", 1) for line in file if ":" in line)
        kilobytes = sum(int(found[name].split()[0]) for name in ("RssAnon", "VmSwap", "VmPTE"))
        return kilobytes << 10, int(found["Threads"])
    except (OSError, KeyError, ValueError):  # it has ended
        return 0, 0


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
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):  # a thread that has just ended has none
                found += map(int, (thread / "children").read_text().split())
    return found


def _signal(send: Callable[[int, int], None], pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        send(pid, number)
