"""The threads of a process that wait for models and databases; how many requests they take on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mlops_plugin.web.turns import Limits, Turns

# As many run as the pool of models admits. A client's own timeout is rarely shorter than the wait.
LIMITS = Limits(running_of_one=4, running=16, waiting_of_one=64, waiting=256, wait_s=10.0)

_Result = TypeVar("_Result")


class Threads:
    """Used by one event loop."""

    def __init__(self) -> None:
        self.turns = Turns(LIMITS)
        self._threads = ThreadPoolExecutor(LIMITS.running, thread_name_prefix="model")

    async def run(self, model: str, work: Callable[[], _Result]) -> _Result:
        """What `work` returns or raises; raises `ServingBusy` if too many wait, or this one did for long."""
        async with self.turns.of(model):
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
