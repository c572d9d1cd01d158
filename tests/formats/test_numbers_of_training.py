"""Numbers reach a model in the type of training, or the dispatch stops: in arrays, and inside of others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.ensemble import AdaBoostRegressor, StackingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.multiclass import OneVsOneClassifier
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    StandardScaler,
)
from sklearn.tree import DecisionTreeRegressor
from xgboost import XGBRegressor

from mlops_plugin.errors import InputUndecided
from mlops_plugin.formats.input_rules import StatedInput
from mlops_plugin.formats.scikit import ScikitRuntime
from mlops_plugin.formats.types_of_training import trained_in_single

_RANDOM = np.random.default_rng(5)
WHOLE = pd.DataFrame({"a": _RANDOM.integers(0, 9, 60), "b": _RANDOM.integers(0, 40, 60)})
FEATURES = tuple(WHOLE)
ROWS = pa.RecordBatch.from_pandas(WHOLE, preserve_index=False)
INTEGERS, NUMBERS = dict.fromkeys(FEATURES, "integer"), dict.fromkeys(FEATURES, "number")


def answers(
    model: Any,
    column: str,
    features: tuple[str, ...] | None = None,
    dtypes: dict[str, str] | None = None,
    rows: int = 60,
) -> list[Any]:
    stated = StatedInput(dtypes=dtypes)
    found = ScikitRuntime("m", "0" * 64, model, features, stated=stated).predict(ROWS.slice(0, rows))
    return list(found.column(column).to_pylist())


def as_written(table: Any) -> Any:
    return np.asarray(table).astype(str)


def as_singles(table: Any) -> Any:
    return np.asarray(table, np.float32)


@pytest.mark.parametrize("mixture", [GaussianMixture, BayesianGaussianMixture])
def test_a_mixture_of_an_array_is_not_asked_about_floats_in_silence(mixture: Any) -> None:
    whole = WHOLE.to_numpy()
    model = mixture(n_components=2, random_state=0).fit(whole)
    for rows in (1, len(whole)):
        with pytest.raises(InputUndecided, match=r"dtypes: \{a: integer"):
            answers(model, "probability_0", FEATURES, rows=rows)
    for dtypes, table in ((INTEGERS, whole), (NUMBERS, whole.astype(float))):
        expected = model.predict_proba(table)[:, 0].tolist()
        assert answers(model, "probability_0", FEATURES, dtypes) == expected


def test_integers_that_another_step_hands_to_a_mixture_are_integers() -> None:
    model = make_pipeline(Binarizer(threshold=4), BayesianGaussianMixture(n_components=2, random_state=0))
    expected = model.fit(WHOLE).predict_proba(WHOLE)[:, 0].tolist()
    assert answers(model, "probability_0") == expected
    assert model.predict_proba(WHOLE.astype(float))[:, 0].tolist() != expected


@pytest.mark.parametrize("features", [None, FEATURES])
@pytest.mark.parametrize(
    ("around", "last"),
    [
        (OneVsOneClassifier, LogisticRegression()),
        (lambda model: AdaBoostRegressor(model, n_estimators=2, random_state=0), DecisionTreeRegressor()),
    ],
)
def test_code_that_writes_numbers_inside_of_another_estimator_is_not_asked_about_floats_in_silence(
    around: Any, last: Any, features: tuple[str, ...] | None
) -> None:
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    table = WHOLE if features is None else WHOLE.to_numpy()
    model = around(make_pipeline(FunctionTransformer(as_written), encoder, last))
    model.fit(table, np.digitize(WHOLE.a, [3, 6]))
    with pytest.raises(InputUndecided, match=r"dtypes: \{a: integer"):
        answers(model, "prediction", features)
    assert answers(model, "prediction", features, INTEGERS) == model.predict(table).tolist()


PRICES = pd.DataFrame(_RANDOM.normal(size=(60, 2)).round(2), columns=list(FEATURES))
PRICED = pa.RecordBatch.from_pandas(PRICES, preserve_index=False)
SUMS = PRICES.sum(axis=1).to_numpy()


@pytest.mark.parametrize(
    ("model", "labels"),
    [
        (LogisticRegression(), SUMS > 0),
        (make_pipeline(StandardScaler(), LinearRegression()), SUMS),
        (CalibratedClassifierCV(LogisticRegression(), cv=2), SUMS > 0),
        (MLPRegressor(hidden_layer_sizes=(4,), max_iter=5, random_state=0), SUMS),
        (KMeans(2, n_init=1, random_state=0), None),
    ],
    ids=lambda each: type(each).__name__,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_model_that_computes_with_32_bits_is_asked_about_such_numbers(model: Any, labels: Any) -> None:
    singles = np.ascontiguousarray(PRICES.to_numpy(np.float32))
    model = clone(model).fit(singles, labels)
    found = ScikitRuntime("m", "0" * 64, model, FEATURES).predict(PRICED)
    assert found.column("prediction").to_pylist() == model.predict(singles).tolist()
    if hasattr(model, "predict_proba"):
        assert found.column("probability_True").to_pylist() == model.predict_proba(singles)[:, 1].tolist()


@pytest.mark.parametrize(
    "model",
    [
        LinearRegression(),
        KNeighborsRegressor(),
        StackingRegressor([("near", KNeighborsRegressor())], LinearRegression()),
        StackingRegressor([("trees", XGBRegressor(n_estimators=2))], LinearRegression()),
        make_pipeline(KBinsDiscretizer(3, dtype=np.float32, quantile_method="linear"), LinearRegression()),
        make_pipeline(FunctionTransformer(as_singles), LinearRegression()),
    ],
    ids=lambda each: str(each)[:60],
)
def test_labels_and_steps_of_32_bits_do_not_tell_of_the_columns(model: Any) -> None:
    doubles = np.ascontiguousarray(PRICES.to_numpy())
    model = clone(model).fit(doubles, SUMS.astype(np.float32))
    assert not trained_in_single(model)
    found = ScikitRuntime("m", "0" * 64, model, FEATURES).predict(PRICED)
    assert found.column("prediction").to_pylist() == model.predict(doubles).tolist()
