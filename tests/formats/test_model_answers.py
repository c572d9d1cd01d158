"""A model's answers keep their number, type and value, and whatever it raises is a sentence that names it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import statsmodels.api
import statsmodels.formula.api
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from mlops_plugin.config.schema import ArtifactConfig
from mlops_plugin.errors import ArtifactError, FeatureError
from mlops_plugin.formats.input_rules import StatedInput
from mlops_plugin.formats.runtime import artifact_sha256, load_runtime
from mlops_plugin.formats.scikit import ScikitRuntime
from support import shop_code

X = np.arange(6.0).reshape(-1, 1)
ROWS = pa.RecordBatch.from_pydict({"x": X[:3, 0]})


def runtime(model: Any) -> ScikitRuntime:
    loaded = ScikitRuntime("model.joblib", "0" * 64, model, ("x",))
    loaded.learn_outputs(ROWS)
    return loaded


def answers(model: Any) -> pa.Array:
    return runtime(model).predict(ROWS).column("prediction")


@pytest.mark.parametrize("missing", [None, float("nan"), np.nan], ids=["None", "nan", "numpy"])
@pytest.mark.parametrize("label", ["yes", 1, True, 2.5], ids=str)
def test_no_answer_is_no_label(missing: Any, label: Any) -> None:
    found = answers(shop_code.Says({0.0: label, 1.0: missing, 2.0: label}))
    assert found.to_pylist() == [label, None, label]


def _answering(numbers: dict[float, Any]) -> tuple[ScikitRuntime, pa.RecordBatch]:
    rows = pa.RecordBatch.from_pydict({"x": list(numbers)})
    return ScikitRuntime("m", "0" * 64, shop_code.Says(numbers), ("x",)), rows


def test_missing_answers_tell_no_type() -> None:
    loaded, rows = _answering({float(row): None if row < 20 else row / 2 for row in range(23)})
    loaded.learn_outputs(rows)
    assert loaded.predict(rows).column("prediction").to_pylist() == [None] * 20 + [10.0, 10.5, 11.0]


def test_a_number_after_nothing_but_missing_answers_is_no_text() -> None:
    loaded, rows = _answering({0.0: None, 1.0: 0.5})
    loaded.learn_outputs(rows.slice(0, 1))
    with pytest.raises(ArtifactError, match=r"'prediction'.*0\.5"):
        loaded.predict(rows)
    loaded.learn_outputs(rows)  # as the next dispatch does
    assert loaded.predict(rows).column("prediction").to_pylist() == [None, 0.5]


class _Computes:
    """Answers with what a function makes of the rows' values."""

    n_features_in_ = 1

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self._answer = answer

    def predict(self, table: Any) -> Any:
        return self._answer(table[:, 0])


def _answered_later(first: Any, later: Any) -> pa.Array:
    """What becomes of an array, after the model has answered its first rows with another."""

    def answer(rows: Any) -> Any:
        return first[np.zeros(len(rows), int)] if rows[0] < 0 else later[rows.astype(int)]

    loaded = ScikitRuntime("m", "0" * 64, _Computes(answer), ("x",))
    loaded.learn_outputs(pa.RecordBatch.from_pydict({"x": [-1.0]}))
    rows = pa.RecordBatch.from_pydict({"x": np.arange(len(later), dtype=float)})
    return loaded.predict(rows).column("prediction")


@pytest.mark.parametrize(
    ("first", "later", "expected"),
    [
        (np.array(["north", "south"]), np.array([np.nan, np.nan]), [None, None]),
        (np.array([True, False]), np.array([0.0, np.nan, 1.0]), [False, None, True]),
        (np.array([3, 4]), np.array([4.0, np.nan]), [4, None]),
        (np.array(["one hour"]), np.array([3_600_000_000_000], "m8[ns]"), ["1:00:00"]),
    ],
    ids=["text", "boolean", "integer", "span"],
)
def test_missing_answer_of_an_array_is_none_of_any_type(first: Any, later: Any, expected: list[Any]) -> None:
    assert _answered_later(first, later).to_pylist() == expected


