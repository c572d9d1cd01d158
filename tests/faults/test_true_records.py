"""What the record says is what the database has, also after lost answers, kills and removed models."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from types import FrameType

import pytest

from mlops_plugin.errors import StepInterrupted
from mlops_plugin.events.details.milestones import TryStart
from mlops_plugin.events.details.process_identity import ProcessIdentity
from mlops_plugin.events.records import DispatchIdentity, Step
from mlops_plugin.pipeline.dispatch import dispatch_id
from mlops_plugin.pipeline.recording.reconciliation import close_abandoned, close_failed_run, close_removed
from mlops_plugin.pipeline.runner import run_dispatch, run_step
from mlops_plugin.pipeline.staging.shelf import OnRows, unheard
from support.event_tables import make_tables
from support.rejected_rows import RANGE, again, ids, quarantined
from support.servers import ServerDatabase
from support.severing_proxy import severing_proxy
from support.ways_in import INTO_MARIADB
from support.workshop import Workshop


@pytest.mark.parametrize("mode", ["append", "upsert"])
@pytest.mark.parametrize("way", ["odbc-mariadb", "mysql", "odbc-postgres", "postgres"])
def test_a_commit_whose_answer_is_lost_is_counted_and_recorded_as_a_success(
    workshop: Workshop,
    way: str,
    mode: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = "mariadb" if way in INTO_MARIADB else "postgres"
    database: ServerDatabase = request.getfixturevalue(f"{engine}_database")
    workshop.add_model("churn", sink={"mode": mode})
    with severing_proxy(database.host, database.port, "churn_predictions") as proxy:
        through = replace(database, port=proxy.port)
        kind = "odbc" if way.startswith("odbc") else None
        monkeypatch.setenv("AIRFLOW_CONN_SINK", through.airflow_uri(kind))
        workshop.run(workshop.dispatch())  # makes the table
        proxy.is_armed = True
        dispatch = workshop.dispatch()
        workshop.run(dispatch)
        assert proxy.severed == 1
    record = workshop.record(dispatch.id)
    own = f"SELECT COUNT(*) FROM churn_predictions WHERE dispatch_id = '{dispatch.id}'"
    assert (record.state, record.rows_persisted, database.rows(own)) == ("succeeded", 5, [(5,)])


@pytest.mark.parametrize("is_together", [False, True])
def test_a_dispatch_whose_last_note_finds_no_place_is_a_success(
    workshop: Workshop, *, is_together: bool
) -> None:
    dispatch = workshop.dispatch()

    def take_place(rows: int) -> None:
        (workshop.home / "staging/churn" / dispatch.id / "persist.json").mkdir()

    @contextmanager
    def watch(step: Step) -> Iterator[OnRows]:
        yield take_place if step == "persist" else unheard

    query = dispatch.model.source.query
    if is_together:
        run_dispatch(dispatch, workshop.deployment, lambda: query, watch)
    else:
        workshop.run_steps(dispatch, "collect", "log", "infer")
        run_step("persist", dispatch, workshop.deployment, query=lambda: query, on_rows=take_place)
    record = workshop.record(dispatch.id)
    assert (record.state, record.rows_persisted, len(workshop.predictions())) == ("succeeded", 5, 5)


@pytest.mark.parametrize("engine", ["mariadb", "postgres"])
def test_events_whose_commit_has_no_answer_are_recorded_once(
    workshop: Workshop, engine: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    database: ServerDatabase = request.getfixturevalue(f"{engine}_database")
    with severing_proxy(database.host, database.port, "mlops_event") as proxy:
        through = replace(database, port=proxy.port)
        monkeypatch.setenv("AIRFLOW_CONN_EVENTS", through.airflow_uri())
        with workshop.deployment.event_store() as store:
            make_tables(store.address)

        def arm(rows: int) -> None:
            proxy.is_armed = True

        dispatch = workshop.dispatch()
        steps: tuple[Step, ...] = ("collect", "log", "infer", "persist")
        for step in steps:
            arm(0)  # the step's start, and where it handles rows its end
            run_step(
                step, dispatch, workshop.deployment, query=lambda: dispatch.model.source.query, on_rows=arm
            )
        proxy.is_armed = False
        assert proxy.severed == 7
        happened = [(event.step, event.kind) for event in workshop.events(dispatch.id)]
        assert len(happened) == len(set(happened)) == 11
        assert workshop.record(dispatch.id).state == "succeeded"


def test_an_interrupted_step_commits_nothing_once_its_failure_is_recorded(workshop: Workshop) -> None:
    """Its thread, which nobody waits for any more, may go on for as long as the process does."""
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log", "infer")
    main, goes_on = threading.main_thread().ident or 0, threading.Event()

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise StepInterrupted("killed")

    def written(_rows: int) -> None:
        signal.pthread_kill(main, signal.SIGALRM)
        goes_on.wait(60)

    handler = signal.signal(signal.SIGALRM, interrupt)
    before = {*threading.enumerate()}
    try:
        with pytest.raises(StepInterrupted, match="killed"):
            run_step("persist", dispatch, workshop.deployment, on_rows=written)
    finally:
        signal.signal(signal.SIGALRM, handler)
        left = {*threading.enumerate()} - before
        goes_on.set()
    assert left
    for thread in left:
        thread.join(60)
    assert workshop.record(dispatch.id).error == "killed"
    with closing(sqlite3.connect(workshop.folder / "sink.db")) as sink:
        assert sink.execute("SELECT COUNT(*) FROM churn_predictions").fetchone() == (0,)


_KILLED = """
import os, signal, sys
from support.workshop import Workshop
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.runner import run_step

