"""The late retry on every engine and way in: source, sink and event store are one database of a server."""

from __future__ import annotations

import pytest

from mlops_plugin.events.migrating import upgrade
from mlops_plugin.events.records import Step
from mlops_plugin.pipeline.dispatch import Dispatch
from support.servers import ServerDatabase
from support.workshop import Workshop

Place = tuple[Workshop, ServerDatabase]
READ: tuple[Step, ...] = ("collect", "log", "infer")


@pytest.fixture(params=["odbc-mariadb", "mysql", "odbc-postgres", "postgres"])
def place(request: pytest.FixtureRequest, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Place:
    engine = "mariadb" if request.param in ("odbc-mariadb", "mysql") else "postgres"
    database: ServerDatabase = request.getfixturevalue(f"{engine}_database")
    rows = database.airflow_uri("odbc" if request.param.startswith("odbc") else None)
    for name, uri in (("SOURCE", rows), ("SINK", rows), ("EVENTS", database.airflow_uri())):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", uri)
    with workshop.deployment.event_store() as store:
        upgrade(store.address)
    real = "DOUBLE" if database.engine == "mysql" else "DOUBLE PRECISION"
    database.execute(
        f"CREATE TABLE customers (id INT PRIMARY KEY, a {real}, b {real}, c {real})",
        "INSERT INTO customers VALUES (1, 9, 9, 0), (2, 9, 9, 0), (3, -9, -9, 0)",
    )
    return workshop, database


def predicted(database: ServerDatabase) -> dict[int, str]:
    return dict(database.rows("SELECT id, prediction FROM churn_predictions"))


def counts(workshop: Workshop, dispatch: Dispatch) -> tuple[int | None, int | None]:
    record = workshop.record(dispatch.id)
    return record.rows_persisted, record.rows_superseded


@pytest.mark.parametrize("mode", ["upsert", "replace"])
def test_late_retry_leaves_what_another_dispatch_predicted_meanwhile(place: Place, mode: str) -> None:
    workshop, database = place
    workshop.add_model("churn", sink={"mode": mode})
    late, newer = workshop.dispatch(), workshop.dispatch()
    workshop.run_steps(late, *READ)
    database.execute("UPDATE customers SET a = -9, b = -9 WHERE id = 1")
    workshop.run(newer)
    workshop.run_steps(late, "persist")
    assert predicted(database) == {1: "leaves", 2: "stays", 3: "leaves"}
    assert (counts(workshop, newer), counts(workshop, late)) == ((3, 0), (0, 3))


def test_rows_that_only_the_late_dispatch_read_are_written(place: Place) -> None:
    workshop, database = place
    late = workshop.dispatch()
    workshop.run_steps(late, *READ)
    database.execute("DELETE FROM customers WHERE id = 3", "UPDATE customers SET a = -9, b = -9")
    workshop.run(workshop.dispatch())
    workshop.run_steps(late, "persist")
    assert predicted(database) == {1: "leaves", 2: "leaves", 3: "leaves"}
    assert counts(workshop, late) == (1, 2)
