"""Many writers at once lose nothing, and a writer that is killed leaves whole records."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import timedelta

import pytest
import sqlalchemy as sa

from mlops_plugin.events import tables
from mlops_plugin.events.address import StoreAddress
from mlops_plugin.events.records import DispatchIdentity
from mlops_plugin.events.store import EventStore
from support.event_stories import found, new_identity

WRITERS, EVENTS = 8, 60

# Another process: it waits for a line on stdin, so that all begin at once.
APPEND = """
import pickle, sys
from mlops_plugin.events.store import EventStore
address, identities, count = pickle.load(sys.stdin.buffer)
with EventStore(address) as store:
    print("ready", flush=True)
    sys.stdin.buffer.readline()
    for number in range(count):
        identity = identities[number % len(identities)]
        if number < len(identities):
            store.begin(identity)
        else:
            store.step_succeeded(identity.dispatch_id, "infer", number, rows=number)
"""


class Writer:
    """A process that appends events."""

    def __init__(self, address: StoreAddress, identities: Sequence[DispatchIdentity], count: int) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, "-c", APPEND],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env={"PYTHONPATH": ":".join(sys.path)},
        )
        assert self.process.stdin
        self.process.stdin.write(pickle.dumps((address, identities, count)))
        self.process.stdin.flush()

    def go(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdout.readline()
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def errors(self) -> str:
        return self.process.communicate(timeout=300)[1].decode()[-2000:]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


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
    writers = [Writer(store.address, [identity], EVENTS) for identity in identities]
    for writer in writers:
        writer.go()
    assert [writer.errors() for writer in writers] == [""] * WRITERS
    assert count_events(store) == len(set(identities)) + WRITERS * (EVENTS - 1)
    for identity in set(identities):
        found(store, identity.dispatch_id)
        numbers = [event.try_number for event in store.events(identity.dispatch_id) if event.try_number]
        each = WRITERS if shared else 1
        assert sorted(numbers) == sorted(list(range(1, EVENTS)) * each)


@pytest.mark.slow
def test_dispatches_begun_by_all_at_once_exist_once(store: EventStore) -> None:
    identities = [new_identity() for _ in range(50)]
    writers = [Writer(store.address, identities, len(identities)) for _ in range(WRITERS)]
    for writer in writers:
        writer.go()
    assert [writer.errors() for writer in writers] == [""] * WRITERS
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
        writers = [Writer(store.address, identities, 100_000) for _ in range(2)]
        for writer in writers:
            writer.go()
        deadline = time.monotonic() + 60
        while count_events(store) < seen + 5 + 7 * attempt:  # they are in the middle of it
            assert time.monotonic() < deadline, "the writers wrote nothing"
        for writer in writers:
            writer.kill()
        for identity in identities:
            found(store, identity.dispatch_id)
    store.step_started(identities[0].dispatch_id, "persist", 1)  # nothing is left locked
    assert len(store.unfinished(older_than=timedelta(0))) == len(identities)
