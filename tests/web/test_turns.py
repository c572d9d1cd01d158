"""Programs wait for a model without a thread; one that hangs keeps no other waiting, one too many is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mlops_plugin.errors import ServingBusy
from mlops_plugin.web.turns import Limits, Turns

LIMITS = Limits(running_of_one=3, running=15, waiting_of_one=50, waiting=1000, wait_s=5.0)


class Callers:
    """Requests that hold their turn until they may end."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._may_end = asyncio.Event()
        self.running = 0
        self._all: list[asyncio.Task[None]] = []

    async def come(self, model: str, count: int) -> list[asyncio.Task[None]]:
        """Returns when each has its turn or waits."""
        new = [asyncio.create_task(self._ask(model)) for _ in range(count)]
        self._all += new
        for _ in range(5):
            await asyncio.sleep(0)
        return new

    async def _ask(self, model: str) -> None:
        async with self._turns.of(model):
            self.running += 1
            await self._may_end.wait()
            self.running -= 1

    async def end(self) -> None:
        self._may_end.set()
        await asyncio.gather(*self._all, return_exceptions=True)


def _try(work: Callable[[Turns, Callers], Awaitable[None]]) -> None:
    async def run() -> None:
        turns = Turns(LIMITS)
        callers = Callers(turns)
        await work(turns, callers)
        await callers.end()
        assert callers.running == 0
        assert turns == Turns(LIMITS)  # nobody is counted any more

    asyncio.run(run())


def test_those_who_wait_get_their_turn_and_one_too_many_is_refused_at_once() -> None:
    async def crowd(turns: Turns, callers: Callers) -> None:
        most = LIMITS.running_of_one + LIMITS.waiting_of_one
        came = await callers.come("m", most)
        assert (callers.running, turns.running, turns.waiting) == (LIMITS.running_of_one, 3, 50)
        with pytest.raises(ServingBusy, match=r"models\.m"):
            async with turns.of("m"):
                pass
        await callers.end()
        assert [task.exception() for task in came] == [None] * most

    _try(crowd)


def test_four_models_that_hang_do_not_block_a_fifth() -> None:
    async def hang(turns: Turns, callers: Callers) -> None:
        for number in range(4):
            await callers.come(f"hangs_{number}", LIMITS.running_of_one + LIMITS.waiting_of_one)
        async with asyncio.timeout(1), turns.of("sound"):
            pass

    _try(hang)


def test_who_goes_away_while_waiting_leaves_no_place_taken() -> None:
    async def leave(turns: Turns, callers: Callers) -> None:
        await callers.come("m", LIMITS.running_of_one)
        (waiting,) = await callers.come("m", 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await callers.end()
        async with asyncio.timeout(1), turns.of("m"):
            pass

    _try(leave)
