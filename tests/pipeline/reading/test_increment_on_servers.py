"""Cursors of each type and the anti-join with the sink, on every engine, through ODBC and without."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from mlops_plugin.errors import CursorError, KeyColumnError
from mlops_plugin.events.marks import newest_mark, set_mark
from support.event_tables import make_tables
from support.servers import ServerDatabase
from support.workshop import Workshop

Place = tuple[Workshop, ServerDatabase]


@pytest.fixture(params=["odbc-mariadb", "mysql", "odbc-postgres", "postgres"])
def place(request: pytest.FixtureRequest, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A workshop whose source, sink and event store are one database of a server."""
    engine = "mariadb" if request.param in ("odbc-mariadb", "mysql") else "postgres"
    database: ServerDatabase = request.getfixturevalue(f"{engine}_database")
    rows = database.airflow_uri("odbc" if request.param.startswith("odbc") else None)
    for name, uri in (("SOURCE", rows), ("EVENTS", database.airflow_uri())):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", uri)
    with workshop.deployment.event_store() as store:
        make_tables(store.address)
    return workshop, database


def create(database: ServerDatabase, key_type: str, cursor_type: str) -> None:
    real = "DOUBLE" if database.engine == "mysql" else "DOUBLE PRECISION"
    database.execute(
        f"CREATE TABLE arrivals (id {key_type}, a {real}, b {real}, c {real}, changed {cursor_type})"
    )


def arrive(database: ServerDatabase, key: object, changed: str | None = None) -> None:
    value = "NULL" if changed is None else f"'{changed}'"
    zone = ["SET time_zone = '+00:00'"] if database.engine == "mysql" else []
    escaped = str(key).replace("'", "''")
    database.execute(*zone, f"INSERT INTO arrivals VALUES ('{escaped}', 1, 2, 3, {value})")


def predict(workshop: Workshop, **source: object) -> None:
    query = "SELECT id, a, b, c, changed FROM arrivals ORDER BY id"
    workshop.add_model("churn", source={"query": query, **source}, sink={"connection": "source"})


def collected(workshop: Workshop) -> int | None:
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    return workshop.record(dispatch.id).rows_collected


def predicted(database: ServerDatabase) -> list[object]:
    return [row[0] for row in database.rows("SELECT id FROM churn_predictions ORDER BY id")]


def mark(workshop: Workshop) -> tuple[str | None, str | None]:
    with workshop.deployment.event_store() as store:
        found = newest_mark(store, "churn")
    return (found.value, found.value_kind) if found else (None, None)


TYPES = [
    # kind of mark, type, lag, the first three values, late, too late, and the mark after the first three
    (
        "integer",
        ("BIGINT", "BIGINT"),
        2,
        ("9007199254740990", "9007199254740993", "9007199254740992"),
        ("9007199254740991", "9007199254740990"),
        "9007199254740993",
    ),
    (
        "date",
        ("DATE", "DATE"),
        "36h",  # less than two days: the day is read as a whole
        ("2026-03-01", "2026-03-29", "2026-03-28"),
        ("2026-03-27", "2026-03-26"),
        "2026-03-29",
    ),
    (
        "timestamp",
        ("DATETIME(6)", "TIMESTAMP(6)"),
        "1s",
        ("2026-03-29 02:30:00", "2026-03-29 02:30:00.000002", "2026-03-29 02:30:00.000001"),
        ("2026-03-29 02:29:59.000002", "2026-03-29 02:29:59.000001"),
        "2026-03-29 02:30:00.000002",
    ),
]


@pytest.mark.parametrize(("kind", "types", "lag", "first", "late", "expected"), TYPES)
def test_rows_from_the_mark_less_the_lag_are_read_and_no_others(
    place: Place,
    kind: str,
    types: tuple[str, str],
    lag: object,
    first: tuple[str, ...],
    late: tuple[str, str],
    expected: str,
) -> None:
    workshop, database = place
    create(database, "BIGINT", types[database.engine == "postgres"])
    predict(workshop, cursor={"column": "changed", "lag": lag})
    for number, value in enumerate(first, 1):
        arrive(database, number, value)
    assert (collected(workshop), mark(workshop)) == (3, (expected, kind))
    for number, value in enumerate((expected, *late), 4):
        arrive(database, number, value)
    collected(workshop)
    assert predicted(database) == [1, 2, 3, 4, 5]
    assert mark(workshop) == (expected, kind)
    arrive(database, 7)
    with pytest.raises(CursorError, match=r"'changed'.*NULL.*\b1 of"):
        collected(workshop)


