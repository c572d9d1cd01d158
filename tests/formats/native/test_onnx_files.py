"""An ONNX file answers what onnxruntime answers, bit for bit and whatever rows are asked together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pyarrow as pa
import pytest
from onnx import TensorProto, helper, load_model
from skl2onnx import to_onnx
from skl2onnx.common.data_types import (
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)
from skl2onnx.helpers.onnx_helper import select_model_inputs_outputs
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    GradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeRegressor

from mlops_plugin.config.schema import ArtifactConfig
from mlops_plugin.errors import ArtifactError, FeatureError
from mlops_plugin.formats.native.onnx_graph import OnnxGraph
from mlops_plugin.formats.runtime import load_unproven
from mlops_plugin.formats.signature.signature_writer import write_signature
from support.native_models import NUMBERS, ROWS, SCORE, SHOP, as_queried, assert_answers, load

WHOLE = NUMBERS.fillna(0)
SINGLE = WHOLE.to_numpy(np.float32)
QUERIED = as_queried(WHOLE)
NAMES = ("a", "b", "c")
TEXTS = np.where(SCORE > 1, "yes", "no")
LEVELS = np.digitize(SCORE, [0.5, 1.5]) * 10 - 5


def saved(model: Any, path: Path, **options: Any) -> Path:
    converted = to_onnx(model, **({"X": SINGLE[:1]} | options))
    return written(converted.SerializeToString(), path)


def written(content: bytes, path: Path) -> Path:
    (path / "model.onnx").write_bytes(content)
    return path / "model.onnx"


def asked(path: Path, rows: dict[str, Any]) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, rows))


@pytest.mark.parametrize("zipmap", [True, False, "columns"], ids=str)
@pytest.mark.parametrize("target", [TEXTS, LEVELS], ids=["texts", "numbers"])
def test_labels_and_probabilities_are_found_however_they_are_written(
    zipmap: Any, target: Any, tmp_path: Path
) -> None:
    model = LogisticRegression().fit(SINGLE, target)
    path = saved(model, tmp_path, options={"zipmap": zipmap})
    label, *rest = asked(path, {"X": SINGLE})
    classes = model.classes_.tolist()
    likely = np.column_stack(rest) if zipmap == "columns" else rest[0]
    likely = np.array([[row[name] for name in classes] for row in likely]) if zipmap is True else likely
    runtime = load(path, "onnx", NAMES)
    assert runtime.outputs.names[1:] == [f"probability_{name}" for name in classes]
    assert_answers(runtime, QUERIED, label, likely)


def test_each_column_has_the_type_of_its_tensor(tmp_path: Path) -> None:
    rows = WHOLE.assign(city=SHOP.city.astype(object).fillna("rio"), n=np.arange(ROWS))
    steps = make_column_transformer(
        (StandardScaler(), ["a", "b", "c"]), (OneHotEncoder(), ["city"]), ("passthrough", ["n"])
    )
    model = make_pipeline(steps, LogisticRegression(max_iter=300)).fit(rows, TEXTS)
    kinds = [DoubleTensorType, DoubleTensorType, FloatTensorType, StringTensorType, Int64TensorType]
    types = [(name, kind([None, 1])) for name, kind in zip(rows.columns, kinds, strict=True)]
    converted = to_onnx(model, initial_types=types, options={"zipmap": False})
    path = written(converted.SerializeToString(), tmp_path)
    fed = {name: rows[[name]].to_numpy() for name in rows.columns}
    fed |= {"c": fed["c"].astype(np.float32), "city": fed["city"].astype(object)}
    for features in (None, ("n", "c", "a", "city", "b")):
        runtime = load(path, "onnx", features)
        assert runtime.features == ("a", "b", "c", "city", "n")
        assert_answers(runtime, as_queried(rows[["n", "city", "c", "b", "a"]]), *asked(path, fed))
    other = rows[["city", "a", "n", "b", "c"]]  # the original takes its columns by name, in any order
    write_signature(model, other, path)
    assert_answers(load(path, "onnx", tolerance=1e-5), as_queried(rows), *asked(path, fed))
    Path(f"{path}.signature.json").unlink()
    for changed in ({"city": None}, {"n": None}, {"n": 1.5}, {"n": "x"}, {"a": None}):
        with pytest.raises(FeatureError, match=next(iter(changed))):
            runtime.predict(as_queried(rows.assign(**changed)))


@pytest.mark.parametrize(
    "model",
    [
        GradientBoostingRegressor(n_estimators=120, max_depth=2),
        LinearRegression(),
        MLPRegressor(hidden_layer_sizes=(4,), max_iter=2),
    ],
    ids=["trees", "linear", "network"],
)
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_a_row_alone_is_answered_as_among_others(model: Any, tmp_path: Path) -> None:
    path = saved(model.fit(SINGLE, SCORE), tmp_path)
    assert_answers(load(path, "onnx", NAMES), QUERIED, asked(path, {"X": SINGLE})[0])


def test_several_numbers_are_several_predictions(tmp_path: Path) -> None:
    path = saved(LinearRegression().fit(SINGLE, np.column_stack([SCORE, -SCORE])), tmp_path)
    runtime = load(path, "onnx", NAMES)
    runtime.learn_outputs(QUERIED)
    assert runtime.outputs.names == ["prediction_0", "prediction_1"]
    assert_answers(runtime, QUERIED, asked(path, {"X": SINGLE})[0])


def test_a_detector_has_a_score_and_distances_are_no_probabilities(tmp_path: Path) -> None:
    opset = {"": 18, "ai.onnx.ml": 3}
    path = saved(IsolationForest(n_estimators=5).fit(SINGLE), tmp_path, target_opset=opset)
    runtime = load(path, "onnx", NAMES)
    assert runtime.outputs.names == ["prediction", "score"]
    assert_answers(runtime, QUERIED, *(found.reshape(-1) for found in asked(path, {"X": SINGLE})))
    path = saved(KMeans(3, n_init=1).fit(SINGLE), tmp_path, target_opset=opset)
    assert_answers(load(path, "onnx", NAMES), QUERIED, asked(path, {"X": SINGLE})[0])


def test_null_is_taken_only_by_what_was_made_for_it(tmp_path: Path) -> None:
    rows = as_queried(NUMBERS)
    trees = RandomForestClassifier(3).fit(SINGLE, LEVELS)  # would send NaN along a branch for numbers
    with pytest.raises(FeatureError, match="refuses NULL"):
        load(saved(trees, tmp_path), "onnx", NAMES).predict(rows)
    path = saved(make_pipeline(SimpleImputer(), LinearRegression()).fit(NUMBERS.to_numpy(), SCORE), tmp_path)
    assert_answers(load(path, "onnx", NAMES), rows, asked(path, {"X": NUMBERS.to_numpy(np.float32)})[0])


def test_a_file_that_doubles_its_columns_again_and_again_is_read_at_once() -> None:
    doubled = [
        helper.make_node("Concat", [f"X{n}" if n else "X"] * 2, [f"X{n + 1}"], axis=1) for n in range(60)
    ]
    least = helper.make_node("ReduceMin", ["X60"], ["Y"], axes=[1], keepdims=1)
    outputs = [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [None, 1])]
    content = graph(outputs, [*doubled, least], opset=13)
    assert OnnxGraph(content).refusing_missing({"X": [0, 1, 2]}, ["Y"]) == {0, 1, 2}


def missing(*columns: str) -> pa.RecordBatch:
    """Rows of which every fifth has no value in these columns."""
    frame = WHOLE.copy()
    frame.loc[::5, [*columns]] = np.nan
    return as_queried(frame)


@pytest.mark.parametrize("is_by_column", [True, False], ids=["a tensor for each column", "one tensor"])
@pytest.mark.parametrize("model", [DecisionTreeRegressor(max_depth=3), LinearRegression()], ids=str)
def test_null_is_taken_only_in_columns_that_an_imputer_fills(
    model: Any, is_by_column: bool, tmp_path: Path
) -> None:
    filled = make_column_transformer(
        (make_pipeline(StandardScaler(), SimpleImputer()), [0, 2]), remainder="passthrough"
    )
    whole = make_pipeline(filled, model).fit(NUMBERS.assign(b=WHOLE.b).to_numpy(), SCORE)
    by_column = {"initial_types": [(name, FloatTensorType([None, 1])) for name in NAMES]}
    path = saved(whole, tmp_path, **(by_column if is_by_column else {}))
    runtime = load(path, "onnx", NAMES)
    rows = missing("a", "c")
    values = np.column_stack([column.to_numpy(zero_copy_only=False) for column in rows.columns])
    fed = {"X": values.astype(np.float32)}
    if is_by_column:
        fed = {name: fed["X"][:, [place]] for place, name in enumerate(NAMES)}
    assert_answers(runtime, rows, asked(path, fed)[0])
    with pytest.raises(FeatureError, match=r"refuses NULL: .* 48 have NULL or NaN in 'b'"):
        runtime.predict(missing("a", "b"))


def test_null_is_taken_only_in_columns_of_golden_rows(tmp_path: Path) -> None:
    frame = pd.DataFrame(NUMBERS.to_numpy(np.float32), columns=NAMES).assign(b=WHOLE.b)
    model = RandomForestRegressor(3, max_depth=3).fit(frame, SCORE)  # NaN goes to the branch of training
    alone = RandomForestRegressor(3, max_depth=3).fit(WHOLE, SCORE)
    for trained, columns in ((model, ("b",)), (alone, ("a",))):
        path = saved(trained, tmp_path)
        write_signature(trained, frame if trained is model else WHOLE, path)
        runtime = load_unproven(
            ArtifactConfig.model_validate({"format": "onnx", "uri": str(path)}), features=None
        )[0]
        with pytest.raises(FeatureError, match=f"NULL or NaN in '{columns[0]}'"):
            runtime.predict(missing(*columns))


def test_one_of_several_labels_is_not_taken_for_the_prediction(tmp_path: Path) -> None:
    nodes = [helper.make_node("ArgMax", ["X"], ["label"], axis=1, keepdims=0)]
    nodes.append(helper.make_node("ArgMin", ["X"], ["least"], axis=1, keepdims=0))
    nodes.append(helper.make_node("ArgMax", ["X"], ["most"], axis=1, keepdims=0))

    def of(*names: str) -> Path:
        outputs = [helper.make_tensor_value_info(name, TensorProto.INT64, [None]) for name in names]
        kept = [node for node in nodes if node.output[0] in names]
        return written(graph(outputs, kept), tmp_path)

    with pytest.raises(ArtifactError, match="'least', 'most'"):
        load(of("least", "most"), "onnx", NAMES)
    assert_answers(load(of("least", "label"), "onnx", NAMES), QUERIED, SINGLE.argmax(axis=1))


def test_labels_of_several_outputs_are_answered_alone(tmp_path: Path) -> None:
    model = OneVsRestClassifier(LogisticRegression()).fit(SINGLE, np.column_stack([SCORE > 0, SCORE > 1]))
    path = saved(model, tmp_path, options={"zipmap": False})
    with pytest.raises(ArtifactError, match=r"answers 2 labels for each row.*\['label'\]"):
        load(path, "onnx", NAMES).predict(QUERIED)
    alone = select_model_inputs_outputs(load_model(path), ["label"])
    assert_answers(
        load(written(alone.SerializeToString(), tmp_path), "onnx", NAMES), QUERIED, model.predict(SINGLE)
    )


def graph(outputs: list[Any], nodes: list[Any], rows: int | None = None, opset: int = 18) -> bytes:
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, [rows, 3])]
    model = helper.make_model(
        helper.make_graph(nodes, "made_by_hand", inputs, outputs),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=9,
    )
    return bytes(model.SerializeToString())


def test_scores_are_no_probabilities_whatever_the_output_is_called(tmp_path: Path) -> None:
    model = LinearSVC().fit(SINGLE, LEVELS)
    path = saved(model, tmp_path)
    with pytest.raises(ArtifactError, match=r"as a probability, which is a score; .*'label'"):
        load(path, "onnx", NAMES).predict(QUERIED)
    alone = select_model_inputs_outputs(load_model(path), ["label"])
    runtime = load(written(alone.SerializeToString(), tmp_path), "onnx", NAMES)
    assert_answers(runtime, QUERIED, model.predict(SINGLE))


def test_a_number_beyond_half_precision_is_refused_and_not_infinite(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["X"], ["single"], to=TensorProto.FLOAT),
        helper.make_node("Sigmoid", ["single"], ["Y"]),
    ]
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT16, [None, 1])]
    outputs = [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [None, 1])]
    model = helper.make_model(
        helper.make_graph(nodes, "half", inputs, outputs),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    runtime = load(written(model.SerializeToString(), tmp_path), "onnx", ("income",))
    found = runtime.predict(pa.RecordBatch.from_pydict({"income": [0.0, 65000.0]}))
    assert found.column("prediction").to_pylist() == [0.5, 1.0]
    with pytest.raises(FeatureError, match=r"column 'income': 70000 .*float16"):
        runtime.predict(pa.RecordBatch.from_pydict({"income": [0, 70000]}))


def places_only(rows: int | None = None) -> bytes:
    """A file as deep learning exports it: probabilities, and the place of the likeliest."""
    return graph(
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [rows]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [rows, 3]),
        ],
        [
            helper.make_node("Softmax", ["X"], ["probabilities"], axis=1),
            helper.make_node("ArgMax", ["X"], ["label"], axis=1, keepdims=0),
        ],
        rows,
    )


@pytest.mark.parametrize("rows", [None, 1], ids=["any", "one row at a time"])
def test_labels_that_the_file_lacks_come_from_the_configuration(rows: int | None, tmp_path: Path) -> None:
    path = written(places_only(rows), tmp_path)
    with pytest.raises(ArtifactError, match="classes"):
        load(path, "onnx", NAMES)
    runtime = load(path, "onnx", NAMES, classes=("low", "mid", "high"))
    expected = np.array(["low", "mid", "high"])[SINGLE.argmax(axis=1)]
    assert runtime.predict(QUERIED).column("prediction").to_pylist() == expected.tolist()
    assert runtime.predict(QUERIED.slice(0, 1)).equals(runtime.predict(QUERIED).slice(0, 1))


def test_labels_of_the_file_are_not_renamed(tmp_path: Path) -> None:
    path = saved(LogisticRegression().fit(SINGLE, TEXTS), tmp_path)
    load(path, "onnx", NAMES, classes=("no", "yes"))
    with pytest.raises(ArtifactError, match="no, yes"):
        load(path, "onnx", NAMES, classes=("yes", "no"))


def test_one_probability_for_two_classes_is_refused(tmp_path: Path) -> None:
    content = graph(
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", "k"]),
        ],
        [
            helper.make_node("ReduceMax", ["X"], ["probability"], axes=[1], keepdims=1),
            helper.make_node("ArgMax", ["X"], ["label"], axis=1, keepdims=0),
        ],
        opset=17,
    )
    with pytest.raises(ArtifactError, match=r"[12] classes|2 labels"):
        load(written(content, tmp_path), "onnx", NAMES, classes=(0, 1)).predict(QUERIED)


def test_features_must_be_as_many_as_the_tensor_has(tmp_path: Path) -> None:
    path = saved(LinearRegression().fit(SINGLE, SCORE), tmp_path)
    for features in (None, ("a", "b")):
        with pytest.raises(FeatureError, match="3"):
            load(path, "onnx", features)


def test_a_file_that_was_cut_or_is_none_is_refused(tmp_path: Path) -> None:
    content = saved(LogisticRegression().fit(SINGLE, TEXTS), tmp_path).read_bytes()
    for part in (content[:1], content[:50], content[: len(content) // 2], content[:-1], b"{}", b"\x80\x04"):
        with pytest.raises(ArtifactError, match=r"model\.onnx"):
            load(written(part, tmp_path), "onnx", NAMES)


def test_a_fixed_number_of_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="8 rows"):
        load(written(places_only(8), tmp_path), "onnx", NAMES, classes=("a", "b", "c"))


def test_whole_numbers_of_64_bits_keep_all_digits(tmp_path: Path) -> None:
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Identity", ["n"], ["label"])],
            "digits",
            [helper.make_tensor_value_info("n", TensorProto.INT64, [None, 1])],
            [helper.make_tensor_value_info("label", TensorProto.INT64, [None, 1])],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    numbers = [2**53 + 1, -(2**62) - 1, 3]
    runtime = load(written(model.SerializeToString(), tmp_path), "onnx", ("n",))
    found = runtime.predict(pa.RecordBatch.from_pydict({"n": numbers}))
    assert found.column("prediction").to_pylist() == numbers
