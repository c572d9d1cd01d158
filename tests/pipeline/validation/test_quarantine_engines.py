"""The quarantine on every engine: keys of several types, stored once, released by key; servers that die."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest

from mlops_plugin.errors import DatabaseError
from mlops_plugin.pipeline.dispatch import Dispatch
from support.servers import ServerDatabase, free_port
from support.workshop import Workshop

RULE = {"columns": {"a": {"type": "number", "nullable": False, "max": 100}}}
KEY = ["name", "day", "size", "at"]
# Two names that a collation may take for one, and a value with what joins the parts of a key.
ROWS = (
    ("Zoë", "2026-01-01", "1.50", "2026-01-01 10:00:00.000001", "NULL"),
    ("zoe", "2026-01-01", "1.50", "2026-01-01 10:00:00.000001", "1"),
    ("a/b", "2026-01-02", "2.25", "2026-01-01 10:00:00", "900"),
    ("O'Brien 🚂", "2026-01-02", "-2.25", "2026-01-01 10:00:00", "900"),
    ("", "2026-01-03", "0", "2026-01-01 10:00:00", "2"),
)


def fill(database: ServerDatabase) -> None:
    mysql = database.engine == "mysql"
    real, moment = ("DOUBLE", "DATETIME(6)") if mysql else ("DOUBLE PRECISION", "TIMESTAMP(6)")
    text = "VARCHAR(80) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin" if mysql else "VARCHAR(80)"
    database.execute(
        f"CREATE TABLE visits (name {text}, day DATE, size DECIMAL(8,2), at {moment}, "
        f"a {real}, b {real}, c {real})"
    )
    for name, day, size, at, a in ROWS:
        escaped = name.replace("'", "''")
        database.execute(f"INSERT INTO visits VALUES ('{escaped}', '{day}', {size}, '{at}', {a}, 0, 0)")


@pytest.fixture
def server_workshop(on_server: tuple[Workshop, ServerDatabase]) -> tuple[Workshop, ServerDatabase]:
    """The same with rows and a model."""
    workshop, database = on_server
    fill(database)
    described(workshop)
    return workshop, database


def described(workshop: Workshop) -> None:
    query = "SELECT name, day, size, at, a, b, c FROM visits"
    workshop.add_model("churn", key=KEY, source={"query": query}, input=RULE, error_threshold=3)


def records(database: ServerDatabase, columns: str) -> list[tuple[object, ...]]:
    return sorted(database.rows(f"SELECT {columns} FROM churn_predictions_quarantine"), key=str)


def test_rejected_keys_are_stored_once_and_released_when_they_are_predicted(
    server_workshop: tuple[Workshop, ServerDatabase],
) -> None:
    workshop, database = server_workshop
    first = workshop.dispatch()
    workshop.run(first)
    workshop.run(first)
    assert records(database, "name, column_name, reason, released_by") == sorted(
        [
            ("Zoë", "a", "missing", None),
            ("a/b", "a", "above 100", None),
            ("O'Brien 🚂", "a", "above 100", None),
        ],
        key=str,
    )
    database.execute("UPDATE visits SET a = 1 WHERE a = 900 OR a IS NULL")
    database.execute("UPDATE visits SET a = 901 WHERE size = 2.25")
    second = workshop.dispatch(is_quarantined=True)
    workshop.run(second)
    record = workshop.record(second.id)
    assert (record.rows_collected, record.rows_predicted, record.rows_rejected) == (3, 2, 1)
    assert records(database, "name, dispatch_id, released_by") == sorted(
        [
            ("Zoë", first.id, second.id),
            ("O'Brien 🚂", first.id, second.id),
            ("a/b", first.id, None),
            ("a/b", second.id, None),
        ],
        key=str,
    )
    assert database.rows("SELECT COUNT(*) FROM churn_predictions") == [(4,)]


def test_the_columns_of_the_key_keep_their_types(server_workshop: tuple[Workshop, ServerDatabase]) -> None:
    workshop, database = server_workshop
    workshop.run(workshop.dispatch())
    condition = "name = 'Zoë' AND day = DATE '2026-01-01' AND size = 1.5"
    found = database.rows(f"SELECT day, size, at FROM churn_predictions_quarantine WHERE {condition}")
    expected = database.rows("SELECT day, size, at FROM visits WHERE name = 'Zoë'")
    assert found == expected


def test_a_server_that_is_down_and_holds_the_quarantine_loses_and_doubles_nothing(
    workshop: Workshop, mariadb_database: ServerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(sqlite3.connect(workshop.folder / "source.db")) as source, source:
        source.execute("UPDATE customers SET a = NULL WHERE id = 2")
    workshop.add_model("churn", input=RULE, error_threshold=1, quarantine={"connection": "bad"})
    down = replace(mariadb_database, port=free_port())
    monkeypatch.setenv("AIRFLOW_CONN_BAD", down.airflow_uri())
    dispatch = workshop.dispatch()
    with pytest.raises(DatabaseError, match="connection 'bad'"):
        workshop.run(dispatch)
    assert not (workshop.folder / "sink.db").exists()
    monkeypatch.setenv("AIRFLOW_CONN_BAD", mariadb_database.airflow_uri())
    workshop.run_steps(dispatch, "persist")
    assert [row["id"] for row in workshop.predictions()] == [1, 3, 4, 5]
    assert records(mariadb_database, "id, reason") == [(2, "missing")]


# It kills itself: another process might be given no turn before this one has ended.
_INFER = """
import os, signal, sys
from pathlib import Path
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.runner import run_step
from support.workshop import Workshop
workshop = Workshop.again(Path(sys.argv[1]))
dispatch = Dispatch(id=sys.argv[2], model=workshop.model(), origin="terminal")
staged = workshop.home / "staging" / "churn" / dispatch.id

def inferred(_rows):
    if any(file.stat().st_size > 100_000 for file in staged.glob("infer-*.arrow")):
        os.kill(os.getpid(), signal.SIGKILL)

query = dispatch.model.source.query
run_step("infer", dispatch, workshop.deployment, query=lambda: query, on_rows=inferred)
"""


@pytest.mark.slow
def test_infer_killed_in_the_middle_leaves_nothing_that_the_next_try_takes_for_its_own(
    workshop: Workshop,
) -> None:
    with contextlib.closing(sqlite3.connect(workshop.folder / "source.db")) as source, source:
        source.execute("DELETE FROM customers")
        source.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) "
            "INSERT INTO customers SELECT i, CASE WHEN i % 10 = 0 THEN NULL ELSE i % 90 END, 1, 1 FROM n"
        )
    workshop.add_model("churn", input=RULE, error_threshold="10%", source={"batch_rows": 1000})
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["plugins", "tests"])}
    infer = subprocess.run(
        [sys.executable, "-c", _INFER, str(workshop.folder), dispatch.id],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    assert infer.returncode == -signal.SIGKILL
    retried = Dispatch(id=dispatch.id, model=workshop.model(), origin="terminal")
    workshop.run_steps(retried, "infer", "persist")
    record = workshop.record(dispatch.id)
    assert (record.rows_predicted, record.rows_rejected, record.rows_persisted) == (180_000, 20_000, 180_000)
    with contextlib.closing(sqlite3.connect(workshop.folder / "sink.db")) as sink:
        stored = "SELECT COUNT(DISTINCT id), COUNT(*), SUM(id % 10 = 0) FROM "
        assert sink.execute(f"{stored} churn_predictions_quarantine").fetchone() == (20_000, 20_000, 20_000)
        assert sink.execute(f"{stored} churn_predictions").fetchone() == (180_000, 180_000, 0)
