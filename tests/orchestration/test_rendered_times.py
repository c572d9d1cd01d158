"""The documented queries select each row in exactly one interval, rows exactly on the bounds included."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from mlops_plugin.cli.dispatch import dispatch_in_terminal
from mlops_plugin.errors import EmptyInterval, TemplateError
from mlops_plugin.orchestration.rendering import render
from mlops_plugin.pipeline.reading.cursor_values import from_moment
from support.airflow_process import REPOSITORY
from support.ways_in import WAYS_IN, WayIn, way_in
from support.workshop import Workshop

FIRST, SECOND, THIRD = (datetime(2026, 3, 1, hour, tzinfo=UTC) for hour in (5, 6, 7))
# Local times of rows, each with whether it lies in the interval from 05:00 to 06:00.
TIMES = {
    "2026-03-01 04:59:59": False,
    "2026-03-01 05:00:00": True,
    "2026-03-01 05:59:59": True,
    "2026-03-01 06:00:00": False,
}
WITH_FRACTIONS = {"2026-03-01 05:00:00.000001": True, "2026-03-01 05:59:59.999999": True}
KNOW_ZONES = ("postgres", "duckdb")  # their TIMESTAMP WITH TIME ZONE compares with local times
BETWEEN = "{0} >= '{{{{ data_interval_start }}}}' AND {0} < '{{{{ data_interval_end }}}}'"
BY_SECOND = "t >= {{ data_interval_start.int_timestamp }} AND t < {{ data_interval_end.int_timestamp }}"
BY_CLOCK = "clock >= '{{ data_interval_start.strftime(\"%H:%M:%S\") }}'"
BY_DAY = "{0} >= '{{{{ data_interval_start.date() }}}}' AND {0} < '{{{{ data_interval_end.date() }}}}'"


def columns(way: WayIn) -> dict[str, str]:
    """Name and type of each kind of column that holds times."""
    if way.engine == "sqlite":
        return {"t": "TEXT"}
    if way.engine in KNOW_ZONES:
        return {"t": "TIMESTAMP", "tz": "TIMESTAMP WITH TIME ZONE"}
    return {"t": "DATETIME(6)", "tz": "TIMESTAMP(6)"}


def selected(
    way: WayIn, workshop: Workshop, condition: str, interval: tuple[datetime, datetime]
) -> list[int]:
    query = f"SELECT id FROM times WHERE {condition} ORDER BY id"
    workshop.add_model("churn", **workshop.models["churn"] | {"source": {"query": query}})
    rendered = render(query, workshop.model(), moment=interval[1], interval=interval)
    with way.open() as database:
        found: list[int] = database.read(rendered, batch_rows=10).read_all().column("id").to_pylist()
    return found


@pytest.fixture(params=(*WAYS_IN, "duckdb"))
def way(request: pytest.FixtureRequest, tmp_path: Path) -> WayIn:
    """Every way into a database in turn, DuckDB's file among them."""
    return way_in(request.param, request, tmp_path)


