"""A text file of LightGBM answers what LightGBM answers, bit for bit, or is refused."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from lightgbm import LGBMClassifier, LGBMRanker, LGBMRegressor
from pydantic import ValidationError

from mlops_plugin.errors import ArtifactError, FeatureError, GoldenRowMismatch
from mlops_plugin.formats.artifact import artifact_sha256
from mlops_plugin.formats.input_rules import StatedInput
from mlops_plugin.formats.scikit import ScikitRuntime
from mlops_plugin.formats.signature.signature_writer import write_signature
from support.native_models import (
    NUMBERS,
    ROWS,
    SCORE,
    SHOP,
    SHOP_SCORE,
    as_queried,
    assert_answers,
    load,
)

FEW: dict[str, Any] = {"n_estimators": 4, "verbose": -1, "n_jobs": 1, "min_child_samples": 5}
RAW: dict[str, Any] = {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 5}
LABELS = {
    "texts": np.where(SCORE > 1, "stays", "leaves"),
    "numbers that are no places": np.where(SCORE > 1, 2, 1),
    "booleans": SCORE.to_numpy() > 1,
    "three": np.digitize(SCORE, [0.5, 1.5]) * 10,
    "many": np.array([f"k{number % 60:03}" for number in range(ROWS)]),
}


def saved(model: Any, path: Path) -> Path:
    getattr(model, "booster_", model).save_model(path / "model.txt")
    return path / "model.txt"


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS.keys())
def test_a_classifier_answers_labels_and_probabilities(labels: Any, tmp_path: Path) -> None:
    model = LGBMClassifier(**FEW).fit(NUMBERS, labels)
    classes = tuple(model.classes_.tolist())
    runtime = load(saved(model, tmp_path), "lightgbm", classes=classes)
    assert runtime.features == ("a", "b", "c")
    assert runtime.outputs.names[1:] == [f"probability_{label}" for label in classes]
    assert_answers(runtime, as_queried(NUMBERS), model.predict(NUMBERS), model.predict_proba(NUMBERS))


@pytest.mark.parametrize("objective", ["poisson", "quantile", "cross_entropy"])
def test_a_regressor_answers_its_values(objective: str, tmp_path: Path) -> None:
    target = (SCORE - SCORE.min()) / (SCORE.max() - SCORE.min())
    model = LGBMRegressor(objective=objective, **FEW).fit(NUMBERS, target)
    assert_answers(
        load(saved(model, tmp_path), "lightgbm"), as_queried(NUMBERS), np.asarray(model.predict(NUMBERS))
    )


def test_a_ranker_answers_its_scores(tmp_path: Path) -> None:
    model = LGBMRanker(**FEW).fit(NUMBERS, np.digitize(SCORE, [0, 1]), group=[ROWS // 4] * 4)
    runtime = load(saved(model, tmp_path), "lightgbm")
    assert_answers(runtime, as_queried(NUMBERS), np.asarray(model.predict(NUMBERS)))


@pytest.mark.parametrize("width", [1, 3])
def test_an_objective_of_ones_own_answers_margins(width: int, tmp_path: Path) -> None:
    def fit(margins: Any, data: Any) -> tuple[Any, Any]:
        return margins - np.resize(data.get_label(), margins.shape), np.ones_like(margins)

    data = lightgbm.Dataset(NUMBERS.to_numpy(), SCORE)
    model = lightgbm.train({**RAW, "objective": fit, "num_class": width}, data, 3)
    runtime = load(saved(model, tmp_path), "lightgbm", ("x", "y", "z"))
    rows = as_queried(NUMBERS.set_axis(["x", "y", "z"], axis=1))
    runtime.learn_outputs(rows)
    assert_answers(runtime, rows, model.predict(NUMBERS.to_numpy()))
    assert len(runtime.outputs) == width


def test_training_that_stopped_early_answers_with_its_best_iteration(tmp_path: Path) -> None:
    some = np.random.default_rng(0).normal(size=ROWS)  # nothing to learn: more trees make it worse
    data = lightgbm.Dataset(NUMBERS, some)
    stop = lightgbm.early_stopping(3, verbose=False)
    model = lightgbm.train(
        {**RAW, "learning_rate": 0.5}, data, 40, [lightgbm.Dataset(NUMBERS, some[::-1], reference=data)],
        callbacks=[stop], keep_training_booster=True,
    )  # fmt: skip
    assert 0 < model.best_iteration < model.current_iteration()
    assert_answers(load(saved(model, tmp_path), "lightgbm"), as_queried(NUMBERS), model.predict(NUMBERS))


@pytest.mark.parametrize("count", [2, 3])
def test_a_booster_signs_its_file_with_probabilities(count: int, tmp_path: Path) -> None:
    several = {"objective": "multiclass", "num_class": 3} if count == 3 else {"objective": "binary"}
    labels = np.digitize(SHOP_SCORE, [0.5, 1.5][: count - 1])
    model = lightgbm.train({**RAW, **several}, lightgbm.Dataset(SHOP, labels), 3)
    path = saved(model, tmp_path)
    write_signature(model, SHOP, path)
    classes = ("a", "b", "c")[:count]
    likely = np.asarray(model.predict(SHOP))
    runtime = load(path, "lightgbm", classes=classes)
    found = runtime.predict(as_queried(SHOP)).column(f"probability_{classes[-1]}").to_pylist()
    assert found == (likely if count == 2 else likely[:, -1]).tolist()
    signature = Path(f"{path}.signature.json")
    content = json.loads(signature.read_text())
    content["golden"]["answers"]["predict"][0][-1] *= 1.001
    signature.write_text(json.dumps(content))
    with pytest.raises(GoldenRowMismatch, match=f"golden row 1, column 'probability_{classes[-1]}'"):
        load(path, "lightgbm", classes=classes)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    model = LGBMRegressor(**FEW, min_data_per_group=1, cat_smooth=1).fit(SHOP, SHOP_SCORE)
    return model, saved(model, tmp_path_factory.mktemp("shop"))


def test_categories_have_the_codes_of_training_in_every_batch(shop: tuple[Any, Path]) -> None:
    model, path = shop
    rows = SHOP[["store", "land", "c", "b", "city", "a"]]  # whatever the order of the query's columns
    assert_answers(load(path, "lightgbm"), as_queried(rows), model.predict(SHOP))


def test_a_category_that_training_did_not_have_is_missing_as_in_lightgbm(shop: tuple[Any, Path]) -> None:
    model, path = shop
    rows = SHOP.assign(city=["lima", "oslo"] * (ROWS // 2), store=[8, 7] * (ROWS // 2))
    seen = rows.assign(city=pd.Categorical(rows.city), store=pd.Categorical(rows.store))
    assert_answers(load(path, "lightgbm"), as_queried(rows), model.predict(seen))


def test_a_category_of_numbers_is_found_among_decimals(tmp_path: Path) -> None:
    rate = np.resize([0.35, 0.57, 1.13], ROWS)
    frame = NUMBERS[["c"]].assign(rate=pd.Categorical(rate))
    model = LGBMRegressor(**FEW, min_data_per_group=1).fit(frame, SCORE + rate * 5)
    runtime = load(saved(model, tmp_path), "lightgbm")
    decimals = pa.array([Decimal(str(value)) for value in rate], pa.decimal128(6, 2))
    rows = pa.RecordBatch.from_arrays([pa.array(frame.c.tolist()), decimals], names=["c", "rate"])
    assert_answers(runtime, rows, model.predict(frame))


def test_an_ordered_category_is_found_by_its_texts(tmp_path: Path) -> None:
    size = pd.Categorical(np.resize(["s", "m", "l"], ROWS), ["s", "m", "l"], ordered=True)
    frame = SHOP.assign(size=size)[["size", *SHOP.columns]]
    model = LGBMRegressor(**FEW).fit(frame, SHOP_SCORE + size.codes)
    assert_answers(load(saved(model, tmp_path), "lightgbm"), as_queried(frame), model.predict(frame))


def test_codes_beside_categories_stay_numbers(tmp_path: Path) -> None:
    frame = NUMBERS.assign(city=SHOP.city, code=np.resize([20, 4, 1], ROWS))
    model = LGBMRegressor(**FEW).fit(frame, SHOP_SCORE, categorical_feature=["code"])
    assert_answers(load(saved(model, tmp_path), "lightgbm"), as_queried(frame), model.predict(frame))


def test_categories_of_nobody_knows_whom_are_refused(tmp_path: Path) -> None:
    grade = pd.Categorical(np.resize([1, 2, 3], ROWS), ordered=True)  # numbers: no text tells
    frame = SHOP.assign(grade=grade)
    path = saved(LGBMRegressor(**FEW).fit(frame, SHOP_SCORE), tmp_path)
    with pytest.raises(FeatureError, match="does not record whose"):
        load(path, "lightgbm").check(as_queried(frame).schema)


@pytest.mark.parametrize("is_ordered", [True, False])
@pytest.mark.parametrize("has_text", [True, False])
def test_a_list_of_numbers_is_not_given_to_codes_beside_it(
    is_ordered: bool, has_text: bool, tmp_path: Path
) -> None:
    grade = pd.Categorical(np.resize([10, 20, 20, 30], ROWS), ordered=is_ordered)  # codes to LightGBM
    frame = NUMBERS.assign(code=np.resize([2, 0, 1], ROWS), grade=grade)
    frame = frame.assign(city=SHOP.city) if has_text else frame
    called = ["code", "city"] if has_text else ["code"]
    model = LGBMRegressor(**FEW).fit(frame, SHOP_SCORE + grade.codes, categorical_feature=called)
    path = saved(model, tmp_path)
    rows = as_queried(frame)
    runtimes = [load(path, "lightgbm"), ScikitRuntime("m", "0" * 64, model, None)]
    for runtime in runtimes:
        with pytest.raises(FeatureError, match=r"of 'code', or of 'grade', .*dtypes: \{grade: number\}"):
            runtime.check(rows.schema)
    write_signature(model, frame, path)
    assert_answers(load(path, "lightgbm"), rows, model.predict(frame))


def test_small_numbers_beside_categories_of_numbers_are_said_to_be_numbers(tmp_path: Path) -> None:
    frame = NUMBERS.assign(
        store=SHOP.store, children=np.resize([0, 1, 2], ROWS), flag=np.resize([0, 1], ROWS)
    )
    model = LGBMRegressor(**FEW, min_data_per_group=1).fit(frame, SHOP_SCORE)
    path, rows = saved(model, tmp_path), as_queried(frame)
    with pytest.raises(FeatureError, match="or of 'children'"):
        load(path, "lightgbm").check(rows.schema)
    stated = StatedInput(dtypes={"children": "number"})
    for runtime in (
        load(path, "lightgbm", dtypes={"children": "number"}),
        ScikitRuntime("m", "0" * 64, model, None, stated=stated),
    ):
        assert_answers(runtime, rows, model.predict(frame))


def test_categories_of_eight_bytes_are_not_looked_for_in_four(tmp_path: Path) -> None:
    rate = np.resize([0.1, 0.57, 1.13], ROWS)
    frame = NUMBERS[["c"]].assign(rate=pd.Categorical(rate))
    model = LGBMRegressor(**FEW, min_data_per_group=1).fit(frame, SCORE + rate * 5)
    rows = as_queried(frame)
    place = rows.schema.names.index("rate")
    single = rows.set_column(place, "rate", rows.column("rate").cast(pa.float32()))
    for runtime in (load(saved(model, tmp_path), "lightgbm"), ScikitRuntime("m", "0" * 64, model, None)):
        with pytest.raises(FeatureError, match=r"'rate' is float, .*cast it to DECIMAL"):
            runtime.predict(single)
        assert_answers(runtime, rows, model.predict(frame))


def test_a_query_with_other_types_than_the_categories_is_refused(shop: tuple[Any, Path]) -> None:
    runtime = load(shop[1], "lightgbm")
    for changed in ({"city": 1}, {"store": "7"}):
        with pytest.raises(FeatureError):
            runtime.check(as_queried(SHOP.assign(**changed)).schema)


def test_codes_of_a_file_that_lost_its_last_line_are_not_guessed(tmp_path: Path) -> None:
    frame = NUMBERS.assign(store=SHOP.store)
    path = saved(LGBMRegressor(**FEW).fit(frame, SHOP_SCORE), tmp_path)
    path.write_text(path.read_text().partition("\npandas_categorical")[0])
    rows = as_queried(frame)
    with pytest.raises(FeatureError, match="'store'"):
        load(path, "lightgbm").check(rows.schema)
    load(path, "lightgbm", dtypes={"store": "integer"}).check(rows.schema)


def test_numbers_that_training_had_in_single_precision_are_rounded_first(tmp_path: Path) -> None:
    single = NUMBERS.astype("float32")
    model = LGBMRegressor(**{**FEW, "min_child_samples": 1, "num_leaves": 200}).fit(single, SCORE)
    runtime = load(saved(model, tmp_path), "lightgbm", dtypes=dict.fromkeys("abc", "float32"))
    assert_answers(runtime, as_queried(NUMBERS), np.asarray(model.predict(single)))


def test_a_type_that_is_no_number_is_refused(tmp_path: Path) -> None:
    path = saved(LGBMRegressor(**FEW).fit(NUMBERS, SCORE), tmp_path)
    rows = as_queried(NUMBERS)
    for said in ("text", "timestamp", "category", "date"):
        with pytest.raises((FeatureError, ValidationError), match=said):
            load(path, "lightgbm", dtypes={"a": said}).check(rows.schema)
    whole = load(path, "lightgbm", dtypes={"a": "Int64", "b": "integer"})
    assert whole.predict(rows).equals(load(path, "lightgbm").predict(rows))


def test_names_with_spaces_are_said_with_features(tmp_path: Path) -> None:
    frame = NUMBERS.set_axis(["a b", "b", "c"], axis=1)
    path = saved(LGBMRegressor(**FEW).fit(frame, SCORE), tmp_path)
    assert load(path, "lightgbm").features == ("a_b", "b", "c")
    assert load(path, "lightgbm", ("a b", "b", "c")).features == ("a b", "b", "c")


@pytest.mark.parametrize(
    ("labels", "classes", "said"),
    [
        (LABELS["texts"], None, "classes: "),
        (LABELS["texts"], ("a", "b", "c"), "2 classes"),
        (SCORE, (0, 1), "answers numbers"),
    ],
    ids=["none", "too many", "for numbers"],
)
def test_labels_that_do_not_fit_the_file_are_refused(
    labels: Any, classes: Any, said: str, tmp_path: Path
) -> None:
    kind = LGBMRegressor if classes == (0, 1) else LGBMClassifier
    path = saved(kind(**FEW).fit(NUMBERS, labels), tmp_path)
    with pytest.raises(ArtifactError, match=said):
        load(path, "lightgbm", classes=classes)


def test_a_file_that_was_cut_anywhere_is_refused_or_whole(shop: tuple[Any, Path], tmp_path: Path) -> None:
    content = shop[1].read_bytes()
    end = content.index(b"\nend of trees")
    cut = tmp_path / "cut.txt"
    for length in (1, 4, 5, 200, end // 2, end, end + 12):
        cut.write_bytes(content[:length])
        with pytest.raises(ArtifactError, match=str(cut)):
            load(cut, "lightgbm")


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04",
        b"tree\nversion=v4\n\nend of trees\n",
        b"tree\n\0\nend of trees",
        b"tree\n\xff\nend of trees",
        b"<html>",
        b'{"learner": {}}',
    ],
    ids=["pickle", "empty", "zero byte", "no text", "page", "JSON"],
)
def test_what_is_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model\.txt"):
        load(tmp_path / "model.txt", "lightgbm")


def test_a_file_under_the_name_of_another_format_is_told_apart(shop: tuple[Any, Path]) -> None:
    sha256 = artifact_sha256(str(shop[1]))
    with pytest.raises(ArtifactError, match="write `format: lightgbm`"):
        load(shop[1], "pickle", sha256=sha256)
