"""A model with a cursor in a real Airflow: by hand, again, cleared, and as a backfill."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

import pytest

from mlops_plugin.events.marks import newest_mark
from mlops_plugin.pipeline.dispatch import dispatch_id
from support.airflow_process import RunningAirflow, running_airflow
from support.servers import Server
from support.workshop import Workshop

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

TIMES = ("2026-01-31 23:59:59", "2026-02-01 00:00:00", "2026-02-02 12:00:00.5", "2026-02-03 00:00:00")


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, postgres: Server) -> Iterator[RunningAirflow]:
    workshop = Workshop(tmp_path_factory.mktemp("incremental"))
    workshop.metadata = postgres.new_database()
    with source(workshop) as rows:
        rows.execute("CREATE TABLE arrivals (id INTEGER, a REAL, b REAL, c REAL, changed TIMESTAMP)")
    arrive(workshop, *enumerate(TIMES, 1))
    cursor = {"column": "changed", "lag": "1h"}
    workshop.add_model(
        "churn",
        schedule="@daily",
        start_date="2026-01-01",
        source={"query": "SELECT * FROM arrivals", "cursor": cursor},
    )
    with workshop.ready(), running_airflow(workshop) as running:
        running.wait(lambda: "churn" in running.api.dag_ids(), "parsing")
        yield running


@contextlib.contextmanager
def source(workshop: Workshop) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(workshop.folder / "source.db", timeout=60)) as rows, rows:
        yield rows


def arrive(workshop: Workshop, *rows: tuple[int, str]) -> None:
    with source(workshop) as found:
        found.executemany("INSERT INTO arrivals VALUES (?, 1, 2, 3, ?)", rows)


def mark(airflow: RunningAirflow) -> str | None:
    with airflow.workshop.deployment.event_store() as store:
        found = newest_mark(store, "churn")
    return found.value if found else None


def dispatched(airflow: RunningAirflow) -> tuple[str, int | None]:
    """The run id of a manual run that succeeded, and how many rows it read."""
    run_id = airflow.trigger("churn")
    assert airflow.wait_for_run("churn", run_id) == "success", airflow.logs()
    return run_id, airflow.workshop.record(dispatch_id("churn", run_id)).rows_collected


def test_runs_read_what_is_new_and_a_backfill_its_interval(airflow: RunningAirflow) -> None:
    first, _ = dispatched(airflow)
    airflow.wait(  # the one that the scheduler starts for yesterday
        lambda: ("scheduled", "succeeded") in [(r.origin, r.state) for r in airflow.workshop.records()],
        "the scheduled dispatch",
    )
    assert mark(airflow) == "2026-02-03 00:00:00"
    assert len(airflow.workshop.predictions()) == 4
    arrive(airflow.workshop, (5, "2026-02-02 23:30:00"), (6, "2026-02-02 22:00:00"), (7, "2026-02-04"))
    _, rows = dispatched(airflow)
    assert rows == 3  # the last one again, one that is late, one that is new; the other one is too late
    assert mark(airflow) == "2026-02-04 00:00:00"

    records = airflow.backfill("churn", "2026-02-01", "2026-02-02")
    read = {str(record.data_interval_start)[:10]: record.rows_collected for record in records}
    assert read == {"2026-02-01": 1, "2026-02-02": 3}
    assert mark(airflow) == "2026-02-04 00:00:00"
    assert [row["id"] for row in airflow.workshop.predictions()] == [1, 2, 3, 4, 5, 6, 7]

    clear(airflow, first)
    record = airflow.workshop.record(dispatch_id("churn", first))
    assert (record.state, mark(airflow)) == ("succeeded", "2026-02-04 00:00:00")
    assert len(airflow.workshop.predictions()) == 7


def clear(airflow: RunningAirflow, run_id: str) -> None:
    """Run all tasks of a run again, and wait for their success."""
    body = {"dag_run_id": run_id, "only_failed": False, "dry_run": False}
    airflow.call("POST", "/dags/churn/clearTaskInstances", body)
    airflow.wait(lambda: airflow.task("churn", run_id, "persist")["try_number"] == 2, "the second try")
    assert airflow.wait_for_run("churn", run_id) == "success", airflow.logs()