def test_times_with_a_zone_are_the_same_moment_in_every_session(place: Place) -> None:
    workshop, database = place
    is_mysql = database.engine == "mysql"
    create(database, "BIGINT", "TIMESTAMP(6) NULL" if is_mysql else "TIMESTAMP(6) WITH TIME ZONE")
    predict(workshop, cursor={"column": "changed"})
    zone = "" if is_mysql else "+00:00"
    arrive(database, 1, f"2026-03-29 02:30:00.000001{zone}")
    collected(workshop)
    assert (mark(workshop)[0] or "")[:26] == "2026-03-29 02:30:00.000001"
    if not is_mysql:
        arrive(database, 2, "2026-03-29 05:30:00.000001+03:00")
        arrive(database, 3, "2026-03-29 05:30:00.000000+03:00")
        collected(workshop)
        assert predicted(database) == [1, 2]


@pytest.mark.parametrize("place", ["odbc-mariadb", "mysql"], indirect=True)
@pytest.mark.parametrize(("kind", "expected"), [("TIMESTAMP NULL", [2, 3]), ("DATETIME", [3, 4])])
def test_backfill_takes_what_mysql_keeps_as_instants_for_instants(
    place: Place, kind: str, expected: list[int]
) -> None:
    workshop, database = place
    create(database, "BIGINT", kind)
    query = "SELECT id, a, b, c, changed FROM arrivals"
    workshop.add_model(
        "churn",
        timezone="Europe/Berlin",
        source={"query": query, "cursor": {"column": "changed"}},
        sink={"connection": "source"},
    )
    for number, hour in enumerate(("06-30 21:30", "06-30 22:30", "07-01 21:30", "07-01 22:30"), 1):
        arrive(database, number, f"2026-{hour}:00")
    berlin = ZoneInfo("Europe/Berlin")
    day = (datetime(2026, 7, 1, tzinfo=berlin), datetime(2026, 7, 2, tzinfo=berlin))
    workshop.run(workshop.dispatch(reads_own_interval=True, data_interval=day))
    assert predicted(database) == expected


@pytest.mark.parametrize(("zoned", "expected"), [(True, [2, 3]), (False, [3])])
def test_initial_time_is_one_of_the_models_time_zone(place: Place, zoned: bool, expected: list[int]) -> None:
    workshop, database = place
    mysql, postgres = ("TIMESTAMP NULL", "TIMESTAMP WITH TIME ZONE") if zoned else ("DATETIME", "TIMESTAMP")
    create(database, "BIGINT", mysql if database.engine == "mysql" else postgres)
    predict(workshop, cursor={"column": "changed", "initial": "2026-07-01"})
    workshop.add_model("churn", **{**workshop.models["churn"], "timezone": "Europe/Berlin"})
    for number, hour in enumerate(("06-30 21:30", "06-30 22:30", "07-01 00:30"), 1):
        arrive(database, number, f"2026-{hour}:00")
    collected(workshop)
    assert predicted(database) == expected


def test_type_that_changes_under_the_mark_is_refused(place: Place) -> None:
    workshop, database = place
    create(database, "BIGINT", "BIGINT")
    predict(workshop, cursor={"column": "changed"})
    arrive(database, 1, "5")
    collected(workshop)
    database.execute("DROP TABLE arrivals")
    create(database, "BIGINT", "DATE")
    with pytest.raises(CursorError, match=r"\bdate\b.*\binteger 5\b"):
        collected(workshop)


@pytest.mark.parametrize("place", ["odbc-mariadb", "mysql"], indirect=True)
@pytest.mark.parametrize(
    ("before", "after"), [("TIMESTAMP NULL", "DATETIME"), ("DATETIME", "TIMESTAMP NULL")]
)
def test_times_that_become_others_under_the_mark_are_refused(place: Place, before: str, after: str) -> None:
    workshop, database = place
    create(database, "BIGINT", before)
    predict(workshop, cursor={"column": "changed"})
    arrive(database, 1, "2026-07-01 12:00:00")
    first = workshop.dispatch()
    workshop.run(first)
    change = f"ALTER TABLE arrivals MODIFY changed {after}"
    database.execute("SET time_zone = '-08:00'", change)  # one of the two values becomes another
    arrive(database, 2, "2026-07-01 04:30:00")
    for dispatch in (first, workshop.dispatch()):  # also if the first run is cleared
        with pytest.raises(CursorError, match=r"was changed.*mlops cursor churn --set"):
            workshop.run(dispatch)
    with workshop.deployment.event_store() as store:
        set_mark(store, "churn", "changed", "2026-07-01 04:00:00", "timestamp", "ann")
    workshop.run(first)
    assert predicted(database) == [1, 2]


@pytest.mark.parametrize("place", ["mysql"], indirect=True)
def test_events_of_the_dispatch_that_moved_the_mark_are_read_once(place: Place) -> None:
    workshop, database = place
    create(database, "BIGINT", "DATETIME")
    predict(workshop, cursor={"column": "changed"})
    arrive(database, 1, "2026-07-01 12:00:00")
    first = workshop.dispatch()
    workshop.run(first)
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if statement.startswith("SELECT") and first.id in str(parameters):
            asked.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        workshop.run_steps(workshop.dispatch(), "collect")
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert len(asked) == 1


