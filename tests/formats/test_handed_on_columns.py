"""An encoder that columns reach through other steps gets what it knows, or the query is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from mlops_plugin.errors import FeatureError
from mlops_plugin.formats.scikit import ScikitRuntime

ROWS = 40
LABELS = np.resize([0, 1, 1, 0, 1], ROWS)
AGES = np.resize([1.0, 4.0, 2.0, 7.0, 3.0, 9.0, 5.0], ROWS)
CITIES = pd.Series(np.resize(np.array(["a", "b", None, "b"], object), ROWS), dtype=object)
STORES = pd.Series(np.resize([1, 2, 3], ROWS))


def asked(model: Any, rows: pa.RecordBatch) -> list[float]:
    found = ScikitRuntime("m", "0" * 64, model, None).predict(rows)
    return list(found.column("probability_1").to_pylist())


def one_hot() -> Any:
    return OneHotEncoder(handle_unknown="ignore", sparse_output=False)


def behind_a_frame(column: str, *, has_prefix: bool) -> Any:
    first = ColumnTransformer([("s", StandardScaler(), ["age"])], remainder="passthrough")
    first.set_output(transform="pandas").set_params(verbose_feature_names_out=has_prefix)
    name = f"remainder__{column}" if has_prefix else column
    return make_pipeline(first, ColumnTransformer([("e", one_hot(), [name])], remainder="passthrough"))


def behind_an_array(column: str) -> Any:
    first = make_column_transformer((StandardScaler(), ["age"]), ("passthrough", [column]))
    return make_pipeline(first, make_column_transformer((one_hot(), [1]), remainder="passthrough"))


def behind_pipelines(column: str) -> Any:
    kept = make_pipeline(SimpleImputer(strategy="most_frequent", add_indicator=True))
    return make_pipeline(make_column_transformer((kept, ["age"]), (kept, [column])), one_hot())


WAYS = {
    "frame": lambda column: behind_a_frame(column, has_prefix=False),
    "names with a prefix": lambda column: behind_a_frame(column, has_prefix=True),
    "array": behind_an_array,
    "pipelines": behind_pipelines,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_missing_text_is_what_an_encoder_behind_other_steps_knows(way: str) -> None:
    train = pd.DataFrame({"age": AGES, "city": CITIES})
    model = make_pipeline(WAYS[way]("city"), LogisticRegression()).fit(train, LABELS)
    rows = pa.RecordBatch.from_pydict({"city": CITIES.tolist(), "age": AGES})
    assert asked(model, rows) == pytest.approx(model.predict_proba(train)[:, 1].tolist(), rel=1e-9)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("trained", "queried"), [(STORES, STORES.astype(str)), (STORES.astype(str), STORES)])
def test_a_kind_that_an_encoder_behind_other_steps_does_not_know_is_refused(
    way: str, trained: Any, queried: Any
) -> None:
    train = pd.DataFrame({"age": AGES, "store": trained})
    model = make_pipeline(WAYS[way]("store"), LogisticRegression()).fit(train, LABELS)
    with pytest.raises(FeatureError, match=r"encoder knows .* in 'store'"):
        asked(model, pa.RecordBatch.from_pydict({"store": queried.tolist(), "age": AGES}))


@pytest.mark.filterwarnings("ignore:Skipping features without any observed values")
def test_a_column_that_an_imputer_drops_moves_the_others() -> None:
    train = pd.DataFrame({"none": np.full(ROWS, np.nan), "age": AGES, "rate": np.float32(STORES / 10)})
    filled = SimpleImputer(strategy="most_frequent")
    model = make_pipeline(filled, one_hot(), LogisticRegression()).fit(train, LABELS)
    rows = pa.RecordBatch.from_pydict({"none": train["none"], "age": AGES, "rate": STORES / 10})
    assert asked(model, rows) == pytest.approx(model.predict_proba(train)[:, 1].tolist(), rel=1e-9)


@pytest.mark.parametrize("place", [np.int64(1), -1])
def test_a_vectorizer_of_a_column_by_its_number(place: Any) -> None:
    train = pd.DataFrame({"age": AGES, "text": np.resize(["red ball", "blue ball", "blue"], ROWS)})
    first = ColumnTransformer([("t", TfidfVectorizer(), place)], remainder="passthrough")
    model = make_pipeline(first, LogisticRegression()).fit(train, LABELS)
    rows = pa.RecordBatch.from_pydict({"age": AGES, "text": train["text"].tolist()})
    assert asked(model, rows) == pytest.approx(model.predict_proba(train)[:, 1].tolist(), rel=1e-9)


def test_a_missing_text_that_one_part_of_a_calibrator_knows() -> None:
    cities = pd.Series(np.resize(np.array(["a", "b", "c", "b"], object), ROWS), dtype=object)
    cities[0] = None  # not among the rows of the first part
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-9)
    inner = make_pipeline(encoder, DecisionTreeClassifier(random_state=0))
    train = pd.DataFrame({"city": cities})
    model = CalibratedClassifierCV(inner, cv=StratifiedKFold(4)).fit(train, LABELS)
    found = asked(model, pa.RecordBatch.from_pydict({"city": cities.tolist()}))
    assert found == pytest.approx(model.predict_proba(train)[:, 1].tolist(), rel=1e-9)
