"""Every sink is written in both forms: as one table, and as narrow rows behind a view.

`make test` writes each form into MariaDB or DuckDB, and narrow rows over each driver but PostgreSQL's for
ODBC; `make test-long` writes both forms over every way in.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.ways_in import INTO_MARIADB, WAYS_IN, WayIn, way_in

NARROW = "narrow "
IN_SHORT = (
    "odbc-mariadb",
    "duckdb",
    *(NARROW + name for name in ("mysql", "postgres", "sqlite")),
)


def _forms(*ways: str) -> list[Any]:
    forms = [*ways, *(NARROW + name for name in ways if name != "duckdb")]
    return [name if name in IN_SHORT else pytest.param(name, marks=pytest.mark.long) for name in forms]


def formed_way(name: str, request: pytest.FixtureRequest, folder: Path) -> WayIn:
    way = way_in(name.removeprefix(NARROW), request, folder)
    return replace(way, is_narrow=name.startswith(NARROW))


@pytest.fixture(params=_forms(*WAYS_IN, "duckdb"))
def way(request: pytest.FixtureRequest, tmp_path: Path) -> WayIn:
    """Every way into a database in turn and each form of a sink, each with an empty database."""
    return formed_way(request.param, request, tmp_path)


@pytest.fixture(params=_forms(*INTO_MARIADB))
def mariadb_way(request: pytest.FixtureRequest, tmp_path: Path) -> WayIn:
    """Every way into MariaDB in turn and each form of a sink, each with an empty database."""
    return formed_way(request.param, request, tmp_path)
