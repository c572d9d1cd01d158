"""SQLite compares a printed moment with a stored time rightly, or the query is refused before it is read."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mlops_plugin.cli.dispatch import dispatch_in_terminal
from mlops_plugin.cli.mlops import main
from mlops_plugin.errors import QueryError, UnsupportedType
from mlops_plugin.orchestration.rendering import render
from mlops_plugin.pipeline.reading.compared_times import require_comparable_times
from support.ways_in import WayIn, sqlite_odbc_way, way_in
from support.workshop import Workshop
from support.written_times import DAY, HOUR, MIDNIGHT, MOMENTS, TEXTS, taken

DECLARED = (
    "TIMESTAMP",
    "TEXT",
    "",
)  # SQLite's affinities numeric, text and none; DATE and DATETIME are numeric
EPOCH_DAY = 2440587.5  # as a Julian day
FORMS: dict[str, Callable[[datetime], object]] = {
    **TEXTS,
    "epoch": lambda moment: int(moment.timestamp()),
    "epoch ms": lambda moment: int(moment.timestamp() * 1000),
    "julian": lambda moment: EPOCH_DAY + moment.timestamp() / 86400,
}
START, END = "{{ data_interval_start }}", "{{ data_interval_end }}"
CONDITIONS = {
    "plain": f"t >= '{START}' AND t < '{END}'",
    "mirrored": f"'{START}' <= t AND NOT ('{END}' <= x.t)",
    "quoted": f"\"t\" >= '{START}' AND [t] < '{END}'",
    "datetime": f"datetime(t) >= '{START}' AND datetime(t) < '{END}'",
    "both": f"datetime(t) >= datetime('{START}') AND datetime(t) < datetime('{END}')",
    "plain with datetime": f"t >= datetime('{START}') AND t < datetime('{END}')",
    "day": f"date(t) >= '{START}' AND date(t) < '{END}'",
    "isoformat": "t >= '{{ data_interval_start.isoformat() }}' AND t < '{{ data_interval_end.isoformat() }}'",
    "epoch": f"t >= unixepoch('{START}') AND t < unixepoch('{END}')",
    "epoch of both": f"unixepoch(t) >= unixepoch('{START}') AND unixepoch(t) < unixepoch('{END}')",
    "epoch text": f"t >= strftime('%s', '{START}') AND t < strftime('%s', '{END}')",
    "number": ("t >= {{ data_interval_start.int_timestamp }} AND t < {{ data_interval_end.int_timestamp }}"),
    "from epoch": f"datetime(t, 'unixepoch') >= '{START}' AND datetime(t, 'unixepoch') < '{END}'",
    "julian": f"julianday(t) >= julianday('{START}') AND julianday(t) < julianday('{END}')",
    "joined": f"x.id IN (SELECT y.id FROM times y WHERE y.t >= '{START}' AND y.t < '{END}')",
    "selected": f"(CASE WHEN t >= '{START}' AND t < '{END}' THEN 1 ELSE 0 END) = 1",
}
# A query that counts seconds says so itself: what other numbers mean, nobody can tell.
COUNTS_SECONDS = ("epoch", "epoch text", "number", "from epoch")
OTHER_NUMBERS = ("compact", "epoch ms", "julian")
HOURS = [(MIDNIGHT - HOUR, MIDNIGHT), (MIDNIGHT, MIDNIGHT + HOUR)]
DAYS = [(MIDNIGHT - DAY, MIDNIGHT), (MIDNIGHT, MIDNIGHT + DAY)]
# What works must go on working, whatever the column is declared as.
RIGHT = {
    ("space", "plain"), ("fraction", "plain"), ("offset", "plain"), ("Z", "plain"), ("space", "mirrored"),
    ("space", "quoted"), ("space", "plain with datetime"), ("isoformat", "isoformat"), ("space", "joined"),
    ("space", "selected"),
    *itertools.product(
        ("space", "fraction", "minutes", "T", "TZ", "Z", "offset", "away", "isoformat"),
        ("datetime", "both", "epoch of both"),
    ),
}  # fmt: skip


@pytest.fixture
def source(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> WayIn:
    way = way_in("sqlite", request, tmp_path)
    monkeypatch.setenv("AIRFLOW_CONN_SOURCE", way.airflow_connection)
    return way


def fill(source: WayIn) -> dict[str, tuple[str, str]]:
    """A table for each form in each declared type; returns which."""
    tables = {}
    with contextlib.closing(sqlite3.connect(str(source.spec.host))) as file, file:
        for number, (declared, form) in enumerate(itertools.product(DECLARED, FORMS)):
            file.execute(f"CREATE TABLE times{number} (id INTEGER, t {declared})")
            rows = enumerate(FORMS[form](moment) for moment in MOMENTS)
            file.executemany(f"INSERT INTO times{number} VALUES (?, ?)", rows)
            tables[f"times{number}"] = declared, form
    return tables


IN_SHORT = ("plain", "mirrored", "datetime", "epoch text", "isoformat", "selected")


@pytest.mark.parametrize(
    "name",
    [name if name in IN_SHORT else pytest.param(name, marks=pytest.mark.long) for name in CONDITIONS],
)
def test_each_row_is_in_its_interval_or_the_query_is_refused(
    name: str, source: WayIn, workshop: Workshop
) -> None:
    workshop.add_model("churn", source={"query": f"SELECT x.id FROM times x WHERE {CONDITIONS[name]}"})
    model = workshop.model()
    intervals = DAYS if name == "day" else HOURS + DAYS  # date() itself makes days of hours
    silent, refused = [], set()
    tables = fill(source)
    with source.open() as database:
        for start, end in intervals:
            query = render(model.source.query, model, moment=end, interval=(start, end))
            inside = [number for number, moment in enumerate(MOMENTS) if start <= moment < end]
            for table, (declared, form) in tables.items():
                ids = taken(database, model, query.replace("times", table))
                if ids is None:
                    refused.add((form, name))
                elif ids != inside and not (name in COUNTS_SECONDS and form in OTHER_NUMBERS):
                    silent.append((declared, form, start, ids))
    assert silent == []
    assert RIGHT.isdisjoint(refused)


ON_THE_BOUND = f"{MIDNIGHT:%Y-%m-%d}T00:00:00"


def add_times(workshop: Workshop, values: list[object], condition: str, **changes: Any) -> None:
    """The customers 1 to 5 with these times, and the model that reads them by the condition."""
    workshop.in_source("CREATE TABLE times (id INTEGER, t DATETIME)")
    with contextlib.closing(sqlite3.connect(workshop.folder / "source.db")) as file, file:
        file.executemany("INSERT INTO times VALUES (?, ?)", enumerate(values, start=1))
    query = f"SELECT id, a, b, c FROM customers JOIN times USING (id)\nWHERE {condition}"
    workshop.add_model("churn", source={"query": query}, **changes)


def test_a_dispatch_refuses_before_it_has_read_a_row(workshop: Workshop) -> None:
    add_times(workshop, ["2026-03-01 23:00:00", ON_THE_BOUND], CONDITIONS["plain"])
    with pytest.raises(QueryError, match=ON_THE_BOUND) as refused:
        dispatch_in_terminal(workshop.model(), workshop.deployment, interval=HOURS[1])
    assert refused.value.is_final
    line = next(
        n for n, text in enumerate(workshop.config_file.read_text().splitlines(), start=1) if "query:" in text
    )
    assert str(refused.value).startswith(f"{workshop.config_file}:{line}: models.churn.source.query: ")
    assert [event.step for event in workshop.events(workshop.records()[0].dispatch_id) if event.step] == [
        "collect",
        "collect",
    ]


@pytest.mark.parametrize("schedule", [None, "@hourly", "@daily"])
def test_check_finds_texts_in_another_form_whatever_the_interval_is_now(
    schedule: str | None, workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    add_times(workshop, ["1999-01-01 00:00"], CONDITIONS["plain"], schedule=schedule)
    assert main(["check", "--connect"]) == 1
    assert "'1999-01-01 00:00'" in capsys.readouterr().out


def test_check_takes_texts_with_t_for_days(workshop: Workshop) -> None:
    add_times(workshop, [ON_THE_BOUND, "2026-03-02T13:00:00Z"], CONDITIONS["plain"], schedule="@daily")
    assert main(["check", "--connect"]) == 0


def test_a_text_of_the_query_itself_is_no_moment(workshop: Workshop) -> None:
    add_times(workshop, [ON_THE_BOUND], f"t >= '2026-01-01 00:00:00' AND '{START}' > ''")
    assert main(["check", "--connect"]) == 0


def test_a_name_with_a_date_in_it_is_no_moment(workshop: Workshop) -> None:
    add_times(workshop, ["file-2026-03-02"], "t = 'file-' || '{{ ds }}' OR t LIKE '{{ ds }}%'")
    assert main(["check", "--connect"]) == 0


@pytest.mark.parametrize("condition", ["t BETWEEN '{{ ds }}' AND '{{ ds }}'", "t IN ('x', '{{ ds }}')"])
def test_a_day_that_equals_no_time_is_found(condition: str, workshop: Workshop) -> None:
    add_times(workshop, ["2026-03-02"], condition)
    assert main(["check", "--connect"]) == 0
    workshop.in_source("INSERT INTO times VALUES (2, '2026-03-02 00:00:00')")
    assert main(["check", "--connect"]) == 1


def test_in_a_time_zone_texts_with_an_offset_are_instants(workshop: Workshop) -> None:
    here = {"timezone": "America/Sao_Paulo", "schedule": "@hourly"}  # three hours behind UTC
    add_times(workshop, ["2026-03-02 00:00:00"], CONDITIONS["plain"], **here)
    local = (MIDNIGHT + 3 * HOUR, MIDNIGHT + 4 * HOUR)
    dispatch_in_terminal(workshop.model(), workshop.deployment, interval=local)
    assert [row["id"] for row in workshop.predictions()] == [1]
    workshop.in_source("UPDATE times SET t = '2026-03-02 03:00:00Z'")
    with pytest.raises(QueryError, match="03:00:00Z"):
        dispatch_in_terminal(workshop.model(), workshop.deployment, interval=local)
    in_utc = CONDITIONS["datetime"].replace(" }}", ".in_timezone('UTC') }}")
    workshop.add_model("churn", source={"query": workshop.model().source.query.replace(
        CONDITIONS["plain"], in_utc)}, **here)  # fmt: skip
    workshop.in_sink("DELETE FROM churn_predictions_rows")
    dispatch_in_terminal(workshop.model(), workshop.deployment, interval=local)
    assert [row["id"] for row in workshop.predictions()] == [1]


def test_what_odbc_changes_is_refused_behind_the_check_too(tmp_path: Path, workshop: Workshop) -> None:
    way = sqlite_odbc_way(tmp_path)
    way.execute(
        "CREATE TABLE odd (id INTEGER, a REAL, t TEXT)", "INSERT INTO odd VALUES (1, 0.1, '2026-01-01')"
    )
    query = f"SELECT id, a, t FROM odd WHERE t < '{END}'"
    workshop.add_model("churn", source={"query": query})
    model = workshop.model()
    with way.open() as database:
        rendered = render(query, model, moment=MIDNIGHT, interval=(MIDNIGHT - DAY, MIDNIGHT))
        require_comparable_times(model, database, rendered)
        with pytest.raises(UnsupportedType, match="'a'"):
            database.read(rendered, batch_rows=9)
