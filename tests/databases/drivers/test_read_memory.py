"""A million rows are read in a memory that does not grow with them, through every way in."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pytest

from support.servers import ServerDatabase
from support.ways_in import INTO_MARIADB, WAYS_IN, WayIn, spec_of, way_in

_READ_A_MILLION = """
import json, logging, sys
from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.databases.engines.registry import engine_named
from mlops_plugin.databases.opening import open_database
logging.basicConfig()
def peak_mb():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
with open_database(ConnectionSpec(**json.loads(sys.argv[1]))) as database:
    database.read("SELECT * FROM big WHERE id <= 20000", batch_rows=20000).read_all()
    before, rows = peak_mb(), 0
    for batch in database.read("SELECT * FROM big", batch_rows=20000):
        rows += batch.num_rows
print(rows, peak_mb() - before)
"""


_MILLION_ROWS = {
    "mysql": "SELECT CAST(seq AS SIGNED) AS id, {} FROM seq_1_to_1000000",
    "postgres": "SELECT id::bigint AS id, {} FROM generate_series(1, 1000000) AS n(id)",
    "sqlite": "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 1000000) "
    "SELECT id, {} FROM n",
    "duckdb": "SELECT range AS id, {} FROM range(1, 1000001)",
}


def _make_a_million_rows(way: WayIn) -> None:
    """A table `big` of one integer and nine numbers of double precision."""
    number = {"mysql": "seq", "postgres": "id", "sqlite": "id", "duckdb": "range"}[way.engine]
    tenth = {"mysql": "0.{}e0", "sqlite": "0.{}"}.get(way.engine, "CAST(0.{} AS DOUBLE PRECISION)")
    columns = ", ".join(f"{number} * {tenth.format(n)} AS d{n}" for n in range(1, 10))
    way.execute(f"CREATE TABLE big AS {_MILLION_ROWS[way.engine].format(columns)}")


@pytest.fixture(scope="module")
def server_of_a_million_rows(request: pytest.FixtureRequest) -> Callable[[str], ServerDatabase]:
    """A database of an engine with that table, made once for both ways into it."""

    @functools.cache
    def made(engine: str) -> ServerDatabase:
        way = way_in(engine, request, Path())
        _make_a_million_rows(way)
        assert way.server is not None
        return way.server

    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", [*WAYS_IN, "duckdb"])
def test_memory_does_not_grow_with_the_number_of_rows_or_a_warning_names_the_driver(
    name: str,
    server_of_a_million_rows: Callable[[str], ServerDatabase],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    if name in ("sqlite", "duckdb"):
        way = way_in(name, request, tmp_path)
        _make_a_million_rows(way)
    else:
        server = server_of_a_million_rows("mysql" if name in INTO_MARIADB else "postgres")
        way = WayIn(name, spec_of(server, "odbc" if name.startswith("odbc") else None), server)
    with way.open() as database:
        types = database.describe("SELECT * FROM big").types
    assert types == [pa.int64(), *[pa.float64()] * 9]
    way.let_go()
    done = subprocess.run(
        [sys.executable, "-c", _READ_A_MILLION, json.dumps(asdict(way.spec))],
        env={"PYTHONPATH": str(Path(__file__).parents[3] / "plugins"), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    rows, grown_mb = done.stdout.split()
    assert int(rows) == 1_000_000
    if "holds the whole result in memory" in done.stderr:  # what docs/databases.md says of this driver
        assert way.name == "odbc-mariadb"
        assert float(grown_mb) < 160, grown_mb
    else:
        assert float(grown_mb) < 60, grown_mb  # all of it is 80 MB
