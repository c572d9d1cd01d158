"""Runs Python as on a kernel that confines nothing: system calls for it fail there as in an old one."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import subprocess
import sys
from collections.abc import Mapping

from mlops_plugin.workers.confinement import confine

_PRCTL = {"x86_64": 157, "aarch64": 167}
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_LANDLOCK_CREATE_RULESET = 444
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _EQUALS, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _NOT_THERE, _INVALID = 0x7FFF0000, 0x00050000 | 38, 0x00050000 | 22


def run_on_older_kernel(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new process; its output as text."""
    begin = "from support.older_kernel import take_confinement_away; take_confinement_away()\n"
    return subprocess.run(
        [sys.executable, "-c", begin + code, *arguments],
        env=_environment(environment),
        capture_output=True,
        text=True,
        check=False,
    )


def take_confinement_away() -> None:
    """Let this process, and those that it starts, find neither Landlock nor seccomp."""
    machine = platform.machine()
    program = b"".join(
        [
            _instruction(_LOAD, 0),  # the system call's number
            _instruction(_EQUALS, _LANDLOCK_CREATE_RULESET, when_true=5),
            _instruction(_EQUALS, _SECCOMP[machine], when_true=4),
            _instruction(_EQUALS, _PRCTL[machine], when_false=2),
            _instruction(_LOAD, 16),  # its first argument
            _instruction(_EQUALS, _PR_SET_SECCOMP, when_true=2),
            _instruction(_RETURN, _ALLOW),
            _instruction(_RETURN, _NOT_THERE),
            _instruction(_RETURN, _INVALID),
        ]
    )
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    assert libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.create_string_buffer(described), 0, 0) == 0


def confinement_here() -> list[str]:
    """What a process could give up here."""
    return confine([])


def _instruction(code: int, value: int, *, when_true: int = 0, when_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, when_true, when_false, value)


def _environment(added: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, **added, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
