"""Servers and databases that tests ask for by name; a server starts when the first test needs it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from support.servers import Server, ServerDatabase, start_mariadb, start_postgres
from support.ways_in import WAYS_IN, WayIn, way_in

pytest_plugins = ["support.workshop"]

# The same examples each time, so that a change is judged by what it changes. HYPOTHESIS_PROFILE=default looks
# for new ones.
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """A MariaDB server of this test process."""
    with start_mariadb() as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server of this test process."""
    with start_postgres() as server:
        yield server


@pytest.fixture
def mariadb_database(mariadb: Server) -> ServerDatabase:
    """An empty database on the MariaDB server."""
    return mariadb.new_database()


@pytest.fixture
def postgres_database(postgres: Server) -> ServerDatabase:
    """An empty database on the PostgreSQL server."""
    return postgres.new_database()


@pytest.fixture(params=WAYS_IN)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> WayIn:
    """Every way into a database in turn, each with an empty database."""
    return way_in(request.param, request, tmp_path)
