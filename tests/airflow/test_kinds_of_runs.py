"""Runs in a real Airflow that read an increment, the quarantine or partitions; a bucket passes rows on."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlops_plugin.events.marks import newest_mark
from mlops_plugin.pipeline.dispatch import dispatch_id
from support.airflow_process import RunningAirflow, running_airflow
from support.s3_server import BUCKET, S3Server, start_s3
from support.servers import Server
from support.workshop import Workshop

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

TIMES = ("2026-01-31 23:59:59", "2026-02-01 00:00:00", "2026-02-02 12:00:00.5", "2026-02-03 00:00:00")
ROWS = 40


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    """A store that Airflow's processes will know: they inherit this one's environment."""
    with start_s3() as server, pytest.MonkeyPatch.context() as patch:
        server.enter(patch)
        yield server


@pytest.fixture(scope="module")
def airflow(
    tmp_path_factory: pytest.TempPathFactory, postgres: Server, s3: S3Server
) -> Iterator[RunningAirflow]:
    workshop = Workshop(tmp_path_factory.mktemp("kinds"))
    workshop.metadata = postgres.new_database()
    workshop.sections["staging"] = {"url": f"s3://{BUCKET}/rows"}
    workshop.connections["late_sink"] = f"sqlite:///{late_sink(workshop)}"
    for table, count in (("repaired", 5), ("halved", ROWS)):
        workshop.add_rows(count, table)
    workshop.in_source("CREATE TABLE arrivals (id INTEGER, a REAL, b REAL, c REAL, changed TIMESTAMP)")
    arrive(workshop, *enumerate(TIMES, 1))
    workshop.add_model(
        "incremental",
        schedule="@daily",
        start_date="2026-01-01",
        source={"query": "SELECT * FROM arrivals", "cursor": {"column": "changed", "lag": "1h"}},
    )
    workshop.add_model(
        "rejecting",
        source={"query": "SELECT id, a, b, c FROM repaired"},
        input={"columns": {"a": {"nullable": False, "max": 100}}},
        error_threshold="40%",
        retries=3,
    )
    workshop.add_model(
        "partitioned",
        source={"query": "SELECT id, a, b, c FROM halved", "partitions": {"column": "id", "count": 2}},
        sink={"connection": "late_sink"},
        retries=100,
        retry_delay="2s",
        retry_exponential_backoff=False,
    )
    with workshop.ready(), running_airflow(workshop) as running:
        running.wait(lambda: set(workshop.models) <= set(running.api.dag_ids()), "parsing")
        yield running


def late_sink(workshop: Workshop) -> Path:
    """In a folder that is not there: nothing can be written until somebody makes it."""
    return workshop.folder / "missing" / "sink.db"


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
    airflow.wait(  # the one that the scheduler starts for yesterday
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


def test_a_run_passes_its_rows_through_the_bucket_and_a_retry_finds_them_there(
    airflow: RunningAirflow, s3: S3Server
) -> None:
    workshop, sink = airflow.workshop, late_sink(airflow.workshop)
    run_id = airflow.trigger("partitioned")
    wanted = dispatch_id("partitioned", run_id)

    def has_failed() -> bool:
        return any((event.step, event.kind) == ("persist", "failed") for event in workshop.events(wanted))

    airflow.wait(has_failed, "the failure of persist")
    staged = s3.objects(f"rows/partitioned/{wanted}/")
    steps = sorted(key.rpartition("/")[2].partition("-")[0] for key in staged if key.endswith(".arrow"))
    assert steps == ["collect.0", "collect.1", "infer.0", "infer.1"]
    assert not (workshop.home / "staging").exists()
    workshop.in_source("DROP TABLE halved")  # from here on rows can only come out of the bucket
    sink.parent.mkdir()
    assert airflow.wait_for_run("partitioned", run_id) == "success", airflow.logs()

    with contextlib.closing(sqlite3.connect(sink)) as predictions:
        found = predictions.execute(
            "SELECT id, dispatch_id FROM partitioned_predictions ORDER BY id"
        ).fetchall()
    assert found == [(number, wanted) for number in range(1, ROWS + 1)]
    assert airflow.task("partitioned", run_id, "persist")["try_number"] > 1
    record = workshop.record(wanted)
    assert (record.state, record.rows_collected, record.rows_persisted) == ("succeeded", ROWS, ROWS)
    left = s3.objects(f"rows/partitioned/{wanted}/")
    assert left
    assert all(key.endswith(".json") for key in left)
