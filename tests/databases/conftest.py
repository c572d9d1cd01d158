"""What the tests of databases share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.sinks import MODES, Mode
from support.ways_in import INTO_MARIADB, WAYS_IN, WayIn, way_in


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Mode:
    """Every mode of a sink in turn."""
    mode: Mode = request.param
    return mode


@pytest.fixture(params=(*WAYS_IN, "duckdb"))
def way(request: pytest.FixtureRequest, tmp_path: Path) -> WayIn:
    """Every way into a database in turn, DuckDB's file among them, each with an empty database."""
    return way_in(request.param, request, tmp_path)


@pytest.fixture(params=INTO_MARIADB)
def mariadb_way(request: pytest.FixtureRequest, tmp_path: Path) -> WayIn:
    """Every way into MariaDB in turn, each with an empty database."""
    return way_in(request.param, request, tmp_path)


@pytest.fixture(scope="module")
def way_named(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], WayIn]:
    """The way of a name, with one database for all tests of a module."""
    found: dict[str, WayIn] = {}

    def way_of(name: str) -> WayIn:
        if name not in found:
            found[name] = way_in(name, request, tmp_path_factory.mktemp(name))
        return found[name]

    return way_of
