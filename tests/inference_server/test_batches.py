"""Requests that come while a model is busy go together: which, how many, and what becomes of the others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from mlops_plugin.errors import FeatureError, ServingBusy
from mlops_plugin.inference_server import batches
from mlops_plugin.inference_server.batches import MOST_ROWS, MOST_TOGETHER, Batches
from mlops_plugin.inference_server.threads import Threads


@dataclass(frozen=True)
class Asked:
    number: int
    likeness: str = "alike"
    size: int = 1


@dataclass
class Model:
    """Answers with the numbers that it was asked, once it may."""

    may_answer: threading.Event = field(default_factory=threading.Event)
    together: list[list[int]] = field(default_factory=list)

    def answer(self, name: str, asked: Sequence[Asked]) -> list[str | Exception]:
        self.together.append([one.number for one in asked])
        self.may_answer.wait()
        return [FeatureError("no") if one.number < 0 else f"{name} {one.number}" for one in asked]


def _run(test: Callable[[Batches[Asked, str], Model], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        model, threads = Model(), Threads()
        try:
            await test(Batches(threads, model.answer), model)
        finally:
            model.may_answer.set()
            threads.close()

    asyncio.run(run())


async def _held(door: Batches[Asked, str], model: Model, number: int) -> asyncio.Task[str]:
    """A request that keeps the model busy."""
    asking = asyncio.create_task(door.ask("m", Asked(number)))
    while not model.together:
        await asyncio.sleep(0.001)
    return asking


def _tasks(door: Batches[Asked, str], asked: Sequence[Asked]) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(door.ask("m", one)) for one in asked]


def test_a_request_alone_is_asked_at_once_and_those_behind_it_go_together() -> None:
    async def test(door: Batches[Asked, str], model: Model) -> None:
        first = await _held(door, model, 0)
        others = _tasks(door, [Asked(number) for number in (1, -2, 3, 4)])
        await asyncio.sleep(0)
        assert (door.running, door.waiting) == (1, 4)
        model.may_answer.set()
        found = await asyncio.gather(first, *others, return_exceptions=True)
        assert [str(one) for one in found] == ["m 0", "m 1", "no", "m 3", "m 4"]
        assert model.together == [[0], [1, -2, 3, 4]]
        assert (door.running, door.waiting) == (0, 0)

    _run(test)


def test_only_what_is_alike_goes_together_and_whoever_came_first_goes_first() -> None:
    async def test(door: Batches[Asked, str], model: Model) -> None:
        first = await _held(door, model, 0)
        kinds = ["a", "b", "a", "b", "c"]
        others = _tasks(door, [Asked(number, kind) for number, kind in enumerate(kinds, 1)])
        await asyncio.sleep(0)
        model.may_answer.set()
        assert await asyncio.gather(first, *others) == [f"m {number}" for number in range(6)]
        assert model.together == [[0], [1, 3], [2, 4], [5]]

    _run(test)


def test_a_batch_has_no_more_rows_than_a_request_may_have() -> None:
    async def test(door: Batches[Asked, str], model: Model) -> None:
        first = await _held(door, model, 0)
        sizes = [MOST_ROWS - 1, 1, 1, MOST_ROWS]
        others = _tasks(door, [Asked(number, size=size) for number, size in enumerate(sizes, 1)])
        await asyncio.sleep(0)
        model.may_answer.set()
        await asyncio.gather(first, *others)
        assert model.together == [[0], [1, 2], [3], [4]]

    _run(test)


def test_a_request_too_many_is_refused_at_once_and_other_models_are_answered() -> None:
    async def test(door: Batches[Asked, str], model: Model) -> None:
        first = await _held(door, model, 0)
        others = _tasks(door, [Asked(number) for number in range(1, batches._WAITING_OF_ONE + 1)])
        await asyncio.sleep(0)
        with pytest.raises(ServingBusy):
            await door.ask("m", Asked(99))
        another = asyncio.create_task(door.ask("another", Asked(7)))
        while len(model.together) < 2:
            await asyncio.sleep(0.001)
        model.may_answer.set()
        assert await another == "another 7"
        await asyncio.gather(first, *others)
        assert max(map(len, model.together)) == MOST_TOGETHER

    _run(test)


def test_a_client_that_goes_away_gives_up_its_place() -> None:
    async def test(door: Batches[Asked, str], model: Model) -> None:
        first = await _held(door, model, 0)
        waiting, other = _tasks(door, [Asked(1), Asked(2)])
        await asyncio.sleep(0)
        waiting.cancel()
        first.cancel()  # the model works on it: its answer is thrown away
        await asyncio.wait([waiting, first])
        assert door.waiting == 1
        model.may_answer.set()
        assert await other == "m 2"
        assert model.together == [[0], [2]]

    _run(test)
