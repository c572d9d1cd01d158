"""Golden rows catch each kind of fault that gave wrong predictions: a dispatch stops before its first row.

Each fault is built by an input specification or a runtime that is wrong on purpose.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder

from mlops_plugin.errors import GoldenRowMismatch
from mlops_plugin.formats.artifact import artifact_sha256
from mlops_plugin.formats.model_input import InputSpec, SignedSpec
from mlops_plugin.formats.scikit import ScikitRuntime
from mlops_plugin.formats.signature.golden_rows import golden_batch
from mlops_plugin.formats.signature.signature import read_signature
from mlops_plugin.formats.signature.signature_writer import write_signature
from mlops_plugin.formats.signature.signed_input import input_spec
from mlops_plugin.pipeline import steps
from mlops_plugin.pipeline.validation.signed_model import require_same_answers
from support.workshop import Workshop


def area(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(area=rows["w"] * rows["h"])


def as_texts(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.astype(str)


class Abstains:
    """Answers nothing near zero."""

    def predict(self, rows: Any) -> Any:
        values = np.asarray(rows, dtype=float)[:, 0]
        return np.array(["yes" if v > 0.5 else "no" if v < -0.5 else None for v in values], dtype=object)


class LooksAtTheContainer:
    def predict(self, rows: Any) -> Any:
        return np.full(len(rows), 1.0 if isinstance(rows, np.ndarray) else 2.0)


class NarrowIntegers(InputSpec):
    """Keeps the width of the database's integers."""

    def build(self, rows: pa.RecordBatch) -> Any:
        return super().build(rows).astype(np.int32)


class NanForNone(InputSpec):
    def build(self, rows: pa.RecordBatch) -> Any:
        return super().build(rows).astype(object).fillna(np.nan)


class NeighboursDecide(InputSpec):
    """A NULL among integers makes floats of all of them."""

    def parts(self, rows: pa.RecordBatch) -> list[pa.Int64Array]:
        return [pa.array(range(rows.num_rows))]

    def build(self, rows: pa.RecordBatch) -> Any:
        return pd.DataFrame({name: rows.column(name).to_pandas() for name in self.names})


class ColumnNameAsDocument(InputSpec):
    def build(self, rows: pa.RecordBatch) -> Any:
        return pd.DataFrame({name: rows.column(name).to_pandas() for name in self.names})


class WrongContainer(InputSpec):
    def build(self, rows: pa.RecordBatch) -> Any:
        return pd.DataFrame(super().build(rows), columns=list(self.names))


class Broadcasts(ScikitRuntime):
    """Spreads the first answer over all rows."""

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        return super().predict(rows).take(pa.array([0] * rows.num_rows))


class NoneAsText(ScikitRuntime):
    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        answers = super().predict(rows)
        texts = [str(label) for label in answers.column(0).to_pylist()]
        return pa.RecordBatch.from_arrays([pa.array(texts)], names=answers.schema.names)


@dataclass(frozen=True)
class Fault:
    """A model with its training data, and what is wrong with the way to it."""

    trained: Callable[[], tuple[Any, Any]]
    spec: type[InputSpec] = InputSpec
    runtime: type[ScikitRuntime] = ScikitRuntime
    names: tuple[str, ...] | None = None
    says: str = r"golden row \d+, column 'prediction': expected .+, found "


def areas() -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    rows = pd.DataFrame({"w": random.integers(1, 100_000, 200), "h": random.integers(1, 100_000, 200)})
    return make_pipeline(FunctionTransformer(area), LinearRegression()).fit(rows, rows.w * rows.h), rows


def cities() -> tuple[Any, Any]:
    rows = pd.DataFrame(
        {"city": pd.Series(["Rome", "Oslo", None] * 20, dtype=object), "x": [1.0, 2.0, 1.5] * 20}
    )
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    first = make_column_transformer((encoder, ["city"]), remainder="passthrough")
    model = make_pipeline(first, HistGradientBoostingClassifier(min_samples_leaf=2, max_iter=20))
    return model.fit(rows, [1, 0, 1] * 20), rows


