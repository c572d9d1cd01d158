"""Numbers of dispatches only grow, between processes, after clocks were set back, in an empty store too."""

from __future__ import annotations

import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from mlops_plugin.config.schema import EventsConfig
from mlops_plugin.events import tables
from mlops_plugin.events.address import StoreAddress
from mlops_plugin.events.order import has_later, take_number
from mlops_plugin.events.store import EventStore
from support.event_tables import make_tables

DAY_2, DAY_3 = datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC)
YEAR = 365 * 24 * 3600 * 1_000_000
PROCESSES, EACH = 4, 40


def numbers(store: EventStore, model: str = "churn") -> list[int]:
    """What the store keeps of a model, in order."""
    wanted = sa.select(tables.order.c.number).where(tables.order.c.model == model)
    with store.read("reading numbers") as connection:
        return sorted(connection.scalars(wanted))


def put_number(store: EventStore, number: int) -> None:
    """A number that a dispatch took when the store's clock was another."""
    values = {"model": "churn", "number": number, "dispatch_id": "old", "interval_end": None}
    store.write("taking a number", lambda connection: connection.execute(sa.insert(tables.order), values))


def test_number_is_the_clock_in_microseconds(store: EventStore) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    number = take_number(store, "churn", "d1")
    assert before < datetime.fromtimestamp(number / 1e6, UTC) < before + timedelta(minutes=2)


def test_each_number_is_greater_than_the_last(store: EventStore) -> None:
    taken = [take_number(store, "churn", f"d{count}") for count in range(50)]
    assert taken == sorted(set(taken))
    assert numbers(store) == taken


def test_clock_that_was_set_back_does_not_take_numbers_back(store: EventStore) -> None:
    ahead = take_number(store, "churn", "d1") + 10 * YEAR
    put_number(store, ahead)
    assert [take_number(store, "churn", "d2"), take_number(store, "churn", "d3")] == [ahead + 1, ahead + 2]
    assert take_number(store, "fraud", "d4") < ahead


def test_empty_store_goes_on_from_where_the_old_one_was(store: EventStore, tmp_path: Path) -> None:
    old = take_number(store, "churn", "d1")
    address = StoreAddress.of(EventsConfig(), None, tmp_path / "new")
    make_tables(address)
    with EventStore(address) as empty:
        assert take_number(empty, "churn", "d2") > old - 1_000_000  # another machine's clock, same second


def test_old_numbers_are_deleted_and_the_newest_stays(store: EventStore) -> None:
    old = take_number(store, "churn", "d1") - YEAR
    put_number(store, old)
    newest = take_number(store, "churn", "d2")
    assert old not in numbers(store)
    assert numbers(store)[-1] == newest


def test_later_number_of_the_model_is_seen(store: EventStore) -> None:
    first = take_number(store, "churn", "d1")
    take_number(store, "fraud", "d2")
    assert not has_later(store, "churn", first)
    second = take_number(store, "churn", "d3")
    assert has_later(store, "churn", first)
    assert not has_later(store, "churn", second)


def test_dispatches_of_other_intervals_are_not_compared_by_number(store: EventStore) -> None:
    first = take_number(store, "churn", "d1", DAY_2)
    take_number(store, "churn", "d2", DAY_3)
    assert not has_later(store, "churn", first, DAY_2)
    assert has_later(store, "churn", first)
    take_number(store, "churn", "d3", DAY_2.astimezone(UTC))
    assert has_later(store, "churn", first, DAY_2)


def test_dispatch_without_an_interval_is_compared_with_all(store: EventStore) -> None:
    first = take_number(store, "churn", "d1", DAY_2)
    take_number(store, "churn", "d2")
    assert has_later(store, "churn", first, DAY_2)


TAKE = """
import pickle, sys
from mlops_plugin.events.order import take_number
from mlops_plugin.events.store import EventStore
address, dispatch_id, count = pickle.load(sys.stdin.buffer)
with EventStore(address) as store:
    print(*[take_number(store, "churn", dispatch_id) for _ in range(count)])
"""


def test_processes_that_take_numbers_at_once_never_share_one(address: StoreAddress) -> None:
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TAKE],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env={"PYTHONPATH": ":".join(sys.path)},
        )
        for _ in range(PROCESSES)
    ]
    for count, process in enumerate(processes):
        assert process.stdin
        process.stdin.write(pickle.dumps((address, f"d{count}", EACH)))
        process.stdin.close()
        process.stdin = None
    said = [process.communicate(timeout=300) for process in processes]
    assert [errors.decode()[-2000:] for _, errors in said] == [""] * PROCESSES
    taken = [[int(number) for number in output.split()] for output, _ in said]
    assert all(mine == sorted(mine) for mine in taken)
    assert len({number for mine in taken for number in mine}) == PROCESSES * EACH
    with EventStore(address) as store:
        assert numbers(store) == sorted(number for mine in taken for number in mine)


def test_number_that_the_store_has_forgotten_is_not_the_last(store: EventStore) -> None:
    number = take_number(store, "churn", "d1")
    store.write("restoring a backup", lambda connection: connection.execute(sa.delete(tables.order)))
    assert has_later(store, "churn", number)
    assert has_later(store, "churn", number, DAY_2)
