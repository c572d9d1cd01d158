"""How many requests a process works on, and how many wait; one more is refused with 429."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from mlops_plugin.errors import ServingBusy

# As many as the pool of models admits: 4 of one model, 20 together.
_RUNNING_OF_ONE = 4
_RUNNING = 16
_WAITING_OF_ONE = 64
_WAITING = 256
# A request that has waited so long is refused; a client's own timeout is rarely shorter.
_WAIT_S = 10.0

_Result = TypeVar("_Result")


@dataclass
class _Line:
    """The requests for one model."""

    running: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_RUNNING_OF_ONE))
    waiting: int = 0


class Admission:
    """Runs blocking work in threads, a few at a time; used by one event loop."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._running = asyncio.Semaphore(_RUNNING)
        self._threads = ThreadPoolExecutor(_RUNNING, thread_name_prefix="model")
        self.waiting = 0
        self.running = 0

    async def run(self, model: str, work: Callable[[], _Result]) -> _Result:
        """What `work` returns or raises; raises `ServingBusy` if too many wait, or this one did for long."""
        line = self._lines.setdefault(model, _Line())
        async with contextlib.AsyncExitStack() as held:
            await held.enter_async_context(self._turn(model, line))
            self.running += 1
            held.callback(self._end)
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _end(self) -> None:
        self.running -= 1

    @contextlib.asynccontextmanager
    async def _turn(self, model: str, line: _Line) -> AsyncIterator[None]:
        if line.waiting >= _WAITING_OF_ONE or self.waiting >= _WAITING:
            raise ServingBusy(f"models.{model}: too many requests are waiting; try again in a moment")
        line.waiting += 1
        self.waiting += 1
        try:
            async with asyncio.timeout(_WAIT_S):
                await line.running.acquire()
                try:
                    await self._running.acquire()
                except BaseException:
                    line.running.release()
                    raise
        except TimeoutError as error:
            raise ServingBusy(f"models.{model}: the model was busy for {_WAIT_S:.0f} s; try again") from error
        finally:
            line.waiting -= 1
            self.waiting -= 1
        try:
            yield
        finally:
            self._running.release()
            line.running.release()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
