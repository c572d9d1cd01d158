"""Golden rows through the column types of a real server's query: written, read back, and answered alike."""

from __future__ import annotations

import hashlib
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import joblib
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mlops_plugin.cli import main
from mlops_plugin.formats.signature.signature_writer import write_signature
from support.ways_in import WayIn
from support.workshop import Workshop

pytestmark = pytest.mark.slow

Captured = pytest.CaptureFixture[str]

TYPES = {
    "city": {"mysql": "VARCHAR(20) CHARACTER SET utf8mb4", "postgres": "TEXT", "sqlite": "TEXT"},
    "visits": {"mysql": "TINYINT UNSIGNED", "postgres": "SMALLINT", "sqlite": "INTEGER"},
    "spend": {"mysql": "DOUBLE", "postgres": "DOUBLE PRECISION", "sqlite": "REAL"},
    "price": {"mysql": "DECIMAL(10,2)", "postgres": "NUMERIC(10,2)", "sqlite": "TEXT"},
    "since": {"mysql": "DATETIME(6)", "postgres": "TIMESTAMP", "sqlite": "TIMESTAMP"},
    "opens": {"mysql": "TIME(6)", "postgres": "TIME", "sqlite": "TEXT"},
    "closes": {"mysql": "TIME", "postgres": "TIME(0)", "sqlite": "TEXT"},
    "day": {"mysql": "DATE", "postgres": "DATE", "sqlite": "TEXT"},
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
            "price": pd.Series([Decimal("1.50"), Decimal("-12345678.91"), None] * 10, dtype=object),
            "since": pd.Series(moments).astype("datetime64[us]"),
            "opens": pd.Series([time(9, 30), time(23, 59, 59, 999999), None] * 10, dtype=object),
            "closes": pd.Series([time(0), time(18), time(23, 59, 59)] * 10, dtype=object),
            "day": pd.Series([date(2026, 1, 1), date(1, 1, 1), None] * 10, dtype=object),
            "member": [True, False, False] * 10,
        }
    )


def prepare(
    workshop: Workshop,
    way: WayIn,
    rows: pd.DataFrame,
    types: dict[str, dict[str, str]],
    *,
    isolation: str = "none",
) -> None:
    """A table, and a model that was trained on such rows; only some tests pay for a process of its own."""
    columns = ", ".join(f"{name} {kinds[way.engine]}" for name, kinds in types.items())
    way.execute(f"CREATE TABLE shop (id INTEGER PRIMARY KEY, {columns})")
    first = "'2026-01-05 00:00:00'" if "since" in types else "NULL"
    values = {
        "city": "'Rome'",
        "visits": "1",
        "spend": "0.5",
        "price": "'1.50'",
        "since": first,
        "member": "TRUE",
    }
    values |= {"opens": "'09:30:00'", "closes": "'18:00:00'", "day": "'2026-01-05'"}
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
            "isolation": isolation,
        },
        source={"query": "SELECT * FROM shop"},
    )


