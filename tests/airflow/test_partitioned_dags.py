"""Partitions in a real Airflow: Celery, Redis and two workers over MariaDB, one of which is killed.

A bucket passes their rows on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_stack import processes
from mlops_plugin.pipeline.dispatch import dispatch_id
from support.airflow_process import (
    SAME_DAGS,
    RunningAirflow,
    lost_task_fails,
    queued_again,
    running_airflow,
)
from support.redis_broker import celery_settings
from support.s3_server import BUCKET, S3Server, start_s3
from support.servers import Server, ServerDatabase
from support.workshop import Workshop

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

ROWS = 2000
FEW_ROWS = 40
QUERY = "SELECT id, a, b, c FROM customers"
# Rows that the database holds back as long as the test has the lock, so that it can kill who waits for them.
HELD = ["id <= 20 AND GET_LOCK('held', 3600) = 1", "id BETWEEN 21 AND 1000"]
# As often as it takes a busy machine to see that a try has failed, and to remove why.
AGAIN = {"retries": 100, "retry_delay": "2s", "retry_exponential_backoff": False}
# An error as long as the gate holds two rows.
GATED = ["id <= 1000", "id > 1000 AND id <> (SELECT n FROM gate)"]


@pytest.fixture(scope="module")
def rows(mariadb: Server) -> ServerDatabase:
    database = mariadb.new_database()
    database.execute(
        "CREATE TABLE customers (id BIGINT PRIMARY KEY, a DOUBLE, b DOUBLE, c DOUBLE)",
        f"INSERT INTO customers SELECT seq, SIN(seq), COS(seq), seq / 7 FROM seq_1_to_{ROWS}",
        "CREATE TABLE gate (n BIGINT)",
        "INSERT INTO gate VALUES (-1), (-2)",
    )
    return database


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    """A store that Airflow's processes will know: they inherit this one's environment."""
    with start_s3() as server, pytest.MonkeyPatch.context() as patch:
        server.enter(patch)
        yield server


@pytest.fixture(scope="module")
def airflow(
    tmp_path_factory: pytest.TempPathFactory, rows: ServerDatabase, postgres: Server, s3: S3Server
) -> Iterator[RunningAirflow]:
    workshop = Workshop(tmp_path_factory.mktemp("partitioned"))
    workshop.connections = {
        "source": rows.airflow_uri("odbc"),
        "sink": rows.airflow_uri("odbc"),
        "events": rows.airflow_uri(),
        "files": workshop.connections["source"],
        "late_sink": f"sqlite:///{late_sink(workshop)}",
    }
    workshop.sections["staging"] = {"url": f"s3://{BUCKET}/rows"}
    del workshop.models["churn"]
    for name, partitions in (
        ("whole", None),
        ("parts", {"column": "id", "count": 4, "max_active": 2}),
        ("killed", {"predicates": HELD}),
        ("gated", {"predicates": GATED}),
    ):
        source = {"query": QUERY, "partitions": partitions}
        workshop.add_model(name, source=source, **AGAIN)
    workshop.add_rows(FEW_ROWS, "halved")
    workshop.add_model(
        "halved",
        source={
            "connection": "files",
            "query": "SELECT id, a, b, c FROM halved",
            "partitions": {"column": "id", "count": 2},
        },
        sink={"connection": "late_sink"},
        **AGAIN,
    )
    workshop.metadata = postgres.new_database()
    with (
        workshop.ready(),
        celery_settings(workshop) as settings,
        running_airflow(workshop, {**settings, **SAME_DAGS}, workers=2) as running,
    ):
        running.wait(lambda: set(workshop.models) <= set(running.api.dag_ids()), "parsing")
        running.wait(lambda: all(" ready." in log for log in worker_logs(workshop)), "two workers")
        yield running


def late_sink(workshop: Workshop) -> Path:
    """In a folder that is not there: nothing can be written until somebody makes it."""
    return workshop.folder / "missing" / "sink.db"


def worker_logs(workshop: Workshop) -> list[str]:
    return [(workshop.folder / f"worker-{number}.log").read_text() for number in range(2)]


def predictions(database: ServerDatabase, model: str) -> list[tuple[Any, ...]]:
    return database.rows(f"SELECT id, prediction, probability_stays FROM {model}_predictions ORDER BY id")


def mapped(airflow: RunningAirflow, dag_id: str, run_id: str, task_id: str) -> list[dict[str, Any]]:
    """The instances of a mapped task, by index."""
    path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/listMapped"
    found: list[dict[str, Any]] = airflow.call("GET", path)["task_instances"]
    return sorted(found, key=lambda task: task["map_index"])


def test_partitions_over_two_workers_give_what_one_process_gives(
    airflow: RunningAirflow, rows: ServerDatabase
) -> None:
    workshop = airflow.workshop
    workshop.run(workshop.dispatch("whole"))
    run_id = airflow.trigger("parts")
    assert airflow.wait_for_run("parts", run_id) == "success", airflow.logs()
    assert predictions(rows, "parts") == predictions(rows, "whole")
    assert len(predictions(rows, "parts")) == ROWS

    tasks = mapped(airflow, "parts", run_id, "infer")
    assert [task["rendered_map_index"] for task in tasks] == [
        "id before 501",
        "id from 501 to before 1001",
        "id from 1001 to before 1501",
        "id from 1501",
    ]
    record = workshop.record(dispatch_id("parts", run_id))
    assert (record.state, record.rows_collected, record.rows_persisted) == ("succeeded", ROWS, ROWS)
    assert all("received" in log for log in worker_logs(workshop))


def test_a_failed_partition_is_tried_again_alone(airflow: RunningAirflow, rows: ServerDatabase) -> None:
    run_id = airflow.trigger("gated")
    wanted = dispatch_id("gated", run_id)

    def has_failed() -> bool:
        events = airflow.workshop.events(wanted)
        return any(event.kind == "failed" and event.partition_number == 1 for event in events)

    airflow.wait(has_failed, "the failure of a partition")
    rows.execute("DELETE FROM gate WHERE n = -2")
    assert airflow.wait_for_run("gated", run_id) == "success", airflow.logs()
    tries = [task["try_number"] for task in mapped(airflow, "gated", run_id, "collect")]
    assert tries[0] == 1
    assert tries[1] > 1
    assert [row[0] for row in predictions(rows, "gated")] == list(range(1, ROWS + 1))


def test_a_run_passes_its_rows_through_the_bucket_and_a_retry_finds_them_there(
    airflow: RunningAirflow, s3: S3Server
) -> None:
    workshop, sink = airflow.workshop, late_sink(airflow.workshop)
    run_id = airflow.trigger("halved")
    wanted = dispatch_id("halved", run_id)

    def has_failed() -> bool:
        return any((event.step, event.kind) == ("persist", "failed") for event in workshop.events(wanted))

    airflow.wait(has_failed, "the failure of persist")
    staged = s3.objects(f"rows/halved/{wanted}/")
    steps = sorted(key.rpartition("/")[2].partition("-")[0] for key in staged if key.endswith(".arrow"))
    assert steps == ["collect.0", "collect.1", "infer.0", "infer.1"]
    assert not (workshop.home / "staging").exists()
    workshop.in_source("DROP TABLE halved")  # from here on rows can only come out of the bucket
    sink.parent.mkdir()
    assert airflow.wait_for_run("halved", run_id) == "success", airflow.logs()

    with contextlib.closing(sqlite3.connect(sink)) as database:
        found = database.execute("SELECT id, dispatch_id FROM halved_predictions ORDER BY id").fetchall()
    assert found == [(number, wanted) for number in range(1, FEW_ROWS + 1)]
    assert airflow.task("halved", run_id, "persist")["try_number"] > 1
    record = workshop.record(wanted)
    assert record.state == "succeeded"
    assert (record.rows_collected, record.rows_persisted) == (FEW_ROWS, FEW_ROWS)
    left = s3.objects(f"rows/halved/{wanted}/")
    assert left
    assert all(key.endswith(".json") for key in left)


@pytest.mark.long
def test_a_worker_killed_in_the_middle_costs_time_and_no_row(
    airflow: RunningAirflow, rows: ServerDatabase
) -> None:
    """Last: one worker is gone afterwards, and the scheduler is as impatient as it is with no other test."""
    airflow.environment = {**airflow.environment, **queued_again(20), **lost_task_fails(20)}
    processes.stop(airflow.workshop.folder, lambda _: None, "scheduler")
    airflow.start("scheduler")
    with contextlib.closing(rows.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT GET_LOCK('held', 0)")
        run_id = airflow.trigger("killed")
        kill_first_collect(airflow, run_id)
    assert airflow.wait_for_run("killed", run_id) == "success", airflow.logs()
    assert predictions(rows, "killed") == predictions(rows, "whole")
    record = airflow.workshop.record(dispatch_id("killed", run_id))
    assert (record.rows_collected, record.rows_persisted) == (ROWS, ROWS)
    assert record.tries > 1


def kill_first_collect(airflow: RunningAirflow, run_id: str) -> None:
    """Kill -9 the worker that reads the first partition, and all that it has begun."""

    def first_collect() -> int | None:
        tasks = mapped(airflow, "killed", run_id, "collect")
        return tasks[0]["pid"] if tasks and tasks[0]["state"] == "running" else None

    pid = airflow.wait(first_collect, "the partition that is held back")
    worker = os.getsid(pid)
    ours = processes.find(airflow.workshop.folder)
    assert any(process.pid == worker and process.component.startswith("worker-") for process in ours)
    for process in ours:
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(process.pid) == worker:
                os.kill(process.pid, signal.SIGKILL)
