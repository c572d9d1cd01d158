"""Dispatches that are over, recorded in one message: every engine gives them back as they were."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.dialects import sqlite

from mlops_plugin.config.schema import EventsConfig
from mlops_plugin.errors import EventStoreError
from mlops_plugin.events import tables
from mlops_plugin.events.address import StoreAddress
from mlops_plugin.events.details.milestones import FinalCounts
from mlops_plugin.events.details.serialization import write_details
from mlops_plugin.events.details.step_reports import InferReport, NumberCounts
from mlops_plugin.events.records import Details, DispatchIdentity, DispatchRecord, EventRecord, summarise
from mlops_plugin.events.servers.engine import TRUSTED_S
from mlops_plugin.events.store import EventStore
from mlops_plugin.events.whole_dispatches import Happened, WholeDispatch, WholeDispatches, _Sql
from mlops_plugin.wait_limits import StoreLimits
from support.ended_connections import end_connections
from support.event_stories import connection_of
from support.event_tables import make_tables
from support.servers import ServerDatabase
from support.severing_proxy import SeveringProxy, severing_proxy
from support.silent_proxy import silent_proxy

NOWHERE = Path("/nonexistent")
AWKWARD = "O'Brien \"x\" \\' 100% %s %(a)s ? :a ;-- ümlaut 🙂 \t'"
BEGAN = datetime(2026, 3, 29, 1, 59, 59, 999_999, UTC)  # clocks changed in Europe a microsecond later


def _written(details: Details) -> str:
    return json.dumps(write_details(details), ensure_ascii=False)


def _whole(number: int, user: str | None) -> WholeDispatch:
    identity = DispatchIdentity(f"d{number}", "churn", "showroom", user, dry_run=True)
    report = InferReport(3, 0, distribution=NumberCounts((3,), -1074, 5, 0.1, 1e300, 1e-300))
    ended = BEGAN + timedelta(seconds=1.5)
    events = (
        Happened(None, "started", BEGAN, _written(identity)),
        Happened("infer", "succeeded", ended, _written(report), 1, 3, 0.1),
        Happened(None, "succeeded", ended, _written(FinalCounts(3, 3, 0, 0))),
    )
    record = DispatchRecord(
        **vars(identity),
        state="succeeded",
        created_at=BEGAN,
        updated_at=ended,
        finished_at=ended,
        tries=1,
        rows_collected=3,
        rows_predicted=3,
        rows_rejected=0,
        rows_persisted=0,
        rows_superseded=0,
    )
    return WholeDispatch(record, events)


def _columns(event: EventRecord | Happened) -> tuple[Any, ...]:
    return event.step, event.kind, event.try_number, event.row_count, event.seconds


def _shifted(record: DispatchRecord, by: timedelta) -> DispatchRecord:
    moments: dict[str, Any] = {
        name: value + by for name, value in vars(record).items() if isinstance(value, datetime)
    }
    return replace(record, **moments)


def test_long_texts_that_never_come_again_are_not_remembered() -> None:
    sql = _Sql(sqlite.dialect())
    tracemalloc.start()
    for number in range(200):
        event = Happened(None, "started", BEGAN, f"{number:020000d}")
        assert [*sql.statements([replace(_whole(number, None), events=(event,))], timedelta())]
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 1 << 20


@pytest.mark.parametrize("users", [[AWKWARD], [None, "ada", AWKWARD, "x" * 250]])
def test_dispatches_are_read_back_as_they_were(store: EventStore, users: Sequence[str | None]) -> None:
    whole = [_whole(number, user) for number, user in enumerate(users)]
    WholeDispatches(store).append(whole)
    for one in whole:
        found, events = store.get(one.record.dispatch_id), store.events(one.record.dispatch_id)
        assert found is not None
        # By the store's clock: the same for all moments.
        assert found == _shifted(one.record, found.created_at - BEGAN)
        assert found == reduce(summarise, events[1:], summarise(None, events[0]))
        assert [*map(_columns, events)] == [*map(_columns, one.events)]
        assert [event.details and _written(event.details) for event in events] == [
            event.details for event in one.events
        ]


@pytest.fixture(params=["mariadb", "postgres"])
def database(request: pytest.FixtureRequest) -> ServerDatabase:
    """With an event store's tables."""
    found: ServerDatabase = request.getfixturevalue(f"{request.param}_database")
    make_tables(StoreAddress.of(EventsConfig(), connection_of(found), NOWHERE))
    return found


@pytest.fixture
def proxy(database: ServerDatabase) -> Iterator[SeveringProxy]:
    with severing_proxy(database.host, database.port, tables.events.name) as proxy:
        yield proxy


@pytest.fixture
def store_behind(database: ServerDatabase, proxy: SeveringProxy) -> Iterator[EventStore]:
    there = replace(database, port=proxy.port)
    with EventStore.open(EventsConfig(), connection_of(there), NOWHERE) as store:
        yield store


