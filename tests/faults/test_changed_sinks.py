"""Sinks that somebody alters while a dispatch waits to write into them."""

from __future__ import annotations

import threading
import time

import pytest

from mlops_plugin.errors import SinkError
from mlops_plugin.events.records import Step
from support.paused_steps import Paused, step
from support.servers import ServerDatabase
from support.workshop import Workshop

READ: tuple[Step, ...] = ("collect", "log", "infer")
WAITING = {
    "mysql": "SELECT 1 FROM information_schema.processlist WHERE db = DATABASE() AND state {}",
    "postgres": "SELECT 1 FROM pg_stat_activity "
    "WHERE datname = current_database() AND wait_event_type = 'Lock' AND query {}",
}


@pytest.fixture(params=["odbc-mariadb", "mysql", "odbc-postgres", "postgres"])
def place(
    request: pytest.FixtureRequest, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> tuple[Workshop, ServerDatabase]:
    engine = "mariadb" if request.param in ("odbc-mariadb", "mysql") else "postgres"
    database: ServerDatabase = request.getfixturevalue(f"{engine}_database")
    rows = database.airflow_uri("odbc" if request.param.startswith("odbc") else None)
    monkeypatch.setenv("AIRFLOW_CONN_SINK", rows)
    return workshop, database


def own_table(database: ServerDatabase) -> str:
    real, text = ("DOUBLE", "VARCHAR(64)") if database.engine == "mysql" else ("DOUBLE PRECISION", "TEXT")
    moment = "DATETIME(6)" if database.engine == "mysql" else "TIMESTAMP"
    return (
        f"CREATE TABLE churn_predictions (id BIGINT PRIMARY KEY, prediction {text},"
        f" probability_leaves {real}, probability_stays {real}, dispatch_id {text}, model {text},"
        f" artifact_sha256 {text}, predicted_at {moment})"
    )


def wait_until(database: ServerDatabase, said: str) -> None:
    until = time.monotonic() + 60
    while not database.rows(WAITING[database.engine].format(said)) and time.monotonic() < until:
        time.sleep(0.01)


def test_column_that_was_narrowed_while_a_dispatch_waited_takes_none_of_its_rows(
    place: tuple[Workshop, ServerDatabase],
) -> None:
    workshop, database = place
    database.execute(own_table(database))
    first, second = workshop.dispatch(), workshop.dispatch()
    for dispatch in (first, second):
        workshop.run_steps(dispatch, *READ)
    errors: list[BaseException] = []

    def persist() -> None:
        try:
            workshop.run_steps(second, "persist")
        except SinkError as error:
            errors.append(error)

    narrow = "ALTER TABLE churn_predictions " + (
        "MODIFY probability_stays FLOAT"
        if database.engine == "mysql"
        else "ALTER COLUMN probability_stays TYPE REAL"
    )
    paused = Paused(lambda on_rows: step(workshop, first, "persist", on_rows=on_rows))
    altering = threading.Thread(target=database.execute, args=(narrow,))
    waiting = threading.Thread(target=persist)
    altering.start()
    wait_until(database, "LIKE '%metadata%'" if database.engine == "mysql" else "LIKE 'ALTER TABLE%'")
    waiting.start()
    wait_until(database, "= 'User lock'" if database.engine == "mysql" else "LIKE '%LOCK TABLE%'")
    assert paused.resume() is None
    for thread in (altering, waiting):
        thread.join(60)
    assert "rounds a double" in str(errors[0])
    owners = {owner for (owner,) in database.rows("SELECT dispatch_id FROM churn_predictions")}
    assert owners == {first.id}
