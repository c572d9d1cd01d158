"""The demo: models that are good on cases they have never seen, and a source that holds those cases."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sklearn.metrics import accuracy_score, r2_score

from mlops_plugin.config.loader import load_config
from mlops_plugin.formats.runtime import artifact_sha256, load_runtime
from mlops_plugin.formats.signature.signature import read_signature
from mlops_plugin.pipeline.validation.baseline import read_baseline_beside
from support.servers import ServerDatabase

ROOT = Path(__file__).parents[2]
CONFIG = load_config(ROOT / "include" / "config.yaml")
MODELS = {
    "breast_cancer": 285,
    "wine": 89,
    "diabetes": 221,
    "digits": 899,
    "iris": 75,
}  # and the cases of each
GOOD: dict[str, tuple[Callable[..., float], float]] = {
    "breast_cancer": (accuracy_score, 0.93),
    "wine": (accuracy_score, 0.93),
    "diabetes": (r2_score, 0.4),
    "digits": (accuracy_score, 0.93),
    "iris": (accuracy_score, 0.9),
}


def make_demo(*options: str | Path, **environment: str) -> str:
    command = [sys.executable, "-W", "error", str(ROOT / "include" / "make_demo.py"), *map(str, options)]
    done = subprocess.run(
        command, env={**os.environ, **environment}, check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything the script makes when nothing is there: source.db, models/."""
    folder = tmp_path_factory.mktemp("demo")
    printed = make_demo("--sqlite", folder / "new" / "source.db", "--models", folder / "models")
    assert [f"{name}: {rows} rows written" for name, rows in MODELS.items()] == printed.splitlines()[
        -len(MODELS) :
    ]
    return folder


def cases(demo: Path, query: str) -> list[dict[str, Any]]:
    with sqlite3.connect(demo / "new" / "source.db") as connection:
        connection.row_factory = sqlite3.Row
        found = [dict(row) for row in connection.execute(query)]
    connection.close()
    return found


def test_the_configuration_has_the_five_models_and_nothing_wrong() -> None:
    assert not CONFIG.broken
    assert set(CONFIG.config.models) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("made", ["committed", "just trained"])
def test_each_model_is_good_on_its_source(demo: Path, name: str, made: str) -> None:
    artifact = CONFIG.model(name).model
    if made == "just trained":
        file = demo / "models" / Path(artifact.uri).name
        # A pin holds for the committed file; training elsewhere may differ in the last bits.
        pin = artifact_sha256(str(file)) if artifact.sha256 else None
        artifact = artifact.model_copy(update={"uri": str(file), "sha256": pin})
    runtime = load_runtime(artifact, features=None)
    rows = cases(demo, f"SELECT * FROM {name}")
    found = runtime.predict(pa.RecordBatch.from_pylist(rows))
    measure, least = GOOD[name]
    assert measure([row["truth"] for row in rows], found.column("prediction").to_pylist()) > least


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("made", ["committed", "just trained"])
def test_each_model_has_a_signature_with_golden_rows_and_a_baseline(demo: Path, name: str, made: str) -> None:
    artifact = CONFIG.model(name).model
    if made == "just trained":
        artifact = artifact.model_copy(update={"uri": str(demo / "models" / Path(artifact.uri).name)})
    signature = read_signature(artifact)
    assert signature is not None
    assert signature.artifact_sha256 == artifact_sha256(artifact.uri)
    assert len(signature.golden.rows) == 20
    assert signature.golden.unstable == {}
    assert read_baseline_beside(artifact.uri).rows > 70
    assert Path(signature.uri).stat().st_mode & 0o4  # the container's user reads it, too


@pytest.mark.parametrize("name", MODELS)
def test_each_table_has_a_key_times_and_the_truth(demo: Path, name: str) -> None:
    model = CONFIG.model(name)
    rows = cases(demo, f"SELECT * FROM {name}")
    assert len(rows) == MODELS[name]
    assert len({tuple(row[column] for column in model.key) for row in rows}) == len(rows)
    assert all(isinstance(row["id"], int) for row in rows)
    times = [datetime.strptime(row["observed_at"], "%Y-%m-%d %H:%M:%S") for row in rows]
    assert times == sorted(set(times))
    assert {*model.showroom.search, model.showroom.truth} <= set(rows[0])


@pytest.mark.parametrize("name", MODELS)
def test_each_query_returns_the_key_and_every_feature(demo: Path, name: str) -> None:
    model = CONFIG.model(name)
    query = model.source.query.partition("WHERE")[0]  # the template's part is Airflow's to render
    columns = set(cases(demo, query)[0])
    runtime = load_runtime(model.model, features=model.features)
    assert {*model.key, *runtime.features} <= columns


def test_a_connection_of_another_type_is_refused_in_words() -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        make_demo("--connection", "demo_source", AIRFLOW_CONN_DEMO_SOURCE="http://example.org")
    assert "the demo needs mysql, postgres or sqlite" in refused.value.stderr


def test_making_it_twice_changes_nothing(demo: Path) -> None:
    files = [demo / "new" / "source.db", *(demo / "models").iterdir()]
    before = [file.read_bytes() for file in files]
    printed = make_demo("--sqlite", demo / "new" / "source.db", "--models", demo / "models")
    assert printed.splitlines() == [f"{name}: rows are there already" for name in MODELS]
    assert [file.read_bytes() for file in files] == before


def test_a_run_that_was_cut_short_is_completed(demo: Path, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "source.db") as connection:
        (wine,) = cases(demo, "SELECT sql FROM sqlite_schema WHERE name = 'wine'")
        connection.execute(wine["sql"])
    connection.close()
    printed = make_demo("--sqlite", tmp_path / "source.db", "--models", demo / "models")
    assert "wine: 89 rows written" in printed


def test_training_again_gives_the_pinned_file_where_it_is_pinned(tmp_path: Path, demo: Path) -> None:
    printed = make_demo("--retrain", "--models", tmp_path)
    first, second = ((folder / "diabetes.joblib").read_bytes() for folder in (demo / "models", tmp_path))
    assert first == second
    assert f"diabetes: trained, sha256 {artifact_sha256(str(tmp_path / 'diabetes.joblib'))}" in printed


def test_the_source_may_be_mysql(mariadb_database: ServerDatabase) -> None:
    fills_a_server(mariadb_database)


def test_the_source_may_be_postgresql(postgres_database: ServerDatabase) -> None:
    fills_a_server(postgres_database)


def fills_a_server(database: ServerDatabase) -> None:
    source = {"AIRFLOW_CONN_DEMO_SOURCE": database.airflow_uri()}
    printed = make_demo("--connection", "demo_source", **source)
    assert [f"{name}: {rows} rows written" for name, rows in MODELS.items()] == printed.splitlines()[
        -len(MODELS) :
    ]
    wine = database.rows("SELECT id, observed_at, alcohol, truth FROM wine ORDER BY id")
    assert wine[0] == (1, datetime(2026, 1, 1), 14.23, "class_0")
    assert len(wine) == MODELS["wine"]
    again = make_demo("--connection", "demo_source", **source)
    assert [f"{name}: rows are there already" for name in MODELS] == again.splitlines()[-len(MODELS) :]
