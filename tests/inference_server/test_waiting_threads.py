"""Threads that wait for models: what they return and raise arrives, and one that is left keeps nobody."""

from __future__ import annotations

import asyncio
import threading

import pytest

from mlops_plugin.errors import ServingError
from mlops_plugin.inference_server.threads import LIMITS, Threads


def test_what_is_awaited_arrives_and_a_thread_works_again() -> None:
    async def run() -> None:
        threads = Threads()
        first = await threads.run("m", threading.get_ident)
        assert await threads.run("m", threading.get_ident) == first

        def fail() -> None:
            raise ServingError("it failed")

        with pytest.raises(ServingError, match="it failed"):
            await threads.run("m", fail)
        assert await threads.run("m", threading.get_ident) == first
        threads.close()

    asyncio.run(run())


def test_work_that_nobody_awaits_any_more_delays_no_other() -> None:
    may_end = threading.Event()

    async def run() -> None:
        threads = Threads()
        left = [asyncio.create_task(threads.run("m", may_end.wait)) for _ in range(LIMITS.running_of_one)]
        while threads.turns.running < len(left):
            await asyncio.sleep(0.001)
        for one in left:
            one.cancel()
        await asyncio.wait(left)
        assert await threads.run("m", lambda: "answered") == "answered"
        may_end.set()
        assert threads.turns.asking == 0
        threads.close()

    asyncio.run(run())