def test_many_dispatches_take_as_many_messages_as_one(
    database: ServerDatabase, proxy: SeveringProxy, store_behind: EventStore
) -> None:
    dispatches = WholeDispatches(store_behind)
    dispatches.append([_whole(0, "ada")])
    before = proxy.messages
    dispatches.append([_whole(number, AWKWARD) for number in range(1, 4)])
    most = 1 if database.engine == "mysql" else 2  # psycopg2 says before how transactions are isolated
    of_clock = 3  # now and then: a question in a transaction
    assert proxy.messages - before in (most, most + of_clock - 1, most + of_clock)
    assert all(store_behind.get(f"d{number}") for number in range(4))


def test_more_than_a_message_holds_is_still_one_transaction(store: EventStore) -> None:
    dispatches = WholeDispatches(store)
    long = [
        replace(_whole(number, "ada"), written={"columns": json.dumps("x" * 100_000)}) for number in range(12)
    ]
    dispatches.append(long)
    assert all(store.get(f"d{number}") for number in range(12))
    again = [
        replace(one, record=replace(one.record, dispatch_id=f"e{number}")) for number, one in enumerate(long)
    ]
    with pytest.raises(EventStoreError):
        dispatches.append([*again, long[0]])
    assert store.get("e0") is None


def test_dispatches_whose_commit_was_not_confirmed_are_recorded_once(
    proxy: SeveringProxy, store_behind: EventStore
) -> None:
    dispatches = WholeDispatches(store_behind)
    dispatches.append([_whole(0, "ada")])
    proxy.is_armed = True
    dispatches.append([_whole(1, "ada"), _whole(2, "ada")])
    assert proxy.severed == 1
    assert [len(store_behind.events(f"d{number}")) for number in (1, 2)] == [3, 3]


@pytest.mark.parametrize("idle_s", [0, TRUSTED_S + 0.1], ids=["used just now", "not trusted any more"])
def test_a_connection_that_was_kept_and_has_ended_is_replaced(
    database: ServerDatabase, idle_s: float
) -> None:
    with EventStore.open(EventsConfig(), connection_of(database), NOWHERE) as store:
        dispatches = WholeDispatches(store)
        dispatches.append([_whole(0, "ada")])
        time.sleep(idle_s)
        end_connections(database)
        dispatches.append([_whole(1, "ada")])
        assert [len(store.events(f"d{number}")) for number in range(2)] == [3, 3]


def test_threads_that_record_at_once_each_have_a_connection(database: ServerDatabase) -> None:
    with (
        EventStore.open(EventsConfig(), connection_of(database), NOWHERE) as store,
        ThreadPoolExecutor(4) as threads,
    ):
        dispatches = WholeDispatches(store)
        [*threads.map(lambda number: dispatches.append([_whole(number, "ada")]), range(40))]
        assert [len(store.events(f"d{number}")) for number in range(40)] == [3] * 40


def test_a_server_that_takes_no_connection_any_more_is_refused_as_any_other_fault_of_the_store(
    database: ServerDatabase,
) -> None:
    nothing = f"DELETE FROM {tables.events.name} WHERE 1 = 0"
    with severing_proxy(database.host, database.port, tables.events.name) as proxy:
        there = connection_of(replace(database, port=proxy.port))
        store = EventStore.open(EventsConfig(), there, NOWHERE)
        store.write_statements("recording dispatches", [(nothing, nothing)], "d0")
    with store, pytest.raises(EventStoreError, match="recording dispatches failed"):
        store.write_statements("recording dispatches", [(nothing, nothing)], "d0")


def test_all_are_recorded_or_none(store: EventStore) -> None:
    dispatches = WholeDispatches(store)
    dispatches.append([_whole(1, "ada")])
    with pytest.raises(EventStoreError):
        dispatches.append([_whole(2, "ada"), _whole(1, "ada")])
    assert store.get("d2") is None
    dispatches.append([_whole(2, "ada")])  # the connection that failed keeps nobody waiting
    assert store.get("d2") is not None


def test_a_server_that_falls_silent_is_given_up_and_used_again(database: ServerDatabase) -> None:
    limits = StoreLimits(answer_s=4)
    with silent_proxy(database.host, database.port) as proxy:
        there = connection_of(replace(database, port=proxy.port))
        with EventStore.open(EventsConfig(), there, NOWHERE, limits) as store:
            dispatches = WholeDispatches(store)
            dispatches.append([_whole(0, "ada")])
            proxy.is_silent = True
            with pytest.raises(EventStoreError, match=f"127.0.0.1:{proxy.port} within 4 s"):
                dispatches.append([_whole(1, "ada")])
            proxy.is_silent = False
            dispatches.append([_whole(2, "ada")])
            assert store.get("d2") is not None
