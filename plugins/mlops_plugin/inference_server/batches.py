"""Requests for one model that come while it is busy go together as one batch; used by one event loop.

Nobody waits for others to come: a request that finds its model idle is worked on at once, alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from mlops_plugin.errors import ServingBusy
from mlops_plugin.inference_server.threads import Threads

MOST_TOGETHER = 64  # requests
MOST_ROWS = 1000  # as many as one request may have
_WAITING_OF_ONE = 64
_WAITING = 256
# A request that has waited so long is refused; a client's own timeout is rarely shorter.
WAIT_S = 10.0


class Alike(Protocol):
    """A request: only those with an equal `likeness` go together. `size` counts its rows."""

    @property
    def likeness(self) -> Hashable: ...

    @property
    def size(self) -> int: ...


_Asked = TypeVar("_Asked", bound=Alike)
_Answer = TypeVar("_Answer")


@dataclass(eq=False)
class _Waiting(Generic[_Asked, _Answer]):
    asked: _Asked
    answer: asyncio.Future[_Answer]


@dataclass
class _Line(Generic[_Asked, _Answer]):
    """The requests for one model."""

    waiting: deque[_Waiting[_Asked, _Answer]] = field(default_factory=deque)
    is_led: bool = False

    def next_batch(self) -> list[_Waiting[_Asked, _Answer]]:
        """The request that came first, and those behind it that are alike, in their order."""
        first = self.waiting[0]
        taken: list[_Waiting[_Asked, _Answer]] = []
        rows, left = 0, deque[_Waiting[_Asked, _Answer]]()
        for one in self.waiting:
            fits = len(taken) < MOST_TOGETHER and (not taken or rows + one.asked.size <= MOST_ROWS)
            if fits and one.asked.likeness == first.asked.likeness:
                taken.append(one)
                rows += one.asked.size
            else:
                left.append(one)
        self.waiting = left
        return taken


class Batches(Generic[_Asked, _Answer]):
    """`work` answers some requests for a model in a thread: for each what it is answered, or the error."""

    def __init__(
        self,
        threads: Threads,
        work: Callable[[str, Sequence[_Asked]], Sequence[_Answer | Exception]],
    ) -> None:
        self._threads = threads
        self._work = work
        self._lines: dict[str, _Line[_Asked, _Answer]] = {}
        self._leading: set[asyncio.Task[None]] = set()
        self.waiting = 0
        self.running = 0

    async def ask(self, model: str, asked: _Asked) -> _Answer:
        """The answer to one request; raises what `work` found, or `ServingBusy` if too many wait."""
        line = self._lines.setdefault(model, _Line())
        if len(line.waiting) >= _WAITING_OF_ONE or self.waiting >= _WAITING:
            raise ServingBusy(f"models.{model}: too many requests are waiting; try again in a moment")
        loop = asyncio.get_running_loop()
        mine = _Waiting[_Asked, _Answer](asked, loop.create_future())
        line.waiting.append(mine)
        self.waiting += 1
        if not line.is_led:
            line.is_led = True
            leading = loop.create_task(self._lead(model, line))
            self._leading.add(leading)
            leading.add_done_callback(self._leading.discard)
            return await self._answer(line, mine)
        late = loop.call_later(WAIT_S, self._give_up, model, line, mine)
        try:
            return await self._answer(line, mine)
        finally:
            late.cancel()

    async def _answer(self, line: _Line[_Asked, _Answer], mine: _Waiting[_Asked, _Answer]) -> _Answer:
        try:
            return await mine.answer
        except asyncio.CancelledError:
            self._leave(line, mine)
            raise

    def _give_up(self, model: str, line: _Line[_Asked, _Answer], mine: _Waiting[_Asked, _Answer]) -> None:
        if self._leave(line, mine) and not mine.answer.done():
            busy = ServingBusy(f"models.{model}: the model was busy for {WAIT_S:.0f} s; try again")
            mine.answer.set_exception(busy)

    def _leave(self, line: _Line[_Asked, _Answer], mine: _Waiting[_Asked, _Answer]) -> bool:
        """Whether the request was still waiting; it no longer is."""
        with contextlib.suppress(ValueError):
            line.waiting.remove(mine)
            self.waiting -= 1
            return True
        return False

    async def _lead(self, model: str, line: _Line[_Asked, _Answer]) -> None:
        """Work on one batch after the other until nobody waits."""
        try:
            while line.waiting:
                batch = line.next_batch()
                self.waiting -= len(batch)
                self.running += len(batch)
                try:
                    await self._work_on(model, batch)
                finally:
                    self.running -= len(batch)
        finally:
            line.is_led = False

    async def _work_on(self, model: str, batch: list[_Waiting[_Asked, _Answer]]) -> None:
        asked = [one.asked for one in batch]
        answers: Sequence[_Answer | Exception]
        try:
            answers = await self._threads.run(model, lambda: self._work(model, asked))
        except Exception as error:  # noqa: BLE001 - raised in each of those who wait
            answers = [error] * len(batch)
        for one, answer in zip(batch, answers, strict=True):
            if one.answer.done():  # its client has gone
                continue
            if isinstance(answer, Exception):
                one.answer.set_exception(answer)
            else:
                one.answer.set_result(answer)
