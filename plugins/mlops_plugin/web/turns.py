"""Lets a few requests run a model at a time; others wait for their turn without a thread.

Each that works makes all others in its process wait, since they share one interpreter.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from mlops_plugin.errors import ServingBusy


@dataclass(frozen=True)
class Limits:
    """How many requests may run and wait, of one model and in all, and how long."""

    running_of_one: int
    running: int
    waiting_of_one: int
    waiting: int
    wait_s: float


@dataclass
class _Line:
    """The requests for one model."""

    places: asyncio.Semaphore
    asking: int = 0


@dataclass
class Turns:
    """Used by one event loop."""

    limits: Limits
    asking: int = 0  # requests that run or wait
    running: int = 0
    _lines: dict[str, _Line] = field(default_factory=dict)  # of models that are asked now

    def __post_init__(self) -> None:
        self._places = asyncio.Semaphore(self.limits.running)

    @property
    def waiting(self) -> int:
        return self.asking - self.running

    @contextlib.asynccontextmanager
    async def of(self, model: str) -> AsyncIterator[None]:
        """A turn; raises `ServingBusy` if too many wait already, or for too long."""
        most = self.limits
        line = self._lines.setdefault(model, _Line(asyncio.Semaphore(most.running_of_one)))
        if (
            line.asking >= most.running_of_one + most.waiting_of_one
            or self.asking >= most.running + most.waiting
        ):
            raise ServingBusy(f"models.{model}: too many requests wait for the model; try again in a moment")
        line.asking += 1
        self.asking += 1
        try:
            if line.places.locked() or self._places.locked():
                await self._wait(model, line)
            else:
                await self._take_place(line)
            self.running += 1
            try:
                yield
            finally:
                self.running -= 1
                self._places.release()
                line.places.release()
        finally:
            line.asking -= 1
            self.asking -= 1
            if not line.asking:
                del self._lines[model]

    async def _wait(self, model: str, line: _Line) -> None:
        try:
            async with asyncio.timeout(self.limits.wait_s):
                await self._take_place(line)
        except TimeoutError as error:
            raise ServingBusy(
                f"models.{model}: the model was busy with others for {self.limits.wait_s:.0f} s; try again"
            ) from error

    async def _take_place(self, line: _Line) -> None:
        await line.places.acquire()
        try:
            await self._places.acquire()
        except BaseException:
            line.places.release()
            raise
