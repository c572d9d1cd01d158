"""Many writers at once lose nothing, and a writer that is killed leaves whole records."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
import sqlalchemy as sa

from mlops_plugin.events import tables
from mlops_plugin.events.store import EventStore
from support.event_stories import found, new_identity
from support.event_writers import EventWriters

WRITERS, EVENTS = 8, 60


def count_events(store: EventStore) -> int:
    with store.address.create_engine().connect() as connection:
        count = connection.scalar(sa.select(sa.func.count()).select_from(tables.events))
    assert count is not None
    return count


@pytest.mark.slow
@pytest.mark.parametrize(
    "shared",
    [
        pytest.param(True, id="one dispatch"),
        pytest.param(False, id="a dispatch each", marks=pytest.mark.long),
    ],
)
def test_no_event_of_eight_writers_is_lost(store: EventStore, shared: bool) -> None:
    one = new_identity()
    identities = [one if shared else new_identity() for _ in range(WRITERS)]
    writers = EventWriters(store.address, [[identity] for identity in identities], EVENTS)
    assert writers.errors() == ""
    assert count_events(store) == len(set(identities)) + WRITERS * (EVENTS - 1)
    for identity in set(identities):
        found(store, identity.dispatch_id)
        numbers = [event.try_number for event in store.events(identity.dispatch_id) if event.try_number]
        each = WRITERS if shared else 1
        assert sorted(numbers) == sorted(list(range(1, EVENTS)) * each)


@pytest.mark.slow
def test_dispatches_begun_by_all_at_once_exist_once(store: EventStore) -> None:
    identities = [new_identity() for _ in range(50)]
    writers = EventWriters(store.address, [identities] * WRITERS, len(identities))
    assert writers.errors() == ""
    assert len(store.dispatches(limit=1000)) == len(identities)
    assert count_events(store) == len(identities)  # their beginnings
    for identity in identities:
        found(store, identity.dispatch_id)


@pytest.mark.slow
def test_killed_writers_leave_whole_records(store: EventStore) -> None:
    identities = [new_identity() for _ in range(4)]
    for identity in identities:
        store.begin(identity)
    for attempt in range(4):
        seen = count_events(store)
        writers = EventWriters(store.address, [identities] * 2, 100_000)
        deadline = time.monotonic() + 60
        while count_events(store) < seen + 5 + 7 * attempt:  # they are in the middle of it
            assert time.monotonic() < deadline, "the writers wrote nothing"
        writers.kill()
        for identity in identities:
            found(store, identity.dispatch_id)
    store.step_started(identities[0].dispatch_id, "persist", 1)  # nothing is left locked
    assert len(store.unfinished(older_than=timedelta(0))) == len(identities)