def stores() -> tuple[Any, Any]:
    rows = pd.DataFrame({"store": [1, 2, 3] * 20, "size": pd.array([1, None, 3] * 20, dtype="Int64")})
    rows["store"] = rows["store"].astype("Int64").mask(np.arange(60) % 17 == 5)
    model = make_pipeline(FunctionTransformer(as_texts), OneHotEncoder(handle_unknown="ignore"), Ridge(1e-6))
    return model.fit(rows, [10.0, 20.0, 30.0] * 20), rows


def reviews() -> tuple[Any, Any]:
    texts = ["good film", "bad film", "great and good", "awful, bad"] * 10
    labels = ["positive", "negative"] * 20
    return make_pipeline(CountVectorizer(), LogisticRegression()).fit(texts, labels), texts


def line() -> tuple[Any, Any]:
    rows = pd.DataFrame({"x": np.linspace(-1, 1, 60)})
    return LinearRegression().fit(rows, 2 * rows["x"]), rows


def numbers(model: Any) -> Callable[[], tuple[Any, Any]]:
    return lambda: (model, np.linspace(-1, 1, 60).reshape(-1, 1))


FAULTS = {
    "narrow integers": Fault(areas, NarrowIntegers),
    "NaN for None": Fault(cities, NanForNone),
    "neighbours decide": Fault(stores, NeighboursDecide),
    "column name as document": Fault(
        reviews, ColumnNameAsDocument, names=("review",), says="the model refuses golden rows .* answered"
    ),
    "broadcast answer": Fault(line, runtime=Broadcasts),
    "None as text": Fault(numbers(Abstains()), runtime=NoneAsText, names=("x",)),
    "wrong container": Fault(numbers(LooksAtTheContainer()), WrongContainer, names=("x",)),
}


def prepared(workshop: Workshop, fault: Fault) -> tuple[Any, ScikitRuntime, Any]:
    """A dispatch of the model after `collect` and `log`, and a runtime with the fault."""
    model, rows = fault.trained()
    file = workshop.folder / "m.joblib"
    joblib.dump(model, file)
    write_signature(model, rows, file, names=fault.names)
    frame = pd.DataFrame(rows, columns=None if fault.names is None else list(fault.names))
    with contextlib.closing(sqlite3.connect(workshop.folder / "source.db")) as source:
        frame.astype(object).where(frame.notna(), None).to_sql("m", source, index_label="id")
    sha256 = artifact_sha256(str(file))
    workshop.add_model(
        "m",
        model={"format": "joblib", "uri": "m.joblib", "sha256": sha256},
        source={"query": "SELECT * FROM m"},
    )
    dispatch = workshop.dispatch("m")
    workshop.run_steps(dispatch, "collect", "log")
    signature = read_signature(dispatch.model.model)
    assert signature is not None
    sound = input_spec(signature)
    spec = fault.spec(sound.container, sound.columns, sound.matrix_dtype)
    runtime = fault.runtime(str(file), sha256, model, None, signed=SignedSpec(spec, signature.sha256))
    runtime.learn_outputs(golden_batch(signature))
    return dispatch, runtime, workshop.deployment.staging.shelf("m", dispatch.id)


@pytest.mark.parametrize("name", FAULTS)
def test_a_dispatch_stops_before_its_first_row(workshop: Workshop, name: str) -> None:
    dispatch, runtime, shelf = prepared(workshop, FAULTS[name])
    with pytest.raises(GoldenRowMismatch) as stopped:
        steps.infer(
            dispatch, runtime, shelf, lambda rows: require_same_answers(dispatch.model, runtime, rows)
        )
    assert re.search(FAULTS[name].says, str(stopped.value))
    assert stopped.value.is_final


@pytest.mark.parametrize("name", FAULTS)
def test_without_the_fault_the_same_dispatch_predicts(workshop: Workshop, name: str) -> None:
    fault = FAULTS[name]
    sound = Fault(fault.trained, names=fault.names)
    dispatch, runtime, shelf = prepared(workshop, sound)

    def checked(rows: pa.Schema) -> None:
        require_same_answers(dispatch.model, runtime, rows)

    if name == "None as text":  # its answers of nothing end the dispatch, but not for the golden rows
        checked(pa.schema([("id", pa.int64()), ("x", pa.float64())]))
    else:
        assert steps.infer(dispatch, runtime, shelf, checked).rows > 0
