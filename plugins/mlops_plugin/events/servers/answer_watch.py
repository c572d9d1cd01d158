"""Ends connections whose server does not answer in time, by shutting down their socket.

psycopg2 waits for its server in C, without a limit and deaf to signals. A connection that is shut down makes
it return at once, with an error, and nothing can mistake a late answer for that to a later question.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress

_TICK_S = 0.2
_PAUSE_S = 1.0  # a tick that comes so late means that this process was suspended
_IDLE_TICKS = 25  # without anything to watch, after which the thread ends


class Line:
    """The socket of one connection. `silent_s`: the limit within which no answer came, if that happened."""

    def __init__(self, fileno: int) -> None:
        # The number of a socket that is closed may become another's.
        self._fileno = os.dup(fileno)
        self._lock = threading.Lock()
        self.due: float | None = None  # by the monotonic clock; None: nobody waits
        self.within_s = 0.0
        self.silent_s: float | None = None

    def cut(self) -> None:
        self.silent_s, self.due = self.within_s, None
        with self._lock, suppress(OSError), socket.socket(fileno=os.dup(self._fileno)) as same:
            same.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.due = None
        with self._lock:
            fileno, self._fileno = self._fileno, -1
            if fileno >= 0:
                os.close(fileno)

    def __del__(self) -> None:
        self.close()


class AnswerWatch:
    """Watches the connections of one engine, in a thread that ends when there is nothing to watch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: set[Line] = set()
        self._thread: threading.Thread | None = None

    def expect(self, line: Line, within_s: float) -> None:
        """From now on, an answer must come within so many seconds, or the connection ends."""
        line.within_s = within_s
        with self._lock:
            line.due = time.monotonic() + within_s
            self._lines.add(line)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._tick, name="event store watch", daemon=True)
                self._thread.start()

    def _tick(self) -> None:
        idle, last = 0, time.monotonic()
        while True:
            time.sleep(_TICK_S)
            now = time.monotonic()
            late_s, last = now - last - _TICK_S, now
            with self._lock:
                waiting = [line for line in self._lines if line.due is not None]
                idle = 0 if waiting else idle + 1
                if idle > _IDLE_TICKS:
                    self._lines.clear()
                    self._thread = None
                    return
            for line in waiting:
                due = line.due
                if due is None:
                    continue
                if late_s > _PAUSE_S:
                    line.due = due + late_s  # the server may have answered meanwhile
                elif due < now:
                    line.cut()
