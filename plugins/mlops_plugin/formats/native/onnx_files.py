"""ONNX files, run by onnxruntime: one tensor of all features or one for each, labels and probabilities."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mlops_plugin.errors import ArtifactError, FeatureError, MlopsError
from mlops_plugin.formats.artifact import Verified, read_verified, refuse_no_model
from mlops_plugin.formats.column_values import ColumnSpec
from mlops_plugin.formats.input_rules import StatedInput
from mlops_plugin.formats.native.libraries import ONNXRUNTIME, import_library, load_failure
from mlops_plugin.formats.native.native_model import (
    Label,
    NativeRegressor,
    NativeRuntime,
    Values,
    estimator_of,
    first_of_likeliest,
)
from mlops_plugin.formats.native.onnx_graph import Labels, OnnxGraph
from mlops_plugin.formats.native.onnx_outputs import OnnxOutputs
from mlops_plugin.formats.native.onnx_tensors import OnnxInput, inputs_of
from mlops_plugin.formats.runtime import REFUSES_NULL

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ArtifactConfig
    from mlops_plugin.formats.model_input import SignedSpec

_ERRORS_ONLY = 3  # onnxruntime's log level
_CLEAR = 1e-4  # a difference of probabilities that no rounding to 32 bits makes


def load_onnx(
    artifact: ArtifactConfig,
    features: tuple[str, ...] | None,
    signed: SignedSpec | None = None,
    verified: Verified | None = None,
) -> NativeRuntime:
    """Load an ONNX file. Raises `DriverMissing` without onnxruntime."""
    content, sha256, trained = verified or read_verified(artifact)
    refuse_no_model(artifact.uri, content)
    onnxruntime = import_library(ONNXRUNTIME, artifact.uri)
    try:
        session = _session(onnxruntime, content)
        outputs = OnnxOutputs(artifact.uri, session.get_outputs())
        graph = OnnxGraph(content)
        names = signed.spec.names if signed is not None else features
        model = OnnxModel(artifact.uri, session, graph, outputs, len(names or ()))
    except MlopsError:
        raise
    except Exception as exc:  # whatever the library says of a broken file
        if type(exc).__name__ == "NotImplemented":
            raise ArtifactError(
                f"model file '{artifact.uri}' cannot be run here: {exc}; export it with float32 tensors, or "
                "with an opset that the installed onnxruntime knows"
            ) from exc
        raise load_failure(artifact.uri, "onnx", exc) from exc
    if signed is not None:
        model.find_columns(signed.spec.names)
    in_golden_rows = signed.missing if signed is not None else None
    model.take_missing(names if signed is not None else model.names or names, in_golden_rows or ())
    estimator = _estimator(artifact.uri, model, artifact.classes)
    stated = StatedInput(dtypes=artifact.dtypes, trained=trained)
    return NativeRuntime(artifact.uri, sha256, estimator, features, stated=stated, signed=signed)


def _session(onnxruntime: Any, content: bytes) -> Any:
    """On one thread: shared among threads, sums over trees are rounded by the number of rows in a batch."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _estimator(uri: str, model: OnnxModel, labels: Sequence[Label] | None) -> NativeRegressor:
    if model.outputs.label is not None and model.outputs.probabilities is None:
        if labels is not None:
            raise ArtifactError(
                f"model file '{uri}' answers labels without probabilities, which are its own; remove "
                "`model: {classes: ...}`"
            )
        return OnnxDetector(model) if model.outputs.score is not None else OnnxLabeller(model)
    count = model.outputs.class_count(model.labels, labels)
    if count is None or labels is None:
        return estimator_of(uri, model, count, model.labels if labels is None else labels)
    if model.labels is None:
        model.labels = _told(model, labels)
    elif tuple(labels) != model.labels and model.labels != tuple(range(count)):
        raise ArtifactError(
            f"model file '{uri}' holds the labels {', '.join(map(str, model.labels))}; remove `model: "
            "{classes: ...}`, which names labels only where a file has their places 0, 1, ..."
        )
    return estimator_of(uri, model, count, labels)


