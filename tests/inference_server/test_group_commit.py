"""Writes of concurrent requests share a transaction, and a bad one does no harm to its neighbours."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from mlops_plugin.errors import EventStoreError
from mlops_plugin.events import tables
from mlops_plugin.events.appending import columns_of
from mlops_plugin.events.journal import Journal
from mlops_plugin.events.records import DispatchIdentity
from mlops_plugin.inference_server.group_commit import GroupCommit
from support.workshop import Workshop

TOGETHER = 8


@pytest.fixture
def group(workshop: Workshop) -> Iterator[GroupCommit]:
    with workshop.deployment.event_store() as store:
        yield GroupCommit(store)


def _together(group: GroupCommit, works: list[Callable[[sa.Connection], Any]]) -> list[Any]:
    """Results or errors of works that all wait for a transaction that is under way."""
    is_under_way, may_end = threading.Event(), threading.Event()

    def hold(connection: sa.Connection) -> None:
        is_under_way.set()
        may_end.wait()

    def result(work: Callable[[sa.Connection], Any]) -> Any:
        try:
            return group.write("a test", work)
        except EventStoreError as error:
            return error

    with ThreadPoolExecutor(len(works) + 1) as threads:
        first = threads.submit(group.write, "holding", hold)
        is_under_way.wait()
        others = [threads.submit(result, work) for work in works]
        while len(group._waiting) < len(works):
            threading.Event().wait(0.01)
        may_end.set()
        first.result()
        return [other.result() for other in others]


def _journal(group: GroupCommit, number: int) -> Journal:
    journal = Journal(group)
    journal.begin(DispatchIdentity(f"d{number}", "churn", "showroom", requested_by=f"user {number}"))
    return journal


def test_what_comes_during_a_transaction_shares_the_next_one(group: GroupCommit) -> None:
    def select(number: int) -> Callable[[sa.Connection], Any]:
        return lambda connection: connection.scalar(sa.select(sa.literal(number)))

    assert _together(group, [select(number) for number in range(TOGETHER)]) == [*range(TOGETHER)]
    assert group.commits == 2


def test_each_of_many_threads_finds_its_own_dispatch_on_record(
    group: GroupCommit, workshop: Workshop
) -> None:
    def record(number: int) -> str:
        _journal(group, number).flush()
        with workshop.deployment.event_store() as other:  # committed: another connection sees it
            found = other.get(f"d{number}")
        return str(found and found.requested_by)

    numbers = range(40)
    with ThreadPoolExecutor(TOGETHER) as threads:
        assert [*threads.map(record, numbers)] == [f"user {number}" for number in numbers]


def test_a_write_that_fails_leaves_those_beside_it_committed(group: GroupCommit) -> None:
    def insert(number: int) -> Callable[[sa.Connection], int]:
        dispatch = _journal(group, number)._dispatch
        assert dispatch is not None

        def work(connection: sa.Connection) -> int:
            connection.execute(sa.insert(tables.dispatches), columns_of(dispatch))
            return number

        return work

    results = _together(group, [insert(101), insert(101), insert(102), insert(103)])
    assert [result for result in results if not isinstance(result, EventStoreError)] == [101, 102, 103]
    assert all(group._store.get(f"d{number}") is not None for number in (101, 102, 103))
