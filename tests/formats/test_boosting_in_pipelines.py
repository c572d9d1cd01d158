"""Boosted trees behind a transformer of some columns get the categories of training in the others."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from catboost import CatBoostRegressor
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from mlops_plugin.formats.scikit import ScikitRuntime
from support.native_models import NUMBERS, ROWS, as_queried

KINDS = np.resize([0, 1, 2], ROWS)
ASKED = [4, 1, 7, 0]


def _catboost(categorical: str) -> Any:
    return CatBoostRegressor(
        iterations=5, verbose=False, thread_count=1, allow_writing_files=False, cat_features=[categorical]
    )


def _lightgbm(_: str) -> Any:
    return lightgbm.LGBMRegressor(n_estimators=5, n_jobs=1, verbose=-1, min_child_samples=2)


def _xgboost(_: str) -> Any:
    return xgboost.XGBRegressor(n_estimators=5, n_jobs=1, enable_categorical=True)


@pytest.mark.parametrize("has_prefix", [False, True], ids=["plain names", "names with a prefix"])
@pytest.mark.parametrize("column", [KINDS * 10 + 7, np.char.add("k", KINDS.astype(str))], ids=["int", "text"])
@pytest.mark.parametrize("trees", [_catboost, _lightgbm, _xgboost])
def test_categories_that_another_step_hands_on_are_those_of_training(
    trees: Any, column: Any, has_prefix: bool
) -> None:
    plain = pd.DataFrame({"kind": column, "b": NUMBERS.b, "c": NUMBERS.c})
    frame = plain if trees is _catboost else plain.astype({"kind": "category"})
    scaled = ColumnTransformer([("scaled", StandardScaler(), ["c", "b"])], remainder="passthrough")
    scaled.set_output(transform="pandas").set_params(verbose_feature_names_out=has_prefix)
    model = make_pipeline(scaled, trees("remainder__kind" if has_prefix else "kind"))
    model.fit(frame, NUMBERS.c + KINDS * 4)
    runtime = ScikitRuntime("m", "0" * 64, model, None)
    found = runtime.predict(as_queried(plain.iloc[ASKED])).column("prediction").to_pylist()
    assert found == pytest.approx(model.predict(frame)[ASKED], rel=1e-9)


def test_codes_of_an_encoder_in_the_pipeline_are_no_rivals_of_categories() -> None:
    plain = pd.DataFrame(
        {"city": np.resize(["rio", "oslo", "bern"], ROWS), "kind": KINDS * 10 + 7, "c": NUMBERS.c}
    )
    encoded = ColumnTransformer([("encoded", OrdinalEncoder(), ["city"])], remainder="passthrough")
    encoded.set_output(transform="pandas").set_params(verbose_feature_names_out=False)
    frame = plain.astype({"kind": "category"})
    model = make_pipeline(encoded, _lightgbm("kind")).fit(frame, NUMBERS.c + KINDS * 4)
    found = ScikitRuntime("m", "0" * 64, model, None).predict(as_queried(plain.iloc[ASKED]))
    assert found.column("prediction").to_pylist() == pytest.approx(model.predict(frame)[ASKED], rel=1e-9)