from pathlib import Path
workshop = Workshop.again(Path(sys.argv[1]))
dispatch = Dispatch(id=sys.argv[2], model=workshop.model(), origin="terminal")
run_step("collect", dispatch, workshop.deployment, query=lambda: dispatch.model.source.query,
         on_rows=lambda rows: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_killed_dispatch_of_the_terminal_is_closed_at_once_and_a_living_one_is_not(
    workshop: Workshop,
) -> None:
    killed = workshop.dispatch()
    paths = os.pathsep.join(["plugins", "tests"])
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(workshop.folder), killed.id],
        env={**os.environ, "PYTHONPATH": paths},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    living = workshop.dispatch()
    with workshop.deployment.event_store() as store:
        store.start_step(living.identity, "collect", made_by=TryStart(ProcessIdentity.current()))
        workshop.age(living.id, timedelta(days=2))
        assert close_abandoned(store) == 1
    assert workshop.record(killed.id).state == "failed"
    assert "ended without" in (workshop.record(killed.id).error or "")
    assert workshop.record(living.id).state == "running"


def test_a_process_that_ends_after_persist_has_succeeded_leaves_a_success(workshop: Workshop) -> None:
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log", "infer")
    gone = TryStart(replace(ProcessIdentity.current(), began="0"))
    with workshop.deployment.event_store() as store:
        token = store.start_step(dispatch.identity, "persist", made_by=gone)
        store.step_succeeded(dispatch.id, "persist", 1, rows=5, token=token)
        assert close_abandoned(store) == 1
    record = workshop.record(dispatch.id)
    assert (record.state, record.rows_persisted, record.error) == ("succeeded", 5, None)


def test_rows_that_a_killed_persist_has_committed_are_named_when_its_run_fails(workshop: Workshop) -> None:
    dispatch = workshop.dispatch()
    run = replace(dispatch, id=dispatch_id("churn", "r"), dag_id="churn", run_id="r")
    workshop.run_steps(run, "collect", "log", "infer", "persist")
    with workshop.deployment.event_store() as store:
        store.start_step(run.identity, "persist", 2)  # and it was killed
    close_failed_run(workshop.model(), "r", "task_failure", workshop.deployment)
    record = workshop.record(run.id)
    assert record.state == "failed"
    assert "5 rows of it are in churn_predictions" in (record.error or "")


