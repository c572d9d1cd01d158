"""How long a caller waits for a model, and what it does once that takes longer than a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ServingConfig

MOMENT_S = 0.05
# The Showroom sets no limit to the source, the artifact and the event store.
_READING = timedelta(minutes=10)


def longest_silence(limits: ServingConfig) -> timedelta:
    """The longest time for which a live Showroom run may record nothing: each of its waits to its limit.

    It waits for other callers of the model, for its loading, for its columns and for its predictions.
    """
    return 2 * limits.load_timeout + 3 * limits.timeout + _READING


def do_nothing() -> None:
    """For a caller that only waits."""


@dataclass
class Patience:
    """One caller's patience: `act` is called once, when a wait exceeds a moment, or by `lose`.

    `act` must not raise: the wait goes on.
    """

    act: Callable[[], None] = do_nothing
    _until: float = field(default_factory=lambda: time.monotonic() + MOMENT_S)
    _is_lost: bool = False

    def lose(self) -> None:
        """Act now, unless that has happened: the next wait will be long."""
        if not self._is_lost:
            self._is_lost = True
            self.act()

    def wait(self, has_come: Callable[[float], bool], timeout_s: float) -> bool:
        """Wait up to the time limit; `has_come` waits for so many seconds and returns whether it came."""
        started = time.monotonic()
        if not self._is_lost:
            if has_come(max(0.0, min(self._until - started, timeout_s))):
                return True
            self.lose()
        return has_come(max(0.0, timeout_s - (time.monotonic() - started)))