@pytest.mark.parametrize(
    ("first", "later", "fact"),
    [
        (np.array([True, False]), np.array([1, 0, 2]), "2 is neither"),
        (np.array([True, False]), np.array([0.0, 0.5]), r"0\.5 is neither"),
        (np.array([3, 4]), np.array([4.5, np.nan]), r"4\.5"),
        (np.array([3, 4]), np.array([3_600], "m8[s]"), "no number"),
    ],
)
def test_number_that_an_earlier_type_would_change_is_refused(first: Any, later: Any, fact: str) -> None:
    with pytest.raises(ArtifactError, match=fact):
        _answered_later(first, later)


class _Sorts:
    """Answers with the rows' own values, in the order of the values."""

    def __init__(self, *, by_index: bool) -> None:
        self._by_index = by_index

    def predict(self, rows: Any) -> Any:
        found = rows["x"].sort_values()
        return found.sort_index() if self._by_index else found


def test_an_answer_that_is_in_another_order_than_the_rows_is_refused() -> None:
    rows = pa.RecordBatch.from_pydict({"x": [2.0, 0.0, 1.0]})
    sorting, keeping = (
        ScikitRuntime("m", "0" * 64, _Sorts(by_index=by_index), ("x",), stated=StatedInput("frame"))
        for by_index in (False, True)
    )
    for one in (sorting, keeping):
        one.learn_outputs(rows.slice(0, 1))
    assert keeping.predict(rows).column("prediction").to_pylist() == [2.0, 0.0, 1.0]
    with pytest.raises(ArtifactError, match="another order"):
        sorting.predict(rows)


@pytest.mark.parametrize("is_list", [True, False])
def test_whole_numbers_among_fractions_stay_numbers(is_list: bool) -> None:
    loaded = ScikitRuntime(
        "m", "0" * 64, shop_code.Says({0.0: 0, 1.0: 1, 2.0: 2 / 3}, is_list=is_list), ("x",)
    )
    loaded.learn_outputs(ROWS.slice(0, 1))  # the first batch has no fraction
    found = [loaded.predict(ROWS.slice(place, 1)).column(0)[0].as_py() for place in range(3)]
    assert found == [0.0, 1.0, 2 / 3]


def test_whole_numbers_of_an_array_that_become_fractions_are_refused() -> None:
    class Learns:
        n_features_in_ = 1

        def predict(self, table: Any) -> Any:
            return np.ones(len(table), dtype=int) if table[0, 0] == 0 else np.full(len(table), 1.5)

    loaded = ScikitRuntime("m", "0" * 64, Learns(), ("x",))
    assert loaded.predict(ROWS.slice(0, 1)).column(0).to_pylist() == [1]
    with pytest.raises(ArtifactError, match="'prediction' with int64"):
        loaded.predict(ROWS.slice(1, 1))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["a", "b"], ["a", "b"]),
        ([b"a", b"b"], ["a", "b"]),
        ([1, 2], [1, 2]),
        ([1.5, 2.5], [1.5, 2.5]),
        ([True, False], [True, False]),
        (
            [np.datetime64("2025-01-01", "ns"), np.datetime64("2025-01-02", "ns")],
            ["2025-01-01 00:00:00", "2025-01-02 00:00:00"],
        ),
        ([date(2025, 1, 1), date(2025, 1, 2)], ["2025-01-01", "2025-01-02"]),
        ([Decimal("1.50"), Decimal(2)], ["1.50", "2"]),
        ([-(2**62), 2**62], [-(2**62), 2**62]),
        ([2**63, 2**63 + 5], [str(2**63), str(2**63 + 5)]),
    ],
    ids=str,
)
def test_labels_of_every_type_keep_their_value(labels: list[Any], expected: list[Any]) -> None:
    kind = shop_code.Threshold()
    kind.classes_ = np.array(labels, dtype=object if isinstance(labels[0], date | Decimal) else None)
    kind.n_features_in_ = 1
    assert answers(kind).to_pylist() == [expected[0], expected[1], expected[1]]


