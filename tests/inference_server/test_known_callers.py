"""Who is let in without asking, for how long, and how often Airflow is asked."""

from __future__ import annotations

import asyncio
import time

import pytest

from mlops_plugin.errors import MlopsError
from mlops_plugin.inference_server.gate import Caller, GateClosed, NotSignedIn
from mlops_plugin.inference_server.known_callers import KnownCallers

ADA = Caller("ada", may_run_models=True, may_read=True, may_trigger=True)
LONG_S = 60.0


class Airflow:
    """Answers when `may_answer` is set: ada's rights, or `refusal`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.refusal: MlopsError | None = None
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    def ask(self, token: str, model: str) -> asyncio.Future[Caller]:
        self.asked.append((token, model))
        return asyncio.ensure_future(self._answer())

    async def _answer(self) -> Caller:
        await self.may_answer.wait()
        if self.refusal is not None:
            raise self.refusal
        return ADA


async def _idle() -> None:
    """Until what was begun is done: by steps of the loop, since a busy machine stops any clock."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_requests_that_come_together_ask_once_for_each_token_and_model() -> None:
    async def run() -> None:
        airflow = Airflow()
        airflow.may_answer.clear()
        callers = KnownCallers(airflow.ask, LONG_S, LONG_S)
        wanted = [(token, model) for token in ("one", "two") for model in ("churn", "wine")]
        coming = [asyncio.create_task(callers.admit(*one)) for one in wanted * 8]
        await asyncio.sleep(0)
        airflow.may_answer.set()
        assert await asyncio.gather(*coming) == [ADA] * 32
        assert airflow.asked == wanted
        assert await callers.admit("one", "churn") == ADA
        assert len(airflow.asked) == 4

    asyncio.run(run())


def test_a_refusal_is_heard_by_all_who_wait_and_by_nobody_later() -> None:
    async def run() -> None:
        airflow = Airflow()
        callers = KnownCallers(airflow.ask, LONG_S, LONG_S)
        for refusal in (NotSignedIn("revoked"), GateClosed("the database is away")):
            airflow.refusal = refusal
            found = await asyncio.gather(
                *(callers.admit("one", "churn") for _ in range(4)), return_exceptions=True
            )
            assert found == [refusal] * 4
        airflow.refusal = None
        assert await callers.admit("one", "churn") == ADA
        assert len(airflow.asked) == 3

    asyncio.run(run())


def test_an_answer_is_renewed_while_it_still_counts_and_a_revoked_token_ends_at_once() -> None:
    async def run() -> None:
        airflow = Airflow()
        callers = KnownCallers(airflow.ask, LONG_S, renewed_s=0.0)
        assert await callers.admit("one", "churn") == ADA
        airflow.refusal = GateClosed("the database is away")
        assert await callers.admit("one", "churn") == ADA  # nobody waits for what is asked meanwhile
        await _idle()
        airflow.refusal = NotSignedIn("revoked")
        assert await callers.admit("one", "churn") == ADA
        await _idle()
        with pytest.raises(NotSignedIn):
            await callers.admit("one", "churn")

    asyncio.run(run())


def test_an_answer_no_longer_counts_after_its_time() -> None:
    async def run() -> None:
        airflow = Airflow()
        trusted_s = 0.05
        callers = KnownCallers(airflow.ask, trusted_s, LONG_S)
        assert await callers.admit("one", "churn") == ADA
        airflow.refusal = NotSignedIn("revoked")
        time.sleep(trusted_s)
        with pytest.raises(NotSignedIn):
            await callers.admit("one", "churn")

    asyncio.run(run())


def test_nobody_joins_a_question_that_was_asked_long_ago() -> None:
    async def run() -> None:
        airflow = Airflow()
        airflow.may_answer.clear()
        callers = KnownCallers(airflow.ask, 0.0, LONG_S)
        coming = [asyncio.create_task(callers.admit("one", "churn")) for _ in range(2)]
        await asyncio.sleep(0)
        airflow.may_answer.set()
        await asyncio.gather(*coming)
        assert len(airflow.asked) == 2

    asyncio.run(run())


def test_names_that_callers_make_up_are_not_kept() -> None:
    async def run() -> None:
        callers = KnownCallers(Airflow().ask, LONG_S, LONG_S)
        name = "no such model" * 1000
        assert await callers.admit("one", name) == ADA
        assert name not in repr(vars(callers))

    asyncio.run(run())
