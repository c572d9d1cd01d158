"""The threads of a process that wait for models and databases; how many requests they take on."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeVar

from mlops_plugin.web.turns import Limits, Turns

# As many run as the pool of models admits. A client's own timeout is rarely shorter than the wait.
LIMITS = Limits(running_of_one=4, running=16, waiting_of_one=64, waiting=256, wait_s=10.0)

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class _Work:
    """What a thread is to do, and where it is awaited."""

    do: Callable[[], Any]
    done: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class Threads:
    """Used by one event loop. The thread that worked last works next: what it uses is near at hand."""

    def __init__(self) -> None:
        self.turns = Turns(LIMITS)
        self._idle: list[SimpleQueue[_Work | None]] = []

    async def run(self, model: str, work: Callable[[], _Result]) -> _Result:
        """What `work` returns or raises; raises `ServingBusy` if too many wait, or this one did for long."""
        async with self.turns.of(model):
            loop = asyncio.get_running_loop()
            given = _Work(work, loop.create_future(), loop)
            (self._idle.pop() if self._idle else self._started()).put(given)
            result: _Result = await given.done
            return result

    def close(self) -> None:
        """End the threads that have nothing to do; the others end with the process."""
        while self._idle:
            self._idle.pop().put(None)

    def _started(self) -> SimpleQueue[_Work | None]:
        works: SimpleQueue[_Work | None] = SimpleQueue()
        threading.Thread(target=self._work_on, args=(works,), daemon=True, name="model").start()
        return works

    def _work_on(self, works: SimpleQueue[_Work | None]) -> None:
        while (given := works.get()) is not None:
            result, error = None, None
            try:
                result = given.do()
            except BaseException as raised:  # noqa: BLE001 - raised where it is awaited
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop has ended
                given.loop.call_soon_threadsafe(self._end, works, given.done, result, error)
            del given, result, error  # nothing is kept while it waits

    def _end(
        self,
        works: SimpleQueue[_Work | None],
        done: asyncio.Future[Any],
        result: Any,
        error: BaseException | None,
    ) -> None:
        self._idle.append(works)
        if done.done():  # nobody awaits it any more
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)
