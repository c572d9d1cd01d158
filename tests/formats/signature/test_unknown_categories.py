"""With a signature too, a category that training did not have is what the model itself takes it for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from catboost import CatBoostRegressor
from lightgbm import LGBMRegressor
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBRegressor

from mlops_plugin.errors import FeatureError
from mlops_plugin.formats.artifact import artifact_sha256
from mlops_plugin.formats.signature.signature_writer import write_signature
from support.native_models import NUMBERS, ROWS, SCORE, as_queried, assert_answers, load

CITY = np.resize(["rio", "oslo", "bern"], ROWS)
TRAINED = NUMBERS[["c"]].assign(city=pd.Categorical(CITY))
LATER = NUMBERS[["c"]].assign(city=pd.Categorical(np.where(np.arange(ROWS) % 5 == 0, "lima", CITY)))
ROWS_LATER = as_queried(LATER)


def _fit(model: Any) -> Any:
    return model.fit(TRAINED, SCORE + (CITY == "oslo") * 3)


def _lightgbm() -> Any:
    return LGBMRegressor(n_estimators=4, n_jobs=1, verbose=-1, min_child_samples=5)


def _histogram() -> Any:
    return HistGradientBoostingRegressor(categorical_features="from_dtype", max_iter=4)


def _catboost() -> Any:
    return CatBoostRegressor(
        iterations=4, verbose=False, thread_count=1, allow_writing_files=False, cat_features=["city"]
    )


def _behind_columns(model: Any) -> Any:
    scaled = make_column_transformer(
        (StandardScaler(), ["c"]), remainder="passthrough", verbose_feature_names_out=False
    )
    return make_pipeline(scaled.set_output(transform="pandas"), model)


@pytest.mark.parametrize(
    "model",
    [_lightgbm(), _histogram(), _catboost(), _behind_columns(_lightgbm()), _behind_columns(_histogram())],
    ids=["lightgbm", "histogram", "catboost", "lightgbm behind columns", "histogram behind columns"],
)
def test_a_pickled_model_takes_it_as_it_does_itself(model: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump(_fit(model), path)
    write_signature(model, TRAINED, path)
    runtime = load(path, "joblib", sha256=artifact_sha256(str(path)))
    found = runtime.predict(ROWS_LATER).column("prediction").to_pylist()
    assert found == pytest.approx(model.predict(LATER).tolist(), rel=1e-9)


@pytest.mark.parametrize("kind", ["lightgbm", "catboost"])
def test_a_file_of_its_library_takes_it_as_the_library_does(kind: str, tmp_path: Path) -> None:
    model = _fit({"lightgbm": _lightgbm, "catboost": _catboost}[kind]())
    path = tmp_path / "model"
    getattr(model, "booster_", model).save_model(str(path))
    write_signature(model, TRAINED, path)
    assert_answers(load(path, kind), ROWS_LATER, model.predict(LATER))


def test_xgboost_refuses_it(tmp_path: Path) -> None:
    model = _fit(XGBRegressor(n_estimators=4, n_jobs=1, enable_categorical=True))
    path = tmp_path / "model.json"
    model.save_model(path)
    write_signature(model, TRAINED, path)
    with pytest.raises(FeatureError, match="'lima' is not one of the 3 categories of training"):
        load(path, "xgboost").predict(ROWS_LATER)
