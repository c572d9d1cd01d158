"""Reads what a model's process prints, in constant memory: a step logs its first lines, an error quotes its
last."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

_KEPT_BYTES = 2000
MOST_TOLD_BYTES = 64 << 10
_LINE_BYTES = 2000
_UNTOLD = "(further output of the model is not shown)"


class LastWords:
    """Reads a pipe until nobody writes into it any more; `write_end` is for the process that is started.

    `tell` hears the lines up to `MOST_TOLD_BYTES`, in a thread of their own.
    """

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self._read_end, self.write_end = os.pipe()
        self._kept = b""
        self._tell = tell
        self._begun = b""  # a line that has not ended
        self._told_bytes = 0
        self._thread = threading.Thread(target=self._read, daemon=True, name="model's last words")

    def listen(self) -> None:
        """Begin, once the process has the other end."""
        os.close(self.write_end)
        self._thread.start()

    def finish(self, wait_s: float) -> None:
        """Pass all of it on, now that the process has ended."""
        if self._tell is not None:
            self._thread.join(wait_s)

    def last_line(self, wait_s: float) -> str:
        """The last line that says anything, or ''; waits for the process to close its end."""
        self._thread.join(wait_s)
        lines = [line.strip() for line in self._kept.decode(errors="replace").splitlines()]
        return next((line for line in reversed(lines) if line), "")

    def _read(self) -> None:
        while output := os.read(self._read_end, 65_536):
            self._kept = (self._kept + output)[-_KEPT_BYTES:]
            if self._told_bytes <= MOST_TOLD_BYTES:
                self._hear(output)
        self._hear(b"\n")
        os.close(self._read_end)

    def _hear(self, output: bytes) -> None:
        *lines, rest = (self._begun + output).split(b"\n")
        self._begun = rest[:_LINE_BYTES]
        for line in lines:
            text = _printable(line[:_LINE_BYTES])
            if self._tell is None or not text or self._told_bytes > MOST_TOLD_BYTES:
                continue
            self._told_bytes += len(line)
            self._tell(text if self._told_bytes <= MOST_TOLD_BYTES else _UNTOLD)


def _printable(line: bytes) -> str:
    """The line without what could make a terminal or a log show something else."""
    text = line.decode(errors="replace").rstrip()
    return "".join(char if char.isprintable() else " " for char in text)
