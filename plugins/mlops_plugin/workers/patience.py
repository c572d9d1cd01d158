"""How long a model is waited for, and what is done once that gets longer than a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ServingConfig

MOMENT_S = 0.05
# The source, the artifact and the event store have no limit of the Showroom's.
_READING = timedelta(minutes=10)


def longest_silence(limits: ServingConfig) -> timedelta:
    """So long a run in the Showroom may leave nothing on record while it lives, each wait to its limit.

    Of others who use the model, of its loading, of a question about the columns and of its answer.
    """
    return 2 * limits.load_timeout + 3 * limits.timeout + _READING


def do_nothing() -> None:
    """For who waits and has nothing else to do."""


@dataclass
class Patience:
    """One caller's: `act` is called once, a moment from now if it waits then, or by `lose`.

    `act` must not raise: the wait goes on.
    """

    act: Callable[[], None] = do_nothing
    _until: float = field(default_factory=lambda: time.monotonic() + MOMENT_S)
    _is_lost: bool = False

    def lose(self) -> None:
        """Act now, unless that has happened: what comes next takes its time."""
        if not self._is_lost:
            self._is_lost = True
            self.act()

    def wait(self, has_come: Callable[[float], bool], timeout_s: float) -> bool:
        """Whether it has come within the time; `has_come` waits for so many seconds at most."""
        started = time.monotonic()
        if not self._is_lost:
            if has_come(max(0.0, min(self._until - started, timeout_s))):
                return True
            self.lose()
        return has_come(max(0.0, timeout_s - (time.monotonic() - started)))
