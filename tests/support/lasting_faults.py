"""Faults that last a while, so that others happen meanwhile: each place has one at a time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class LastingFaults:
    """What ends each fault that has begun, and when it is due."""

    choose: random.Random
    _ends: dict[str, tuple[float, Callable[[], object]]] = field(default_factory=dict)

    def begin(
        self, place: str, begin: Callable[[], bool], end: Callable[[], object], seconds: tuple[float, float]
    ) -> bool:
        """Whether it began: not if the place has a fault already."""
        if place in self._ends or not begin():
            return False
        self._ends[place] = (time.monotonic() + self.choose.uniform(*seconds), end)
        return True

    def end(self, *, all_of_them: bool = False) -> None:
        """End those that are due."""
        for place, (at, end) in list(self._ends.items()):
            if all_of_them or at <= time.monotonic():
                del self._ends[place]
                end()