def test_a_dispatch_whose_process_runs_elsewhere_is_closed_after_a_day(workshop: Workshop) -> None:
    dispatch = workshop.dispatch()
    elsewhere = TryStart(ProcessIdentity("other-host/boot/pid", 1, began="5"))
    with workshop.deployment.event_store() as store:
        store.start_step(dispatch.identity, "collect", made_by=elsewhere)
        assert close_abandoned(store) == 0
        workshop.age(dispatch.id, timedelta(days=1))
        assert close_abandoned(store) == 1


def test_a_model_that_was_removed_while_it_ran_ends_with_a_reason(workshop: Workshop) -> None:
    gone = TryStart(replace(ProcessIdentity.current(), began="0"))
    here = TryStart(ProcessIdentity.current())
    with workshop.deployment.event_store() as store:
        for name, process in (("d-gone", gone), ("d-working", here), ("d-old", None)):
            identity = DispatchIdentity(name, "removed", "scheduled", dag_id="removed", run_id=name)
            store.start_step(identity, "collect", made_by=process)
        store.start_step(workshop.dispatch().identity, "collect", made_by=gone)
        workshop.sections["include"] = ["teams/*.yaml"]
        workshop.write()
        assert close_removed(store, workshop.loaded) == 0  # it may be in a file that is not there now
        del workshop.sections["include"]
        workshop.write()
        assert close_removed(store, workshop.loaded) == 1
        workshop.age("d-old", timedelta(minutes=11))
        workshop.age("d-working", timedelta(minutes=11))
        assert close_removed(store, workshop.loaded) == 1
    states = [workshop.record(name).state for name in ("d-gone", "d-working", "d-old")]
    assert states == ["failed", "running", "failed"]
    assert "removed from the configuration" in (workshop.record("d-gone").error or "")


def test_a_retry_after_keys_were_released_leaves_them_released(workshop: Workshop) -> None:
    workshop.in_source("UPDATE customers SET a = NULL WHERE id IN (2, 4)")
    workshop.add_model("churn", input=RANGE)  # no row may be rejected
    failed = workshop.dispatch()
    with pytest.raises(Exception, match="error_threshold"):
        workshop.run(failed)
    workshop.in_source("UPDATE customers SET a = 1 WHERE id = 2")
    workshop.add_model("churn", input=RANGE, error_threshold=1)
    fixed = workshop.dispatch(is_quarantined=True)
    workshop.run(fixed)
    workshop.add_model("churn", input=RANGE, error_threshold=2)
    workshop.run_steps(again(workshop, failed), "persist")
    found = quarantined(workshop, "dispatch_id, id, released_by")
    assert set(found) == {(failed.id, 2, fixed.id), (failed.id, 4, None), (fixed.id, 4, None)}
    assert ids(workshop) == [1, 2, 3, 5]
    again_rejected = workshop.dispatch(is_quarantined=True)
    workshop.run(again_rejected)
    assert workshop.record(again_rejected.id).rows_collected == 1


def test_a_key_that_is_collected_and_rejected_again_after_its_release_is_quarantined(
    workshop: Workshop,
) -> None:
    workshop.in_source("UPDATE customers SET a = NULL WHERE id = 2")
    workshop.add_model("churn", input=RANGE, error_threshold=1)
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    workshop.in_source("UPDATE customers SET a = 1 WHERE id = 2")
    workshop.run(workshop.dispatch(is_quarantined=True))
    workshop.in_source("UPDATE customers SET a = NULL WHERE id = 2")
    workshop.in_sink("UPDATE churn_predictions_quarantine SET quarantined_at = '2026-01-01T00:00:00+00:00'")
    workshop.run(dispatch)
    assert quarantined(workshop, "dispatch_id, id, released_by") == [(dispatch.id, 2, None)]
