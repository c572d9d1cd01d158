"""Watermarks: appended, never lost between processes, the same on every engine."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from mlops_plugin.events import tables
from mlops_plugin.events.address import StoreAddress
from mlops_plugin.events.marks import Watermark, mark_history, move_mark, newest_mark, set_mark
from mlops_plugin.events.records import DispatchIdentity
from mlops_plugin.events.store import EventStore


def move(store: EventStore, value: str, model: str = "churn") -> Watermark | None:
    def later(newest: Watermark | None) -> str | None:
        return value if newest is None or int(newest.value or 0) < int(value) else None

    token = store.start_step(DispatchIdentity("d1", "churn", "terminal"), "persist")
    return move_mark(store, model, "id", "integer", token, later)


def test_newest_mark_holds_and_the_older_ones_stay(store: EventStore) -> None:
    assert newest_mark(store, "churn") is None
    move(store, "10")
    before = datetime.now(UTC)
    mark = move(store, "20")
    assert mark == newest_mark(store, "churn")
    assert mark is not None
    assert (mark.value, mark.value_kind, mark.cursor_column, mark.dispatch_id) == (
        "20",
        "integer",
        "id",
        "d1",
    )
    assert mark.at >= before
    assert [mark.value for mark in mark_history(store, "churn", limit=10)] == ["20", "10"]
    assert newest_mark(store, "Churn") is None


def test_mark_that_stays_leaves_no_record(store: EventStore) -> None:
    move(store, "10")
    assert move(store, "9") is None
    assert [mark.value for mark in mark_history(store, "churn", limit=10)] == ["10"]


def test_person_sets_it_to_anything_and_begins_a_generation(store: EventStore) -> None:
    move(store, "10")
    began = set_mark(store, "churn", "id", "5", "integer", "ann").generation
    assert began > 0
    mark = set_mark(store, "churn", "id", None, None, None)
    assert (mark.value, mark.set_by) == (None, "unknown")
    assert mark.generation > began
    moved = move(store, "7")
    assert moved is not None
    assert (moved.value, moved.generation, moved.number) == ("7", mark.generation, 4)


@pytest.mark.slow
def test_a_generation_of_a_store_that_was_restored_is_none_that_was_given_before(store: EventStore) -> None:
    move(store, "10")
    given = set_mark(store, "churn", "id", "5", "integer", "ann")
    forgotten = sa.delete(tables.marks).where(tables.marks.c.number == given.number)
    store.write("restoring a backup", lambda connection: connection.execute(forgotten))
    threading.Event().wait(1.1)  # no backup is restored sooner
    assert set_mark(store, "churn", "id", "5", "integer", "ann").generation > given.generation


MOVE = """
import pickle, sys
from mlops_plugin.events.marks import move_mark
from mlops_plugin.events.records import DispatchIdentity
from mlops_plugin.events.store import EventStore
address, first = pickle.load(sys.stdin.buffer)
with EventStore(address) as store:
    token = store.start_step(DispatchIdentity(f"d{first}", "churn", "terminal"), "persist")
    for value in range(first, 40, 4):
        later = lambda newest: str(value) if newest is None or int(newest.value) < value else None
        move_mark(store, "churn", "id", "integer", token, later)
"""


def test_processes_that_move_it_at_once_never_move_it_backwards(address: StoreAddress) -> None:
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MOVE],
            stdin=pipe,
            stderr=pipe,
            env={"PYTHONPATH": ":".join(sys.path)},
        )
        for _ in range(4)
    ]
    for first, process in enumerate(processes):
        assert process.stdin
        process.stdin.write(pickle.dumps((address, first)))
        process.stdin.close()
        process.stdin = None
    said = [process.communicate(timeout=300)[1].decode()[-2000:] for process in processes]
    assert said == [""] * 4
    with EventStore(address) as store:
        values = [int(mark.value or 0) for mark in mark_history(store, "churn", limit=100)]
    assert values[0] == 39
    assert values == sorted(set(values), reverse=True)