@pytest.mark.parametrize("kind", ["VARCHAR(40)", "DECIMAL(10, 2)", "DOUBLE PRECISION"])
def test_other_types_are_refused_before_any_row_is_read(place: Place, kind: str) -> None:
    workshop, database = place
    create(database, "BIGINT", kind)
    predict(workshop, cursor={"column": "changed"})
    with pytest.raises(CursorError, match=r"timestamp.*date.*integer"):
        collected(workshop)


KEYS = {
    "BIGINT": ["1", "9007199254740993"],
    "VARCHAR(40)": ["a", "A", "ä", "O'Brien", "李雷 🚂"],
    "DATE": ["2026-03-29", "0999-01-01"],
    "DECIMAL(20, 4)": ["1.5000", "-9999999999999999.9999"],
    "UUID": ["7d444840-9dc0-11d1-b245-5ffdce74fad2"],
    "CHAR(5)": ["a", "bb", "ccccc"],
}


@pytest.mark.parametrize("key_type", list(KEYS))
def test_predicted_keys_of_any_type_are_left_out(place: Place, key_type: str) -> None:
    workshop, database = place
    text = " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    of_mysql = key_type.startswith("VARCHAR") and database.engine == "mysql"
    create(database, key_type + (text if of_mysql else ""), "BIGINT")
    predict(workshop, skip_predicted=True)
    *others, last = KEYS[key_type]
    for key in others:
        arrive(database, key, "1")
    assert collected(workshop) == len(others)
    arrive(database, last, "1")
    assert collected(workshop) == 1
    assert collected(workshop) == 0
    assert len(predicted(database)) == len(KEYS[key_type])


@pytest.mark.parametrize("place", ["odbc-postgres"], indirect=True)
def test_predicted_addresses_are_left_out(place: Place) -> None:
    workshop, database = place
    create(database, "INET", "BIGINT")
    predict(workshop, skip_predicted=True)
    arrive(database, "10.0.0.1", "1")
    assert [collected(workshop), collected(workshop)] == [1, 0]
    arrive(database, "10.0.0.0/8", "1")
    assert [collected(workshop), collected(workshop)] == [1, 0]


def test_keys_of_another_collation_are_compared_as_the_sink_does(
    workshop: Workshop, mariadb_database: ServerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SOURCE", mariadb_database.airflow_uri())
    create(mariadb_database, "VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_german1_ci", "BIGINT")
    predict(workshop, skip_predicted=True)
    arrive(mariadb_database, "ä", "1")
    assert [collected(workshop), collected(workshop)] == [1, 0]
    arrive(mariadb_database, "Ä", "1")
    assert collected(workshop) == 1
    assert len(predicted(mariadb_database)) == 2


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_key_that_a_collation_takes_for_a_predicted_one_is_not_left_out(
    workshop: Workshop, mariadb_database: ServerDatabase, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """The collation of created tables takes 'a' for 'a ': the row would never be predicted."""
    monkeypatch.setenv("AIRFLOW_CONN_SOURCE", mariadb_database.airflow_uri())
    create(mariadb_database, "VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin", "BIGINT")
    predict(workshop, skip_predicted=True)
    entry = workshop.models["churn"]
    workshop.add_model("churn", **{**entry, "sink": {**entry["sink"], "mode": mode}})
    arrive(mariadb_database, "a", "1")
    assert [collected(workshop), collected(workshop)] == [1, 0]
    arrive(mariadb_database, "a ", "1")
    if mode == "upsert":
        with pytest.raises(KeyColumnError, match="'a', which its collation treats as equal to 'a '"):
            collected(workshop)
        return
    assert [collected(workshop), collected(workshop)] == [1, 0]
    assert predicted(mariadb_database) == ["a", "a "]


@pytest.mark.parametrize("key_type", ["BIGINT", "VARCHAR(40)", "DATE"])
def test_rejected_keys_are_left_out_and_none_that_a_collation_takes_for_them(
    place: Place, key_type: str
) -> None:
    workshop, database = place
    create(database, key_type, "BIGINT")
    predict(workshop, skip_predicted=True)
    contract = {"input": {"columns": {"a": {"max": 0}}}, "error_threshold": 9}
    workshop.add_model("churn", **{**workshop.models["churn"], **contract})
    first, second, *_ = KEYS[key_type]  # of the texts `a` and `A`
    arrive(database, first, "1")
    assert [collected(workshop), collected(workshop)] == [1, 0]
    arrive(database, second, "1")
    assert [collected(workshop), collected(workshop)] == [1, 0]
