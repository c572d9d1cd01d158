"""What a model answers, and the columns it becomes: names that every database takes, and Arrow types."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mlops_plugin.errors import ArtifactError

# A prediction column says in its metadata which classes the model has: a JSON list.
CLASSES = b"classes"
MAX_NAME_BYTES = 63  # PostgreSQL's limit; MySQL allows 64 characters
# Their `predict` is the class with the highest probability, of each row by itself; only where two are this
# close may rounding hide which one it is.
LIKELIEST_CLASS = {"HistGradientBoostingClassifier", "RandomForestClassifier", "ExtraTreesClassifier"}
CLOSE = 1e-9

Values = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Answers:
    """What a model says about some rows: arrays with one entry per row, columns where there are several."""

    predictions: list[Values]  # one per output
    probabilities: list[Values]  # rows x classes, one per output; or one for all, rows x outputs
    scores: Values | None = None


def ask(model: Any, table: Any) -> Answers:
    """Call every method of the model that says something about a row."""
    probabilities = model.predict_proba(table) if hasattr(model, "predict_proba") else []
    predicted = _predict(model, table, probabilities)
    if hasattr(predicted, "toarray"):  # neighbours trained on sparse labels answer with a sparse matrix
        predicted = predicted.toarray()
    return Answers(
        predictions=_columns(np.asarray(predicted)),
        probabilities=probabilities if isinstance(probabilities, list) else [np.asarray(probabilities)],
        scores=np.asarray(model.decision_function(table)) if _scores(model) else None,
    )


def _predict(model: Any, table: Any, probabilities: Any) -> Any:
    """What `model.predict` says; where that is the likeliest class, without running trees a second time."""
    last = model.steps[-1][1] if getattr(model, "steps", None) else model
    by_probability = type(last).__module__.startswith("sklearn.") and type(last).__name__ in LIKELIEST_CLASS
    if not by_probability or isinstance(probabilities, list) or probabilities.shape[1] < 2:
        return model.predict(table)
    predicted = model.classes_.take(np.argmax(probabilities, axis=1))
    second, first = np.partition(probabilities, -2, axis=1)[:, -2:].T
    (close,) = np.nonzero(first - second < CLOSE)
    if len(close):
        predicted[close] = model.predict(table.iloc[close] if hasattr(table, "iloc") else table[close])
    return predicted


@dataclass(frozen=True)
class OutputColumns:
    """The columns of a model's predictions, in order: predictions, probabilities, score."""

    schema: pa.Schema

    def to_arrow(self, uri: str, answers: Answers, rows: int) -> pa.RecordBatch:
        """The answers as Arrow; raises `ArtifactError` where they have another shape than the columns."""
        columns = [*answers.predictions]
        for matrix in answers.probabilities:
            columns += _columns(matrix)
        if answers.scores is not None:
            columns += _columns(answers.scores)
        lengths = {len(column) for column in columns}
        if len(columns) != len(self.schema) or lengths != {rows}:
            raise ArtifactError(
                f"the model in '{uri}' answered {rows} rows with {len(columns)} columns of "
                f"{', '.join(map(str, sorted(lengths)))} values; expected {len(self.schema)} columns "
                f"({', '.join(self.schema.names)}) of {rows}"
            )
        arrays = [_to_array(column, field.type) for column, field in zip(columns, self.schema, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def output_columns(model: Any, answers: Answers | None) -> OutputColumns:
    """The columns for a model, from its classes and its answers about one row (None: not asked)."""
    labels = _labels(model, answers)
    several = len(labels) > 1
    fields = []
    for number, classes in enumerate(labels):
        prediction = answers.predictions[number] if answers else None
        name = f"prediction_{number}" if several else "prediction"
        fields.append((name, _prediction_type(model, classes, prediction)))
    fields.extend((name, pa.float64()) for name in _probability_names(model, labels, answers))
    if (answers is None and _scores(model)) or (answers is not None and answers.scores is not None):
        fields.append(("score", pa.float64()))
    names = unique(storable(name) for name, _ in fields)
    schema = [pa.field(name, kind) for name, (_, kind) in zip(names, fields, strict=True)]
    for number, classes in enumerate(labels):
        if classes is not None:
            said = [label if isinstance(label, bool | int | float) else str(label) for label in classes]
            schema[number] = schema[number].with_metadata({CLASSES: json.dumps(said)})
    return OutputColumns(pa.schema(schema))


def _labels(model: Any, answers: Answers | None) -> list[list[Any] | None]:
    """Per output the class labels, or None where an output is no class."""
    classes = getattr(model, "classes_", None) if _kind(model) != "regressor" else None
    count = len(answers.predictions) if answers else 1
    if isinstance(classes, list):
        return [np.asarray(each).tolist() for each in classes]
    if classes is None:
        return [None] * count
    # Several outputs with one list of classes: labels that are each there or not.
    return [np.asarray(classes).tolist()] if count == 1 else [[0, 1]] * count


def _probability_names(model: Any, labels: list[list[Any] | None], answers: Answers | None) -> list[str]:
    several = len(labels) > 1
    if answers is None:
        widths = [len(classes or ()) for classes in labels] if hasattr(model, "predict_proba") else []
    else:
        widths = [np.shape(matrix)[1] for matrix in answers.probabilities]
    if several and len(widths) == 1:  # one column per output: the probability that its label is there
        return [f"probability_{number}_{(classes or [1])[-1]}" for number, classes in enumerate(labels)]
    names = []
    for number, width in enumerate(widths):
        classes = labels[number]
        prefix = f"probability_{number}_" if several else "probability_"
        # Mixture models have no classes; their components are numbered.
        numbered = classes is None or len(classes) != width
        names += [f"{prefix}{label}" for label in (range(width) if numbered else classes or ())]
    return names


def _prediction_type(model: Any, classes: list[Any] | None, prediction: Values | None) -> pa.DataType:
    if _kind(model) == "regressor":
        return pa.float64()
    if classes is None:
        classes = [0] if prediction is None else prediction.tolist()
    kinds = {type(label) for label in classes}
    for kind, arrow in ((bool, pa.bool_()), (int, pa.int64()), (float, pa.float64())):
        if kinds == {kind}:
            return arrow
    return pa.string()


def _scores(model: Any) -> bool:
    return _kind(model) == "outlier_detector" and hasattr(model, "decision_function")


def _kind(model: Any) -> str | None:
    """classifier, regressor, outlier_detector, clusterer, density_estimator, or None."""
    tags = getattr(model, "__sklearn_tags__", None)
    kind = tags().estimator_type if tags else getattr(model, "_estimator_type", None)
    return kind if isinstance(kind, str) else None


def _columns(values: Values) -> list[Values]:
    """One array per output; a single column in a matrix is one output as well."""
    return [values] if values.ndim == 1 else list(np.asarray(values).T)


def _to_array(column: Values, kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        return pa.array([str(label) for label in column.tolist()], kind)
    if column.dtype == object:
        return pa.array(column.tolist(), kind)
    return pa.array(np.ascontiguousarray(column)).cast(kind)


def unique(names: Iterable[str]) -> list[str]:
    """The names, with `_2`, `_3`... where a database would hold two of them for the same."""
    taken: set[str] = set()
    result = []
    for name in names:
        candidate, number = name, 1
        while _folded(candidate) in taken:
            number += 1
            candidate = f"{_cut(name, MAX_NAME_BYTES - len(str(number)) - 1)}_{number}"
        taken.add(_folded(candidate))
        result.append(candidate)
    return result


def storable(name: str) -> str:
    """`name` as a column name: 63 bytes, no trailing space, no control character, nothing beyond U+FFFF."""
    kept = "".join(
        "_" if unicodedata.category(char)[0] == "C" or ord(char) > 0xFFFF else char for char in name
    )
    cut = _cut(kept, MAX_NAME_BYTES)
    return cut.rstrip() + "_" * (len(cut) - len(cut.rstrip()))


def _cut(name: str, max_bytes: int) -> str:
    return name.encode()[:max_bytes].decode(errors="ignore")


def _folded(name: str) -> str:
    """Equal for names that differ only in case or accents, which MySQL or SQLite may take for one."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    return "".join(char for char in plain if not unicodedata.combining(char))
