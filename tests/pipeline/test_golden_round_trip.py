"""Golden rows through the column types of a real server's query: written, read back, and answered alike."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

import joblib
import pandas as pd
import pytest

from mlops_plugin.cli import main
from mlops_plugin.formats.signature.signature_writer import write_signature
from support.ways_in import WayIn
from support.workshop import Workshop

Captured = pytest.CaptureFixture[str]

TYPES = {
    "city": {"mysql": "VARCHAR(20) CHARACTER SET utf8mb4", "postgres": "TEXT", "sqlite": "TEXT"},
    "visits": {"mysql": "TINYINT UNSIGNED", "postgres": "SMALLINT", "sqlite": "INTEGER"},
    "spend": {"mysql": "DOUBLE", "postgres": "DOUBLE PRECISION", "sqlite": "REAL"},
    "since": {"mysql": "DATETIME(6)", "postgres": "TIMESTAMP", "sqlite": "TIMESTAMP"},
    "member": {"mysql": "BOOLEAN", "postgres": "BOOLEAN", "sqlite": "BOOLEAN"},
}


class Spells:
    """Answers with every value that it sees, and its type."""

    def predict(self, rows: pd.DataFrame) -> Any:
        columns = [[f"{type(value).__name__} {value!r}" for value in rows[name]] for name in rows]
        return ["; ".join(values) for values in zip(*columns, strict=True)]


def training() -> pd.DataFrame:
    moments = [datetime(2026, 1, 1), datetime(2026, 3, 29, 2, 30, 0, 123456), None] * 10
    return pd.DataFrame(
        {
            "city": pd.Series(["Rome", "Zürich", None] * 10, dtype=object),
            "visits": [1, 255, 100] * 10,
            "spend": [0.1, -2.5e300, 1 / 3] * 10,
            "since": pd.Series(moments).astype("datetime64[us]"),
            "member": [True, False, False] * 10,
        }
    )


def prepare(workshop: Workshop, way: WayIn, rows: pd.DataFrame, types: dict[str, dict[str, str]]) -> None:
    columns = ", ".join(f"{name} {kinds[way.engine]}" for name, kinds in types.items())
    way.execute(f"CREATE TABLE shop (id INTEGER PRIMARY KEY, {columns})")
    first = "'2026-01-05 00:00:00'" if "since" in types else "NULL"
    values = {"city": "'Rome'", "visits": "1", "spend": "0.5", "since": first, "member": "TRUE"}
    way.execute(f"INSERT INTO shop VALUES (1, {', '.join(values[name] for name in types)})")
    file = workshop.folder / "shop.joblib"
    joblib.dump(Spells(), file)
    write_signature(Spells(), rows, file)
    workshop.add_model(
        "shop",
        model={
            "format": "joblib",
            "uri": "shop.joblib",
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        },
        source={"query": "SELECT * FROM shop"},
    )


def test_every_value_comes_back_as_in_training(
    workshop: Workshop, way: WayIn, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SOURCE", way.airflow_connection)
    prepare(workshop, way, training(), TYPES)
    assert main(["check", "--round-trip", "shop"]) == 0, capsys.readouterr().out
    printed = capsys.readouterr().out
    assert "ok    models.shop.round_trip: 30 of 30 golden rows through a temporary table" in printed
    assert way.rows("SELECT count(*) FROM shop") == [(1,)]
    leftover = {
        "mysql": "SHOW TABLES LIKE 'mlops%'",
        "postgres": "SELECT relname FROM pg_class WHERE relname LIKE 'mlops%'",
        "sqlite": "SELECT name FROM sqlite_master WHERE name LIKE 'mlops%'",
    }
    assert way.rows(leftover[way.engine]) == []


def test_a_type_that_changes_values_is_found(
    workshop: Workshop, way: WayIn, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL fills a CHAR(n) with blanks; the others give back what was written."""
    monkeypatch.setenv("AIRFLOW_CONN_SOURCE", way.airflow_connection)
    fixed = {"city": dict.fromkeys(("mysql", "postgres", "sqlite"), "CHAR(8)")}
    prepare(workshop, way, training()[["city"]], fixed)
    status = main(["check", "--round-trip", "shop"])
    printed = capsys.readouterr().out
    if way.engine == "postgres":
        assert status == 1
        assert "WRONG models.shop.round_trip" in printed
        assert "column 'prediction': expected \"str 'Rome'\", found \"str 'Rome    '\"" in printed
    else:
        assert status == 0, printed


def test_rows_without_room_in_the_querys_types_are_left_out(
    workshop: Workshop, way: WayIn, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SOURCE", way.airflow_connection)
    rows = pd.DataFrame({"visits": [1, 2, 2**62] * 10})
    prepare(workshop, way, rows, {"visits": TYPES["visits"]})
    assert main(["check", "--round-trip", "shop"]) == 0
    kept = 30 if way.engine == "sqlite" else 20
    assert f"{kept} of 30 golden rows through a temporary table" in capsys.readouterr().out
