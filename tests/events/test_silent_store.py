"""A worker that was cut off from the event store keeps no row of it from others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mlops_plugin.config.schema import EventsConfig
from mlops_plugin.errors import EventStoreError
from mlops_plugin.events.appending import locked_dispatch
from mlops_plugin.events.servers.engine import NoAnswer
from mlops_plugin.events.store import EventStore
from mlops_plugin.wait_limits import StoreLimits
from support.event_stories import connection_of, new_identity
from support.event_tables import make_tables
from support.servers import ServerDatabase
from support.silent_proxy import SilentProxy, silent_proxy

NOWHERE = Path("/nonexistent")
LIMITS = StoreLimits(connect_s=5, ping_s=2, answer_s=4, lock_s=3, idle_s=2)


@pytest.fixture(params=["mariadb", "postgres"])
def database(request: pytest.FixtureRequest) -> ServerDatabase:
    found: ServerDatabase = request.getfixturevalue(f"{request.param}_database")
    return found


def store_of(
    database: ServerDatabase, proxy: SilentProxy | None = None, limits: StoreLimits = LIMITS
) -> EventStore:
    there = database if proxy is None else replace(database, port=proxy.port)
    return EventStore.open(EventsConfig(), connection_of(there), NOWHERE, limits)


def test_row_that_a_cut_off_worker_has_locked_is_free_soon(database: ServerDatabase) -> None:
    identity = new_identity()
    with (
        silent_proxy(database.host, database.port) as proxy,
        store_of(database, limits=StoreLimits()) as successor,  # waits longer than the server does
        store_of(database, proxy) as cut_off,
    ):
        make_tables(successor.address)
        successor.begin(identity)
        engine = cut_off.address.create_engine().execution_options(writes=True)
        connection = engine.connect()
        locked_dispatch(connection, identity.dispatch_id)
        proxy.is_silent = True  # the server does not hear that the worker has gone
        token = successor.start_step(identity, "collect")
        with pytest.raises(NoAnswer, match=f"127.0.0.1:{proxy.port} within 4 s"):
            connection.commit()
        connection.close()
        engine.dispose()
    assert token.step == "collect"


def test_silent_store_is_given_up_once_and_used_again_when_it_is_back(database: ServerDatabase) -> None:
    identity = new_identity()
    with silent_proxy(database.host, database.port) as proxy, store_of(database, proxy) as store:
        make_tables(replace(store.address, connection=connection_of(database)))
        store.begin(identity)
        proxy.is_silent = True
        with pytest.raises(EventStoreError, match=f"127.0.0.1:{proxy.port}"):
            store.begin(new_identity())
        proxy.is_silent = False
        assert [record.dispatch_id for record in store.dispatches()] == [identity.dispatch_id]


def test_statement_that_is_slow_is_no_silent_store(database: ServerDatabase) -> None:
    asleep = "SELECT SLEEP(2)" if database.engine == "mysql" else "SELECT pg_sleep(2)"
    with store_of(database, limits=replace(LIMITS, answer_s=5.5)) as store:
        make_tables(store.address)
        with store.read("sleeping") as connection:
            for _ in range(3):  # each has the limit for itself
                assert len(connection.exec_driver_sql(asleep).all()) == 1
