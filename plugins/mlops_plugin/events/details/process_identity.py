"""Which process works on a dispatch: recorded when a step starts, so that others can see whether it lives."""

from __future__ import annotations

import functools
import os
import socket
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class ProcessIdentity:
    """A process of one boot of one machine; `began` differs for a later one with the same number.

    `machine` is a host's name with, on Linux, its boot and the process's namespace: numbers mean the same
    process only within those.
    """

    machine: str
    pid: int
    began: str | None

    @classmethod
    def current(cls) -> ProcessIdentity:
        """This process. Never kept between calls: a forked child is another one."""
        pid = os.getpid()
        return cls(_machine(), pid, _began(pid))

    @property
    def host(self) -> str:
        return self.machine.partition("/")[0]

    @property
    def is_gone(self) -> bool | None:
        """Whether the process has ended; None if that cannot be seen from here."""
        if self.began is None or self.machine != _machine():
            return None
        return _began(self.pid) != self.began


@functools.cache
def _machine() -> str:
    try:
        boot, namespace = _BOOT_ID.read_text().strip(), Path("/proc/self/ns/pid").readlink()
    except OSError:  # not Linux
        return socket.gethostname()
    return f"{socket.gethostname()}/{boot}/{namespace}"


def _began(pid: int) -> str | None:
    """When a process began, in ticks since the boot; None if there is none, or only its remains."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None
    return None if fields[0] in ("Z", "X") else fields[19]