def test_every_value_comes_back_as_in_training(
    workshop: Workshop, way: WayIn, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SOURCE", way.airflow_connection)
    prepare(workshop, way, training(), TYPES, isolation="process")
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


@pytest.mark.parametrize("way", ["odbc-mariadb", "postgres"], indirect=True)
def test_columns_that_arrow_holds_come_back_as_in_training(
    workshop: Workshop, way: WayIn, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SOURCE", way.airflow_connection)
    held = pa.Table.from_pandas(training()).to_pandas(types_mapper=pd.ArrowDtype)
    assert all(isinstance(kind, pd.ArrowDtype) for kind in held.dtypes)
    prepare(workshop, way, held, TYPES, isolation="process")
    assert main(["check", "--round-trip", "shop"]) == 0, capsys.readouterr().out
    assert "30 of 30 golden rows through a temporary table" in capsys.readouterr().out


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


SHARES = pd.DataFrame({"share": [0.1, 0.2, 0.3, 0.5] * 10})  # 0.1 is 0.10000000149 in four bytes


@pytest.mark.parametrize("way", ["mysql", "odbc-postgres"], indirect=True)
@pytest.mark.parametrize(
    ("first", "is_right"), [(OneHotEncoder(handle_unknown="ignore"), False), (StandardScaler(), True)]
)
def test_a_column_that_rounds_the_numbers_of_training_stops_a_model_that_minds(
    first: Any,
    is_right: bool,
    workshop: Workshop,
    way: WayIn,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """pandas reads 0.1 of a FLOAT: MySQL's and PostgreSQL's clients get it as text."""
    monkeypatch.setenv("AIRFLOW_CONN_SOURCE", way.airflow_connection)
    way.execute("CREATE TABLE shop (id INTEGER PRIMARY KEY, share FLOAT(24))")
    way.fill("shop", [(number, share) for number, share in enumerate(SHARES.share[:4])])
    model = make_pipeline(first, LinearRegression()).fit(SHARES, 10 * SHARES.share)
    file = workshop.folder / "shop.joblib"
    joblib.dump(model, file)
    write_signature(model, SHARES, file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    entry = {"format": "joblib", "uri": "shop.joblib", "sha256": sha256, "isolation": "none"}
    workshop.add_model("shop", model=entry, source={"query": "SELECT * FROM shop ORDER BY id"})
    assert main(["dispatch", "shop"]) == (0 if is_right else 1)
    if is_right:
        found = [row["prediction"] for row in workshop.predictions("shop_predictions")]
        assert found == pytest.approx([1, 2, 3, 5])
    else:
        assert "the query's columns of four bytes are the cause (share)" in capsys.readouterr().err


ADVICE = "CAST(opens AS TIME(6)), or a text such as '09:30:00'"


def test_the_advice_about_a_time_of_day_works(
    workshop: Workshop, way: WayIn, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SOURCE", way.airflow_connection)
    types = {name: TYPES[name] for name in ("opens", "spend")}
    isolation = "process" if way.name == "mysql" else "none"  # a dispatch in a process is the same for all
    prepare(workshop, way, training()[["opens", "spend"]], types, isolation=isolation)
    moment = {"mysql": "TIMESTAMP('2026-01-05 09:30:00')", "postgres": "TIMESTAMP '2026-01-05 09:30:00'"}
    query = f"SELECT id, {moment.get(way.engine, '1767605400')} AS opens, spend FROM shop"
    workshop.add_model("shop", model=workshop.models["shop"]["model"], source={"query": query})
    assert main(["check", "--connect", "shop"]) == 1
    assert ADVICE in capsys.readouterr().out
    is_text = way.engine == "sqlite"
    cast = "strftime('%H:%M:%S', opens, 'unixepoch')" if is_text else "CAST(opens AS TIME(6))"
    query = f"SELECT id, {cast} AS opens, spend FROM ({query}) asked"
    workshop.add_model("shop", model=workshop.models["shop"]["model"], source={"query": query})
    assert main(["check", "--round-trip", "shop"]) == 0, capsys.readouterr().out
    assert main(["dispatch", "shop"]) == 0
    (row,) = workshop.predictions("shop_predictions")
    assert row["prediction"] == "time datetime.time(9, 30); float 0.5"


@pytest.mark.parametrize("way", ["sqlite"], indirect=True)
def test_a_double_is_no_decimal_and_the_advice_works_on_sqlite(
    workshop: Workshop, way: WayIn, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrow casts the double 1.5 to the decimal 2."""
    monkeypatch.setenv("AIRFLOW_CONN_SOURCE", way.airflow_connection)
    prepare(workshop, way, training()[["price"]], {"price": {"sqlite": "DECIMAL(10,2)"}})
    assert main(["check", "--connect", "shop"]) == 1
    assert "CAST(price AS TEXT) on SQLite" in capsys.readouterr().out
    assert main(["dispatch", "shop"]) == 1
    model = workshop.models["shop"]["model"]
    query = "SELECT id, CAST(price AS TEXT) AS price FROM shop"
    workshop.add_model("shop", model=model, source={"query": query})
    assert main(["check", "--round-trip", "shop"]) == 0, capsys.readouterr().out
    assert main(["dispatch", "shop"]) == 0
    (row,) = workshop.predictions("shop_predictions")
    assert row["prediction"] == "Decimal Decimal('1.5')"


def test_a_time_outside_of_a_day_is_refused_with_its_column(
    workshop: Workshop, way: WayIn, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SOURCE", way.airflow_connection)
    prepare(workshop, way, training()[["opens"]], {"opens": TYPES["opens"]})
    if way.engine == "postgres":
        return  # its type knows no such time
    way.execute("INSERT INTO shop VALUES (2, '30:00:00')")
    assert main(["dispatch", "shop"]) == 1
    assert "'opens'" in capsys.readouterr().err
    assert workshop.in_sink("SELECT name FROM sqlite_master WHERE name = 'shop_predictions'") == []
