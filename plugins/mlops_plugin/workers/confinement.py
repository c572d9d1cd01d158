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

from mlops_plugin.workers.system_calls import CLONE3, PROCESSORS, Processor

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULESET_VERSION, _PATH_BENEATH = 1, 1
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, _PR_SET_DUMPABLE = 38, 22, 2, 4
_O_PATH = 0o10000000
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
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
# Everything that `confine` can take away.
WHOLE = ("files", "TCP", "signals", "sockets", "new processes and programs", "other processes")


def confine(readable: Iterable[str]) -> list[str]:
    """Leave this process its Python environment and `readable` (files or folders), to read; nothing else.

    Returns what could be taken away, in words; what the kernel cannot do is missing. Raises nothing.
    """
    if sys.platform != "linux":
        return []
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return []
    return [*_restrict_files(libc, readable), *_filter_system_calls(libc)]


def python_environment() -> list[str]:
    """The folders that this Python imports from. The folder with Airflow's settings is not among them."""
    home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser().resolve()
    folders = [*sys.path, sys.prefix, sys.base_prefix, sys.exec_prefix]
    found = dict.fromkeys(Path(folder).resolve() for folder in folders if folder)
    return [str(path) for folder in found for path in _without_settings(folder, home)]


def _without_settings(folder: Path, home: Path) -> list[Path]:
    """The folder, or only the modules in it if it holds Airflow's settings somewhere."""
    if not home.is_relative_to(folder):
        return [folder]
    entries = list(folder.iterdir()) if folder.is_dir() else []
    return [entry for entry in entries if entry.suffix == ".py" or (entry / "__init__.py").is_file()]


def _restrict_files(libc: ctypes.CDLL, readable: Iterable[str]) -> Iterator[str]:
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _RULESET_VERSION)
    if version < 1:
        return
    rights = _FILE_RIGHTS[max(known for known in _FILE_RIGHTS if known <= version)]
    tcp = 0b11 if version >= _TCP_FROM else 0
    scopes = 0b11 if version >= _SCOPES_FROM else 0
    size = 24 if scopes else 16 if tcp else 8
    attributes = ctypes.create_string_buffer(struct.pack("=QQQ", rights, tcp, scopes)[:size], size)
    ruleset = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), 0)
    if ruleset < 0:
        return
    try:
        for path in (*_SYSTEM, f"/proc/{os.getpid()}", *python_environment(), *readable):
            _allow_reading(libc, ruleset, path)
        if libc.syscall(_RESTRICT_SELF, ruleset, 0) != 0:
            return
    finally:
        os.close(ruleset)
    yield "files"
    if tcp:
        yield "TCP"
    if scopes:
        yield "signals"


def _allow_reading(libc: ctypes.CDLL, ruleset: int, path: str) -> None:
    try:
        place = os.open(path, _O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # nothing there that could be read
    try:
        rights = _READ_FILE | _READ_DIR if Path(path).is_dir() else _READ_FILE
        if path == "/dev/null":
            rights |= 1 << 1  # to write as well
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, place), 12)
        libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(place)


def _filter_system_calls(libc: ctypes.CDLL) -> Iterator[str]:
    processor = PROCESSORS.get(platform.machine())
    if processor is None or struct.calcsize("P") != 8:
        return
    program = b"".join(_program(processor, os.getpid()))
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
_TO_OWNER = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX: signals to others by way of a file
_TO_TERMINAL = (0x8901, 0x8902, 0x5412)  # FIOSETOWN, SIOCSPGRP, TIOCSTI


def _program(processor: Processor, pid: int) -> Iterator[bytes]:
    """The filter, instruction by instruction; each check loads what it looks at, so that none needs
    another."""
    yield _instruction(_LOAD, _ARCH)
    yield _instruction(_EQUALS, processor.audit_arch, when_true=1)
    yield _instruction(_RETURN, _KILL)
    yield _instruction(_LOAD, _NUMBER)
    yield _instruction(_AT_LEAST, 0x40000000, when_false=1)  # the same calls by other numbers (x32)
    yield _instruction(_RETURN, _REFUSE)
    for number in sorted(processor.denied):
        yield _instruction(_EQUALS, number, when_false=1)
        yield _instruction(_RETURN, _REFUSE)
    yield _instruction(_EQUALS, CLONE3, when_false=1)
    yield _instruction(_RETURN, _NOT_THERE)
    # Threads, but no processes.
    yield from _when(
        processor.clone, [*_argument(0), _instruction(_ANY_BIT, _CLONE_THREAD, when_true=1), _refuse()]
    )
    for call in (processor.kill, processor.tgkill):
        yield from _when(call, [*_argument(0), _instruction(_EQUALS, pid, when_true=1), _refuse()])
    own = [_instruction(_EQUALS, 0, when_true=2), _instruction(_EQUALS, pid, when_true=1), _refuse()]
    yield from _when(processor.prlimit64, [*_argument(0), *own])
    for call, commands in ((processor.fcntl, _TO_OWNER), (processor.ioctl, _TO_TERMINAL)):
        each = [(_instruction(_EQUALS, command, when_false=1), _refuse()) for command in commands]
        yield from _when(call, [*_argument(1), *(one for pair in each for one in pair)])
    # Memory that no limit counts.
    shared = [
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


def _argument(position: int) -> list[bytes]:
    """Load the low half of an argument."""
    return [_instruction(_LOAD, _ARGUMENTS + 8 * position)]


def _refuse() -> bytes:
    return _instruction(_RETURN, _REFUSE)


def _instruction(code: int, value: int, *, when_true: int = 0, when_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, when_true, when_false, value)
