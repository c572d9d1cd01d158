"""An event store on every engine: the same tests run on SQLite, MariaDB and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_plugin.config.schema import EventsConfig
from mlops_plugin.events.address import StoreAddress
from mlops_plugin.events.store import EventStore
from support.event_stories import connection_of
from support.event_tables import make_tables


@pytest.fixture(params=["sqlite", "mariadb", "postgres"])
def empty_address(request: pytest.FixtureRequest, tmp_path: Path) -> StoreAddress:
    """Where an event store could be; there are no tables yet."""
    if request.param == "sqlite":
        return StoreAddress.of(EventsConfig(), None, tmp_path)
    database = request.getfixturevalue(f"{request.param}_database")
    return StoreAddress.of(EventsConfig(), connection_of(database), tmp_path)


@pytest.fixture
def address(empty_address: StoreAddress) -> StoreAddress:
    """An event store with its tables."""
    make_tables(empty_address)
    return empty_address


@pytest.fixture
def store(address: StoreAddress) -> Iterator[EventStore]:
    with EventStore(address) as store:
        yield store