@pytest.mark.parametrize("labels", [[(1, "a"), (2, "b")], [(1, "a"), (2,)], [("a",), ("b",)]], ids=str)
@pytest.mark.parametrize("is_list", [True, False])
def test_a_tuple_is_one_label_whatever_the_others_are(labels: list[Any], is_list: bool) -> None:
    said = dict(enumerate([*labels, (np.str_("c"), np.int64(3))]))
    found = answers(shop_code.Says({float(row): label for row, label in said.items()}, is_list=is_list))
    assert found.to_pylist() == [str(labels[0]), str(labels[1]), "('c', 3)"]


@pytest.mark.parametrize(
    "answer",
    [[1, 2], {1}, {"a": 1}, np.zeros(2), (n for n in "ab"), iter([1]), object(), len],
    ids=lambda answer: type(answer).__name__,
)
def test_what_no_column_holds_is_refused(answer: Any) -> None:
    model = shop_code.Says({0.0: answer, 1.0: [1], 2.0: answer}, is_list=True)
    with pytest.raises(ArtifactError, match=rf"\b{type(answer).__name__}\b"):
        ScikitRuntime("m", "0" * 64, model, ("x",)).predict(ROWS)


def test_an_answer_that_leaves_rows_out_is_refused() -> None:
    class LeavesOut:
        n_features_in_ = 1

        def predict(self, table: Any) -> Any:
            return table[table[:, 0] > 0, 0]

    with pytest.raises(ArtifactError, match=r"\b3 rows.*\(2,\)"):
        ScikitRuntime("m", "0" * 64, LeavesOut(), ("x",)).predict(ROWS)


class Likely:
    """Answers with these probabilities about every row; its classes are a list, as people write one."""

    _estimator_type = "classifier"
    classes_: Any = ["no", "yes"]  # noqa: RUF012 - as above

    def __init__(self, of_one_row: Any) -> None:
        self.of_one_row = of_one_row

    def predict(self, rows: Any) -> list[str]:
        return ["yes"] * len(rows)

    def predict_proba(self, rows: Any) -> Any:
        one = self.of_one_row
        return (
            one.loc[one.index.repeat(len(rows))].reset_index(drop=True)
            if hasattr(one, "loc")
            else [one] * len(rows)
        )


@pytest.mark.parametrize("named", [["no", "yes"], ["p0", "p1"], [0, 1]], ids=str)
def test_probabilities_have_the_names_of_their_columns(named: list[Any]) -> None:
    likely = pd.DataFrame([[0.25, 0.75]], columns=named)
    found = runtime(Likely(likely)).predict(ROWS).slice(0, 1).to_pylist()
    assert found == [{"prediction": "yes", "probability_no": 0.25, "probability_yes": 0.75}]


def test_probabilities_in_another_order_than_the_classes_are_refused() -> None:
    likely = pd.DataFrame([[0.75, 0.25]], columns=["yes", "no"])
    with pytest.raises(ArtifactError, match=r"classes no, yes, and the columns .* are yes, no"):
        runtime(Likely(likely)).predict(ROWS)


@pytest.mark.parametrize("one", [0.75, {"no": 0.25, "yes": 0.75}], ids=str)
def test_a_probability_for_one_of_two_classes_is_refused(one: Any) -> None:
    with pytest.raises(ArtifactError, match="a column for each class"):
        runtime(Likely(one)).predict(ROWS)


def test_results_of_statsmodels_are_asked_in_the_order_of_training() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0, 4.0, 7.0], "b": [2.0, 0.0, 1.0, 5.0], "y": [3.0, 2.0, 5.0, 12.5]})
    rows = pa.RecordBatch.from_pandas(frame)
    by_place = statsmodels.api.OLS(frame.y, frame[["b", "a"]]).fit()
    by_name = statsmodels.formula.api.ols("y ~ b + a - 1", frame).fit()
    for results, features in ((by_place, ("b", "a")), (by_name, ("a", "b"))):
        found = ScikitRuntime("m", "0" * 64, results, features).predict(rows).column("prediction")
        assert found.to_pylist() == pytest.approx(results.predict(frame[["b", "a"]]).tolist(), rel=1e-9)
    with pytest.raises(FeatureError, match="was trained on b, a, which it finds by their places"):
        ScikitRuntime("m", "0" * 64, by_place, ("a", "b"))


