"""Late and paused tries on every engine and way in: source, sink and event store are one database."""

from __future__ import annotations

import threading
import time

import pytest

from mlops_plugin.errors import MlopsError, TrySuperseded
from mlops_plugin.events.records import Step
from mlops_plugin.pipeline.dispatch import Dispatch
from support.event_tables import make_tables
from support.paused_steps import Paused, step
from support.rejected_rows import RANGE
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
        make_tables(store.address)
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


@pytest.mark.parametrize("mode", ["append", "upsert", "replace"])
def test_paused_persist_commits_nothing_once_a_newer_try_has_registered(place: Place, mode: str) -> None:
    workshop, database = place
    workshop.add_model("churn", sink={"mode": mode})
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, *READ)
    paused = Paused(lambda on_rows: step(workshop, dispatch, "persist", on_rows=on_rows))
    with workshop.deployment.event_store() as store:
        store.start_step(dispatch.identity, "collect", 2)
    assert isinstance(paused.resume(), TrySuperseded)
    assert predicted(database) == {}
    assert workshop.record(dispatch.id).state == "running"
    step(workshop, dispatch, "collect", 3)
    workshop.run_steps(dispatch, "log", "infer", "persist")
    assert counts(workshop, dispatch) == (3, 0)


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_newer_persist_ends_the_session_of_one_that_is_paused_while_it_copies(place: Place) -> None:
    workshop, database = place
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, *READ)
    paused = Paused(lambda on_rows: step(workshop, dispatch, "persist", on_rows=on_rows))
    step(workshop, dispatch, "persist", 2)
    before = predicted(database)
    assert isinstance(paused.resume(), MlopsError)
    assert before == predicted(database) == {1: "stays", 2: "stays", 3: "leaves"}
    record = workshop.record(dispatch.id)
    assert (record.state, record.rows_persisted, record.error) == ("succeeded", 3, None)


def test_key_that_was_rejected_later_is_not_released_by_a_dispatch_that_read_it_before(place: Place) -> None:
    workshop, database = place
    workshop.add_model("churn", input=RANGE, error_threshold=3)
    database.execute("UPDATE customers SET a = NULL WHERE id = 1")
    workshop.run(workshop.dispatch())
    database.execute("UPDATE customers SET a = 9 WHERE id = 1")
    repaired = workshop.dispatch(is_quarantined=True)
    workshop.run_steps(repaired, *READ)
    database.execute("UPDATE customers SET a = NULL WHERE id = 1")
    newest = workshop.dispatch()
    workshop.run(newest)
    workshop.run_steps(repaired, "persist")
    found = "SELECT id, dispatch_id FROM churn_predictions_quarantine WHERE released_by IS NULL"
    assert [(int(key), owner) for key, owner in database.rows(found)] == [(1, newest.id)]


def test_key_that_is_released_stays_so_if_an_older_dispatch_persists_again(place: Place) -> None:
    workshop, database = place
    workshop.add_model("churn", input=RANGE, error_threshold=3)
    database.execute("UPDATE customers SET a = NULL WHERE id = 1")
    older, repaired = workshop.dispatch(), workshop.dispatch(is_quarantined=True)
    workshop.run(older)
    database.execute("UPDATE customers SET a = 9 WHERE id = 1")
    workshop.run(repaired)
    released = "SELECT released_by FROM churn_predictions_quarantine"
    assert database.rows(released) == [(repaired.id,)]
    database.execute("UPDATE customers SET a = NULL WHERE id = 1")
    workshop.run(older)  # it reads its source again, so it is the newer one now
    assert database.rows(released) == [(None,)]


def test_key_that_is_released_is_not_put_aside_by_a_dispatch_that_read_it_before(place: Place) -> None:
    workshop, database = place
    workshop.add_model("churn", input=RANGE, error_threshold=3)
    database.execute("UPDATE customers SET a = NULL WHERE id < 3")
    late = workshop.dispatch()
    workshop.run_steps(late, *READ)
    workshop.run(workshop.dispatch())
    database.execute("UPDATE customers SET a = 9 WHERE id = 1")
    repaired = workshop.dispatch(is_quarantined=True)
    workshop.run(repaired)
    workshop.run_steps(late, "persist")
    found = f"SELECT id, released_by FROM churn_predictions_quarantine WHERE dispatch_id = '{late.id}'"
    assert sorted(database.rows(found)) == [(1, repaired.id), (2, None)]


@pytest.mark.parametrize("place", ["odbc-postgres", "postgres"], indirect=True)
def test_dispatch_that_waited_sees_what_was_written_whatever_the_default_isolation(place: Place) -> None:
    workshop, database = place
    database.execute(f"ALTER DATABASE {database.database} SET default_transaction_isolation = 'serializable'")
    workshop.add_model(
        "churn", source={"connection": "sink", "skip_predicted": True}, sink={"mode": "append"}
    )
    again, other = workshop.dispatch(), workshop.dispatch()
    workshop.run(again)
    database.execute("INSERT INTO customers VALUES (4, 9, 9, 0)")
    for dispatch in (again, other):
        workshop.run_steps(dispatch, *READ)
    paused = Paused(lambda on_rows: step(workshop, again, "persist", 2, on_rows=on_rows))
    waiting = threading.Thread(target=workshop.run_steps, args=(other, "persist"))
    waiting.start()
    until = time.monotonic() + 60
    waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    while not database.rows(waits) and time.monotonic() < until:
        time.sleep(0.01)
    assert paused.resume() is None
    waiting.join(60)
    assert [key for (key,) in database.rows("SELECT id FROM churn_predictions ORDER BY id")] == [1, 2, 3, 4]
    assert (counts(workshop, again), counts(workshop, other)) == ((4, 0), (0, 1))