def _told(model: OnnxModel, labels: Sequence[Label]) -> Labels | None:
    """The labels that a model answers whose file does not list them: the configured ones, or their places."""
    if model.outputs.are_texts or all(type(label) is int for label in labels):
        return tuple(labels)  # type: ignore[return-value]  # texts or whole numbers, as just seen
    return None


class OnnxModel:
    """A session, and what its graph and the labels in the file say of inputs and outputs."""

    def __init__(
        self, uri: str, session: Any, graph: OnnxGraph, outputs: OnnxOutputs, feature_count: int
    ) -> None:
        """`feature_count`: how many columns are configured, for a tensor whose width the file leaves open."""
        self._uri = uri
        self._session = session
        self._inputs = inputs_of(uri, session.get_inputs(), feature_count)
        self.outputs = outputs
        places = {each.name: range(each.start, each.start + each.width) for each in self._inputs}
        reaching = graph.refusing_missing(places, [each.name for each in session.get_outputs()])
        self._no_missing = {  # in which columns of each tensor nothing was made for missing values
            name: [offset for offset, place in enumerate(own) if place in reaching]
            for name, own in places.items()
        }
        self._column_names: tuple[str, ...] | None = None
        self.labels = None if outputs.label is None else graph.labels_of(outputs.label)
        self._has_labels = self.labels is not None
        self.feature_count = sum(each.width for each in self._inputs)
        is_by_column = len(self._inputs) > 1 and all(each.width == 1 for each in self._inputs)
        self.names = tuple(each.name for each in self._inputs) if is_by_column else None
        self._decided: tuple[Any, Values] | None = None  # for the table that was asked about last

    def find_columns(self, names: tuple[str, ...]) -> None:
        """Take columns by name from tables of these, which a signature may have in another order."""
        if self.names is not None and sorted(names) == sorted(self.names):
            self._inputs = [replace(each, start=names.index(each.name)) for each in self._inputs]

    def take_missing(self, names: tuple[str, ...] | None, columns: Collection[str]) -> None:
        """Refuse NaN in none of these columns, whatever the graph says; `names` are those of all columns."""
        if names is None or len(names) != self.feature_count:
            return
        self._column_names = names
        for each in self._inputs:
            refused = self._no_missing[each.name]
            self._no_missing[each.name] = [at for at in refused if names[each.start + at] not in columns]

    def columns(self, fields: Sequence[pa.Field], dtypes: Mapping[str, str]) -> tuple[ColumnSpec, ...]:
        """Each column in the type of its tensor."""
        kinds = [each for each in self._inputs for _ in range(each.width)]
        return tuple(kind.column(field.name, dtypes) for kind, field in zip(kinds, fields, strict=True))

    def example(self) -> list[Any]:
        """Ones and texts."""
        return [each.example for each in self._inputs for _ in range(each.width)]

    def answer(self, table: Any) -> Values:
        """Numbers or probabilities, in columns."""
        found = self.run(table)
        if self.outputs.probabilities is None:
            return self.outputs.numbers(found)
        if self.outputs.label is not None:
            self._decided = (table, self.outputs.labels(found))
        probabilities = self.outputs.probability_columns(found, self.labels)
        count = 1 if probabilities.ndim == 1 else probabilities.shape[1]
        if self.labels is not None and count != len(self.labels):
            raise ArtifactError(
                f"the model in '{self._uri}' answers {count} probabilities for {len(self.labels)} classes; "
                "export it with one for each class"
            )
        _require_probabilities(self._uri, probabilities)
        return probabilities

    def places(self, table: Any, probabilities: Values, /) -> Values:
        """The place of the label that the model answers, which need not be the likeliest."""
        if self.outputs.label is None:
            return first_of_likeliest(probabilities)
        decided, self._decided = self._decided, None
        labels = decided[1] if decided is not None and decided[0] is table else self.run_labels(table)
        known: Sequence[Any] = self.labels or range(probabilities.shape[1])
        places = {label: place for place, label in enumerate(known)}
        if labels.ndim > 1:
            raise ArtifactError(
                f"the model in '{self._uri}' answers {labels.shape[1]} labels for each row, beside "
                "probabilities whose labels the file does not tell: export the labels alone "
                "(`select_model_inputs_outputs(converted, ['label'])` of skl2onnx)"
            )
        try:
            found = np.array([places[label] for label in labels.tolist()], dtype=np.int64)
        except KeyError as exc:
            raise ArtifactError(
                f"the model in '{self._uri}' answers the label {exc}, which is none of its classes "
                f"({', '.join(map(str, known))}); export it again with its labels"
            ) from exc
        if not self._has_labels:
            self._require_order(found, probabilities)
        return found

    def _require_order(self, found: Values, probabilities: Values) -> None:
        """Labels that somebody has listed must be those of the columns, as far as the rows tell."""
        second, first = np.partition(probabilities, -2, axis=1)[:, -2:].T
        is_other = (np.argmax(probabilities, axis=1) != found) & (first - second > _CLEAR)
        if is_other.any():
            raise ArtifactError(
                f"the model in '{self._uri}' answers a label that is not the likeliest class by "
                "`model: {classes: ...}`; write them in the order of training (`list(model.classes_)`), or "
                "export it with ZipMap, so that its labels are in the file"
            )

    def run(self, table: Any) -> dict[str, Any]:
        """All outputs by name."""
        rows = len(table)
        fed = {each.name: each.tensor(table) for each in self._inputs}
        self._require_values(fed, rows)
        names = [each.name for each in self._session.get_outputs()]
        if any(each.is_single_row for each in self._inputs):
            runs = [self._run(names, fed, [row]) for row in range(rows)]
            return self.outputs.joined(runs)
        # A row alone is multiplied in another order than a row among others.
        found = self._run(names, fed, [0, 0] if rows == 1 else None)
        return self.outputs.cut(found, 1) if rows == 1 else found

    def _require_values(self, fed: Mapping[str, Values], rows: int) -> None:
        """Raise `FeatureError` for NaN that would go through a graph that does not know of it."""
        for each in self._inputs:
            refused, tensor = self._no_missing[each.name], fed[each.name].reshape(rows, -1)
            if not refused or tensor.dtype.kind != "f" or not (is_missing := np.isnan(tensor)).any():
                continue
            for at in refused:
                if count := int(is_missing[:, at].sum()):
                    raise FeatureError(
                        f"{REFUSES_NULL}: of {rows} rows, {count} have NULL or NaN in "
                        f"{self._described(each, at)}, and nothing in the ONNX file was made for missing "
                        "values of it; leave such rows out in the query, fill them with COALESCE, export the "
                        "model with an imputer of that column, or write a signature of rows with such values"
                    )

    def _described(self, tensor: OnnxInput, at: int) -> str:
        names = self._column_names
        return f"input '{tensor.name}'" if names is None else f"'{names[tensor.start + at]}'"

    def run_labels(self, table: Any) -> Values:
        """The labels alone."""
        return self.outputs.labels(self.run(table))

    def _run(self, names: list[str], fed: dict[str, Values], rows: list[int] | None) -> dict[str, Any]:
        if rows is not None:
            fed = {name: tensor[rows] for name, tensor in fed.items()}
        return dict(zip(names, self._session.run(names, fed), strict=True))


def _require_probabilities(uri: str, values: Values) -> None:
    """Converters write the scores of support vector machines and linear classifiers under this name, too."""
    is_beyond = (values < -_CLEAR) | (values > 1 + _CLEAR)
    if is_beyond.any():
        raise ArtifactError(
            f"the model in '{uri}' answers {values[is_beyond].flat[0]:g} as a probability, which is a score; "
            "train a model that has probabilities (SVC with probability=True, CalibratedClassifierCV), or "
            "export the labels alone (`select_model_inputs_outputs(converted, ['label'])` of skl2onnx)"
        )


class OnnxLabeller(NativeRegressor):
    """A model that answers labels and no probabilities."""

    _estimator_type = ""

    def __init__(self, native: OnnxModel) -> None:
        super().__init__(native)
        self._model = native

    def predict(self, table: Any) -> Values:
        """The model's labels."""
        return self._model.run_labels(table)


class OnnxDetector(OnnxLabeller):
    """A model that tells outliers, with a score."""

    _estimator_type = "outlier_detector"

    def decision_function(self, table: Any) -> Values:
        """The model's score, negative for outliers."""
        return self._model.outputs.scores(self._model.run(table))
