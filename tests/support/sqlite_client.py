"""Another process that reads and writes SQLite files for the tests.

Python's SQLite and ADBC's are two libraries: in one process they break each other's file locks.
https://www.sqlite.org/howtocorrupt.html#multiple_copies_of_sqlite_linked_into_the_same_application
The process serves all tests, since starting one costs more than what a test asks of it.
"""

from __future__ import annotations

import atexit
import functools
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_SERVE = """
import contextlib, pickle, sqlite3, sys
while True:
    try:
        path, statements = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as connection:
            for statement, many in statements:
                execute = connection.execute if many is None else connection.executemany
                answer = execute(statement, *([] if many is None else [many])).fetchall()
            connection.commit()
    except Exception as error:
        answer = error
    pickle.dump(answer, sys.stdout.buffer)
    sys.stdout.buffer.flush()
"""
_END_TIMEOUT_S = 60


class _Client:
    def __init__(self) -> None:
        # Python's own modules only: it starts in 20 ms.
        self._process = subprocess.Popen(
            [sys.executable, "-ISc", _SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal goes to pytest alone; it ends with its input
        )
        self._lock = threading.Lock()
        atexit.register(self._close, os.getpid())

    def ask(self, path: str, statements: Sequence[tuple[str, Any]]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            pickle.dump((path, statements), self._process.stdin)
            self._process.stdin.flush()
            return pickle.load(self._process.stdout)

    def _close(self, starter: int) -> None:
        if os.getpid() == starter:  # a fork of the tests has no children
            self._process.communicate(timeout=_END_TIMEOUT_S)


@functools.cache
def _client_of(process: int) -> _Client:
    """A fork of the tests starts its own, so that no two read the same answers."""
    return _Client()


def in_sqlite(path: str, *statements: tuple[str, Any]) -> list[tuple[Any, ...]]:
    """Run statements together, each once or for each of its rows; returns what the last has found."""
    answer = _client_of(os.getpid()).ask(str(Path(path).absolute()), statements)
    if isinstance(answer, Exception):
        raise answer
    found: list[tuple[Any, ...]] = answer
    return found
