"""How much a process takes on: a slow model keeps nobody else waiting, and a request too many is told."""

from __future__ import annotations

import asyncio
import threading

import pytest

from mlops_plugin.errors import ServingBusy
from mlops_plugin.inference_server import admission
from mlops_plugin.inference_server.admission import Admission


def test_a_request_too_many_is_refused_at_once_and_other_models_are_answered() -> None:
    may_end = threading.Event()

    async def run() -> None:
        door = Admission()
        taken = admission._RUNNING_OF_ONE + admission._WAITING_OF_ONE
        slow = [asyncio.create_task(door.run("slow", may_end.wait)) for _ in range(taken)]
        while door.running + door.waiting < taken:
            await asyncio.sleep(0.001)
        assert (door.running, door.waiting) == (admission._RUNNING_OF_ONE, admission._WAITING_OF_ONE)
        with pytest.raises(ServingBusy) as refused:
            await door.run("slow", may_end.wait)
        assert refused.value.retry_after_s >= 1
        assert await door.run("quick", lambda: "answered") == "answered"
        may_end.set()
        assert await asyncio.gather(*slow) == [True] * taken
        assert (door.running, door.waiting) == (0, 0)
        door.close()

    asyncio.run(run())


def test_a_client_that_goes_away_while_it_waits_gives_up_its_place() -> None:
    may_end = threading.Event()

    async def run() -> None:
        door = Admission()
        running = [asyncio.create_task(door.run("m", may_end.wait)) for _ in range(admission._RUNNING_OF_ONE)]
        waiting = asyncio.create_task(door.run("m", may_end.wait))
        while door.waiting < 1:
            await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert door.waiting == 0
        may_end.set()
        await asyncio.gather(*running)
        assert await door.run("m", lambda: 1) == 1
        door.close()

    asyncio.run(run())
