"""Dispatches of concurrent requests share a transaction, and a bad one does no harm to its neighbours."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from mlops_plugin.errors import EventStoreError
from mlops_plugin.events.details.serialization import write_details
from mlops_plugin.events.records import DispatchIdentity, EventRecord, summarise
from mlops_plugin.events.whole_dispatches import Happened, WholeDispatch
from mlops_plugin.inference_server.group_commit import GroupCommit
from support.workshop import Workshop

TOGETHER = 8


@pytest.fixture
def group(workshop: Workshop) -> Iterator[GroupCommit]:
    with workshop.deployment.event_store() as store:
        yield GroupCommit(store)


def _dispatch(number: int, user: str | None = None) -> WholeDispatch:
    identity = DispatchIdentity(f"d{number}", "churn", "showroom", requested_by=user)
    now = datetime.now(UTC)
    began = EventRecord(
        None, f"d{number}", "churn", None, "started", None, None, now, None, None, None, identity
    )
    started = Happened(None, "started", now, json.dumps(write_details(identity)))
    return WholeDispatch(summarise(None, began), [started])


def _together(group: GroupCommit, each: list[list[WholeDispatch]]) -> list[EventStoreError | None]:
    """The errors of what waits for a transaction that is under way."""

    def error_of(dispatches: list[WholeDispatch]) -> EventStoreError | None:
        try:
            group.append(dispatches)
        except EventStoreError as error:
            return error
        return None

    with ThreadPoolExecutor(len(each)) as threads:
        with group._lock:
            group._is_led = True  # as by a transaction under way
        others = [threads.submit(error_of, dispatches) for dispatches in each]
        while len(group._waiting) < len(each):
            threading.Event().wait(0.01)
        group._waiting[0].leads = True
        group._waiting[0].wake()
        return [other.result() for other in others]


def _recorded(group: GroupCommit, numbers: list[int]) -> list[int]:
    return [number for number in numbers if group.store.get(f"d{number}") is not None]


def test_what_comes_during_a_transaction_shares_the_next_one(group: GroupCommit) -> None:
    numbers = [*range(TOGETHER)]
    assert _together(group, [[_dispatch(number)] for number in numbers]) == [None] * TOGETHER
    assert group.commits == 1
    assert _recorded(group, numbers) == numbers


def test_each_of_many_threads_finds_its_own_dispatch_on_record(
    group: GroupCommit, workshop: Workshop
) -> None:
    def record(number: int) -> str:
        group.append([_dispatch(number, f"user {number}")])
        with workshop.deployment.event_store() as other:  # committed: another connection sees it
            found = other.get(f"d{number}")
        return str(found and found.requested_by)

    numbers = range(200, 240)
    with ThreadPoolExecutor(TOGETHER) as threads:
        assert [*threads.map(record, numbers)] == [f"user {number}" for number in numbers]


def test_what_cannot_be_recorded_leaves_those_beside_it_on_record(group: GroupCommit) -> None:
    twice = [_dispatch(103), _dispatch(103)]
    errors = _together(group, [[_dispatch(101)], twice, [_dispatch(102)]])
    assert [type(error) for error in errors] == [type(None), EventStoreError, type(None)]
    assert _recorded(group, [101, 102, 103]) == [101, 102]
