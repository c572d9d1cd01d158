"""Keeps two commands from working on the same checkout at once."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from local_stack.progress import LocalStackError


@contextlib.contextmanager
def exclusive(path: Path, doing: str) -> Iterator[None]:
    """Hold a lock file; the kernel releases it when the process ends, however it ends.

    Raises `LocalStackError`, naming the process that holds it.
    """
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as failure:
            raise LocalStackError(
                f"{doing} is already running (process {holder(path)}); wait for it, or interrupt it"
            ) from failure
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def holder(path: Path) -> int | None:
    """The process that holds a lock file now; None if nobody does."""
    try:
        with path.open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                return int(lock.read() or 0) or None
    except FileNotFoundError:
        return None
    return None
