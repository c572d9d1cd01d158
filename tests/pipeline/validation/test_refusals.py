"""Which rows a model refuses is told as if each were asked about alone; real models, generated rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import skops.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mlops_plugin.config.schema import ArtifactConfig
from mlops_plugin.errors import FeatureError
from mlops_plugin.formats.runtime import Runtime, load_runtime
from mlops_plugin.formats.scikit import ScikitRuntime
from mlops_plugin.pipeline.validation.refusals import predict_each
from support import shop_code
from support.random_examples import examples

pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # numpy's, of 1e300

SCHEMA = pa.schema([("a", pa.float64()), ("b", pa.float64()), ("colour", pa.string())])
TRAINING = pd.DataFrame(
    {"a": np.linspace(-1, 1, 40), "b": np.linspace(1, -1, 40), "colour": ["red", "green"] * 20}
)
MODELS = {
    "linear": lambda: LogisticRegression(),
    "forest": lambda: RandomForestClassifier(5, random_state=0),  # takes NULL, refuses what float32 has not
    "boosting": lambda: HistGradientBoostingClassifier(max_iter=3),
    "encoding": lambda: make_pipeline(
        make_column_transformer((OneHotEncoder(), ["colour"]), (StandardScaler(), ["a", "b"])),
        LogisticRegression(),
    ),
}
TRUSTED = ("sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor", "sklearn.tree._tree.Tree")


def trained(name: str, folder: Path) -> Runtime:
    columns = ["a", "b", "colour"] if name == "encoding" else ["a", "b"]
    file = folder / f"{name}.skops"
    skops.io.dump(MODELS[name]().fit(TRAINING[columns], [0, 1] * 20), file)
    return load_runtime(ArtifactConfig(format="skops", uri=str(file), trusted=TRUSTED), features=None)


@pytest.fixture(scope="module", params=MODELS)
def runtime(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return trained(request.param, tmp_path_factory.mktemp("models"))


def is_refused(runtime: Runtime, row: pa.RecordBatch) -> bool:
    try:
        runtime.predict(row)
    except FeatureError:
        return True
    return False


NUMBERS = st.sampled_from([0.5, -0.5, None, float("nan"), float("inf"), 1e300])
ROWS = st.lists(
    st.tuples(NUMBERS, NUMBERS, st.sampled_from(["red", "green", "mauve", "", None])), max_size=25
)


@settings(
    max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=ROWS)
def test_rows_are_refused_as_if_asked_about_alone(runtime: Runtime, rows: list[tuple[Any, ...]]) -> None:
    columns = [pa.array([row[place] for row in rows], field.type) for place, field in enumerate(SCHEMA)]
    batch = pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
    alone = [number for number in range(len(rows)) if is_refused(runtime, batch.slice(number, 1))]
    answered = predict_each(runtime, batch)
    told = sorted({place for one in answered.refused for place in one.places.to_pylist()})
    assert told == alone
    assert answered.places.to_pylist() == [number for number in range(len(rows)) if number not in alone]
    assert answered.predictions.num_rows == len(answered.places)


def test_a_number_that_is_too_large_takes_no_good_row_with_it(tmp_path: Path) -> None:
    runtime = trained("forest", tmp_path)
    values = [1e300, *np.linspace(-1, 1, 5000)]
    batch = pa.RecordBatch.from_pydict({"a": values, "b": values})
    answered = predict_each(runtime, batch)
    assert [one.places.to_pylist() for one in answered.refused] == [[0]]
    assert "too large" in answered.refused[0].reason


def of_shops(folder: Path) -> Runtime:
    """Knows the shops 1 and 2, red and green."""
    training = TRAINING.assign(shop=[1, 2] * 20, colour=["red", "red", "green", "green"] * 10)
    encoder = make_column_transformer((OneHotEncoder(), ["shop", "colour"]), (StandardScaler(), ["a"]))
    model = make_pipeline(encoder, LogisticRegression())
    file = folder / "shops.skops"
    skops.io.dump(model.fit(training[["shop", "colour", "a"]], [0, 1, 1, 0] * 10), file)
    return load_runtime(ArtifactConfig(format="skops", uri=str(file)), features=None)


@pytest.mark.parametrize(
    ("shops", "colours", "taken"),
    [
        ([99, 1, 2, 1, 2, 1], ["red", "red", "red", "green", "green", "red"], [1, 2, 3, 4, 5]),
        ([99, 1, 99, 1], ["red", "red", "red", "red"], [1, 3]),  # of the first rows none is taken
        ([99, 1, 1, 2], ["mauve", "mauve", "red", "mauve"], [2]),
    ],
)
def test_a_number_that_is_no_category_takes_no_row_with_the_same_text_with_it(
    shops: list[int], colours: list[str], taken: list[int], tmp_path: Path
) -> None:
    rows = pa.RecordBatch.from_pydict({"shop": shops, "colour": colours, "a": [0.5] * len(shops)})
    assert predict_each(of_shops(tmp_path), rows).places.to_pylist() == taken


def test_a_word_that_contains_another_says_nothing_of_missing_values() -> None:
    rows = pa.RecordBatch.from_pydict({"a": [99.0, 1.0, 2.0], "b": [None, None, 1.0]})
    answered = predict_each(ScikitRuntime("m", "0" * 64, shop_code.Limited(), ("a", "b")), rows)
    assert answered.places.to_pylist() == [1, 2]
    assert [refused.column for refused in answered.refused] == [None]


def test_many_rows_that_are_refused_alike_are_told_with_few_questions(tmp_path: Path) -> None:
    runtime = trained("linear", tmp_path)
    values = [None if number % 2 else 1.0 for number in range(50_000)]
    batch = pa.RecordBatch.from_pydict({"a": values, "b": [1.0] * 50_000})
    (refused,) = predict_each(runtime, batch).refused
    assert (refused.column, refused.reason, len(refused.places)) == (
        "a",
        "the model refuses a missing value",
        25_000,
    )


def test_rows_that_are_refused_in_too_many_ways_fail_with_advice(tmp_path: Path) -> None:
    runtime = trained("forest", tmp_path)
    batch = pa.RecordBatch.from_pydict({"a": [1e300] * 2000, "b": [1.0] * 2000})
    with pytest.raises(FeatureError, match="`input:`"):
        predict_each(runtime, batch)
