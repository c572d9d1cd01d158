"""Takes from the process that runs a model what a model does not need; `worker` calls it before it loads one.

On Linux, Landlock takes away files (kernel 5.13), TCP (6.7) and signals to other processes (6.12); seccomp
takes away sockets, new processes and programs, and whatever reaches into other processes. Neither needs root
or a user namespace, and the process cannot undo either. Nothing here depends on the model.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from mlops_plugin.workers.system_calls import CLONE3, CLOSE_RANGE, PROCESSORS, Processor

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULESET_VERSION, _PATH_BENEATH = 1, 1
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, _PR_SET_DUMPABLE = 38, 22, 2, 4
_PR_SET_CHILD_SUBREAPER = 36
_O_PATH = 0o10000000
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_READ = _READ_FILE | _READ_DIR
# Rights over files by version of Landlock: what that version can take away.
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_TCP_FROM, _SCOPES_FROM = 4, 6
# What libraries read to find out about processors, memory, time zones and the libraries that they load.
_SYSTEM = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/timezone",
    "/dev/null",
    "/dev/zero",
    "/dev/urandom",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/fs/cgroup",
)
_OPEN_FILES = 512
_STACK_BYTES = 64 << 20
_MODULES = (".py", ".so", ".zip", ".egg", ".pth")
# Everything that `confine` can take away.
WHOLE = ("files", "TCP", "signals", "sockets", "new processes and programs", "other processes")


def confine(readable: Iterable[str], line: int | None = None) -> list[str]:
    """Leave this process its Python environment and `readable` (files or folders), to read; nothing else.

    `line` is a descriptor that it may not let go of: its caller's end ends it (see `worker`). Returns what
    could be taken away, in words; what the kernel cannot do is missing. Raises nothing.
    """
    if sys.platform != "linux":
        return []
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    stack = _STACK_BYTES if stack == resource.RLIM_INFINITY else min(stack, _STACK_BYTES)
    resource.setrlimit(resource.RLIMIT_STACK, (stack, stack))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return []
    return [*_restrict_files(libc, readable), *_filter_system_calls(libc, line)]


def become_reaper() -> None:
    """Remain the ancestor of what this process starts, so that the caller finds all of it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _python_environment() -> list[tuple[Path, int]]:
    """The folders that this Python imports from, without Airflow's settings and what lies beside them.

    With each the rights that it needs: to find a module, its folder is listed.
    """
    home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser().resolve()
    found = dict.fromkeys(Path(folder).resolve() for folder in sys.path if folder)
    own = dict.fromkeys(Path(folder).resolve() for folder in (sys.prefix, sys.base_prefix, sys.exec_prefix))
    whole = [(folder, _READ) for folder in own if not home.is_relative_to(folder)]
    return [*whole, *(rule for folder in found for rule in _without_settings(folder, home))]


def _without_settings(folder: Path, home: Path) -> list[tuple[Path, int]]:
    """The folder, or only the modules in it if settings may lie there.

    That is if AIRFLOW_HOME is in it, or right above it: Airflow puts its folders `config`, `dags` and
    `plugins` on the path, and the first often holds airflow.cfg.
    """
    if not home.is_relative_to(folder) and folder.parent != home:
        return [(folder, _READ)]
    entries = list(folder.iterdir()) if folder.is_dir() else []
    modules = [entry for entry in entries if entry.suffix in _MODULES or _is_package(entry, home)]
    return [(folder, _READ_DIR), *((entry, _READ) for entry in modules)]


def _is_package(entry: Path, home: Path) -> bool:
    if not entry.is_dir() or home.is_relative_to(entry):
        return False
    # A folder of modules may be a package without `__init__.py`; in AIRFLOW_HOME it may be `config`.
    return (entry / "__init__.py").is_file() or (entry.parent != home and any(entry.glob("*.py")))


def _restrict_files(libc: ctypes.CDLL, readable: Iterable[str]) -> Iterator[str]:
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _RULESET_VERSION)
    if version < 1:
        return
    handled = _FILE_RIGHTS[max(known for known in _FILE_RIGHTS if known <= version)]
    tcp = 0b11 if version >= _TCP_FROM else 0
    scopes = 0b11 if version >= _SCOPES_FROM else 0
    size = 24 if scopes else 16 if tcp else 8
    attributes = ctypes.create_string_buffer(struct.pack("=QQQ", handled, tcp, scopes)[:size], size)
    ruleset = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), 0)
    if ruleset < 0:
        return
    try:
        for path, allowed in _python_environment():
            _allow(libc, ruleset, str(path), allowed)
        for name in (*_SYSTEM, f"/proc/{os.getpid()}", *readable):
            _allow(libc, ruleset, name, _READ)
        if libc.syscall(_RESTRICT_SELF, ruleset, 0) != 0:
            return
    finally:
        os.close(ruleset)
    yield "files"
    if tcp:
        yield "TCP"
    if scopes:
        yield "signals"


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, _O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # nothing there that could be read
    try:
        if not Path(path).is_dir():
            rights = _READ_FILE
        if path == "/dev/null":
            rights |= 1 << 1  # to write as well
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, place), 12)
        libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(place)


def _filter_system_calls(libc: ctypes.CDLL, line: int | None) -> Iterator[str]:
    processor = PROCESSORS.get(platform.machine())
    if processor is None or struct.calcsize("P") != 8:
        return
    program = b"".join(_program(processor, os.getpid(), line))
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: the number of instructions, and where they are.
    described = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.create_string_buffer(described), 0, 0) == 0:
        yield "sockets"
        yield "new processes and programs"
        yield "other processes"


