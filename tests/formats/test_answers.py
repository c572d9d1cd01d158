"""What a loaded model says about rows: features by name, outputs by kind of model, and clear refusals."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FunctionTransformer, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, PowerTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from mlops_plugin.config.schema import ArtifactConfig
from mlops_plugin.errors import ArtifactError, FeatureError
from mlops_plugin.formats.runtime import Runtime, artifact_sha256, load_runtime

ROWS = np.random.default_rng(0).normal(size=(60, 3))
# A view, so in C order: linear models answer an F-ordered table with other last bits.
FRAME = pd.DataFrame(ROWS, columns=["age", "income", "debt"], copy=False)
CLASSES = np.arange(60) % 3
BOTH = np.column_stack([CLASSES, (CLASSES + 4) * 2])
LABELS = np.column_stack([CLASSES > 0, CLASSES > 1, CLASSES > 1]).astype(int)

Load = Callable[..., Runtime]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Save a fitted model and load it as the pipeline does."""

    def load(model: Any, features: tuple[str, ...] | None = None) -> Runtime:
        path = str(tmp_path / "model.joblib")
        joblib.dump(model, path)
        artifact = ArtifactConfig(format="joblib", uri=path, sha256=artifact_sha256(path))
        return load_runtime(artifact, features=features)

    return load


def rows(**columns: Any) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(columns)


def batch(frame: pd.DataFrame) -> pa.RecordBatch:
    return pa.RecordBatch.from_pandas(frame, preserve_index=False)


def test_columns_are_found_by_name_in_any_order_and_others_are_ignored(load: Load) -> None:
    model = LogisticRegression().fit(FRAME, CLASSES)
    mixed = FRAME.assign(id=range(60), note="x")[["note", "debt", "id", "age", "income"]]
    found = load(model).predict(batch(mixed))
    np.testing.assert_array_equal(found.column("prediction"), model.predict(FRAME))
    np.testing.assert_array_equal(found.column("probability_2"), model.predict_proba(FRAME)[:, 2])


def test_features_and_outputs_are_known_before_any_row(load: Load) -> None:
    runtime = load(LogisticRegression().fit(FRAME, CLASSES))
    assert runtime.features == ("age", "income", "debt")
    assert runtime.outputs == pa.schema(
        [("prediction", pa.int64())] + [(f"probability_{number}", pa.float64()) for number in range(3)]
    )


def test_no_rows_give_no_predictions(load: Load) -> None:
    runtime = load(LogisticRegression().fit(FRAME, CLASSES))
    found = runtime.predict(batch(FRAME.iloc[:0]))
    assert found.num_rows == 0
    assert found.schema == runtime.outputs


def test_every_missing_feature_is_named_with_the_nearest_column(load: Load) -> None:
    runtime = load(LinearRegression().fit(FRAME, CLASSES))
    with pytest.raises(FeatureError, match=r"2 .*3 features: 'age', 'income' .*'INCOM"):
        runtime.predict(rows(INCOM=[1.0], debt=[1.0]))


def test_a_column_that_is_no_number_is_named_with_its_type(load: Load) -> None:
    runtime = load(HistGradientBoostingClassifier(max_iter=3).fit(FRAME, CLASSES))
    with pytest.raises(FeatureError, match="'income' is string, 'debt' is timestamp"):
        runtime.predict(rows(age=[1], income=["1.5"], debt=[pd.Timestamp("2026-01-01")]))


