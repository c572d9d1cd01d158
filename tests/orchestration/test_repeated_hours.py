"""Rows of the hour that comes twice when clocks go back are read once, by the runs of a schedule in turn."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from mlops_plugin.orchestration.data_intervals import interval_at
from mlops_plugin.orchestration.rendering import render
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.reading.partitions import ALL_ROWS
from mlops_plugin.pipeline.reading.repeated_hours import start_of_repetition
from mlops_plugin.pipeline.reading.source import open_source
from support.ways_in import WAYS_IN, WayIn, way_in
from support.workshop import Workshop

BERLIN = ZoneInfo("Europe/Berlin")
FIRST = datetime(2026, 10, 24, 23, tzinfo=UTC)  # 01:00 in Berlin, two hours before the clocks go back
EVERY = timedelta(minutes=5)
MOMENTS = [FIRST + number * EVERY for number in range(48)]  # of a row each, until 04:00
BETWEEN = "{0} >= '{{{{ data_interval_start }}}}' AND {0} < '{{{{ data_interval_end }}}}'"
WITH_ZONES = ("postgres", "duckdb")


@pytest.fixture(params=(*WAYS_IN, "duckdb"))
def source(request: pytest.FixtureRequest, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> WayIn:
    way = way_in(request.param, request, workshop.folder)
    monkeypatch.setenv("AIRFLOW_CONN_SOURCE", way.airflow_connection)
    return way


def read_at(workshop: Workshop, dispatch: Dispatch, column: str, now: datetime) -> list[int]:
    """The rows that a dispatch finds of those that are there by then."""
    there = sum(moment < now for moment in MOMENTS)
    workshop.models["churn"]["source"]["query"] = (
        f"SELECT id FROM times WHERE {BETWEEN.format(column)} AND id < {there} ORDER BY id"
    )
    workshop.write()
    dispatch = replace(dispatch, model=workshop.model())
    query = render(dispatch.model.source.query, dispatch.model, moment=now, interval=dispatch.data_interval)
    deployment = workshop.deployment
    with (
        deployment.event_store() as store,
        open_source(dispatch, deployment, store, query, ALL_ROWS, lambda: pytest.fail("no model")) as opened,
    ):
        found: list[int] = opened.rows().read_all().column("id").to_pylist()
    return found


def fill(source: WayIn) -> None:
    kind = {"sqlite": "TEXT", "mysql": "DATETIME"}.get(source.engine, "TIMESTAMP")
    zoned = ", tz TIMESTAMP WITH TIME ZONE" if source.engine in WITH_ZONES else ""
    source.execute(f"CREATE TABLE times (id INTEGER, t {kind}{zoned})")
    rows = []
    for number, moment in enumerate(MOMENTS):
        local = moment.astimezone(BERLIN)
        also = f", '{local.isoformat(' ')}'" if zoned else ""
        rows.append(f"({number}, '{local:%Y-%m-%d %H:%M:%S}'{also})")
    source.execute(f"INSERT INTO times VALUES {', '.join(rows)}")


@pytest.mark.parametrize("schedule", ["15 * * * *", "*/20 * * * *"])
def test_each_row_of_the_repeated_hour_is_read_once(source: WayIn, workshop: Workshop, schedule: str) -> None:
    fill(source)
    workshop.add_model("churn", schedule=schedule, timezone="Europe/Berlin")
    model = workshop.model()
    ends = sorted({interval_at(model, moment)[1] for moment in (*MOMENTS, MOMENTS[-1] + EVERY)})
    inside = [number for number, at in enumerate(MOMENTS) if ends[0] <= at < ends[-1]]
    for column in ("t", "tz") if source.engine in WITH_ZONES else ("t",):
        found = []
        for interval in pairwise(ends):
            dispatch = replace(workshop.dispatch(), origin="scheduled", data_interval=interval)
            rows = read_at(workshop, dispatch, column, interval[1])
            if column == "tz":
                assert rows == [n for n, at in enumerate(MOMENTS) if interval[0] <= at < interval[1]]
            found += rows
        assert sorted(found) == inside


def test_an_interval_that_was_typed_has_the_local_times_that_were_typed(workshop: Workshop) -> None:
    workshop.in_source(
        "CREATE TABLE times (id INTEGER, t TEXT)",
        "INSERT INTO times VALUES (1, '2026-10-25 02:10:00'), (2, '2026-10-25 02:20:00')",
    )
    workshop.add_model("churn", schedule="@hourly", timezone="Europe/Berlin")
    interval = (datetime(2026, 10, 25, 2, 15, tzinfo=BERLIN), datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN))
    dispatch = workshop.dispatch(data_interval=interval, reads_own_interval=True)
    assert read_at(workshop, dispatch, "t", MOMENTS[-1]) == [2]


def test_start_of_the_times_that_come_twice() -> None:
    for zone, day, start in (
        ("Europe/Berlin", (2026, 10, 25, 2, 59, 59, 999999), (2026, 10, 25, 2)),
        ("Australia/Lord_Howe", (2026, 4, 5, 1, 45), (2026, 4, 5, 1, 30)),
        ("America/Havana", (2026, 11, 1, 0, 30), (2026, 11, 1)),
    ):
        local = datetime(*day, tzinfo=ZoneInfo(zone))  # type: ignore[misc]
        found = start_of_repetition(local)
        assert found == datetime(*start, tzinfo=ZoneInfo(zone))  # type: ignore[misc]
        assert start_of_repetition(local.replace(fold=1)) is None
        assert start_of_repetition(local - timedelta(hours=3)) is None
    gap = datetime(2026, 3, 29, 2, 30, tzinfo=BERLIN)
    assert start_of_repetition(gap) is None
