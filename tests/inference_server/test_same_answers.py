"""A program is answered as a dispatch would answer: every type, NULLs, and the demo's models."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
import skops.io
import yaml
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from inference_server.conftest import Callers, infer, outputs, serving, tensor
from mlops_plugin.formats.signature.signature_writer import write_signature
from support.servers import ServerDatabase
from support.workshop import Workshop

ROOT = Path(__file__).resolve().parents[2]
DEMO = ("breast_cancer", "wine", "diabetes", "digits")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """The demo's models over its source."""
    workshop = Workshop(tmp_path_factory.mktemp("demo"))
    source = workshop.folder / "demo.db"
    subprocess.run(
        [sys.executable, str(ROOT / "include" / "make_demo.py"), "--sqlite", str(source)], check=True
    )
    workshop.connections["demo"] = f"sqlite:///{source}"
    configured = yaml.safe_load((ROOT / "include" / "config.yaml").read_text())["models"]
    for name in DEMO:
        found = configured[name]
        artifact = {**found["model"], "uri": str(ROOT / "include" / found["model"]["uri"])}
        kept = {key: found[key] for key in ("input", "features") if key in found}
        query = f"SELECT * FROM {name} ORDER BY id"
        workshop.add_model(name, model=artifact, source={"connection": "demo", "query": query}, **kept)
    with workshop.ready():
        yield workshop


@pytest.fixture(scope="module")
def demo_client(demo: Workshop) -> Iterator[httpx.Client]:
    with serving(demo.config_file, Callers()) as client:
        yield client


@pytest.mark.parametrize("name", DEMO)
def test_the_demos_models_answer_as_in_a_dispatch(
    demo: Workshop, demo_client: httpx.Client, name: str
) -> None:
    demo.run(demo.dispatch(name))
    persisted = demo.predictions(f"{name}_predictions")
    with sqlite3.connect(demo.folder / "demo.db") as source:
        source.row_factory = sqlite3.Row
        rows = [dict(row) for row in source.execute(f"SELECT * FROM {name} ORDER BY id")]
    source.close()
    described = demo_client.get(f"/v2/models/{name}").json()
    inputs = [
        tensor(one["name"], one["datatype"], [row[one["name"]] for row in rows])
        for one in described["inputs"]
    ]
    answered = outputs(infer(demo_client, name, *inputs))
    for output, values in answered.items():
        assert values == [row[output] for row in persisted]
    alone = [{**one, "shape": [1], "data": one["data"][7:8]} for one in inputs]
    for output, values in outputs(infer(demo_client, name, *alone)).items():
        expected = persisted[7][output]
        assert values == [pytest.approx(expected, rel=1e-12) if isinstance(expected, float) else expected]


COLUMNS = {  # of the table -> its type in PostgreSQL, and the datatypes that carry its values
    "small": ("SMALLINT", ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")),
    "whole": ("INTEGER", ("INT32", "INT64", "UINT32", "UINT64")),
    "large": ("BIGINT", ("INT64", "UINT64")),
    "single": ("REAL", ("FP32", "FP64")),
    "number": ("DOUBLE PRECISION", ("FP64",)),
    "flag": ("BOOLEAN", ("BOOL",)),
    "colour": ("TEXT", ("BYTES",)),
    "grade": ("TEXT", ("BYTES",)),
    "code": ("INTEGER", ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT64")),
}
EMPTY = ("whole", "single", "number", "colour", "grade")  # that may be NULL
ROWS = 24


def _training() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "small": rng.integers(0, 127, ROWS),
            "whole": pd.array(rng.integers(0, 2**31 - 1, ROWS), "Int64"),
            "large": rng.integers(2**53, 2**62, ROWS),
            "single": rng.normal(size=ROWS).astype("float32"),
            "number": rng.normal(size=ROWS),
            "flag": rng.integers(0, 2, ROWS).astype(bool),
            "colour": np.resize(np.array(["red", "grün", "blue", "", "🙂"], dtype=object), ROWS),
            "grade": pd.Categorical(
                np.resize(["low", "mid", "high"], ROWS), ["low", "mid", "high"], ordered=True
            ),
            "code": np.resize([1, 2, 3], ROWS),
        }
    )