def test_a_column_that_comes_twice_is_refused(load: Load) -> None:
    twice = pa.RecordBatch.from_arrays([pa.array([1.0])] * 4, names=["age", "income", "debt", "age"])
    with pytest.raises(FeatureError, match="'age'"):
        load(LinearRegression().fit(FRAME, CLASSES)).predict(twice)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, 0], pa.int8()),
        pa.array([1, 0], pa.uint64()),
        pa.array([True, False]),
        pa.array([Decimal("1.00"), Decimal(0)], pa.decimal128(40 - 2, 10)),
        pa.array([Decimal("1.00"), Decimal(0)], pa.decimal256(60, 10)),
        pa.array([1.0, 0.0], pa.float32()),
        pa.array([1.0, 0.0], pa.float16()),
        pa.array([1, 0]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_every_kind_of_number_is_read_as_float64(load: Load, column: pa.Array) -> None:
    model = LinearRegression().fit(FRAME, CLASSES)
    found = load(model).predict(rows(age=column, income=[1.0, 2.0], debt=[0.5, 0.5]))
    direct = model.predict(pd.DataFrame({"age": [1.0, 0.0], "income": [1.0, 2.0], "debt": [0.5, 0.5]}))
    np.testing.assert_array_equal(found.column("prediction"), direct)


def test_decimals_are_the_numbers_that_python_makes_of_them(load: Load) -> None:
    model = LinearRegression().fit(FRAME, CLASSES)
    prices = [Decimal("0.57"), Decimal("1234567.89")]
    found = load(model).predict(
        rows(age=pa.array(prices, pa.decimal128(9, 2)), income=[1.0, 2.0], debt=[0.5, 0.5])
    )
    direct = model.predict(
        pd.DataFrame({"age": [float(price) for price in prices], "income": [1.0, 2.0], "debt": [0.5, 0.5]})
    )
    np.testing.assert_array_equal(found.column("prediction"), direct)


def test_null_is_missing_to_a_model_that_takes_missing_values(load: Load) -> None:
    model = HistGradientBoostingRegressor(max_iter=3).fit(FRAME, CLASSES)
    found = load(model).predict(rows(age=pa.nulls(2), income=[1, None], debt=[None, 2.5]))
    direct = model.predict(pd.DataFrame({"age": [np.nan] * 2, "income": [1, np.nan], "debt": [np.nan, 2.5]}))
    np.testing.assert_array_equal(found.column("prediction"), direct)


def test_null_where_the_model_refuses_it_names_columns_and_counts(load: Load) -> None:
    runtime = load(LogisticRegression().fit(FRAME, CLASSES))
    with pytest.raises(FeatureError, match="3 rows, 2 in 'age', 1 in 'debt'") as refused:
        runtime.predict(rows(age=[None, 1, float("nan")], income=[1, 2, 3], debt=[None, 1, 2]))
    assert "\n" not in str(refused.value)


def test_infinity_where_the_model_refuses_it_names_the_column(load: Load) -> None:
    runtime = load(LogisticRegression().fit(FRAME, CLASSES))
    with pytest.raises(FeatureError, match="1 in 'income'"):
        runtime.predict(rows(age=[1], income=[float("inf")], debt=[1]))


def test_a_model_trained_without_names_takes_them_from_the_configuration(load: Load) -> None:
    model = LinearRegression().fit(ROWS, CLASSES)
    found = load(model, ("age", "income", "debt")).predict(batch(FRAME[["debt", "income", "age"]]))
    np.testing.assert_array_equal(found.column("prediction"), model.predict(ROWS))


def test_a_model_trained_without_names_asks_for_them(load: Load) -> None:
    model = LinearRegression().fit(ROWS, CLASSES)
    with pytest.raises(FeatureError, match=r"`features:`.*\b3\b"):
        load(model)
    with pytest.raises(FeatureError, match=r"\b2 columns.*\b3\b"):
        load(model, ("age", "income"))


def test_features_that_contradict_the_model_are_refused(load: Load) -> None:
    model = LinearRegression().fit(FRAME, CLASSES)
    assert load(model, ("debt", "age", "income")).features == ("age", "income", "debt")
    with pytest.raises(FeatureError, match="age, income, debt"):
        load(model, ("a", "b", "c"))


@pytest.mark.parametrize(
    ("labels", "kind", "names"),
    [
        ([3, 5], pa.int64(), ["probability_3", "probability_5"]),
        ([1.0, 2.0], pa.float64(), ["probability_1.0", "probability_2.0"]),
        ([False, True], pa.bool_(), ["probability_False", "probability_True"]),
        (["no", "yes, früh"], pa.string(), ["probability_no", "probability_yes, früh"]),
        (["A", "a"], pa.string(), ["probability_A", "probability_a_2"]),
        (["e", "é"], pa.string(), ["probability_e", "probability_é_2"]),
        (["", " "], pa.string(), ["probability_", "probability__"]),
        (["a\n", "a\t"], pa.string(), ["probability_a_", "probability_a__2"]),
        (["\U0001f600", "\U0001f601"], pa.string(), ["probability__", "probability___2"]),
        (["ü" * 80, "ü" * 90], pa.string(), ["probability_" + "ü" * 25, "probability_" + "ü" * 24 + "_2"]),
    ],
)
def test_classes_of_any_kind_become_columns_that_every_database_takes(
    load: Load, labels: list[Any], kind: pa.DataType, names: list[str]
) -> None:
    truth = np.array([labels[0], labels[1]] * 30)
    model = DecisionTreeClassifier().fit(FRAME, truth)
    found = load(model).predict(batch(FRAME))
    assert found.schema.names == ["prediction", *names]
    assert found.schema.field("prediction").type == kind
    assert found.column("prediction").to_pylist() == truth.tolist()


@pytest.mark.parametrize(
    ("model", "truth", "names"),
    [
        (LinearRegression(), BOTH, ["prediction_0", "prediction_1"]),
        (LinearRegression(), BOTH[:, :1], ["prediction"]),
        (RidgeClassifier(), LABELS, ["prediction_0", "prediction_1", "prediction_2"]),
        (
            RandomForestClassifier(3),
            BOTH,
            [f"probability_{n}_{c}" for n in (0, 1) for c in np.unique(BOTH[:, n])],
        ),
        (KNeighborsClassifier(), LABELS, [f"probability_{n}_{c}" for n in range(3) for c in (0, 1)]),
        (
            MLPClassifier((3,), max_iter=2000),
            LABELS,
            ["probability_0_1", "probability_1_1", "probability_2_1"],
        ),
        (
            MultiOutputClassifier(LogisticRegression()),
            LABELS,
            [f"probability_{n}_{c}" for n in range(3) for c in (0, 1)],
        ),
        (ClassifierChain(LogisticRegression()), LABELS, [f"probability_{n}_1" for n in range(3)]),
        (IsolationForest(), None, ["prediction", "score"]),
        (KMeans(2), None, ["prediction"]),
        (GaussianMixture(2), None, ["prediction", "probability_0", "probability_1"]),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "fit") else "",
)
def test_outputs_follow_the_kind_of_model(load: Load, model: Any, truth: Any, names: list[str]) -> None:
    model.fit(FRAME, truth)
    found = load(model).predict(batch(FRAME))
    assert [name for name in found.schema.names if name in names] == names
    expected = np.asarray(model.predict(FRAME)).reshape(60, -1).T
    predictions = [name for name in found.schema.names if name.startswith("prediction")]
    for name, column in zip(predictions, expected, strict=True):
        np.testing.assert_array_equal(found.column(name), column)


@pytest.mark.parametrize("raw", [0.0, 1e-18, -1e-18, 1e-3])
def test_a_prediction_is_the_models_own_where_two_classes_are_equally_likely(load: Load, raw: float) -> None:
    flat = FRAME * 0
    model = HistGradientBoostingClassifier(max_iter=1).fit(flat, np.arange(60) % 2)
    model._baseline_prediction[...] = raw  # 1e-18 is class 1 to the model, though both are at 0.5
    found = load(model).predict(batch(flat))
    assert found.column("prediction").to_pylist() == model.predict(flat).tolist() == [int(raw > 0)] * 60


@pytest.mark.parametrize("model", [RandomForestClassifier(4), HistGradientBoostingClassifier(max_iter=9)])
@pytest.mark.parametrize("labels", [CLASSES, CLASSES > 0, np.array(["a", "b", "c"])[CLASSES]])
def test_predictions_of_trees_are_the_models_own(load: Load, model: Any, labels: Any) -> None:
    piped = make_pipeline(StandardScaler(), model).fit(FRAME, labels)
    many = pd.DataFrame(np.random.default_rng(1).normal(size=(5000, 3)), columns=FRAME.columns)
    assert load(piped).predict(batch(many)).column("prediction").to_pylist() == piped.predict(many).tolist()


def test_a_score_is_negative_for_outliers(load: Load) -> None:
    found = load(IsolationForest(random_state=0).fit(FRAME)).predict(batch(FRAME * 2))
    assert {-1, 1} == set(found.column("prediction").to_pylist())
    for prediction, score in zip(
        found.column("prediction").to_pylist(), found.column("score").to_pylist(), strict=True
    ):
        assert (score < 0) == (prediction == -1)


def table() -> pd.DataFrame:
    return FRAME.assign(city=["Rome", "Oslo", "Bern"] * 20, floor=[0, 1, 2] * 20)


def encoded(**options: Any) -> Any:
    return make_column_transformer(
        (OneHotEncoder(**options), ["city", "floor"]), (StandardScaler(), ["age", "debt"]), remainder="drop"
    )


def test_a_pipeline_that_encodes_text_reads_it(load: Load) -> None:
    search = GridSearchCV(make_pipeline(encoded(), LogisticRegression()), {"logisticregression__C": [1.0]})
    search.fit(table(), CLASSES)
    shuffled = table()[["floor", "city", "debt", "income", "age"]]
    found = load(search).predict(batch(shuffled))
    np.testing.assert_array_equal(found.column("probability_1"), search.predict_proba(table())[:, 1])


@pytest.mark.parametrize(
    "model",
    [
        VotingClassifier([("one", make_pipeline(encoded(), LogisticRegression()))]),
        make_pipeline(
            StandardScaler().set_output(transform="pandas"),
            make_column_transformer((StandardScaler(), ["age", "debt"])),
            LogisticRegression(),
        ),
    ],
    ids=["within a vote", "behind a scaler"],
)
def test_columns_that_are_picked_by_name_inside_are_found(load: Load, model: Any) -> None:
    numbers = FRAME.assign(city=[4, 5, 6] * 20, floor=[0, 1, 2] * 20)
    trained_on = FRAME if hasattr(model, "steps") else numbers
    model.fit(trained_on, CLASSES)
    shuffled = trained_on[trained_on.columns[::-1]]
    found = load(model).predict(batch(shuffled))
    assert found.column("prediction").to_pylist() == model.predict(trained_on).tolist()


def test_a_regressor_behind_an_encoder_still_tells_its_outputs(load: Load) -> None:
    model = make_pipeline(encoded(), LinearRegression()).fit(table(), BOTH)
    assert load(model).outputs.names == ["prediction_0", "prediction_1"]


def test_an_unknown_category_is_a_refusal_in_the_models_words(load: Load) -> None:
    runtime = load(make_pipeline(encoded(), LogisticRegression()).fit(table(), CLASSES))
    with pytest.raises(FeatureError, match=r"ValueError: .*Atlantis"):
        runtime.predict(batch(table().assign(city="Atlantis")))


def test_a_refusal_for_another_reason_is_not_blamed_on_null(load: Load) -> None:
    steps = (encoded(), HistGradientBoostingClassifier(max_iter=2))
    runtime = load(make_pipeline(*steps).fit(table(), CLASSES))
    holes = table().assign(age=None)
    assert runtime.predict(batch(holes)).num_rows == 60
    with pytest.raises(FeatureError, match=r"Atlantis.*\b60 in 'age'.*'city'"):
        runtime.predict(batch(holes.assign(city="Atlantis")))


def test_an_encoder_trained_on_an_unnamed_table_reads_text(load: Load) -> None:
    cities = table()[["city", "floor"]].to_numpy(dtype=object)
    model = make_pipeline(OrdinalEncoder(), DecisionTreeClassifier()).fit(cities, CLASSES)
    found = load(model, ("city", "floor")).predict(batch(table()))
    np.testing.assert_array_equal(found.column("prediction"), model.predict(cities))


def test_categories_of_boosted_trees_are_read_as_text(load: Load) -> None:
    trained = table().assign(city=lambda rows: rows["city"].astype("category"))[["city", "age"]]
    model = HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=2).fit(trained, CLASSES)
    found = load(model).predict(batch(table()))
    np.testing.assert_array_equal(found.column("prediction"), model.predict(trained))


