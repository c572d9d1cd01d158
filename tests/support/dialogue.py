"""A command that asks, at a terminal of its own: a test answers each question once it has been asked."""

from __future__ import annotations

import os
import pty
import select
import time
from collections.abc import Callable

_ANSWERED_WITHIN_S = 120.0
_CHUNK = 65_536
# Starts the command with this file as its input and output; what it returns waits for its exit status.
Start = Callable[[int], Callable[[float], int]]


class Dialogue:
    """Started at once; `text` is all that the terminal has shown so far."""

    def __init__(self, start: Start) -> None:
        self._terminal, inside = pty.openpty()
        self._wait = start(inside)
        os.close(inside)
        self._answered = 0
        self.text = ""

    def answer(self, question: str, answer: str) -> None:
        """Wait for the question, after what was answered before, and type a line."""
        deadline = time.monotonic() + _ANSWERED_WITHIN_S
        while question not in self.text[self._answered :]:
            assert time.monotonic() < deadline, f"{question!r} was not asked within the limit:\n{self.text}"
            assert self._read(), f"{question!r} was never asked:\n{self.text}"
        self._answered = len(self.text)
        os.write(self._terminal, f"{answer}\n".encode())

    def end(self) -> int:
        """Read the rest and wait for the end; returns the exit status."""
        while self._read():
            pass
        os.close(self._terminal)
        return self._wait(_ANSWERED_WITHIN_S)

    def _read(self) -> bool:
        """Whether there may be more to come."""
        ready, _, _ = select.select([self._terminal], [], [], _ANSWERED_WITHIN_S)
        assert ready, f"nothing more was shown within the limit:\n{self.text}"
        try:
            data = os.read(self._terminal, _CHUNK)
        except OSError:  # Linux: the other end was closed
            return False
        self.text += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)
