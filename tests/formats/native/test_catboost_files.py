"""A file of CatBoost answers what CatBoost answers, bit for bit, or is refused."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from catboost import CatBoost, CatBoostClassifier, CatBoostRanker, CatBoostRegressor, Pool
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlops_plugin.errors import ArtifactError, FeatureError
from mlops_plugin.formats.scikit import ScikitRuntime
from mlops_plugin.pipeline.validation.refusals import predict_each
from support.native_models import NUMBERS, ROWS, SCORE, SHOP, SHOP_SCORE, as_queried, assert_answers, load

FEW: dict[str, Any] = {
    "iterations": 5, "depth": 3, "verbose": False, "thread_count": 1, "allow_writing_files": False
}  # fmt: skip
FILLED = SHOP.assign(city=SHOP.city.astype(object).fillna("none")).astype({"store": int, "land": str})
CATEGORIES = ["city", "store", "land"]


def saved(model: Any, path: Path) -> Path:
    model.save_model(str(path / "model.cbm"))
    return path / "model.cbm"


@pytest.mark.parametrize(
    "labels",
    [
        np.where(SCORE > 1, "stays", "leaves"),
        np.digitize(SCORE, [0.5, 1.5]) * 10,
        (SCORE > 1).to_numpy(),
        np.where(SCORE > 1, 1.5, 2.5),
    ],
    ids=["texts", "whole numbers", "booleans", "floats"],
)
def test_a_classifier_answers_the_labels_of_its_file(labels: Any, tmp_path: Path) -> None:
    model = CatBoostClassifier(**FEW).fit(NUMBERS, labels)
    runtime = load(saved(model, tmp_path), "catboost")
    assert runtime.outputs.names[1:] == [f"probability_{label}" for label in model.classes_.tolist()]
    predicted = np.asarray(model.predict(NUMBERS)).reshape(-1)
    assert_answers(runtime, as_queried(NUMBERS), predicted, model.predict_proba(NUMBERS))


def test_a_border_of_ones_own_decides(tmp_path: Path) -> None:
    model = CatBoostClassifier(**FEW).fit(NUMBERS, (SCORE > 1).astype(int))
    before = model.predict(NUMBERS)
    model.set_probability_threshold(0.3)
    after = model.predict(NUMBERS)
    assert (before != after).any()
    runtime = load(saved(model, tmp_path), "catboost")
    assert_answers(runtime, as_queried(NUMBERS), after, model.predict_proba(NUMBERS))


def test_classes_that_are_as_likely_are_decided_by_the_library(tmp_path: Path) -> None:
    rows = pd.DataFrame({"a": [0.0, 1.0] * 20})
    labels = [0, 1] * 10 + [1, 0] * 10  # nothing to learn: each probability is a half
    model = CatBoostClassifier(**FEW).fit(rows, labels)
    runtime = load(saved(model, tmp_path), "catboost")
    found = runtime.predict(as_queried(rows)).column("prediction").to_pylist()
    assert found == model.predict(rows).tolist()


def test_several_labels_for_a_row_are_decided_each_by_itself(tmp_path: Path) -> None:
    labels = np.column_stack([SCORE > 0, SCORE > 1, SCORE > 2]).astype(int)
    model = CatBoostClassifier(loss_function="MultiLogloss", **FEW).fit(NUMBERS, labels)
    runtime = load(saved(model, tmp_path), "catboost")
    runtime.learn_outputs(as_queried(NUMBERS))
    assert runtime.outputs.names[3:] == [f"probability_{number}_1" for number in range(3)]
    assert_answers(runtime, as_queried(NUMBERS), model.predict(NUMBERS), model.predict_proba(NUMBERS))


@pytest.mark.parametrize(
    ("loss", "width"),
    [
        ("Poisson", 1),
        ("Tweedie:variance_power=1.5", 1),
        ("MultiQuantile:alpha=0.1,0.9", 2),
        ("RMSEWithUncertainty", 2),
    ],
)
def test_a_regressor_answers_its_values(loss: str, width: int, tmp_path: Path) -> None:
    model = CatBoostRegressor(loss_function=loss, **FEW).fit(NUMBERS, SCORE.abs())
    runtime = load(saved(model, tmp_path), "catboost")
    runtime.learn_outputs(as_queried(NUMBERS))
    assert len(runtime.outputs) == width
    assert_answers(runtime, as_queried(NUMBERS), model.predict(NUMBERS))


def test_rankings_and_columns_without_names_are_served(tmp_path: Path) -> None:
    rows = NUMBERS.to_numpy()
    model = CatBoostRanker(**FEW).fit(rows, SCORE, group_id=np.arange(ROWS) // 24)
    path = saved(model, tmp_path)
    with pytest.raises(FeatureError, match="features"):
        load(path, "catboost")
    assert_answers(load(path, "catboost", ("a", "b", "c")), as_queried(NUMBERS), model.predict(rows))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    model = CatBoostRegressor(**FEW, one_hot_max_size=1).fit(FILLED, SHOP_SCORE, cat_features=CATEGORIES)
    return model, saved(model, tmp_path_factory.mktemp("shop"))


def test_categories_are_those_of_training_in_every_batch(shop: tuple[Any, Path]) -> None:
    model, path = shop
    runtime = load(path, "catboost")
    assert_answers(runtime, as_queried(FILLED[[*CATEGORIES, "c", "b", "a"]]), model.predict(FILLED))
    unseen = FILLED.assign(city="lima", store=99)
    assert_answers(runtime, as_queried(unseen), model.predict(unseen))
    for changed, said in (({"city": None}, "refuses NULL"), ({"store": 1.5}, "'store' is double")):
        with pytest.raises(FeatureError, match=said):
            runtime.predict(as_queried(FILLED.assign(**changed)))


def test_categories_without_names_are_found_by_their_places(tmp_path: Path) -> None:
    rows = FILLED[["a", "store"]].to_numpy(dtype=object)
    model = CatBoostRegressor(**FEW).fit(Pool(rows, SCORE, cat_features=[1]))
    runtime = load(saved(model, tmp_path), "catboost", ("a", "store"))
    assert_answers(runtime, as_queried(FILLED), model.predict(Pool(rows, cat_features=[1])))


WRITINGS: dict[str, tuple[Any, Any]] = {  # in training, and in the query
    "texts of booleans": (lambda flag: str(bool(flag)), bool),
    "texts of booleans as numbers": (lambda flag: str(bool(flag)), int),
    "texts of numbers with NaN": (lambda flag: f"{flag + 6}.0", lambda flag: int(flag + 6)),
    "whole numbers": (lambda flag: int(flag + 6), lambda flag: f"{flag + 6}.0"),
    "whole numbers for zeros before them": (lambda flag: int(flag + 6), lambda flag: f"00{flag + 6}"),
    "texts without blanks behind them": (lambda flag: f"k{flag}", lambda flag: f"k{flag}  "),
}


@pytest.mark.parametrize("one_hot", [1, 5], ids=["counted", "one-hot"])
@pytest.mark.parametrize("writing", WRITINGS)
def test_a_category_that_the_query_writes_otherwise_is_refused(
    writing: str, one_hot: int, tmp_path: Path
) -> None:
    trained, queried = WRITINGS[writing]
    flags = np.resize([0, 1, 1], ROWS)
    frame = NUMBERS[["c"]].assign(flag=[trained(flag) for flag in flags])
    settings = {**FEW, "cat_features": ["flag"], "one_hot_max_size": one_hot}
    model = CatBoostRegressor(**settings).fit(frame, NUMBERS.c + flags * 4)
    runtime = load(saved(model, tmp_path), "catboost")
    assert_answers(runtime, as_queried(frame), model.predict(frame))
    again = load(tmp_path / "model.cbm", "catboost")
    with pytest.raises(FeatureError, match=r"column 'flag': .*category of training is '"):
        again.predict(as_queried(frame.assign(flag=[queried(flag) for flag in flags])))
    told = load(tmp_path / "model.cbm", "catboost", dtypes={"flag": "text"})
    told.predict(as_queried(frame.assign(flag=[queried(flag) for flag in flags])))
    as_number = load(tmp_path / "model.cbm", "catboost", dtypes={"flag": "integer"})
    with pytest.raises(FeatureError, match="category of training is"):
        as_number.predict(as_queried(frame.assign(flag=[queried(flag) for flag in flags])))
    # What nobody had is unknown, in whatever writing.
    unknown = frame.assign(flag=[type(trained(0))(77 + flag) for flag in flags])
    assert_answers(load(tmp_path / "model.cbm", "catboost"), as_queried(unknown), model.predict(unknown))


def of_flags(folder: Path, trained: Any) -> Path:
    """A model of numbers and a flag, which training has in these words."""
    frame = NUMBERS[["c"]].assign(flag=trained)
    effect = np.unique(trained, return_inverse=True)[1] * 4
    model = CatBoostRegressor(**FEW, cat_features=["flag"], one_hot_max_size=1).fit(frame, NUMBERS.c + effect)
    return saved(model, folder)


@pytest.mark.parametrize(
    ("trained", "queried"),
    [
        (np.resize(["False", "True"], ROWS), np.repeat([77, 1], [60, ROWS - 60])),
        (np.resize(["7.0", "30.0", "none"], ROWS), np.resize(["7", "30", "none"], ROWS)),
    ],
    ids=["behind many others", "beside a category of training"],
)
def test_a_category_is_looked_at_wherever_it_is(trained: Any, queried: Any, tmp_path: Path) -> None:
    runtime = load(of_flags(tmp_path, trained), "catboost")
    with pytest.raises(FeatureError, match=r"column 'flag': .*category of training is '"):
        runtime.predict(as_queried(NUMBERS[["c"]].assign(flag=queried)))


def test_no_row_with_such_a_category_is_answered_because_many_others_were_asked_alone(tmp_path: Path) -> None:
    runtime = load(of_flags(tmp_path, np.resize(["False", "True"], ROWS)), "catboost")
    rows = as_queried(NUMBERS[["c"]].assign(flag=np.resize([77, 77, 77, 77, 1], ROWS)))
    with pytest.raises(FeatureError, match="column 'flag'"):
        predict_each(runtime, rows)


def _in_a_pipeline(model: Any) -> Any:
    return make_pipeline("passthrough", model)


def _behind_columns(model: Any) -> Any:
    passed = ColumnTransformer([("c", StandardScaler(), ["c"])], remainder="passthrough")
    passed.set_output(transform="pandas").set_params(verbose_feature_names_out=False)
    return make_pipeline(passed, model)


@pytest.mark.parametrize("composed", [lambda model: model, _in_a_pipeline, _behind_columns])
@pytest.mark.parametrize("kind", [CatBoostRegressor, CatBoostRanker])
def test_a_pickled_model_refuses_such_categories_too(kind: Any, composed: Any, tmp_path: Path) -> None:
    flags = np.resize([False, True, True], ROWS)
    frame = NUMBERS[["c"]].assign(flag=flags.astype(str))
    model = composed(kind(**FEW, cat_features=["flag"]))
    groups = {} if kind is CatBoostRegressor else {"group_id": np.arange(ROWS) // 10}
    name = "" if isinstance(model, kind) else f"{kind.__name__.lower()}__"
    model.fit(frame, NUMBERS.c + flags * 4, **{f"{name}{each}": values for each, values in groups.items()})
    joblib.dump(model, tmp_path / "model.joblib")
    pin = sha256((tmp_path / "model.joblib").read_bytes()).hexdigest()
    runtime = load(tmp_path / "model.joblib", "joblib", sha256=pin)
    found = runtime.predict(as_queried(frame)).column("prediction").to_pylist()
    assert found == model.predict(frame).tolist()
    # Also after rows with the categories of training.
    with pytest.raises(FeatureError, match=r"column 'flag': .*category of training is '"):
        runtime.predict(as_queried(frame.assign(flag=flags)))


def test_an_array_of_categories_in_a_pipeline_is_looked_at(tmp_path: Path) -> None:
    flags = np.resize([False, True, True], ROWS)
    rows = np.column_stack([NUMBERS.c.to_numpy(object), flags.astype(str).astype(object)])
    model = _in_a_pipeline(CatBoostRegressor(**FEW, cat_features=[1])).fit(rows, NUMBERS.c + flags * 4)
    runtime = ScikitRuntime("m", "0" * 64, model, ("c", "flag"))
    frame = NUMBERS[["c"]].assign(flag=flags)
    found = runtime.predict(as_queried(frame.assign(flag=flags.astype(str)))).column("prediction")
    assert found.to_pylist() == model.predict(rows).tolist()
    with pytest.raises(FeatureError, match=r"category of training is 'False'"):
        runtime.predict(as_queried(frame))


@pytest.mark.parametrize("loss", ["Logloss", "RMSE"])
def test_a_pickled_model_of_the_base_class_answers_raw_values(loss: str) -> None:
    model = CatBoost({**FEW, "loss_function": loss}).fit(NUMBERS, (SCORE > 1).astype(int))
    runtime = ScikitRuntime("m", "0" * 64, model, None)
    assert_answers(runtime, as_queried(NUMBERS), model.predict(NUMBERS))


def test_labels_of_the_file_are_not_renamed(tmp_path: Path) -> None:
    path = saved(CatBoostClassifier(**FEW).fit(NUMBERS, (SCORE > 1).astype(int)), tmp_path)
    load(path, "catboost", classes=(0, 1))
    with pytest.raises(ArtifactError, match="0, 1"):
        load(path, "catboost", classes=("no", "yes"))


def test_a_file_that_was_cut_anywhere_is_refused(shop: tuple[Any, Path], tmp_path: Path) -> None:
    content = shop[1].read_bytes()
    trees = int.from_bytes(content[4:8], "little") + 8
    assert trees < len(content)  # tables of categories follow
    cut = tmp_path / "cut.cbm"
    for length in (3, 4, 8, 200, trees // 2, trees - 1, trees, trees + 2, trees + 40, len(content) - 1):
        cut.write_bytes(content[:length])
        with pytest.raises(ArtifactError, match=str(cut)):
            load(cut, "catboost")


@pytest.mark.parametrize("content", [b"\x80\x04", b"{}", b"CBM1", b"CBM1" + bytes(64)], ids=str)
def test_what_is_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.cbm").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model\.cbm"):
        load(tmp_path / "model.cbm", "catboost")
