"""A file of XGBoost answers what XGBoost answers, bit for bit, or is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost
from xgboost import XGBClassifier, XGBRanker, XGBRegressor

from mlops_plugin.errors import ArtifactError, FeatureError
from mlops_plugin.formats.scikit import ScikitRuntime
from mlops_plugin.formats.signature.signature_writer import write_signature
from support.native_models import NUMBERS, ROWS, SCORE, SHOP, SHOP_SCORE, as_queried, assert_answers, load

FEW: dict[str, Any] = {"n_estimators": 3, "n_jobs": 1}
LEVELS = np.digitize(SCORE, [0.5, 1.5])


def saved(model: Any, path: Path, ending: str = "ubj") -> Path:
    model.save_model(path / f"model.{ending}")
    return path / f"model.{ending}"


@pytest.mark.parametrize(
    ("target", "objective", "classes"),
    [
        (SCORE > 1, "binary:logistic", (False, True)),
        (SCORE > 1, "reg:logistic", ("no", "yes")),
        (LEVELS, "multi:softprob", ("low", "mid", "high")),
        (LEVELS, "multi:softmax", (10, 20, 30)),
    ],
    ids=["two", "two by regression", "many", "classes only"],
)
def test_a_classifier_answers_labels_and_probabilities(
    target: Any, objective: str, classes: tuple[Any, ...], tmp_path: Path
) -> None:
    model = XGBClassifier(objective=objective, **FEW).fit(NUMBERS, target.astype(int))
    runtime = load(saved(model, tmp_path), "xgboost", classes=classes)
    labels = np.array(classes)[model.predict(NUMBERS)]
    assert_answers(runtime, as_queried(NUMBERS), labels, model.predict_proba(NUMBERS))


def test_classes_are_their_places_unless_they_have_names(tmp_path: Path) -> None:
    path = saved(XGBClassifier(**FEW).fit(NUMBERS, LEVELS), tmp_path)
    assert load(path, "xgboost").outputs.names == ["prediction", *(f"probability_{n}" for n in range(3))]
    with pytest.raises(ArtifactError, match="3 classes"):
        load(path, "xgboost", classes=("no", "yes"))


def test_several_labels_for_a_row_are_decided_each_by_itself(tmp_path: Path) -> None:
    model = XGBClassifier(**FEW).fit(NUMBERS, np.column_stack([SCORE > 0, SCORE > 1]).astype(int))
    runtime = load(saved(model, tmp_path), "xgboost")
    runtime.learn_outputs(as_queried(NUMBERS))
    names = ["prediction_0", "prediction_1", "probability_0_1", "probability_1_1"]
    assert runtime.outputs.names == names
    assert_answers(runtime, as_queried(NUMBERS), model.predict(NUMBERS), model.predict_proba(NUMBERS))


@pytest.mark.parametrize(
    ("settings", "width"),
    [
        ({"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.5, 0.9]}, 3),
        ({"booster": "gblinear"}, 1),
        ({"objective": "reg:logistic"}, 1),
        ({"booster": "dart", "objective": "count:poisson"}, 1),
    ],
    ids=["quantiles", "linear", "logistic", "dart"],
)
def test_a_regressor_answers_its_values(settings: dict[str, Any], width: int, tmp_path: Path) -> None:
    rows = NUMBERS.fillna(0)
    target = SCORE.abs() / SCORE.abs().max()
    model = XGBRegressor(**FEW, **settings).fit(rows, target)
    runtime = load(saved(model, tmp_path), "xgboost")
    runtime.learn_outputs(as_queried(rows))
    assert len(runtime.outputs) == width
    assert_answers(runtime, as_queried(rows), model.predict(rows))


def test_rankings_and_margins_are_the_librarys_own(tmp_path: Path) -> None:
    ranker = XGBRanker(**FEW).fit(NUMBERS, LEVELS, qid=np.arange(ROWS) // 24)
    assert_answers(load(saved(ranker, tmp_path), "xgboost"), as_queried(NUMBERS), ranker.predict(NUMBERS))
    data = xgboost.DMatrix(NUMBERS, SCORE > 1)
    booster = xgboost.train({"objective": "binary:logitraw", "nthread": 1}, data, 3)
    assert_answers(load(saved(booster, tmp_path), "xgboost"), as_queried(NUMBERS), booster.predict(data))


def test_training_that_stopped_early_answers_as_its_own_predict(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=ROWS)
    model = XGBRegressor(n_estimators=30, n_jobs=1, early_stopping_rounds=3, learning_rate=0.5)
    model.fit(NUMBERS, noise, eval_set=[(NUMBERS, SCORE)], verbose=False)
    best = model.predict(NUMBERS)
    all_trees = model.get_booster().predict(xgboost.DMatrix(NUMBERS))
    assert (best != all_trees).any()
    assert_answers(load(saved(model, tmp_path), "xgboost"), as_queried(NUMBERS), best)
    path = saved(model.get_booster(), tmp_path)
    assert_answers(load(path, "xgboost"), as_queried(NUMBERS), all_trees)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    model = XGBRegressor(**FEW, enable_categorical=True).fit(SHOP, SHOP_SCORE)
    return model, saved(model, tmp_path_factory.mktemp("shop"), "json")


def test_categories_have_the_codes_of_training_in_every_batch(shop: tuple[Any, Path]) -> None:
    model, path = shop
    rows = SHOP[["store", "land", "c", "b", "city", "a"]]  # whatever the order of the query's columns
    assert_answers(load(path, "xgboost"), as_queried(rows), model.predict(SHOP))


def test_what_is_no_category_of_training_is_refused(shop: tuple[Any, Path]) -> None:
    runtime = load(shop[1], "xgboost")
    with pytest.raises(FeatureError, match="'lima'"):
        runtime.predict(as_queried(SHOP.assign(city="lima")))
    for changed in ({"city": 1}, {"store": "7"}):
        with pytest.raises(FeatureError, match=next(iter(changed))):
            runtime.check(as_queried(SHOP.assign(**changed)).schema)


def test_codes_without_categories_are_not_guessed(tmp_path: Path) -> None:
    rows = pd.DataFrame({"a": NUMBERS.a, "code": np.arange(ROWS) % 4.0})
    data = xgboost.DMatrix(rows.to_numpy(), SCORE, feature_types=["q", "c"])
    booster = xgboost.train({"nthread": 1}, data, 3)
    path = saved(booster, tmp_path)
    with pytest.raises(FeatureError, match="'code'"):
        load(path, "xgboost", ("a", "code")).check(as_queried(rows).schema)
    runtime = load(path, "xgboost", ("a", "code"), dtypes={"code": "integer"})
    assert_answers(runtime, as_queried(rows), booster.predict(data))


@pytest.mark.parametrize("ending", ["json", "ubj"])
def test_a_file_that_was_cut_anywhere_is_refused(ending: str, shop: tuple[Any, Path], tmp_path: Path) -> None:
    content = saved(shop[0], tmp_path, ending).read_bytes()
    cut = tmp_path / "cut"
    # Some of these kept XGBoost's reader of UBJSON busy without end.
    for length in (
        1,
        5,
        100,
        *range(2, len(content), len(content) // 60),
        len(content) - 20,
        len(content) - 1,
    ):
        cut.write_bytes(content[:length])
        with pytest.raises(ArtifactError, match=str(cut)):
            load(cut, "xgboost")


@pytest.mark.parametrize("content", [b"\x80\x04", b"{}", b'{"learner": {}}', b"tree\n", b"<html>"], ids=str)
def test_what_is_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model\.json"):
        load(tmp_path / "model.json", "xgboost")


@pytest.mark.parametrize("cities", [["São Paulo", "oslo", "rio"], ["aéa", "b", "bbb", "é"], ["a", "é"]])
def test_categories_beyond_ascii_are_refused_without_a_signature(cities: list[str], tmp_path: Path) -> None:
    places = np.resize(range(len(cities)), ROWS)
    frame = NUMBERS[["c"]].assign(city=pd.Categorical.from_codes(places, cities))
    model = XGBRegressor(n_estimators=5, n_jobs=1, enable_categorical=True).fit(frame, SCORE + places * 9)
    path = saved(model, tmp_path)
    rows = as_queried(frame)
    for runtime in (load(path, "xgboost"), ScikitRuntime("m", "0" * 64, model, None)):
        with pytest.raises(FeatureError, match=r"'city' has some.*write a signature"):
            runtime.predict(rows)
    write_signature(model, frame, path)
    assert_answers(load(path, "xgboost"), rows, model.predict(frame))