# Instructions of the kernel's packet filter, and where it finds what.
_LOAD, _EQUALS, _AT_LEAST, _ANY_BIT, _RETURN, _AND = 0x20, 0x15, 0x35, 0x45, 0x06, 0x54
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000 | 1  # EPERM
_NOT_THERE = 0x00050000 | 38  # ENOSYS: the C library falls back to clone
_CLONE_THREAD = 0x10000
_SHARED_ANONYMOUS = 0x21
_GROWS_DOWN = 0x100
# F_SETOWN, F_SETSIG, F_SETOWN_EX: signals to others by way of a file. F_SETLEASE: who writes to it waits.
_TO_OTHERS = (8, 10, 15, 1024)
_TO_TERMINAL = (0x8901, 0x8902, 0x5412)  # FIOSETOWN, SIOCSPGRP, TIOCSTI


def _program(processor: Processor, pid: int, line: int | None) -> Iterator[bytes]:
    """The filter, instruction by instruction; each check loads what it looks at, so that none needs
    another."""
    yield _instruction(_LOAD, _ARCH)
    yield _instruction(_EQUALS, processor.audit_arch, when_true=1)
    yield _instruction(_RETURN, _KILL)
    yield _instruction(_LOAD, _NUMBER)
    yield _instruction(_AT_LEAST, 0x40000000, when_false=1)  # the same calls by other numbers (x32)
    yield _instruction(_RETURN, _REFUSE)
    for number in sorted(processor.denied.values()):
        yield _instruction(_EQUALS, number, when_false=1)
        yield _instruction(_RETURN, _REFUSE)
    # What does the same as others, by several at once; and locks, for which others may wait. Where there are
    # none, HDF5 opens a file all the same.
    for number in (CLONE3, CLOSE_RANGE, processor.flock):
        yield _instruction(_EQUALS, number, when_false=1)
        yield _instruction(_RETURN, _NOT_THERE)
    if line is not None:
        yield from _keep(processor, line)
    # Threads, but no processes.
    yield from _when(
        processor.clone, [*_argument(0), _instruction(_ANY_BIT, _CLONE_THREAD, when_true=1), _refuse()]
    )
    for call in (processor.kill, processor.tgkill):
        yield from _when(call, [*_argument(0), _instruction(_EQUALS, pid, when_true=1), _refuse()])
    own = [_instruction(_EQUALS, 0, when_true=2), _instruction(_EQUALS, pid, when_true=1), _refuse()]
    yield from _when(processor.sched_setaffinity, [*_argument(0), *own])
    # To read its limits; root could raise them.
    yield from _when(processor.setrlimit, [_refuse()])
    none_new = [part for half in (0, 4) for part in (*_argument(2, half), *_if_not(0))]
    yield from _when(processor.prlimit64, [*_argument(0), *own, *none_new])
    for call, commands in ((processor.fcntl, _TO_OTHERS), (processor.ioctl, _TO_TERMINAL)):
        each = [(_instruction(_EQUALS, command, when_false=1), _refuse()) for command in commands]
        yield from _when(call, [*_argument(1), *(one for pair in each for one in pair)])
    # Memory that no limit counts.
    shared = [
        _instruction(_ANY_BIT, _GROWS_DOWN, when_false=1),
        _refuse(),
        _instruction(_AND, _SHARED_ANONYMOUS),
        _instruction(_EQUALS, _SHARED_ANONYMOUS, when_false=1),
        _refuse(),
    ]
    yield from _when(processor.mmap, [*_argument(3), *shared])
    yield _instruction(_RETURN, _ALLOW)


def _when(call: int, then: list[bytes]) -> list[bytes]:
    """Instructions for one system call; afterwards it is allowed, for any other the filter goes on."""
    then = [*then, _instruction(_RETURN, _ALLOW)]
    return [_instruction(_EQUALS, call, when_false=len(then)), *then]


def _keep(processor: Processor, line: int) -> Iterator[bytes]:
    """Refuse to close this descriptor, to put another one in its place, to share it, and to change what it
    does."""
    is_line = [_instruction(_EQUALS, line, when_false=1), _refuse()]
    for call, positions in (
        (processor.close, (0,)),
        (processor.dup, (0,)),
        (processor.dup2, (0, 1)),
        (processor.dup3, (0, 1)),
        (processor.fcntl, (0,)),
        (processor.ioctl, (0,)),
    ):
        if call is not None:
            checks = [part for position in positions for part in (*_argument(position), *is_line)]
            yield _instruction(_LOAD, _NUMBER)
            yield _instruction(_EQUALS, call, when_false=len(checks))
            yield from checks
    yield _instruction(_LOAD, _NUMBER)


def _argument(position: int, half: int = 0) -> list[bytes]:
    """Load the low half of an argument, or with 4 the high one."""
    return [_instruction(_LOAD, _ARGUMENTS + 8 * position + half)]


def _if_not(value: int) -> list[bytes]:
    return [_instruction(_EQUALS, value, when_true=1), _refuse()]


def _refuse() -> bytes:
    return _instruction(_RETURN, _REFUSE)


def _instruction(code: int, value: int, *, when_true: int = 0, when_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, when_true, when_false, value)
