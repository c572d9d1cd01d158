"""Whole dispatches on every engine: source, sink and event store, through ODBC and without."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest

from mlops_plugin.errors import DatabaseError
from support.servers import ServerDatabase, free_port
from support.workshop import Workshop

NAMES = ("Zoë", "李雷 🚂", "O'Brien; DROP TABLE customers", "")
QUERY = "SELECT id, name, a, b, c FROM customers ORDER BY id"


def fill(database: ServerDatabase) -> None:
    real = "DOUBLE" if database.engine == "mysql" else "DOUBLE PRECISION"
    database.execute(
        f"CREATE TABLE customers (id BIGINT, name VARCHAR(80), a {real}, b {real}, c {real})",
        *(
            f"INSERT INTO customers VALUES ({n}, '{escaped}', {n / 3}, {-n / 7}, 1e-3)"
            for n, escaped in enumerate((name.replace("'", "''") for name in NAMES), 1)
        ),
    )


@pytest.fixture
def server_workshop(on_server: tuple[Workshop, ServerDatabase]) -> tuple[Workshop, ServerDatabase]:
    """The same with rows and a model."""
    workshop, database = on_server
    fill(database)
    workshop.add_model("churn", key=["id", "name"], source={"query": QUERY})
    return workshop, database


@pytest.mark.parametrize("mode", ["append", "upsert", "replace"])
def test_dispatch_twice_leaves_each_key_once(
    server_workshop: tuple[Workshop, ServerDatabase], mode: str
) -> None:
    workshop, database = server_workshop
    workshop.add_model("churn", key=["id", "name"], source={"query": QUERY}, sink={"mode": mode})
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    workshop.run(dispatch)
    rows = database.rows("SELECT id, name, prediction, dispatch_id, model FROM churn_predictions ORDER BY id")
    assert [(row[0], row[1]) for row in rows] == list(enumerate(NAMES, 1))
    assert {row[2] for row in rows} <= {"stays", "leaves"}
    assert {(row[3], row[4]) for row in rows} == {(dispatch.id, "churn")}
    record = workshop.record(dispatch.id)
    assert (record.state, record.rows_persisted) == ("succeeded", len(NAMES))
    assert record.last_key == {"id": len(NAMES), "name": ""}


def test_probabilities_arrive_bit_for_bit(server_workshop: tuple[Workshop, ServerDatabase]) -> None:
    workshop, database = server_workshop
    workshop.run(workshop.dispatch())
    stored = [row[0] for row in database.rows("SELECT probability_stays FROM churn_predictions ORDER BY id")]
    features = [[n / 3, -n / 7, 1e-3] for n in range(1, len(NAMES) + 1)]
    stays = list(workshop.classifier.classes_).index("stays")
    expected = workshop.classifier.predict_proba(workshop.frame(features))[:, stays]
    assert stored == pytest.approx(expected, abs=0, rel=1e-15)


def test_table_that_disappears_between_steps_fails_in_the_drivers_words(
    server_workshop: tuple[Workshop, ServerDatabase],
) -> None:
    workshop, database = server_workshop
    database.execute("DROP TABLE customers")
    dispatch = workshop.dispatch()
    with pytest.raises(DatabaseError, match=r"connection 'source'.*customers"):
        workshop.run(dispatch)
    assert "customers" in (workshop.record(dispatch.id).error or "")


def test_password_is_in_no_record_of_a_refused_sign_in(
    server_workshop: tuple[Workshop, ServerDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop, _ = server_workshop
    uri = os.environ["AIRFLOW_CONN_SOURCE"]
    secret = "Wr0ng-and-s3cret"
    before, _, rest = uri.partition("@")
    monkeypatch.setenv("AIRFLOW_CONN_SOURCE", f"{before.rpartition(':')[0]}:{secret}@{rest}")
    dispatch = workshop.dispatch()
    with pytest.raises(DatabaseError) as raised:
        workshop.run(dispatch)
    recorded = json.dumps([str(event) for event in workshop.events(dispatch.id)])
    assert secret not in str(raised.value) + recorded


def test_server_that_is_down_fails_the_step_and_a_retry_after_its_return_succeeds(
    workshop: Workshop, mariadb_database: ServerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    down = replace(mariadb_database, port=free_port())
    monkeypatch.setenv("AIRFLOW_CONN_SINK", down.airflow_uri())
    dispatch = workshop.dispatch()
    with pytest.raises(DatabaseError, match="connection 'sink'"):
        workshop.run(dispatch)
    assert workshop.record(dispatch.id).state == "failed"
    monkeypatch.setenv("AIRFLOW_CONN_SINK", workshop.connections["sink"])
    workshop.run(dispatch)
    assert workshop.record(dispatch.id).state == "succeeded"
    assert len(workshop.predictions()) == 5


_PEAK = """
import sys
from support.workshop import Workshop
from pathlib import Path
workshop = Workshop.again(Path(sys.argv[1]))
workshop.run(workshop.dispatch())
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(status["VmHWM"].split()[0])
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(workshop: Workshop) -> None:
    peaks_mb = []
    for rows in (100_000, 1_000_000):
        with contextlib.closing(sqlite3.connect(workshop.folder / "source.db")) as source, source:
            source.execute("DELETE FROM customers")
            source.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
                "INSERT INTO customers SELECT i, i * 0.5, i * -0.25, 1.5 FROM n",
                (rows,),
            )
        paths = os.pathsep.join(["plugins", "tests", "tests/pipeline"])
        done = subprocess.run(
            [sys.executable, "-c", _PEAK, str(workshop.folder)],
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        peaks_mb.append(int(done.stdout.splitlines()[-1]) / 1024)
        assert workshop.records()[0].rows_persisted == rows
    # The million rows are 32 MB as numbers alone, more with their predictions and provenance.
    assert peaks_mb[1] - peaks_mb[0] < 40, peaks_mb