def test_outliers_are_labels_with_a_score() -> None:
    model = make_pipeline(StandardScaler(), IsolationForest(n_estimators=3, random_state=0)).fit(X)
    found = runtime(model).predict(ROWS)
    assert found.schema.names == ["prediction", "score"]
    assert found.column("prediction").to_pylist() == model.predict(X[:3]).tolist()
    assert found.column("score").to_pylist() == model.decision_function(X[:3]).tolist()


@pytest.mark.parametrize(
    ("answer", "remedy"),
    [
        (lambda rows: (row for row in range(rows)), "one generator;.* list"),
        (lambda rows: iter([1] * rows), "one list_iterator;.* list"),
        (lambda rows: map(str, range(rows)), "one map;.* list"),
        (lambda rows: dict.fromkeys(range(rows), 1), "one dict;.* values"),
        (lambda _: None, "one NoneType;.* `return`"),
        (lambda _: "yes", "one str;"),
        (lambda _: 1.5, "one float;"),
    ],
)
@pytest.mark.parametrize("method", ["predict", "predict_proba"])
@pytest.mark.parametrize("rows", [1, 3])
def test_what_is_no_list_of_answers_is_named_with_its_type(
    answer: Callable[[int], Any], remedy: str, method: str, rows: int
) -> None:
    class Answers:
        n_features_in_ = 1

        def predict(self, table: Any) -> Any:
            return np.ones(len(table))

    setattr(Answers, method, lambda _, table: answer(len(table)))
    with pytest.raises(ArtifactError, match=rf"'churn.joblib'.*`{method}` answered with {remedy}"):
        ScikitRuntime("churn.joblib", "0" * 64, Answers(), ("x",)).predict(ROWS.slice(0, rows))


@pytest.mark.parametrize("answers", [np.arange(3), np.arange(3.0), np.array(["a", "b", "c"])], ids=str)
def test_what_is_masked_is_no_answer(answers: Any) -> None:
    class Masks:
        n_features_in_ = 1

        def predict(self, table: Any) -> Any:
            return np.ma.masked_array(answers[table[:, 0].astype(int)], mask=table[:, 0] == 1)

    found = runtime(Masks()).predict(ROWS).column("prediction").to_pylist()
    assert found == [answers[0], None, answers[2]]


@pytest.mark.parametrize("answer", [5.0, [1.0], [[1.0], [2.0]], {"a": 1}, np.zeros((3, 1, 1))], ids=str)
def test_an_answer_is_never_spread_over_rows(answer: Any) -> None:
    class Once:
        n_features_in_ = 1

        def predict(self, _: Any) -> Any:
            return answer

    with pytest.raises(ArtifactError, match=r"\b3 rows"):
        ScikitRuntime("m", "0" * 64, Once(), ("x",)).predict(ROWS)


@pytest.mark.parametrize(
    "error", [AttributeError, KeyError, AssertionError, RuntimeError, SystemExit, shop_code.Panic]
)
def test_whatever_a_model_raises_keeps_it_from_nothing_but_the_rows(error: type[BaseException]) -> None:
    loaded = ScikitRuntime("m", "0" * 64, shop_code.Raises(error, at=2.0), ("x",))
    assert loaded.outputs.names == ["prediction"]
    assert loaded.predict(ROWS.slice(0, 2)).num_rows == 2
    with pytest.raises(FeatureError, match=f"{error.__name__}: '?no"):
        loaded.predict(ROWS)


