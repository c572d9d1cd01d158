"""Lets a few programs run a model at a time; others wait for their turn without a thread.

Airflow's API server has few threads, which share one interpreter: each that works makes all others wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from mlops_plugin.errors import ServingBusy

# Less than `workers.pool` admits: pages want a place, too. While a process answers one, others are collected.
_RUNNING_OF_ONE = 3
_RUNNING = 15  # five models, so that four that hang leave a fifth its places
_WAITING_OF_ONE = 50
_WAITING = 1000
_WAIT_S = 5.0


@dataclass
class _Line:
    """The requests for one model."""

    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_RUNNING_OF_ONE))
    asking: int = 0


@dataclass
class Turns:
    """Used by one event loop."""

    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_RUNNING))
    _lines: dict[str, _Line] = field(default_factory=dict)  # of models that are asked now
    _asking: int = 0

    @contextlib.asynccontextmanager
    async def of(self, model: str) -> AsyncIterator[None]:
        """A turn; raises `ServingBusy` if too many wait already, or for too long."""
        line = self._lines.setdefault(model, _Line())
        if line.asking >= _RUNNING_OF_ONE + _WAITING_OF_ONE or self._asking >= _RUNNING + _WAITING:
            raise ServingBusy(f"models.{model}: too many requests wait for the model; try again in a moment")
        line.asking += 1
        self._asking += 1
        try:
            async with contextlib.AsyncExitStack() as held:
                try:
                    async with asyncio.timeout(_WAIT_S):
                        await held.enter_async_context(line.places)
                        await held.enter_async_context(self._places)
                except TimeoutError as error:
                    raise ServingBusy(
                        f"models.{model}: the model was busy with others for {_WAIT_S:.0f} s; try again later"
                    ) from error
                yield
        finally:
            line.asking -= 1
            self._asking -= 1
            if not line.asking:
                del self._lines[model]
