"""Whole dispatches from a DuckDB file into a DuckDB file."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from mlops_plugin.cli import main
from mlops_plugin.errors import InputUndecided
from support.shop_code import digits
from support.ways_in import WayIn, duckdb_way
from support.workshop import Workshop

QUERY = "SELECT id, a, b, c, changed FROM customers ORDER BY id"
CURSOR = {"column": "changed", "initial": "2025-01-01"}


@pytest.fixture(params=["one file", "two files"])
def files(
    request: pytest.FixtureRequest, workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[WayIn, WayIn]:
    """Source and sink, which may be one file."""
    source = duckdb_way(tmp_path)
    sink = source
    if request.param == "two files":
        (tmp_path / "other").mkdir()
        sink = duckdb_way(tmp_path / "other")
    monkeypatch.setenv("AIRFLOW_CONN_SOURCE", source.airflow_connection)
    monkeypatch.setenv("AIRFLOW_CONN_SINK", sink.airflow_connection)
    source.execute(
        "CREATE TABLE customers (id BIGINT, a DOUBLE, b FLOAT, c DECIMAL(10, 3), changed TIMESTAMP)"
    )
    source.fill("customers", rows(1, 5))
    return source, sink


@pytest.fixture
def duckdb_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WayIn:
    """An empty file as the source."""
    source = duckdb_way(tmp_path)
    monkeypatch.setenv("AIRFLOW_CONN_SOURCE", source.airflow_connection)
    return source


def rows(first: int, last: int) -> list[tuple[Any, ...]]:
    return [(n, n / 3, -n / 4, n / 8, f"2026-01-{n:02} 12:00:00") for n in range(first, last + 1)]


def stored(sink: WayIn) -> list[tuple[Any, ...]]:
    return sink.stored("id, probability_stays, dispatch_id", "churn_predictions")


@pytest.mark.parametrize("mode", ["append", "upsert", "replace"])
def test_a_dispatch_answers_as_the_model_does(
    workshop: Workshop, files: tuple[WayIn, WayIn], mode: str
) -> None:
    _, sink = files
    workshop.add_model("churn", source={"query": QUERY}, sink={"mode": mode})
    assert main(["check", "--connect"]) == 0
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    workshop.run(dispatch)
    features = workshop.frame([list(row[1:4]) for row in rows(1, 5)])
    stays = list(workshop.classifier.classes_).index("stays")
    expected = workshop.classifier.predict_proba(features)[:, stays].tolist()
    found = stored(sink)
    assert [row[0] for row in found] == [1, 2, 3, 4, 5]
    assert [row[1] for row in found] == pytest.approx(expected, rel=1e-12, abs=0)
    assert {row[2] for row in found} == {dispatch.id}
    assert workshop.record(dispatch.id).rows_persisted == 5


def test_the_next_dispatch_reads_what_is_new(workshop: Workshop, files: tuple[WayIn, WayIn]) -> None:
    source, sink = files
    workshop.add_model("churn", source={"query": QUERY, "cursor": CURSOR})
    first, second = workshop.dispatch(), workshop.dispatch()
    workshop.run(first)
    source.fill("customers", rows(6, 8))
    workshop.run(second)
    assert [row[0] for row in stored(sink)] == list(range(1, 9))
    assert [row[0] for row in stored(sink) if row[2] == second.id][-3:] == [6, 7, 8]
    assert workshop.record(second.id).rows_collected in (3, 4)  # the watermark's own row is read again


def test_rows_with_a_prediction_are_not_read_again(workshop: Workshop, files: tuple[WayIn, WayIn]) -> None:
    source, _ = files
    sink = {"connection": "source", "mode": "append"}
    workshop.add_model("churn", source={"query": QUERY, "skip_predicted": True}, sink=sink)
    first, second = workshop.dispatch(), workshop.dispatch()
    workshop.run(first)
    source.fill("customers", rows(6, 8))
    workshop.run(second)
    expected = [(n, first.id if n < 6 else second.id) for n in range(1, 9)]
    assert [(row[0], row[2]) for row in stored(source)] == expected


def test_partitions_read_every_row_once(workshop: Workshop, files: tuple[WayIn, WayIn]) -> None:
    _, sink = files
    workshop.add_model("churn", source={"query": QUERY, "partitions": {"column": "id", "count": 3}})
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    assert [row[0] for row in stored(sink)] == [1, 2, 3, 4, 5]


def test_sum_of_integers_is_asked_as_integers_too_if_nothing_tells(
    workshop: Workshop, duckdb_file: WayIn
) -> None:
    """`pandas.read_sql` makes int64 of a HUGEINT, DuckDB's own `df()` float64."""
    duckdb_file.execute("CREATE TABLE sales (id BIGINT, n INTEGER)")
    duckdb_file.execute("INSERT INTO sales VALUES (1, 7), (1, 5)")
    code = FunctionTransformer(digits)
    model = make_pipeline(code, LinearRegression()).fit(pd.DataFrame({"total": [7, 120]}), [1.0, 3.0])
    path = workshop.folder / "shop.joblib"
    joblib.dump(model, path)
    described = {"format": "joblib", "uri": path.name, "isolation": "none"}
    described["sha256"] = sha256(path.read_bytes()).hexdigest()
    source = {"query": "SELECT id, SUM(n) AS total FROM sales GROUP BY id"}
    workshop.add_model("churn", model=described, source=source)
    with pytest.raises(InputUndecided, match=r"dtypes: \{total: integer\}.*`number` instead"):
        workshop.run(workshop.dispatch())
    workshop.add_model("churn", model={**described, "dtypes": {"total": "integer"}}, source=source)
    workshop.run(workshop.dispatch())
    ((answer,),) = workshop.in_sink("SELECT prediction FROM churn_predictions")
    assert answer == pytest.approx(2.0)  # of '12', and not of '12.0'