@pytest.mark.parametrize("error", [OSError, MemoryError])
def test_what_is_not_about_the_rows_may_be_tried_again(error: type[Exception]) -> None:
    with pytest.raises(ArtifactError, match=f"{error.__name__}: no") as raised:
        ScikitRuntime("m", "0" * 64, shop_code.Raises(error), ("x",)).predict(ROWS)
    assert not raised.value.is_final


def test_an_interrupt_is_not_the_models() -> None:
    with pytest.raises(KeyboardInterrupt):
        ScikitRuntime("m", "0" * 64, shop_code.Raises(KeyboardInterrupt), ("x",)).predict(ROWS)


def test_outputs_are_learned_from_rows_and_not_from_one_that_is_made_up() -> None:
    class Picky:
        """Two answers for each row, if the row is one of its own."""

        n_features_in_ = 1

        def predict(self, table: Any) -> Any:
            if (table == 1.0).any():
                raise LookupError("1 is made up")
            return np.column_stack([table[:, 0], -table[:, 0]])

    loaded = ScikitRuntime("m", "0" * 64, Picky(), ("x",))
    assert loaded.outputs.names == ["prediction"]
    loaded.learn_outputs(ROWS.slice(1, 2))  # it refuses the first of them
    assert loaded.outputs.names == ["prediction_0", "prediction_1"]
    found = loaded.predict(ROWS.slice(2, 1))
    assert [column.to_pylist() for column in found.columns] == [[2.0], [-2.0]]


def test_a_tree_of_two_outputs_tells_both() -> None:
    both = np.column_stack([np.array(["a", "b"] * 3), np.array(["c", "d"] * 3)])
    found = runtime(DecisionTreeClassifier(random_state=0).fit(X, both)).predict(ROWS)
    assert found.column("prediction_1").to_pylist() == ["c", "d", "c"]


def load(path: Path, file_format: Any = "joblib") -> Any:
    uri = str(path)
    artifact = ArtifactConfig(format=file_format, uri=uri, sha256=artifact_sha256(uri))
    return load_runtime(artifact, features=("x",))


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ArtifactError, match="Git LFS"):
        load(path)


@pytest.mark.parametrize("library", ["joblib", "pickle"])
def test_a_class_of_the_script_that_saved_the_file_is_named(library: Any, tmp_path: Path) -> None:
    path = tmp_path / "model"
    code = (
        "import sys, joblib, pickle\n"
        "class Mine:\n    def predict(self, table): return table\n"
        "joblib.dump(Mine(), sys.argv[1]) if sys.argv[2] == 'joblib' else "
        "pickle.dump(Mine(), open(sys.argv[1], 'wb'))"
    )
    subprocess.run([sys.executable, "-c", code, str(path), library], check=True)
    with pytest.raises(ArtifactError, match="'Mine'"):
        load(path, library)


@pytest.mark.parametrize(
    "content",
    [b"c_loss\nCyHalfBinomialLoss\n.", b"csklearn.ensemble.gone\nX\n.", b"csklearn.tree._tree\nGone\n."],
    ids=["compiled module", "module", "class"],
)
def test_a_file_of_a_release_that_had_other_modules_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.pickle"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="scikit-learn"):
        load(path, "pickle")


def test_a_model_that_was_never_fitted_is_refused(tmp_path: Path) -> None:
    for number, model in enumerate(
        [LinearRegression(), make_pipeline(StandardScaler(), LogisticRegression())]
    ):
        path = tmp_path / f"{number}.pickle"
        path.write_bytes(pickle.dumps(model))
        with pytest.raises(ArtifactError, match="fitted"):
            load(path, "pickle")


def test_numbers_longer_than_a_double_are_rounded_to_it() -> None:
    class Long:
        n_features_in_ = 1

        def predict(self, table: Any) -> Any:
            return np.asarray(table)[:, 0].astype(np.longdouble) / 3

    found = ScikitRuntime("m", "0" * 64, Long(), ("x",)).predict(
        pa.RecordBatch.from_pydict({"x": [1.0, 6.0]})
    )
    assert found.column(0).to_pylist() == [1 / 3, 2.0]