def _holed(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with values missing here and there."""
    holed = rows.copy()
    for place, name in enumerate(EMPTY):
        holed.loc[holed.index % 5 == place, name] = None
    return holed


def _encoding_model(rows: pd.DataFrame, labels: Any) -> Any:
    steps = ColumnTransformer(
        [
            ("texts", OneHotEncoder(handle_unknown="ignore"), ["colour", "code", "flag"]),
            ("numbers", SimpleImputer(), ["small", "large", "single", "number"]),
        ]
    )
    return make_pipeline(steps, DecisionTreeClassifier(random_state=0)).fit(rows, labels)


def _tree_model(rows: pd.DataFrame, labels: Any) -> Any:
    return HistGradientBoostingClassifier(
        categorical_features="from_dtype", min_samples_leaf=2, max_iter=5
    ).fit(rows, labels)


MODELS = {
    "encoding": (_encoding_model, ["small", "large", "single", "number", "flag", "colour", "code"]),
    "trees": (_tree_model, ["small", "whole", "large", "single", "number", "flag", "grade", "code"]),
}


@pytest.fixture(scope="module")
def typed(
    tmp_path_factory: pytest.TempPathFactory, postgres: Any
) -> Iterator[tuple[Workshop, list[dict[str, Any]]]]:
    """Signed models that read every type, over a table in PostgreSQL with the same types and NULLs."""
    workshop = Workshop(tmp_path_factory.mktemp("typed"))
    database: ServerDatabase = postgres.new_database()
    training = _training()
    labels = np.resize(["yes", "no", "yes", "yes"], ROWS)
    rows = _holed(training)
    for name, (make, features) in MODELS.items():
        path = workshop.folder / f"{name}.skops"
        model = make(rows[features], labels)
        skops.io.dump(model, path)
        write_signature(model, rows[features], path)
        query = f"SELECT id, {', '.join(features)} FROM typed ORDER BY id"
        workshop.add_model(
            name,
            model={"format": "skops", "uri": path.name, "trusted": skops.io.get_untrusted_types(file=path)},
            source={"connection": "typed", "query": query},
        )
    workshop.connections["typed"] = database.airflow_uri()
    stored = [
        {name: None if pd.isna(value) else value for name, value in row.items()}
        for row in rows.astype(object).to_dict("records")
    ]
    declared = ", ".join(f"{name} {kind}" for name, (kind, _) in COLUMNS.items())
    database.execute(f"CREATE TABLE typed (id INTEGER PRIMARY KEY, {declared})")
    for number, row in enumerate(stored):
        values = ", ".join(_literal(row[name]) for name in COLUMNS)
        database.execute(f"INSERT INTO typed VALUES ({number}, {values})")
    with workshop.ready():
        yield workshop, stored


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    return f"'{value}'" if isinstance(value, str) else repr(value)


@pytest.fixture(scope="module")
def typed_client(typed: tuple[Workshop, Any]) -> Iterator[httpx.Client]:
    with serving(typed[0].config_file, Callers()) as client:
        yield client


@pytest.mark.parametrize("name", MODELS)
def test_every_type_and_null_is_answered_as_in_a_dispatch(
    typed: tuple[Workshop, list[dict[str, Any]]], typed_client: httpx.Client, name: str
) -> None:
    workshop, rows = typed
    workshop.run(workshop.dispatch(name))
    persisted = workshop.predictions(f"{name}_predictions")
    features = MODELS[name][1]
    usual = {
        feature: tensor(feature, COLUMNS[feature][1][-1], [row[feature] for row in rows])
        for feature in features
    }
    for feature in features:
        for datatype in COLUMNS[feature][1]:
            asked = {**usual, feature: {**usual[feature], "datatype": datatype}}
            answered = outputs(infer(typed_client, name, *asked.values()))
            for output, values in answered.items():
                assert values == [row[output] for row in persisted], (feature, datatype)
