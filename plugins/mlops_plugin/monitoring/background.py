"""Reads something slow in a thread of its own, so that a page can show the last value at once."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from mlops_plugin.errors import MlopsError

Value = TypeVar("Value")


@dataclass(frozen=True)
class Known(Generic[Value]):
    """The last value, if any, and why reading it again failed, if so."""

    value: Value | None = None
    error: str | None = None


class Background(Generic[Value]):
    """One value, read by at most one thread at a time and kept between reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: Known[Value] = Known()
        self._ended: threading.Event | None = None
        self._overdue_at = 0.0
        self._read_at = -math.inf

    def look(
        self, read: Callable[[], Value], *, wait_s: float, timeout_s: float, kept_s: float = math.inf
    ) -> Known[Value]:
        """Start a read, or join the running one, and wait at most `wait_s` for it.

        A read that takes longer than `timeout_s` is reported as an error until it ends. A value that was read
        more than `kept_s` ago is shown beside an error only.
        """
        with self._lock:
            if self._ended is None:
                self._ended = threading.Event()
                self._overdue_at = time.monotonic() + timeout_s
                threading.Thread(target=self._read, args=(read, self._ended), daemon=True).start()
            ended = self._ended
        ended.wait(wait_s)
        with self._lock:
            if self._ended is not None and time.monotonic() > self._overdue_at:
                return Known(self._known.value, f"no answer within {timeout_s:g} s; still waiting")
            is_old = time.monotonic() - self._read_at > kept_s
            return Known() if is_old and self._known.error is None else self._known

    def _read(self, read: Callable[[], Value], ended: threading.Event) -> None:
        known: Known[Value] = Known(self._known.value, "reading failed; see the log of the API server")
        try:
            known = Known(read())
        except MlopsError as error:
            known = Known(self._known.value, str(error))
        finally:
            with self._lock:
                self._known, self._ended = known, None
                if known.error is None:
                    self._read_at = time.monotonic()
            ended.set()
