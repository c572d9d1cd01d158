"""Airflow runs what config.yaml describes: by hand, clock, asset and backfill, and despite kills.

Also runs that read an increment or the quarantine.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sqlite3
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import pytest

from local_stack import processes
from mlops_plugin.events.marks import newest_mark
from mlops_plugin.pipeline.dispatch import dispatch_id
from support.airflow_process import LOOK_FOR_LOST_TASKS, SAME_DAGS, RunningAirflow, running_airflow
from support.servers import Server
from support.workshop import FEATURES, Workshop

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

# Work inside the database that does not end before the gate is open, so that there is time to kill the task.
HELD_QUERY = """
    WITH RECURSIVE steps(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM steps WHERE n < (SELECT most FROM gate))
    SELECT id, a, b, c FROM customers WHERE id <= (SELECT count(*) FROM steps)
"""
TIMES = ("2026-01-31 23:59:59", "2026-02-01 00:00:00", "2026-02-02 12:00:00.5", "2026-02-03 00:00:00")


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, postgres: Server) -> Iterator[RunningAirflow]:
    workshop = Workshop(tmp_path_factory.mktemp("airflow"))
    workshop.metadata = postgres.new_database()
    workshop.in_source("CREATE TABLE gate (most INTEGER)", "INSERT INTO gate VALUES (9)")
    for name in ("by_clock", "by_hand", "killed_once", "killed_for_good", "dry", "backwards"):
        workshop.add_model(name)
    workshop.add_model("by_clock", schedule="20s", catchup=False)
    workshop.add_model(
        "by_hand",
        docs="Read **this**.",
        description="Asks what data it was given",
        source={
            "query": "SELECT id, a, b, c FROM customers WHERE '{{ data_interval_end }}' > '2026' LIMIT 4"
        },
    )
    workshop.add_model("after", schedule=["by_hand.predictions"])
    workshop.add_model("after_dry", schedule=["dry.predictions"])
    workshop.add_model("backwards", schedule="@daily", start_date="2026-01-01")
    workshop.add_model("killed_once", source={"query": HELD_QUERY}, retries=1, retry_delay="1s")
    workshop.add_model("killed_for_good", source={"query": HELD_QUERY})
    workshop.add_model("stopped", source={"query": HELD_QUERY})
    workshop.add_model("unrenderable", source={"query": "SELECT {{ nothing.here }} AS id"})
    content = pickle.dumps(workshop.classifier)
    (workshop.folder / "pickled.pickle").write_bytes(content)
    artifact = {"format": "pickle", "uri": "pickled.pickle", "sha256": sha256(content).hexdigest()}
    workshop.add_model("pickled", model=artifact, features=list(FEATURES))
    add_kinds_of_runs(workshop)
    workshop.add_model("broken", schedule="every now and then")
    with workshop.ready(), running_airflow(workshop, {**LOOK_FOR_LOST_TASKS, **SAME_DAGS}) as running:
        running.wait(lambda: set(workshop.models) - {"broken"} <= running.api.dag_ids(), "parsing")
        yield running


def add_kinds_of_runs(workshop: Workshop) -> None:
    """A model that reads what is new, and one that rejects rows."""
    workshop.in_source("CREATE TABLE arrivals (id INTEGER, a REAL, b REAL, c REAL, changed TIMESTAMP)")
    arrive(workshop, *enumerate(TIMES, 1))
    workshop.add_model(
        "incremental",
        schedule="0 0 1-4 2 *",  # days of which none ends while a test runs, as any would at midnight
        start_date="2026-01-01",
        source={"query": "SELECT * FROM arrivals", "cursor": {"column": "changed", "lag": "1h"}},
    )
    workshop.add_rows(5, "repaired")
    workshop.add_model(
        "rejecting",
        source={"query": "SELECT id, a, b, c FROM repaired"},
        input={"columns": {"a": {"nullable": False, "max": 100}}},
        error_threshold="40%",
        retries=3,
    )


def test_manual_run_predicts_and_is_recorded(airflow: RunningAirflow) -> None:
    run_id = airflow.trigger("by_hand")
    assert airflow.wait_for_run("by_hand", run_id) == "success", airflow.logs()
    record = airflow.workshop.record(dispatch_id("by_hand", run_id))
    assert (record.state, record.origin, record.rows_persisted) == ("succeeded", "manual", 4)
    assert (record.dag_id, record.run_id) == ("by_hand", run_id)
    assert record.data_interval_end is not None
    assert len(airflow.workshop.predictions("by_hand_predictions")) == 4


def test_pickled_model_runs_without_what_its_task_has(airflow: RunningAirflow) -> None:
    run_id = airflow.trigger("pickled")
    assert airflow.wait_for_run("pickled", run_id) == "success", airflow.logs()
    rows = airflow.workshop.predictions("pickled_predictions")
    inputs = pd.DataFrame(
        airflow.workshop.in_source("SELECT a, b, c FROM customers ORDER BY id"), columns=list(FEATURES)
    )
    assert [row["prediction"] for row in rows] == airflow.workshop.classifier.predict(inputs).tolist()
    logs = (airflow.workshop.home / "logs" / "dag_id=pickled").glob("*/task_id=infer/*.log")
    assert any("pickled runs in a process without files, TCP" in log.read_text() for log in logs)


def test_rendered_query_shows_in_airflow_and_in_the_record(airflow: RunningAirflow) -> None:
    run_id = airflow.trigger("by_hand")
    airflow.wait_for_run("by_hand", run_id)
    rendered = airflow.task("by_hand", run_id, "collect")["rendered_fields"]["query"]
    assert "{{" not in rendered
    assert rendered == airflow.workshop.record(dispatch_id("by_hand", run_id)).query


def test_asset_of_a_model_starts_the_model_that_waits_for_it(airflow: RunningAirflow) -> None:
    airflow.api.unpause("after")
    airflow.wait_for_run("by_hand", airflow.trigger("by_hand"))
    records = airflow.wait(lambda: airflow.workshop.records("after"), "a dispatch of 'after'")
    assert records[0].origin == "asset"
    airflow.wait(lambda: airflow.workshop.records("after")[0].state == "succeeded", "its success")
    airflow.pause("after")


def test_clock_starts_dispatches_with_their_interval(airflow: RunningAirflow) -> None:
    airflow.api.unpause("by_clock")
    record = airflow.wait(
        lambda: next((r for r in airflow.workshop.records("by_clock") if r.state == "succeeded"), None),
        "a scheduled dispatch",
    )
    assert record.origin == "scheduled"
    assert (record.data_interval_end - record.data_interval_start).total_seconds() == 20
    airflow.pause("by_clock")


def test_params_limit_rows_and_a_dry_run_writes_and_announces_nothing(airflow: RunningAirflow) -> None:
    airflow.api.unpause("after_dry")
    run_id = airflow.trigger("dry", conf={"row_limit": 2, "dry_run": True})
    assert airflow.wait_for_run("dry", run_id) == "success"
    assert airflow.task_states("dry", run_id)["persist"] == "skipped"
    record = airflow.workshop.record(dispatch_id("dry", run_id))
    assert (record.rows_collected, record.rows_predicted, record.rows_persisted) == (2, 2, 0)
    with contextlib.closing(sqlite3.connect(airflow.workshop.folder / "sink.db")) as sink:
        assert sink.execute(
            "SELECT count(*) FROM sqlite_master WHERE name = 'dry_predictions'"
        ).fetchone() == (0,)
    assert airflow.workshop.records("after_dry") == []


def test_refused_param_starts_no_run(airflow: RunningAirflow) -> None:
    with pytest.raises(Exception, match="row_limit"):
        airflow.trigger("dry", conf={"row_limit": -1})


def test_broken_model_is_an_import_error_and_the_others_keep_their_dags(airflow: RunningAirflow) -> None:
    (error,) = airflow.api.import_errors()
    line = next(
        n
        for n, text in enumerate(airflow.workshop.config_file.read_text().splitlines(), 1)
        if "now and then" in text
    )
    assert f"config.yaml:{line}: models.broken.schedule" in error
    assert "broken" not in airflow.api.dag_ids()
    assert {"by_hand", "after", "by_clock"} <= airflow.api.dag_ids()


def test_killed_task_is_tried_again_and_no_row_is_lost_or_doubled(airflow: RunningAirflow) -> None:
    with closed_gate(airflow):
        run_id = airflow.trigger("killed_once")
        kill_collect(airflow, "killed_once", run_id)
    assert airflow.wait_for_run("killed_once", run_id) == "success", airflow.logs()
    assert [row["id"] for row in airflow.workshop.predictions("killed_once_predictions")] == [1, 2, 3, 4, 5]
    record = airflow.workshop.record(dispatch_id("killed_once", run_id))
    assert (record.state, record.tries) == ("succeeded", 2)


def test_dispatch_whose_tasks_were_killed_does_not_stay_running(airflow: RunningAirflow) -> None:
    with closed_gate(airflow):
        run_id = airflow.trigger("killed_for_good")
        kill_collect(airflow, "killed_for_good", run_id)
    assert airflow.wait_for_run("killed_for_good", run_id) == "failed"
    record = airflow.wait(
        lambda: (
            (r := airflow.workshop.record(dispatch_id("killed_for_good", run_id))).state != "running" and r
        ),
        "the record's end",
    )
    assert record.state == "failed"
    assert "Airflow" in record.error


def test_persist_cleared_alone_stays_a_success(airflow: RunningAirflow) -> None:
    run_id = airflow.trigger("by_hand")
    airflow.wait_for_run("by_hand", run_id)
    body = {"dag_run_id": run_id, "task_ids": ["persist"], "only_failed": False, "dry_run": False}
    airflow.call("POST", "/dags/by_hand/clearTaskInstances", body)
    airflow.wait(lambda: airflow.task("by_hand", run_id, "persist")["try_number"] == 2, "the second try")
    assert airflow.wait_for_run("by_hand", run_id) == "success", airflow.logs()
    record = airflow.workshop.record(dispatch_id("by_hand", run_id))
    assert (record.state, record.rows_persisted) == ("succeeded", 4)


def test_run_marked_failed_while_it_runs_closes_its_dispatch(airflow: RunningAirflow) -> None:
    with closed_gate(airflow):
        run_id = airflow.trigger("stopped")
        wanted = dispatch_id("stopped", run_id)
        airflow.wait(
            lambda: any(r.dispatch_id == wanted for r in airflow.workshop.records("stopped")), "its beginning"
        )
        path = f"/dags/stopped/dagRuns/{quote(run_id, safe='')}"
        airflow.call("PATCH", f"{path}?update_mask=state", {"state": "failed"})
        airflow.wait(lambda: airflow.workshop.record(wanted).state == "failed", "the record's end")
    assert "killed the task" in (airflow.workshop.record(wanted).error or "")


def test_query_that_cannot_be_rendered_leaves_a_failed_dispatch(airflow: RunningAirflow) -> None:
    run_id = airflow.trigger("unrenderable")
    assert airflow.wait_for_run("unrenderable", run_id) == "failed"
    record = airflow.workshop.record(dispatch_id("unrenderable", run_id))
    assert record.state == "failed"
    assert "'nothing' is undefined" in (record.error or "")


@contextlib.contextmanager
def closed_gate(airflow: RunningAirflow) -> Iterator[None]:
    """Tasks that read a held query inside go on reading until they are killed."""
    airflow.workshop.in_source("UPDATE gate SET most = 1000000000000")
    yield
    airflow.workshop.in_source("UPDATE gate SET most = 9")


def kill_collect(airflow: RunningAirflow, dag_id: str, run_id: str) -> None:
    """Kill -9 the run's `collect` and the worker that watches it, once its dispatch is recorded as begun.

    Airflow finds at its next look that they have been silent for an hour.
    """
    wanted = dispatch_id(dag_id, run_id)

    def has_begun() -> bool:
        return any(record.dispatch_id == wanted for record in airflow.workshop.records(dag_id))

    airflow.wait(has_begun, f"the beginning of {dag_id}")
    pid = airflow.task(dag_id, run_id, "collect")["pid"]
    worker = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    ours = {process.pid for process in processes.find(airflow.workshop.folder)}
    assert {pid, worker} <= ours
    for doomed in (worker, pid):
        os.kill(doomed, signal.SIGKILL)
    assert airflow.workshop.metadata is not None
    an_hour_ago = "now() - interval '1 hour'"
    airflow.workshop.metadata.execute(
        f"UPDATE task_instance SET last_heartbeat_at = {an_hour_ago} WHERE pid = {pid}"
    )


def test_backfill_dispatches_each_interval(airflow: RunningAirflow) -> None:
    airflow.api.unpause("backwards")
    dispatches = airflow.backfill("backwards", "2026-02-01", "2026-02-03")
    starts = {str(record.data_interval_start.date()) for record in dispatches if record.data_interval_start}
    assert starts == {"2026-02-01", "2026-02-02", "2026-02-03"}


def arrive(workshop: Workshop, *rows: tuple[int, str]) -> None:
    values = ", ".join(f"({number}, 1, 2, 3, '{changed}')" for number, changed in rows)
    workshop.in_source(f"INSERT INTO arrivals VALUES {values}")


def mark(airflow: RunningAirflow) -> str | None:
    with airflow.workshop.deployment.event_store() as store:
        found = newest_mark(store, "incremental")
    return found.value if found else None


def dispatched(airflow: RunningAirflow) -> tuple[str, int | None]:
    """The run id of a manual run that succeeded, and how many rows it read."""
    run_id = airflow.trigger("incremental")
    assert airflow.wait_for_run("incremental", run_id) == "success", airflow.logs()
    return run_id, airflow.workshop.record(dispatch_id("incremental", run_id)).rows_collected


def clear(airflow: RunningAirflow, run_id: str) -> None:
    """Run all tasks of a run again, and wait for their success."""
    body = {"dag_run_id": run_id, "only_failed": False, "dry_run": False}
    airflow.call("POST", "/dags/incremental/clearTaskInstances", body)
    airflow.wait(lambda: airflow.task("incremental", run_id, "persist")["try_number"] == 2, "the second try")
    assert airflow.wait_for_run("incremental", run_id) == "success", airflow.logs()


def test_runs_read_what_is_new_and_a_backfill_its_interval(airflow: RunningAirflow) -> None:
    workshop, table = airflow.workshop, "incremental_predictions"
    first, _ = dispatched(airflow)
    airflow.wait(  # the one that the scheduler starts for the newest interval
        lambda: ("scheduled", "succeeded") in [(r.origin, r.state) for r in workshop.records("incremental")],
        "the scheduled dispatch",
    )
    assert mark(airflow) == "2026-02-03 00:00:00"
    assert len(workshop.predictions(table)) == 4
    arrive(workshop, (5, "2026-02-02 23:30:00"), (6, "2026-02-02 22:00:00"), (7, "2026-02-04"))
    _, rows = dispatched(airflow)
    assert rows == 3  # the last one again, one that is late, one that is new; the other one is too late
    assert mark(airflow) == "2026-02-04 00:00:00"

    records = airflow.backfill("incremental", "2026-02-01", "2026-02-02")
    read = {str(record.data_interval_start)[:10]: record.rows_collected for record in records}
    assert read == {"2026-02-01": 1, "2026-02-02": 3}
    assert mark(airflow) == "2026-02-04 00:00:00"
    assert [row["id"] for row in workshop.predictions(table)] == [1, 2, 3, 4, 5, 6, 7]

    clear(airflow, first)
    record = workshop.record(dispatch_id("incremental", first))
    assert (record.state, mark(airflow)) == ("succeeded", "2026-02-04 00:00:00")
    assert len(workshop.predictions(table)) == 7


def quarantined(workshop: Workshop) -> list[tuple[Any, ...]]:
    return workshop.in_sink(
        "SELECT id, dispatch_id, released_by FROM rejecting_predictions_quarantine ORDER BY id"
    )


def test_a_run_over_the_quarantine_predicts_what_was_repaired_and_nothing_else(
    airflow: RunningAirflow,
) -> None:
    workshop = airflow.workshop
    workshop.in_source("UPDATE repaired SET a = NULL WHERE id IN (2, 4)")
    first = airflow.trigger("rejecting")
    assert airflow.wait_for_run("rejecting", first) == "success", airflow.logs()
    rejecting = workshop.record(dispatch_id("rejecting", first))
    assert (rejecting.rows_collected, rejecting.rows_rejected, rejecting.rows_persisted) == (5, 2, 3)
    workshop.in_source("UPDATE repaired SET a = 0.5")
    second = airflow.trigger("rejecting", conf={"quarantined": True})
    assert airflow.wait_for_run("rejecting", second) == "success", airflow.logs()
    releasing = workshop.record(dispatch_id("rejecting", second))
    assert (releasing.rows_collected, releasing.rows_rejected, releasing.rows_persisted) == (2, 0, 2)
    assert {row["id"]: row["dispatch_id"] for row in workshop.predictions("rejecting_predictions")} == {
        **dict.fromkeys((1, 3, 5), rejecting.dispatch_id),
        **dict.fromkeys((2, 4), releasing.dispatch_id),
    }
    assert quarantined(workshop) == [
        (number, rejecting.dispatch_id, releasing.dispatch_id) for number in (2, 4)
    ]
    workshop.in_source("UPDATE repaired SET a = NULL")
    third = airflow.trigger("rejecting")
    assert airflow.wait_for_run("rejecting", third) == "failed"
    failing = workshop.record(dispatch_id("rejecting", third))
    assert (failing.state, failing.rows_rejected) == ("failed", 5)
    assert "5 of 5 rows were rejected" in (failing.error or "")
    assert len(workshop.predictions("rejecting_predictions")) == 5
    # A wait would not have made the rows better.
    assert airflow.task("rejecting", third, "persist")["try_number"] == 1