@pytest.mark.parametrize("count", [1, 4])
def test_a_text_model_reads_one_column_of_documents(load: Load, count: int) -> None:
    documents = ["good film", "bad film", "good", "bad"]
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(documents, [1, 0, 1, 0])
    found = load(model, ("review",)).predict(rows(review=documents[:count]))
    np.testing.assert_array_equal(found.column("probability_1"), model.predict_proba(documents[:count])[:, 1])


def test_a_text_model_refuses_null_and_other_types_in_words(load: Load) -> None:
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(["good film", "bad film"], [1, 0])
    runtime = load(model, ("review",))
    with pytest.raises(FeatureError, match="2 rows, 1 in 'review'"):
        runtime.predict(rows(review=["good", None]))
    with pytest.raises(FeatureError, match="'review' is int64"):
        runtime.predict(rows(review=[1, 2]))


def test_a_model_that_cannot_take_the_trial_row_is_loaded_all_the_same(load: Load) -> None:
    positive = FRAME.abs() + 1
    model = make_pipeline(PowerTransformer("box-cox"), FunctionTransformer(refuse_ones), LinearRegression())
    runtime = load(model.fit(positive, CLASSES))
    assert runtime.outputs.names == ["prediction"]


def refuse_ones(rows: Any) -> Any:
    if len(rows) == 1:
        raise ValueError("not for a single row")
    return rows


class TwiceTheRows:
    """Answers each row twice once it is asked about more than one."""

    n_features_in_ = 1

    def predict(self, rows: Any) -> Any:
        return np.zeros(len(rows) if len(rows) == 1 else 2 * len(rows))


def test_an_answer_of_the_wrong_shape_is_an_artifact_error(load: Load) -> None:
    runtime = load(TwiceTheRows(), ("age",))
    with pytest.raises(ArtifactError, match=r"\b60 rows.*`predict`.*\(120,\)"):
        runtime.predict(batch(FRAME))


def test_integers_beyond_2_to_the_53_become_the_nearest_float(load: Load) -> None:
    model = LinearRegression().fit(FRAME, CLASSES)
    big = load(model).predict(rows(age=[2**53 + 1], income=[0], debt=[0]))
    np.testing.assert_array_equal(
        big.column(0), model.predict(pd.DataFrame({"age": [2.0**53], "income": 0.0, "debt": 0.0}))
    )
