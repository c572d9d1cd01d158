"""Hours and days that a query computes follow its session's zone, which is UTC in a dispatch only."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlops_plugin.pipeline.inspection import inspect_model
from mlops_plugin.pipeline.reading.session_zone import zone_note
from support.ways_in import WayIn, way_in
from support.workshop import Workshop

_OF_ZONE = {"mysql": "SELECT HOUR(at) AS h FROM t", "postgres": "SELECT EXTRACT(HOUR FROM at) AS h FROM t"}


@pytest.fixture(params=["mysql", "odbc-mariadb", "postgres", "odbc-postgres"])
def way(request: pytest.FixtureRequest, tmp_path: Path) -> WayIn:
    """A database with an instant in table `t`."""
    way = way_in(request.param, request, tmp_path)
    way.execute(f"CREATE TABLE t (at TIMESTAMP{' WITH TIME ZONE' if way.engine == 'postgres' else ''})")
    return way


@contextlib.contextmanager
def _sessions_in(way: WayIn, zone: str) -> Iterator[None]:
    assert way.server
    if way.engine == "postgres":
        way.execute(f"ALTER DATABASE {way.server.database} SET timezone = '{zone}'")
        yield
        return
    way.execute(f"SET GLOBAL time_zone = '{zone}'")
    try:
        yield
    finally:
        way.execute("SET GLOBAL time_zone = DEFAULT")


def _note(way: WayIn, query: str) -> str | None:
    with way.open(exact_columns=()) as database:
        return zone_note(database, query, database.describe(query))


def test_zone_of_the_servers_sessions_is_noted_if_the_query_depends_on_it(way: WayIn) -> None:
    zone, utc = ("-03:00", "+00:00") if way.engine == "mysql" else ("America/Sao_Paulo", "Etc/UTC")
    with _sessions_in(way, zone):
        assert f"sessions are in {zone}" in (_note(way, _OF_ZONE[way.engine]) or "")
        assert _note(way, "SELECT 1 AS age, 2 AS month") is None
        assert _note(way, "SELECT CAST(at AS DATE) AS h FROM t") is not None
        # MySQL's own instants arrive without a zone; a client shows them in the session's.
        assert (_note(way, "SELECT at AS h FROM t") is not None) == (way.engine == "mysql")
    with _sessions_in(way, utc):
        assert _note(way, _OF_ZONE[way.engine]) is None


def test_check_notes_the_zone_and_finds_nothing_wrong(
    workshop: Workshop, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    way = way_in("postgres", request, tmp_path)
    way.execute("CREATE TABLE t (id INT, a FLOAT8, b FLOAT8, at TIMESTAMPTZ)")
    monkeypatch.setenv("AIRFLOW_CONN_SOURCE", way.airflow_connection)
    query = "SELECT id, a, b, CAST(EXTRACT(HOUR FROM at) AS FLOAT8) AS c FROM t"
    workshop.add_model("churn", source={"query": query})
    read: Callable[[object], str] = lambda _: query  # noqa: E731
    with _sessions_in(way, "Asia/Tokyo"):
        found = list(inspect_model(workshop.model(), workshop.deployment, read))
    assert [one.problem for one in found if one.problem] == []
    (note,) = [one.note for one in found if one.subject == "models.churn.source" and one.note]
    assert "Asia/Tokyo" in note
