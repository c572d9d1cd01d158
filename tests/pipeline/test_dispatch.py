"""A dispatch from the source's rows to the sink's, with its record: one process, the real steps."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys

import pytest

from mlops_plugin.errors import (
    ArtifactError,
    ConnectionUnusable,
    DatabaseError,
    EventStoreError,
    FeatureError,
    KeyColumnError,
    MlopsError,
    SinkError,
    StagingError,
    TemplateError,
    UnsupportedType,
)
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.recording.step_record import Attempt
from mlops_plugin.pipeline.runner import run_step
from support.workshop import Workshop


def test_predictions_arrive_with_key_and_provenance(workshop: Workshop) -> None:
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    rows = workshop.predictions()
    record = workshop.record(dispatch.id)
    assert [row["id"] for row in rows] == [1, 2, 3, 4, 5]
    assert {row["dispatch_id"] for row in rows} == {dispatch.id}
    assert {row["model"] for row in rows} == {"churn"}
    assert {row["artifact_sha256"] for row in rows} == {record.artifact_sha256}
    assert all(abs(row["probability_leaves"] + row["probability_stays"] - 1) < 1e-12 for row in rows)
    assert {row["prediction"] for row in rows} <= {"leaves", "stays"}


def test_record_accounts_for_every_row_and_names_what_ran(workshop: Workshop) -> None:
    dispatch = workshop.dispatch(requested_by="ann")
    workshop.run(dispatch)
    record = workshop.record(dispatch.id)
    assert record.state == "succeeded"
    assert (record.rows_collected, record.rows_predicted, record.rows_rejected, record.rows_persisted) == (
        5,
        5,
        0,
        5,
    )
    assert (record.first_key, record.last_key) == ({"id": 1}, {"id": 5})
    assert record.query == dispatch.model.source.query
    assert record.config_sha256 == dispatch.model.config_hash()
    assert record.requested_by == "ann"
    assert [column["name"] for column in record.columns or []] == ["id", "a", "b", "c"]


def test_every_step_leaves_started_and_succeeded(workshop: Workshop) -> None:
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    steps = [(event.step, event.kind) for event in workshop.events(dispatch.id) if event.step]
    assert steps == [
        ("collect", "started"),
        ("collect", "succeeded"),
        ("log", "started"),
        ("log", "logged"),
        ("log", "succeeded"),
        ("infer", "started"),
        ("infer", "succeeded"),
        ("persist", "started"),
        ("persist", "succeeded"),
    ]


def test_rows_leave_staging_after_success_and_stay_after_failure(workshop: Workshop) -> None:
    staging = workshop.home / "staging" / "churn"
    workshop.run(workshop.dispatch())
    assert list(staging.glob("*/*.arrow")) == []
    workshop.add_model("churn", sink={"create": False, "table": "missing"})
    failing = workshop.dispatch()
    with pytest.raises(SinkError):
        workshop.run(failing)
    assert {rows.parent.name for rows in staging.glob("*/*.arrow")} == {failing.id}


@pytest.mark.parametrize("mode", ["append", "upsert", "replace"])
def test_every_step_run_twice_gives_the_same_rows_once(workshop: Workshop, mode: str) -> None:
    workshop.add_model("churn", sink={"mode": mode})
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log", "infer", "collect", "log", "infer")
    workshop.run(dispatch)
    once = workshop.predictions()
    workshop.run(dispatch)  # a cleared run
    twice = workshop.predictions()
    assert [row["id"] for row in once] == [row["id"] for row in twice] == [1, 2, 3, 4, 5]
    assert workshop.record(dispatch.id).state == "succeeded"


def test_failed_sink_is_retried_from_staging_without_the_source(workshop: Workshop) -> None:
    workshop.add_model("churn", sink={"create": False})
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log", "infer")
    with pytest.raises(SinkError, match="churn_predictions"):
        run_step("persist", dispatch, workshop.deployment, attempt=Attempt(1, is_final=False))
    assert workshop.record(dispatch.id).state == "running"
    with contextlib.closing(sqlite3.connect(workshop.folder / "source.db")) as source:
        source.execute("DROP TABLE customers")
    workshop.add_model("churn")
    retried = workshop.dispatch()
    retried = Dispatch(id=dispatch.id, model=retried.model, origin="terminal")
    run_step("persist", retried, workshop.deployment, attempt=Attempt(2))
    assert len(workshop.predictions()) == 5
    assert workshop.record(dispatch.id).state == "succeeded"


def test_dry_run_does_everything_but_write(workshop: Workshop) -> None:
    dispatch = workshop.dispatch(is_dry_run=True)
    workshop.run(dispatch)
    record = workshop.record(dispatch.id)
    assert (record.state, record.dry_run, record.rows_predicted, record.rows_persisted) == (
        "succeeded",
        True,
        5,
        0,
    )
    assert not (workshop.folder / "sink.db").exists()


def test_row_limit_takes_that_many_rows(workshop: Workshop) -> None:
    workshop.run(workshop.dispatch(row_limit=2))
    assert [row["id"] for row in workshop.predictions()] == [1, 2]


def test_no_rows_succeed_and_are_accounted(workshop: Workshop) -> None:
    workshop.add_model("churn", source={"query": "SELECT id, a, b, c FROM customers WHERE id < 0"})
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    record = workshop.record(dispatch.id)
    assert (record.state, record.rows_collected, record.rows_persisted) == ("succeeded", 0, 0)


def test_first_dispatch_without_rows_leaves_the_tables_types_to_the_next(workshop: Workshop) -> None:
    query = "SELECT 'k' || id AS id, a, b, c FROM customers"
    for where in (" WHERE id < 0", ""):
        workshop.add_model("churn", source={"query": query + where})
        workshop.run(workshop.dispatch())
    with contextlib.closing(sqlite3.connect(workshop.folder / "sink.db")) as sink:
        columns = {row[1]: row[2] for row in sink.execute("PRAGMA table_info(churn_predictions)")}
    assert columns["id"] == "TEXT"


def test_one_row_is_dispatched(workshop: Workshop) -> None:
    workshop.add_model("churn", source={"query": "SELECT id, a, b, c FROM customers WHERE id = 3"})
    workshop.run(workshop.dispatch())
    assert [row["id"] for row in workshop.predictions()] == [3]


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"source": {"query": "SELECT id, a, b FROM customers"}}, FeatureError, "'?c'?"),
        ({"source": {"query": "SELECT a, b, c FROM customers"}}, KeyColumnError, "no column 'id'"),
        ({"source": {"query": "SELECT NULL AS id, a, b, c FROM customers"}}, KeyColumnError, "NULL"),
        ({"source": {"query": "SELECT 1 AS id, a, b, c FROM customers"}}, KeyColumnError, "id"),
        ({"source": {"query": "SELECT id, 'x' AS a, b, c FROM customers"}}, FeatureError, "'?a'?"),
        ({"source": {"query": "SELECT * FROM nowhere"}}, DatabaseError, "nowhere"),
        ({"source": {"connection": "unknown"}}, ConnectionUnusable, "AIRFLOW_CONN_UNKNOWN"),
        ({"model": {"format": "skops", "uri": "gone.skops"}}, ArtifactError, r"gone\.skops"),
    ],
)
def test_what_is_wrong_fails_the_dispatch_and_is_recorded(
    workshop: Workshop, changes: dict[str, object], error: type[MlopsError], says: str
) -> None:
    workshop.add_model("churn", **changes)
    dispatch = workshop.dispatch()
    with pytest.raises(error, match=says):
        workshop.run(dispatch)
    record = workshop.record(dispatch.id)
    assert record.state == "failed"
    assert record.error
    assert workshop.events(dispatch.id)[-1].kind == "failed"


def test_changed_artifact_is_not_used_for_a_dispatch_that_logged_another(workshop: Workshop) -> None:
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log")
    artifact = workshop.folder / "churn.skops"
    artifact.write_bytes(artifact.read_bytes() + b"\0")  # still loads: a zip archive ends where it says
    with pytest.raises(ArtifactError, match=r"churn\.skops"):
        run_step("infer", dispatch, workshop.deployment)


def test_infer_without_log_is_refused(workshop: Workshop) -> None:
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect")
    with pytest.raises(StagingError, match=r"log\.json"):
        run_step("infer", dispatch, workshop.deployment)


def test_nothing_is_collected_that_cannot_be_recorded(workshop: Workshop) -> None:
    (workshop.folder / "events.db").unlink()
    with pytest.raises(EventStoreError, match="mlops db upgrade"):
        workshop.run(workshop.dispatch())
    assert not (workshop.home / "staging").exists()


@pytest.mark.parametrize("shared", ["source", "sink"])
def test_sqlite_file_of_the_event_store_is_refused_as_source_and_sink(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, shared: str
) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{shared.upper()}", workshop.connections["events"])
    with pytest.raises(ConnectionUnusable, match=rf"'{shared}'.*events\.db"):
        workshop.run(workshop.dispatch())


def test_interrupted_step_is_recorded_as_failed(workshop: Workshop) -> None:
    dispatch = workshop.dispatch()

    def interrupt(rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_step(
            "collect",
            dispatch,
            workshop.deployment,
            query=lambda: "SELECT * FROM customers",
            on_rows=interrupt,
        )
    assert workshop.record(dispatch.id).error == "KeyboardInterrupt"


def test_persist_again_after_success_stays_a_success(workshop: Workshop) -> None:
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    workshop.run_steps(dispatch, "persist")  # its worker died before it could say so, or it was cleared alone
    record = workshop.record(dispatch.id)
    assert (record.state, record.rows_persisted) == ("succeeded", 5)
    assert len(workshop.predictions()) == 5


def test_rows_collected_again_are_not_persisted_with_old_predictions(workshop: Workshop) -> None:
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log", "infer", "collect")
    with pytest.raises(StagingError, match="clear 'log'"):
        workshop.run_steps(dispatch, "persist")


def test_predictions_of_another_artifact_than_the_logged_one_are_not_persisted(workshop: Workshop) -> None:
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log", "infer")
    artifact = workshop.folder / "churn.skops"
    artifact.write_bytes(artifact.read_bytes() + b"\0")
    workshop.run_steps(dispatch, "log")
    with pytest.raises(StagingError, match="clear 'infer'"):
        workshop.run_steps(dispatch, "persist")


@pytest.mark.parametrize(
    "changes", [{"sink": {"table": "elsewhere"}}, {"sink": {"mode": "append"}}, {"key": ["id", "a"]}]
)
def test_configuration_that_changed_after_log_is_refused(
    workshop: Workshop, changes: dict[str, object]
) -> None:
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log", "infer")
    workshop.add_model("churn", **changes)
    changed = Dispatch(id=dispatch.id, model=workshop.model(), origin="terminal")
    with pytest.raises(StagingError, match="clear 'collect'"):
        workshop.run_steps(changed, "persist")


def test_row_limit_does_not_replace_a_table_by_a_few_rows(workshop: Workshop) -> None:
    workshop.add_model("churn", sink={"mode": "replace"})
    workshop.run(workshop.dispatch())
    with pytest.raises(SinkError, match="churn_predictions"):
        workshop.run(workshop.dispatch(row_limit=1))
    workshop.run(workshop.dispatch(row_limit=1, is_dry_run=True))
    assert len(workshop.predictions()) == 5


def test_secret_in_a_query_is_masked_in_the_record(workshop: Workshop) -> None:
    from airflow.sdk.log import mask_secret

    mask_secret("S3cr3tPassw0rd")
    query = "SELECT id, a, b, c FROM customers WHERE 'S3cr3tPassw0rd' <> ''"
    workshop.add_model("churn", source={"query": query})
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    assert workshop.record(dispatch.id).query == query.replace("S3cr3tPassw0rd", "***")
    notes = [path.read_text() for path in (workshop.home / "staging").rglob("*.json")]
    assert "S3cr3tPassw0rd" not in "".join(notes)


def test_query_that_cannot_be_rendered_is_recorded(workshop: Workshop) -> None:
    def query() -> str:
        raise TemplateError("models.churn.source.query: 'nothing' is undefined")

    dispatch = workshop.dispatch()
    with pytest.raises(TemplateError):
        run_step("collect", dispatch, workshop.deployment, query=query)
    assert "'nothing' is undefined" in (workshop.record(dispatch.id).error or "")


_INTERRUPTED = """
import os, signal, sys
from pathlib import Path
from mlops_plugin.pipeline.runner import run_step
from support.workshop import Workshop

def too_late(*_):
    raise TimeoutError("task_timeout")

def query():
    signal.alarm(1)  # a second after this, the driver is at work
    return dispatch.model.source.query

workshop = Workshop.again(Path(sys.argv[1]))
dispatch = workshop.dispatch()
signal.signal(signal.SIGALRM, too_late)
try:
    run_step("collect", dispatch, workshop.deployment, query=query)
except TimeoutError:
    print(workshop.record(dispatch.id).error, flush=True)
os._exit(0)
"""


@pytest.mark.slow
def test_timeout_ends_a_step_that_waits_inside_a_driver(workshop: Workshop) -> None:
    endless = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS id FROM n WHERE i < 0"
    )
    workshop.add_model("churn", source={"query": endless})
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED, str(workshop.folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["plugins", "tests"])},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.splitlines()[-1] == "TimeoutError: task_timeout"


def test_error_of_the_source_is_not_blamed_on_staging(workshop: Workshop) -> None:
    workshop.add_model("churn", source={"query": "SELECT id, CAST(x'ff' AS TEXT) AS a, b, c FROM customers"})
    with pytest.raises(UnsupportedType, match=r"'a' of type text.*UTF-8"):
        workshop.run(workshop.dispatch())
