"""Models that reach for what is not theirs when they predict; pickled by tests, run by confined workers."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_LIBC = ctypes.CDLL(None, use_errno=True)
_NEW_MEMORY, _GROWS_DOWN = 0x21, 0x122  # shared, private; anonymous
_MAY_MOVE = 1
_SECCOMP, _NEW_LISTENER = {"x86_64": 317, "aarch64": 277}, 8
_SETLEASE = 1024
_TIOCSTI, _FIOASYNC, _SO_PEERPIDFD = 0x5412, 0x5452, 77


class Prying:
    """A regressor that answers 1 for each attempt that succeeds, 0 for one that is refused.

    Feature `a` of a row is the number of an attempt in `ATTEMPTS`. `target` is a path, `pid` a process and
    `port` a TCP port that the test has prepared.
    """

    n_features_in_ = 3
    _estimator_type = "regressor"

    def __init__(self, target: Path, pid: int, port: int) -> None:
        self.target, self.pid, self.port = target, pid, port

    def predict(self, rows: Any) -> Any:
        numbers = np.asarray(rows, dtype=float)[:, 0].astype(int)
        return np.array([float(self._succeeds(list(ATTEMPTS.values())[number])) for number in numbers])

    def _succeeds(self, attempt: Callable[[Prying], object]) -> bool:
        try:
            return attempt(self) is not False
        except (OSError, subprocess.SubprocessError, threading.ThreadError):
            return False


def _fork(_model: Prying) -> bool:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return True


def _call(name: str, *arguments: Any) -> bool:
    return bool(getattr(_LIBC, name)(*arguments) != -1)


def _maps_memory(flags: int) -> bool:
    _LIBC.mmap.restype = ctypes.c_void_p
    found = _LIBC.mmap(None, ctypes.c_size_t(4096), 3, flags, -1, ctypes.c_long(0))
    return bool(found != ctypes.c_void_p(-1).value)


def _grow_stack(_model: Prying) -> bool:
    stack = next(line for line in Path("/proc/self/maps").read_text().splitlines() if "[stack]" in line)
    lowest = ctypes.c_void_p(int(stack.partition("-")[0], 16))
    size = ctypes.c_size_t(4096)
    _LIBC.mremap.restype = ctypes.c_void_p
    found = _LIBC.mremap(lowest, size, ctypes.c_size_t(1 << 30), _MAY_MOVE)
    return bool(found != ctypes.c_void_p(-1).value)


def _line() -> int:
    """The descriptor whose end ends this process."""
    open_files = {int(entry.name): entry for entry in Path("/proc/self/fd").iterdir()}
    sockets = [fd for fd, entry in open_files.items() if "socket:" in str(_target(entry))]
    return next(fd for fd in sockets if fd > 2 and fd != _channel())


def _target(link: Path) -> Path:
    try:
        return link.readlink()
    except FileNotFoundError:  # the one that lists the folder
        return Path()


def _channel() -> int:
    """The descriptor of the socket on which the worker is asked; a forked one has it in its third place."""
    return 3 if "fork_server" in " ".join(sys.argv) else int(sys.argv[1])


def _peer_of_channel(_model: Prying) -> bool:
    handle, size = ctypes.c_int(), ctypes.c_int(4)
    return _call("getsockopt", _channel(), 1, _SO_PEERPIDFD, ctypes.byref(handle), ctypes.byref(size))


def _take_over_signals(model: Prying) -> bool:
    read, write = os.pipe()
    try:
        fcntl.fcntl(read, fcntl.F_SETOWN, model.pid)
    finally:
        os.close(read)
        os.close(write)
    return True


def _waits_for_the_end(_model: Prying) -> bool:
    """Whether a read of the line would wait: Linux then sends no signal when the line ends."""
    return not _call("recv", _line(), ctypes.create_string_buffer(1), ctypes.c_size_t(1), socket.MSG_DONTWAIT)


def _lock(_model: Prying, take: Callable[[int], object]) -> bool:
    """Whether a file that it may read can be locked against its owner."""
    with Path(os.__file__).open("rb") as file:
        take(file.fileno())
    return True


def _watch_folder(model: Prying) -> bool:
    """Events have the names of the files that others use."""
    watch = _LIBC.inotify_init1(0)
    if watch == -1:
        return False
    try:
        return _call("inotify_add_watch", watch, os.fsencode(model.target.parent), 0xFFF)
    finally:
        os.close(watch)


def _lend_memory(_model: Prying) -> bool:
    read, write = os.pipe()
    page = ctypes.create_string_buffer(4096)
    piece = (ctypes.c_size_t * 2)(ctypes.addressof(page), 4096)
    try:
        return _call("vmsplice", write, piece, ctypes.c_size_t(1), 0)
    finally:
        os.close(read)
        os.close(write)


def _watch_own_calls(_model: Prying) -> bool:
    """A thread that receives another one's system calls may add to that one's open files."""
    allow = struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000)
    code = ctypes.create_string_buffer(allow, len(allow))
    program = ctypes.create_string_buffer(struct.pack("@HP", 1, ctypes.addressof(code)))
    return _call("syscall", _SECCOMP[platform.machine()], 1, _NEW_LISTENER, program)


ATTEMPTS: dict[str, Callable[[Prying], object]] = {
    "read a file": lambda model: model.target.read_bytes(),
    "write a file": lambda model: model.target.with_suffix(".new").write_bytes(b"x"),
    "append to a file": lambda model: model.target.open("ab").close(),
    "list a folder": lambda model: list(model.target.parent.iterdir()),
    "delete a file": lambda model: os.unlink(model.target),  # noqa: PTH108 - one system call
    "change a file's mode": lambda model: model.target.chmod(0o777),
    "cut a file": lambda model: os.truncate(model.target, 0),
    "write where the model lies": lambda _: Path("model.tmp").write_bytes(b"x"),
    "write into the temporary folder": lambda _: Path("/tmp/model.tmp").write_bytes(b"x"),
    "see the caller's environment": lambda model: Path(f"/proc/{model.pid}/environ").read_bytes(),
    "see the caller's memory": lambda model: Path(f"/proc/{model.pid}/maps").read_bytes(),
    "find a secret in its own environment": lambda _: any("SECRET" in name for name in os.environ),
    "open a socket": lambda _: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close(),
    "open a local socket": lambda _: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).close(),
    "connect": lambda model: socket.create_connection(("127.0.0.1", model.port), 1).close(),
    "fork": _fork,
    "start a program": lambda _: subprocess.run([sys.executable, "-c", ""], check=True),
    "replace itself": lambda _: os.execv("/bin/true", ["true"]),  # noqa: S606
    "end the caller": lambda model: os.kill(model.pid, 0),
    "end its group": lambda _: os.kill(0, 0),
    "attach to the caller": lambda model: _call("ptrace", 16, model.pid, None, None),
    "watch the caller": lambda model: os.close(os.pidfd_open(model.pid)),
    "limit the caller": lambda model: _call("prlimit64", model.pid, 7, None, ctypes.create_string_buffer(16)),
    "send signals through a file": _take_over_signals,
    "share memory": lambda _: _maps_memory(_NEW_MEMORY),
    "share memory by name": lambda _: _call("shmget", 0, ctypes.c_size_t(4096), 0o1600),
    "leave its namespaces": lambda _: _call("unshare", 0x10000000),
    "mount": lambda _: _call("mount", b"none", b"/mnt", b"tmpfs", 0, None),
    "slow the caller": lambda model: os.setpriority(os.PRIO_PROCESS, model.pid, 19),
    "keep the caller to one processor": lambda model: os.sched_setaffinity(model.pid, {0}),
    "keep memory in a file without a name": lambda _: os.ftruncate(os.memfd_create("hoard"), 4096),
    "run a program that lies in memory": lambda _: os.execve(os.memfd_create("x"), ["x"], {}),  # noqa: S606
    "get hold of the caller through its socket": _peer_of_channel,
    "outlive the caller: close the line": lambda _: os.close(_line()),
    "outlive it: put another file there": lambda _: os.dup2(0, _line()),
    "outlive it: share the line": lambda _: os.dup(_line()),
    "outlive it: ask for no signal": lambda _: fcntl.fcntl(_line(), fcntl.F_SETFL, 0),
    "outlive it: ask for none otherwise": lambda _: fcntl.ioctl(_line(), _FIOASYNC, b"\0" * 4),
    "outlive it: hold the other end": lambda _: os.open(f"/proc/self/fd/{_line()}", os.O_RDWR),
    "outlive it: wait for its end": _waits_for_the_end,
    "outlive it: watch system calls": _watch_own_calls,
    "see what happens in a folder": _watch_folder,
    "read a file's attributes": lambda model: os.listxattr(model.target),
    "lock a file that others lock": lambda model: _lock(model, lambda fd: fcntl.flock(fd, fcntl.LOCK_EX)),
    "have who writes a file wait": lambda model: _lock(model, lambda fd: fcntl.fcntl(fd, _SETLEASE, 0)),
    "keep memory in a pipe": _lend_memory,
    "keep memory that grows down": lambda _: _maps_memory(_GROWS_DOWN),
    "enlarge its stack otherwise": _grow_stack,
    "raise its limits": lambda _: _call("prlimit64", 0, 7, ctypes.create_string_buffer(16), None),
    "write into its own memory file": lambda _: os.open("/proc/self/mem", os.O_RDWR),
    "see all files from its root": lambda _: os.listdir("/proc/self/root/root"),  # noqa: PTH208
    "handle faults of memory": lambda _: _call("syscall", 323, 1),
    "load a program into the kernel": lambda _: _call("syscall", 321, 0, 0, 0),
    "read keys of the kernel": lambda _: _call("syscall", 250, 0, -3),
    "type into a terminal": lambda _: fcntl.ioctl(2, _TIOCSTI, b"x"),
    "use io_uring": lambda _: _call("syscall", 425, 8, ctypes.create_string_buffer(120)),
}