@pytest.fixture
def source(way: WayIn, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> WayIn:
    monkeypatch.setenv("AIRFLOW_CONN_SOURCE", way.airflow_connection)
    return way


def test_an_interval_has_the_rows_on_its_start_and_none_on_its_end(source: WayIn, workshop: Workshop) -> None:
    kinds = columns(source)
    times = TIMES | WITH_FRACTIONS
    source.execute(f"CREATE TABLE times (id INTEGER, {', '.join(map(' '.join, kinds.items()))})")
    zone = ["SET time_zone = '+00:00'"] if source.engine == "mysql" else []
    for number, time in enumerate(times):
        values = ", ".join(f"'{time}{'+00' if kinds[name].endswith('ZONE') else ''}'" for name in kinds)
        source.execute(*zone, f"INSERT INTO times VALUES ({number}, {values})")
    inside = [number for number, is_inside in enumerate(times.values()) if is_inside]
    for name in kinds:
        condition = BETWEEN.format(name)
        assert selected(source, workshop, condition, (FIRST, SECOND)) == inside
        assert selected(source, workshop, condition, (SECOND, THIRD)) == [3]


def test_in_a_time_zone_times_without_a_zone_are_local(source: WayIn, workshop: Workshop) -> None:
    kinds = columns(source)
    workshop.add_model("churn", timezone="America/Sao_Paulo", schedule="@hourly")
    source.execute(f"CREATE TABLE times (id INTEGER, {', '.join(map(' '.join, kinds.items()))})")
    zone = ["SET time_zone = '+00:00'"] if source.engine == "mysql" else []
    for number, time in enumerate(TIMES):
        utc = datetime.fromisoformat(time) + timedelta(hours=3)
        instant = f"{utc}+00" if source.engine in KNOW_ZONES else f"{utc}"
        source.execute(
            *zone, f"INSERT INTO times VALUES ({number}, '{time}'" + f", '{instant}'" * (len(kinds) - 1) + ")"
        )
    interval = (FIRST + timedelta(hours=3), SECOND + timedelta(hours=3))
    assert selected(source, workshop, BETWEEN.format("t"), interval) == [1, 2]
    if source.engine in KNOW_ZONES:
        assert selected(source, workshop, BETWEEN.format("tz"), interval) == [1, 2]
    if source.engine == "mysql":  # a TIMESTAMP holds an instant, compared in UTC
        in_utc = BETWEEN.format("tz").replace(" }}", ".in_timezone('UTC') }}")
        assert selected(source, workshop, in_utc, interval) == [1, 2]


def test_dates_are_compared_by_the_day(source: WayIn, workshop: Workshop) -> None:
    kind = "TEXT" if source.engine == "sqlite" else "DATE"
    source.execute(f"CREATE TABLE times (id INTEGER, t {kind})")
    source.fill("times", [(day, f"2026-03-{day:02}") for day in (1, 2, 3)])
    days = [datetime(2026, 3, day, tzinfo=UTC) for day in (1, 2, 3)]
    assert selected(source, workshop, BY_DAY.format("t"), (days[0], days[1])) == [1]
    assert selected(source, workshop, BY_DAY.format("t"), (days[1], days[2])) == [2]
    assert selected(source, workshop, "t = '{{ data_interval_start.date() }}'", (days[1], days[2])) == [2]


def test_seconds_and_days_as_numbers_and_times_of_day_are_compared_as_such(
    source: WayIn, workshop: Workshop
) -> None:
    clock = "TEXT" if source.engine == "sqlite" else "TIME"
    source.execute(f"CREATE TABLE times (id INTEGER, t BIGINT, day INTEGER, clock {clock})")
    for number, time in enumerate(TIMES):
        moment = datetime.fromisoformat(f"{time}+00:00")
        day = 20260301 + number % 2
        source.execute(
            f"INSERT INTO times VALUES ({number}, {int(moment.timestamp())}, {day}, '{moment.time()}')"
        )
    assert selected(source, workshop, BY_SECOND, (FIRST, SECOND)) == [1, 2]
    assert selected(source, workshop, BY_SECOND, (SECOND, THIRD)) == [3]
    assert selected(source, workshop, BY_CLOCK, (FIRST, SECOND)) == [1, 2, 3]
    assert selected(source, workshop, "day = {{ ds_nodash }}", (FIRST, SECOND)) == [0, 2]


def test_every_documented_interval_is_written_in_a_tested_form() -> None:
    """The docs and the example: no other form of an interval's bounds than those tested above."""
    pages = [
        REPOSITORY / "include" / "config.yaml",
        *(REPOSITORY / "docs").glob("*.md"),
    ]
    found = {
        expression
        for page in pages
        for expression in re.findall(r"[=<] '?\{\{ *([^}]*data_interval[^}]*?) *\}\}", page.read_text())
    }
    assert found
    assert found <= {
        "data_interval_start",
        "data_interval_end",
        "data_interval_start.date()",
        "data_interval_end.date()",
        "data_interval_start.in_timezone('UTC')",
        "data_interval_end.in_timezone('UTC')",
        "data_interval_start.int_timestamp",
        "data_interval_end.int_timestamp",
        'data_interval_start.strftime("%H:%M:%S")',
    }


def test_templates_know_pendulum_times_in_the_models_time_zone(workshop: Workshop) -> None:
    workshop.add_model("churn", timezone="America/Sao_Paulo", schedule="@daily")
    moment = datetime(2026, 3, 1, 2, tzinfo=UTC)  # the evening of February 28 there
    template = (
        "{{ ds }} {{ ds_nodash }} {{ ts }} {{ logical_date.subtract(days=1) | ds }} "
        "{{ data_interval_end.in_timezone('UTC') }} {{ data_interval_start }} {{ logical_date.isoformat() }}"
    )
    assert render(template, workshop.model(), moment=moment) == (
        "2026-02-28 20260228 2026-02-28T23:00:00-03:00 2026-02-27 "
        "2026-02-28 03:00:00 2026-02-27 00:00:00 2026-02-28T23:00:00-03:00"
    )


def test_an_unknown_engine_does_not_guess_how_a_local_time_is_written(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SOURCE", '{"conn_type": "odbc", "extra": {"dsn": "warehouse"}}')
    query = "SELECT '{{ data_interval_end }}' AS t"
    workshop.add_model("churn", schedule="@daily")
    assert "00:00:00'" in render(query, workshop.model(), moment=SECOND)
    workshop.add_model("churn", schedule="@daily", timezone="Asia/Tokyo")
    with pytest.raises(TemplateError, match="dialect"):
        render(query, workshop.model(), moment=SECOND)


def test_a_query_of_an_interval_without_length_is_refused(workshop: Workshop) -> None:
    condition = BETWEEN.format("'2026'")
    query = f"SELECT id, a, b, c FROM customers WHERE {condition}"
    workshop.add_model("churn", source={"query": query})  # no schedule, hence no periods
    with pytest.raises(EmptyInterval, match="schedule"):
        dispatch_in_terminal(workshop.model(), workshop.deployment)
    dispatch_in_terminal(workshop.model(), workshop.deployment, interval=(FIRST, SECOND))
    assert [record.state for record in workshop.records()] == ["succeeded", "failed"]


def test_a_backfill_takes_a_time_without_a_zone_as_the_models() -> None:
    moment = datetime(2026, 3, 1, 3, tzinfo=UTC)  # midnight in Sao Paulo
    assert from_moment(moment, "timestamp", "America/Sao_Paulo") == datetime(2026, 3, 1)
    assert from_moment(moment, "date", "America/Sao_Paulo") == date(2026, 3, 1)
    assert from_moment(moment, "date", "UTC") == date(2026, 3, 2)
    assert from_moment(moment, "timestamp with time zone", "America/Sao_Paulo") == moment
