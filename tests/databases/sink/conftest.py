"""Every sink is written in both forms: as one table, and as narrow rows behind a view."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from support.ways_in import INTO_MARIADB, WAYS_IN, WayIn, way_in

NARROW = "narrow "
FORMS = (*WAYS_IN, "duckdb", *(NARROW + name for name in WAYS_IN))  # DuckDB has one form


def formed_way(name: str, request: pytest.FixtureRequest, folder: Path) -> WayIn:
    way = way_in(name.removeprefix(NARROW), request, folder)
    return replace(way, is_narrow=name.startswith(NARROW))


@pytest.fixture(params=FORMS)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> WayIn:
    """Every way into a database in turn and each form of a sink, each with an empty database."""
    return formed_way(request.param, request, tmp_path)


@pytest.fixture(params=(*INTO_MARIADB, *(NARROW + name for name in INTO_MARIADB)))
def mariadb_way(request: pytest.FixtureRequest, tmp_path: Path) -> WayIn:
    """Every way into MariaDB in turn and each form of a sink, each with an empty database."""
    return formed_way(request.param, request, tmp_path)
