"""Forks processes for models from one that has loaded the libraries and has never held a secret.

`workers.forking` starts it, where tasks are forked (see `preload`), and asks it for a process instead of
starting a new Python, which would import the libraries again. A forked process confines itself as any other.

It listens on an abstract Unix socket and serves its own user only. A request is one message: JSON with the
caller's environment, folder and memory limit, and three descriptors (the process's standard input and error,
its socket). The answer is the new process's number, with a descriptor that watches it. When the process has
ended, its exit status follows; it is reaped when the caller hangs up, so that no other process has its number
before. A request with other settings of libraries than they were loaded with is answered by nothing.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
import time
import warnings
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from mlops_plugin.workers import worker
from mlops_plugin.workers.forking import library_settings

MAX_MESSAGE_BYTES = 1 << 16
DESCRIPTORS = 3
# What `infer` needs of every model of scikit-learn, and nothing that reads Airflow's settings.
_MODULES = (
    "joblib",
    "pyarrow.ipc",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "mlops_plugin.formats.runtime",
    "mlops_plugin.formats.scikit_files",
    "mlops_plugin.formats.signature.signature",
    "mlops_plugin.workers.row_memory",
)
_UCRED = struct.Struct("3i")


def main() -> None:
    """Load the libraries, then fork a process for each request, until the starting process is gone."""
    worker.exit_with_caller()
    listener = socket.socket(fileno=int(sys.argv[1]))
    environment = dict(os.environ)  # some libraries add to it when they are loaded
    for module in _MODULES:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError:
            continue  # without it a model's process says what is missing
    gc.freeze()
    # Python 3.12 warns of a fork beside threads: those of OpenBLAS, which starts again after a fork.
    warnings.simplefilter("ignore", DeprecationWarning)
    _Server(listener, environment).serve()


@dataclass
class _Child:
    pid: int
    pidfd: int
    has_ended: bool = False


class _Server:
    def __init__(self, listener: socket.socket, environment: dict[str, str]) -> None:
        listener.listen()
        self._listener = listener
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)
        self._callers: dict[int, socket.socket] = {}
        self._children: dict[int, _Child] = {}  # by their caller's descriptor
        self._environment = environment

    def serve(self) -> NoReturn:
        while True:
            # One at a time: it may close the descriptors of others, whose numbers are then given again.
            fd, _ = self._poll.poll()[0]
            if fd == self._listener.fileno():
                self._accept()
            elif fd in self._callers:
                self._hear(self._callers[fd])
            else:
                self._report(fd)

    def _accept(self) -> None:
        caller, _ = self._listener.accept()
        credentials = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        if _UCRED.unpack(credentials)[1] != os.getuid():
            caller.close()
            return
        self._callers[caller.fileno()] = caller
        self._poll.register(caller, select.POLLIN)

    def _hear(self, caller: socket.socket) -> None:
        """A request, or the end of the caller's interest in its process."""
        try:
            content, descriptors, _, _ = socket.recv_fds(caller, MAX_MESSAGE_BYTES, DESCRIPTORS)
        except OSError:
            content, descriptors = b"", []
        try:
            if content and len(descriptors) == DESCRIPTORS and caller.fileno() not in self._children:
                self._fork(caller, json.loads(content), descriptors)
            else:
                self._forget(caller)
        finally:
            for fd in descriptors:
                os.close(fd)

    def _fork(self, caller: socket.socket, request: dict[str, Any], descriptors: list[int]) -> None:
        if library_settings(request["environment"]) != library_settings(self._environment):
            self._forget(caller)
            return
        pid = os.fork()
        if pid == 0:
            self._run_child(request, descriptors)
        child = _Child(pid, os.pidfd_open(pid))
        self._children[caller.fileno()] = child
        self._poll.register(child.pidfd, select.POLLIN)
        try:
            socket.send_fds(caller, [str(pid).encode()], [child.pidfd])
        except OSError:
            self._forget(caller)

    def _run_child(self, request: dict[str, Any], descriptors: list[int]) -> NoReturn:
        status = 1
        try:
            for other in (self._listener, *self._callers.values()):
                other.detach()  # its number is used for something else from here on
            os.setsid()
            stdin, stderr, channel = descriptors
            os.dup2(stdin, 0)
            os.dup2(stderr, 2)
            os.dup2(channel, 3)
            os.closerange(4, os.sysconf("SC_OPEN_MAX"))
            os.chdir(request["folder"])
            sys.path[:] = request["path"]
            for name in self._environment:
                os.environ.pop(name)
            os.environ.update(request["environment"])
            time.tzset()
            np.random.seed()
            worker.run(3, request["memory_bytes"])
            status = 0
        except BaseException:  # noqa: BLE001 - nothing may run on in the server's place
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(status)

    def _report(self, pidfd: int) -> None:
        """Tell the caller how its process has ended."""
        self._poll.unregister(pidfd)
        fd, child = next((fd, child) for fd, child in self._children.items() if child.pidfd == pidfd)
        child.has_ended = True
        found = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        is_exit = found is not None and found.si_code == os.CLD_EXITED
        status = 0 if found is None else found.si_status
        try:
            self._callers[fd].send(str(status if is_exit else -status).encode())
        except OSError:
            self._forget(self._callers[fd])

    def _forget(self, caller: socket.socket) -> None:
        """The caller has hung up: its process, if it lives, ends."""
        fd = caller.fileno()
        self._poll.unregister(fd)
        del self._callers[fd]
        caller.close()
        child = self._children.pop(fd, None)
        if child is None:
            return
        if not child.has_ended:
            self._poll.unregister(child.pidfd)
            signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)
        os.waitpid(child.pid, 0)
        os.close(child.pidfd)


if __name__ == "__main__":
    main()
