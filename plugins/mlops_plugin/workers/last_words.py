"""Keeps the end of what a model's process prints, in constant memory; `process` tells it when the process
dies."""

from __future__ import annotations

import os
import threading

_KEPT_BYTES = 2000


class LastWords:
    """Reads a pipe until nobody writes into it any more; `write_end` is for the process that is started."""

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        self._kept = b""
        self._thread = threading.Thread(target=self._read, daemon=True, name="model's last words")

    def listen(self) -> None:
        """Begin, once the process has the other end."""
        os.close(self.write_end)
        self._thread.start()

    def last_line(self, wait_s: float) -> str:
        """The last line that says anything, or ''; waits for the process to close its end."""
        self._thread.join(wait_s)
        lines = [line.strip() for line in self._kept.decode(errors="replace").splitlines()]
        return next((line for line in reversed(lines) if line), "")

    def _read(self) -> None:
        while said := os.read(self._read_end, 65_536):
            self._kept = (self._kept + said)[-_KEPT_BYTES:]
        os.close(self._read_end)
