"""Staging on an object store in a real Airflow: the tasks of a run hand each other rows through a bucket."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_plugin.events.migrating import upgrade
from mlops_plugin.pipeline.dispatch import dispatch_id
from support.airflow_process import RunningAirflow, running_airflow
from support.s3_server import BUCKET, S3Server, start_s3
from support.servers import Server
from support.workshop import Workshop

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

_ROWS = 40


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A store that Airflow's processes will know: they inherit this one's environment."""
    with start_s3() as server:
        server.enter(monkeypatch)
        yield server


@pytest.fixture
def sink(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sink's file, in a folder that is not there: nothing can be written until somebody makes it."""
    path = workshop.folder / "missing" / "sink.db"
    workshop.connections["sink"] = f"sqlite:///{path}"
    monkeypatch.setenv("AIRFLOW_CONN_SINK", workshop.connections["sink"])
    return path


@pytest.fixture
def airflow(workshop: Workshop, postgres: Server, s3: S3Server, sink: Path) -> Iterator[RunningAirflow]:
    workshop.metadata = postgres.new_database()
    workshop.sections["staging"] = {"url": f"s3://{BUCKET}/rows"}
    workshop.add_rows(_ROWS - 5)
    workshop.add_model(
        "churn",
        source={"partitions": {"column": "id", "count": 2}},
        retries=100,
        retry_delay="2s",
        retry_exponential_backoff=False,
    )
    with workshop.deployment.event_store() as store:
        upgrade(store.address)
    with running_airflow(workshop) as running:
        running.wait(lambda: "churn" in running.api.dag_ids(), "parsing")
        yield running


def test_a_run_passes_its_rows_through_the_bucket_and_a_retry_finds_them_there(
    airflow: RunningAirflow, s3: S3Server, sink: Path
) -> None:
    workshop = airflow.workshop
    run_id = airflow.trigger("churn")
    wanted = dispatch_id("churn", run_id)

    def has_failed() -> bool:
        return any((event.step, event.kind) == ("persist", "failed") for event in workshop.events(wanted))

    airflow.wait(has_failed, "the failure of persist")
    staged = s3.objects(f"rows/churn/{wanted}/")
    steps = sorted(key.rpartition("/")[2].partition("-")[0] for key in staged if key.endswith(".arrow"))
    assert steps == ["collect.0", "collect.1", "infer.0", "infer.1"]
    assert not (workshop.home / "staging").exists()
    workshop.in_source("DROP TABLE customers")  # from here on rows can only come out of the bucket
    sink.parent.mkdir()
    assert airflow.wait_for_run("churn", run_id) == "success", airflow.logs()

    with contextlib.closing(sqlite3.connect(sink)) as predictions:
        found = predictions.execute("SELECT id, dispatch_id FROM churn_predictions ORDER BY id").fetchall()
    assert found == [(number, wanted) for number in range(1, _ROWS + 1)]
    assert airflow.task("churn", run_id, "persist")["try_number"] > 1
    record = workshop.record(wanted)
    assert (record.state, record.rows_collected, record.rows_persisted) == ("succeeded", _ROWS, _ROWS)
    left = s3.objects(f"rows/churn/{wanted}/")
    assert left
    assert all(key.endswith(".json") for key in left)
