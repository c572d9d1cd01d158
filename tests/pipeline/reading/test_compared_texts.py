"""Texts of times on engines that have types for times: compared rightly with a printed moment, or refused."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from mlops_plugin.cli.mlops import main
from mlops_plugin.errors import DatabaseError
from mlops_plugin.orchestration.rendering import render
from support.ways_in import WayIn, way_in
from support.workshop import Workshop
from support.written_times import DAY, HOUR, MIDNIGHT, MOMENTS, TEXTS, taken

FORMS = TEXTS | {"hour": lambda moment: f"{moment:%Y-%m-%d %H}"}
START, END = "{{ data_interval_start }}", "{{ data_interval_end }}"
CONDITIONS = {
    "plain": f"t >= '{START}' AND t < '{END}'",
    "mirrored": f"'{START}' <= x.t AND NOT ('{END}' <= t)",
    "between": f"t BETWEEN '{START}' AND '{END}' AND t <> '{END}'",
    "isoformat": "t >= '{{ data_interval_start.isoformat() }}' AND t < '{{ data_interval_end.isoformat() }}'",
    "inside": "x.n IN (SELECT y.n FROM times y WHERE y.form = 'FORM' "
    f"AND y.t >= '{START}' AND y.t < '{END}')",
    "around": f"EXISTS (SELECT 1 FROM times y WHERE y.n = x.n AND x.t >= '{START}' AND x.t < '{END}')",
    "on": "x.n IN (SELECT z.n FROM times z JOIN times y ON y.n = z.n AND y.form = 'FORM' "
    f"AND y.t >= '{START}' AND y.t < '{END}' WHERE z.form = 'FORM')",
    "either": f"(t >= '{START}' AND t < '{END}' OR 1 = 0)",
}
IN_ALL_FORMS, FEW_FORMS = ("plain", "isoformat"), ("space", "offset", "minutes", "T")
INTERVALS = [(MIDNIGHT - HOUR, MIDNIGHT), (MIDNIGHT, MIDNIGHT + DAY)]
# What works must go on working.
WORKS = ("plain", "mirrored", "between", "inside", "around", "on", "either")
RIGHT = {
    "mysql": {("space", condition) for condition in WORKS}
    | {(form, "plain") for form in ("fraction", "offset")},
    "postgres": {("offset", condition) for condition in WORKS},
    "duckdb": {("offset", condition) for condition in WORKS},
}
WAYS = [
    "mysql",
    "postgres",
    *(pytest.param(f"odbc-{n}", marks=pytest.mark.long) for n in ("mariadb", "postgres")),
]


@pytest.fixture
def source(
    name: str,
    request: pytest.FixtureRequest,
    workshop: Workshop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> WayIn:
    way = way_in(name, request, tmp_path)
    monkeypatch.setenv("AIRFLOW_CONN_SOURCE", way.airflow_connection)
    return way


@pytest.mark.parametrize("name", [*WAYS, "duckdb"])
def test_each_text_is_in_its_interval_or_the_query_is_refused(source: WayIn, workshop: Workshop) -> None:
    source.execute("CREATE TABLE times (n INTEGER, form VARCHAR(20), t VARCHAR(40))")
    rows = [(n, form, write(moment)) for form, write in FORMS.items() for n, moment in enumerate(MOMENTS)]
    source.fill("times", rows)
    silent, refused = [], set()
    with source.open() as database:
        for condition, (start, end) in itertools.product(CONDITIONS, INTERVALS):
            said = f"SELECT n FROM times x WHERE form = 'FORM' AND {CONDITIONS[condition]}"
            workshop.add_model("churn", source={"query": said})
            model = workshop.model()
            query = render(said, model, moment=end, interval=(start, end))
            inside = [number for number, moment in enumerate(MOMENTS) if start <= moment < end]
            for form in FORMS if condition in IN_ALL_FORMS else FEW_FORMS:
                ids = taken(database, model, query.replace("FORM", form))
                if ids is None:
                    refused.add((form, condition))
                elif ids != inside:
                    silent.append((form, condition, start, end, ids))
    assert silent == []
    assert refused.isdisjoint(RIGHT[source.engine] | {("isoformat", "isoformat")})


@pytest.mark.parametrize("name", ["mysql"])
@pytest.mark.parametrize(
    ("condition", "is_refused"),
    [
        (f"t >= DATE_SUB('{START}', INTERVAL 1 HOUR)", True),  # a text, since it is made of one
        (f"t >= DATE_SUB(TIMESTAMP('{START}'), INTERVAL 1 HOUR)", False),
        (f"t >= CONCAT('v', '{START}')", False),
        (f"DATE_FORMAT(at, '%Y-%m-%dT%H') >= '{START}'", True),
        (f"DATE_FORMAT(at, '%Y-%m-%d %H:00:00') >= '{START}'", False),
        (f"at >= '{START}'", False),
        ("kind = '{{ ds }}' OR kind IN ('{{ ds }}', '{{ ds_nodash }}')", False),
        ("kind < '{{ ds }}'", True),
        ("t = '{{ ds }}'", True),
    ],
)
def test_what_is_compared_as_text_is_found_out(
    condition: str, is_refused: bool, source: WayIn, workshop: Workshop
) -> None:
    source.execute(
        "CREATE TABLE times (n INTEGER, t VARCHAR(40), at DATETIME, kind VARCHAR(9))",
        "INSERT INTO times VALUES (1, '2026-03-02T00:00:00', '2026-03-02 00:30:00', 'latest')",
    )
    workshop.add_model("churn", source={"query": f"SELECT n FROM times WHERE {condition}"})
    model = workshop.model()
    query = render(model.source.query, model, moment=MIDNIGHT, interval=(MIDNIGHT, MIDNIGHT + HOUR))
    with source.open() as database:
        assert (taken(database, model, query) is None) is is_refused


COLUMNS = {  # SQL, a value, and whether it is refused against a moment, and against 20260302
    "mysql": {
        "seconds": ("BIGINT", "1772409600", True, False),
        "day_number": ("INT", "20260302", True, False),
        "amount": ("DECIMAL(20, 2)", "1.5", True, False),
        "is_new": ("BOOLEAN", "1", True, False),
        "opens": ("TIME", "'00:30:00'", True, False),
        "raw": ("VARBINARY(40)", "'2026-03-02T00:30:00'", True, True),
        "sorts": ("SET('a', '2026-03-02T00:30:00')", "'a,2026-03-02T00:30:00'", True, True),
        "day": ("DATE", "'2026-03-02'", False, False),
        "at": ("DATETIME(6)", "'2026-03-02 00:30:00'", False, False),
    },
    "postgres": {
        "seconds": ("bigint", "1772409600", True, False),
        "opens": ("time", "'00:30:00'", True, True),
        "word": ("citext", "'2026-03-02T00:30:00'", True, True),
        "raw": ("bytea", "'2026-03-02T00:30:00'", True, True),
        "day": ("date", "'2026-03-02'", False, False),
        "at": ("timestamptz", "'2026-03-02 00:30:00'", False, False),
    },
}


@pytest.mark.parametrize("name", ["mysql", "postgres"])
def test_a_moment_is_never_made_a_number_or_a_time_of_day(source: WayIn, workshop: Workshop) -> None:
    columns = COLUMNS[source.engine]
    first = ["CREATE EXTENSION IF NOT EXISTS citext"] if source.engine == "postgres" else []
    kinds = ", ".join(f"{name} {kind}" for name, (kind, *_) in columns.items())
    values = ", ".join(value for _, value, *_ in columns.values())
    source.execute(
        *first, f"CREATE TABLE times (n INTEGER, {kinds})", f"INSERT INTO times VALUES (1, {values})"
    )
    for name, (_, _, *are_refused) in columns.items():
        for printed, is_refused in zip((START, "{{ ds_nodash }}"), are_refused, strict=True):
            workshop.add_model("churn", source={"query": f"SELECT n FROM times WHERE {name} >= '{printed}'"})
            model = workshop.model()
            query = render(model.source.query, model, moment=MIDNIGHT, interval=(MIDNIGHT, MIDNIGHT + HOUR))
            with source.open() as database:
                try:
                    found = taken(database, model, query)
                except DatabaseError:  # the engine itself makes no such value of the text
                    found = None
            assert (found is None) is is_refused, (name, printed, found)


@pytest.mark.parametrize("name", WAYS)
def test_a_text_is_refused_with_its_place_and_the_advice_works(
    source: WayIn, workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    source.execute(
        "CREATE TABLE customers (id INTEGER, a FLOAT, b FLOAT, c FLOAT, t VARCHAR(40), kind VARCHAR(9))",
        "INSERT INTO customers VALUES (1, 1, 1, 1, '2026-03-02T00:00:00', 'order'), "
        "(2, 1, 1, 1, '2026-03-01T23:59:59', 'order'), (3, 1, 1, 1, 'no time', 'note')",
    )
    query = f"SELECT id, a, b, c FROM customers\nWHERE kind = 'order' AND t >= '{START}' AND t < '{END}'"
    workshop.add_model("churn", source={"query": query})
    hour = ["--interval", "2026-03-02T00:00Z", "2026-03-02T01:00Z"]
    assert main(["dispatch", "churn", *hour]) == 1
    printed = capsys.readouterr().err
    assert "models.churn.source.query: t is text" in printed
    assert "'2026-03-01T23:59:59'" in printed
    assert main(["check", "--connect"]) == 1
    assert "'2026-03-01T23:59:59'" in capsys.readouterr().out
    time = re.findall(r"CAST\(t AS [^,]*\)(?=,)", printed)[0]
    workshop.add_model(
        "churn", source={"query": query.replace("t >=", f"{time} >=").replace("t <", f"{time} <")}
    )
    assert main(["check", "--connect"]) == 0, capsys.readouterr().out
    assert main(["dispatch", "churn", *hour]) == 0
    assert [row["id"] for row in workshop.predictions()] == [1]
