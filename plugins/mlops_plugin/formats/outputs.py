"""What a model answers, and the columns it becomes: names that every database takes, and Arrow types."""

from __future__ import annotations

import contextlib
import json
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops_plugin.arrow_values import array_of_numbers, array_of_texts
from mlops_plugin.errors import ArtifactError
from mlops_plugin.formats.likeliest import predict

# A prediction column says in its metadata which classes the model has: a JSON list.
CLASSES = b"classes"
MAX_NAME_BYTES = 63  # PostgreSQL's limit; MySQL allows 64 characters
_INT64 = (-(2**63), 2**63 - 1)
_MOST_BYTES = 8  # of a float in Arrow; NumPy has longer ones

Values = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Answers:
    """What a model says about some rows: arrays with one entry per row, columns if there are several."""

    predictions: list[Values]  # one per output
    probabilities: list[Values]  # rows x classes, one per output; or one for all, rows x outputs
    scores: Values | None = None


def ask(
    uri: str, model: Any, make_table: Callable[[], Any], rows: int, *, has_scores: bool = False
) -> Answers:
    """Call every method of the model that says something about a row; `decision_function` if `has_scores`.

    Each gets a table of its own: a step may scale or fill it in place, and would do so twice.

    Raises `ArtifactError` if an answer has not one entry for each of `rows`; nothing is ever broadcast.
    """
    table = make_table()
    probabilities = _probabilities(uri, model, table, rows)
    predicted = predict(model, make_table if probabilities else lambda: table, probabilities)
    _require_order(uri, table, predicted)
    if hasattr(predicted, "toarray"):  # neighbours trained on sparse labels answer with a sparse matrix
        predicted = predicted.toarray()
    if isinstance(predicted, np.ma.MaskedArray):  # what is masked has a value all the same
        mask, predicted = np.ma.getmaskarray(predicted), np.asarray(predicted).astype(object)
        predicted[mask] = None
    answers = _single_values(uri, _entries(predicted))
    scores = None
    if has_scores:
        found = model.decision_function(make_table())
        _require_order(uri, table, found)
        scores = np.asarray(found)
    return Answers(
        predictions=_columns(_counted(uri, "predict", answers, rows)),
        probabilities=probabilities,
        scores=None if scores is None else _counted(uri, "decision_function", scores, rows),
    )


def _require_order(uri: str, table: Any, answer: Any) -> None:
    """pandas remembers which row a value is of: of a sorted answer, each would become another row's."""
    if not (hasattr(table, "iloc") and hasattr(answer, "iloc")) or answer.index.equals(table.index):
        return
    if len(answer) == len(table) and set(answer.index) == set(table.index):
        raise ArtifactError(
            f"the model in '{uri}' answers in another order than that of the rows, by the index of its "
            "answer: bring it into their order, or return an array"
        )


def _entries(predicted: Any) -> Values:
    """What `predict` returned as an array: a list's entries keep their types, a tuple is one label."""
    if not isinstance(predicted, list | tuple):
        return np.asarray(predicted)
    # Labels of several parts have as many as they like: next to each other they would look like a matrix.
    if any(isinstance(entry, tuple) for entry in predicted):
        answers = np.empty(len(predicted), dtype=object)
        answers[:] = predicted
        return answers
    try:
        return np.asarray(predicted, dtype=object)
    except ValueError:  # arrays of several lengths
        answers = np.empty(len(predicted), dtype=object)
        answers[:] = predicted
        return answers


def _single_values(uri: str, answers: Values) -> Values:
    if answers.dtype == object and answers.ndim == 1:
        for entry in answers.tolist():
            if isinstance(entry, list | set | frozenset | dict | np.ndarray):
                raise ArtifactError(
                    f"the model in '{uri}' answers a row with a {type(entry).__name__} ({str(entry)[:60]}), "
                    "which no column can hold; make it return one label or number for each row, or the same "
                    "number of them for every row"
                )
            if _has_no_text(entry):
                raise ArtifactError(
                    f"the model in '{uri}' answers a row with a {type(entry).__name__}, whose text would be "
                    "an address in memory; let it answer with one label or number for each row"
                )
    return answers


def _has_no_text(entry: Any) -> bool:
    own = {name for base in type(entry).__mro__[:-1] for name in vars(base)}
    return not own & {"__str__", "__repr__"} or callable(entry) or hasattr(entry, "__next__")


def _probabilities(uri: str, model: Any, table: Any, rows: int) -> list[Values]:
    if not hasattr(model, "predict_proba"):
        return []
    answer = model.predict_proba(table)
    _require_order(uri, table, answer)
    # One matrix for each output; a list of numbers is one matrix that was not made an array.
    several = isinstance(answer, list) and all(np.ndim(each) == 2 for each in answer)
    found = [
        _counted(uri, "predict_proba", np.asarray(each), rows) for each in (answer if several else [answer])
    ]
    if any(matrix.ndim == 1 for matrix in found):
        raise ArtifactError(
            f"the `predict_proba` of the model in '{uri}' answers a row with one value, and it must have a "
            "column for each class: np.column_stack([1 - likely, likely]) of two"
        )
    _require_order_of_classes(uri, model, answer)
    return found


def _require_order_of_classes(uri: str, model: Any, answer: Any) -> None:
    """A DataFrame may name the classes of its columns, which are found by their places."""
    named, classes = getattr(answer, "columns", None), getattr(model, "classes_", None)
    if named is None or classes is None or np.shape(named) != np.shape(classes):
        return
    found, expected = [text_of(name) for name in named], [text_of(label) for label in classes]
    if found != expected and sorted(found) == sorted(expected):
        raise ArtifactError(
            f"the model in '{uri}' has the classes {', '.join(expected)}, and the columns of its "
            f"`predict_proba` are {', '.join(found)}: bring them into the order of `classes_`"
        )


def _counted(uri: str, method: str, values: Values, rows: int) -> Values:
    if values.ndim not in (1, 2) or len(values) != rows:
        found = f"an array of shape {values.shape}" if values.ndim else f"one {type(values.item()).__name__}"
        if values.ndim in (1, 2) and 1 < len(values) < rows:
            advice = "It skips rows: make it return NaN for them, or leave them out in the query"
        elif values.ndim == 0 and (hint := _advice(values.item())):
            advice = hint
        else:
            advice = (
                "If it was trained on texts or on an array, set `model: {container: documents}` or "
                "`model: {container: matrix}`"
            )
        raise ArtifactError(
            f"the model in '{uri}' was asked about {rows} rows, and its `{method}` answered with {found}; "
            f"a model must answer once for each row. {advice}"
        )
    return values


def _advice(answer: Any) -> str | None:
    """What to change in a method that answers with something else than an array or a list."""
    if answer is None:
        return "It returns nothing: end it with `return`"
    if isinstance(answer, dict):
        return "Return its values, in the order of the rows"
    return "Make a list of it, in the order of the rows" if hasattr(answer, "__iter__") else None


@dataclass(frozen=True)
class OutputColumns:
    """The columns of a model's predictions, in order: predictions, probabilities, score.

    `undecided` are the places of those whose type is open: all answers so far were missing.
    """

    schema: pa.Schema
    undecided: frozenset[int] = frozenset()

    def completed(self, later: OutputColumns) -> OutputColumns:
        """With the types that later answers tell in the place of those that no earlier one did."""
        if len(later.schema) != len(self.schema):
            return self
        schema = self.schema
        for place in self.undecided - later.undecided:
            schema = schema.set(place, later.schema.field(place))
        return OutputColumns(schema, self.undecided & later.undecided)

    def to_arrow(self, uri: str, answers: Answers, rows: int) -> pa.RecordBatch:
        """The answers as Arrow; raises `ArtifactError` if they have another shape than the columns."""
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
        arrays = []
        for place, (column, field) in enumerate(zip(columns, self.schema, strict=True)):
            try:
                if place in self.undecided and pa.types.is_string(field.type):
                    _require_text(column)
                arrays.append(_to_array(column, field.type))
            except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, TypeError, ValueError) as exc:
                reason = str(exc).partition("\n")[0]
                raise ArtifactError(
                    f"the model in '{uri}' answers '{field.name}' with {field.type}, and now with a value "
                    f"that does not fit ({reason}); make it return one type, e.g. an array of floats"
                ) from exc
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def output_columns(model: Any, answers: Answers | None) -> OutputColumns:
    """The columns for a model, from its classes and its answers about one row (None: not asked)."""
    labels = _labels(model, answers)
    several = len(labels) > 1
    fields = []
    undecided = set()
    for number, classes in enumerate(labels):
        prediction = answers.predictions[number] if answers else None
        name = f"prediction_{number}" if several else "prediction"
        fields.append((name, _prediction_type(model, classes, prediction)))
        if prediction is not None and _tells_nothing(model, classes, prediction):
            undecided.add(number)
    fields.extend((name, pa.float64()) for name in _probability_names(model, labels, answers))
    if (answers is None and has_scores(model)) or (answers is not None and answers.scores is not None):
        fields.append(("score", pa.float64()))
    names = unique(storable(name) for name, _ in fields)
    schema = [pa.field(name, kind) for name, (_, kind) in zip(names, fields, strict=True)]
    for number, classes in enumerate(labels):
        if classes is not None:
            listed = [label if isinstance(label, bool | int | float) else text_of(label) for label in classes]
            schema[number] = schema[number].with_metadata({CLASSES: json.dumps(listed)})
    return OutputColumns(pa.schema(schema), frozenset(undecided))


def _labels(model: Any, answers: Answers | None) -> list[list[Any] | None]:
    """Per output the class labels, or None if an output is no class."""
    classes = getattr(model, "classes_", None) if _kind(model) != "regressor" else None
    count = len(answers.predictions) if answers else 1
    if isinstance(classes, list) and any(np.ndim(each) for each in classes):
        return [_listed(np.asarray(each)) for each in classes]
    if classes is None:
        return [None] * count
    # Several outputs with one list of classes: labels that are each there or not.
    return [_listed(np.asarray(classes))] if count == 1 else [[0, 1]] * count


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
        names += [f"{prefix}{text_of(label)}" for label in (range(width) if numbered else classes or ())]
    return names


def _prediction_type(model: Any, classes: list[Any] | None, prediction: Values | None) -> pa.DataType:
    if _kind(model) == "regressor":
        return pa.float64()
    if classes is not None:
        kinds = {type(label) for label in classes}
        if kinds == {int} and not all(_INT64[0] <= label <= _INT64[1] for label in classes):
            return pa.string()
        for kind, arrow in ((bool, pa.bool_()), (int, pa.int64()), (float, pa.float64())):
            if kinds == {kind}:
                return arrow
        return pa.string()
    if prediction is None:
        return pa.int64()
    by_dtype = {"b": pa.bool_(), "i": pa.int64(), "u": pa.int64(), "f": pa.float64()}
    if prediction.dtype.kind in by_dtype:
        return by_dtype[prediction.dtype.kind]
    kinds = {type(label) for label in _listed(prediction) if label is not None}
    if kinds == {bool}:
        return pa.bool_()
    # Whole numbers among objects may be fractions in the next rows.
    return pa.float64() if kinds and kinds <= {int, float} else pa.string()


def _tells_nothing(model: Any, classes: list[Any] | None, prediction: Values) -> bool:
    """Whether all that was answered is missing, and nothing else says of which type it would be."""
    if classes is not None or _kind(model) == "regressor" or prediction.dtype.kind not in "Of":
        return False
    return all(label is None for label in _listed(prediction))


def _require_text(column: Values) -> None:
    """Raise `TypeError` for what a text column would take in silence."""
    for label in _listed(column):
        if label is not None and not isinstance(label, str):
            raise TypeError(f"{label!r}, after answers that were all missing")


def has_scores(model: Any) -> bool:
    """Whether the model answers with the score of an outlier detector as well."""
    return _kind(model) == "outlier_detector" and hasattr(model, "decision_function")


def _kind(model: Any) -> str | None:
    """classifier, regressor, outlier_detector, clusterer, density_estimator, or None."""
    if type(model).__name__ == "CatBoost" and type(model).__module__.startswith("catboost."):
        return "regressor"  # the base class answers raw values, whatever classes it was trained on
    kind = getattr(model, "_estimator_type", None)
    tags = getattr(model, "__sklearn_tags__", None)
    if tags is not None:
        with contextlib.suppress(Exception):  # a class of the user's own may lack what its tags are made of
            kind = tags().estimator_type or kind
    if kind is None and any(base.__name__ == "ClassifierMixin" for base in type(model).__mro__):
        kind = "classifier"
    return kind if isinstance(kind, str) else None


def _columns(values: Values) -> list[Values]:
    """One array per output; a single column in a matrix is one output as well."""
    return [values] if values.ndim == 1 else list(np.asarray(values).T)


def _to_array(column: Values, kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        return array_of_texts([None if label is None else text_of(label) for label in _listed(column)])
    if column.dtype == object:
        return pa.array(_whole(_listed(column)) if pa.types.is_integer(kind) else _listed(column), kind)
    if column.dtype.kind == "f" and column.dtype.itemsize > _MOST_BYTES:
        column = column.astype(np.float64)
    if column.dtype.kind == "f" and not pa.types.is_floating(kind):
        # Beside a missing answer, an array has floats for all others.
        is_there = ~np.isnan(column)
        others = _cast(np.where(is_there, column, 0), kind)
        return pc.if_else(array_of_numbers(is_there), others, pa.nulls(len(column), kind))
    return _cast(column, kind)


def _cast(column: Values, kind: pa.DataType) -> pa.Array:
    """Numbers or booleans in another type; raises `ValueError` if one would become another value."""
    if pa.types.is_boolean(kind) and column.dtype.kind != "b":  # Arrow makes True of every number but 0
        others = column[(column != 0) & (column != 1)]
        if len(others):
            raise ValueError(f"{others[0].item()!r} is neither true nor false")
    if column.dtype.kind not in "biuf":  # Arrow would count times, and read texts: '007' as 7
        raise TypeError(f"{column.dtype} is no number")
    numbers = array_of_numbers(column)
    return numbers if numbers.type == kind else numbers.cast(kind)


def _whole(listed: list[Any]) -> list[Any]:
    """The same; raises `ValueError` for a fraction, which Arrow would cut off."""
    for label in listed:
        if isinstance(label, float | Decimal | Fraction) and label % 1:
            raise ValueError(f"{label!r} is no whole number")
    return listed


def _listed(values: Values) -> list[Any]:
    """The entries as Python's values; None for one that is missing."""
    if values.dtype.kind in "Mm":  # nanoseconds would be numbers
        values = values.astype(f"{values.dtype.kind}8[us]")
    listed = [label.item() if isinstance(label, np.generic) else label for label in values.tolist()]
    for label in listed:
        _refuse_broken_text(label)
    is_sure = values.dtype.kind not in "Of"
    return listed if is_sure else [None if _is_missing(label) else label for label in listed]


def _refuse_broken_text(label: Any) -> None:
    """NumPy takes any 32 bits for a character, and Python fails on some wherever a text is looked at."""
    if not isinstance(label, str):
        return
    try:
        "".join(label).encode()
    except (SystemError, UnicodeError) as exc:
        raise ArtifactError(
            f"a label of the model's classes is no text ({exc}): its file is damaged; copy it again, or save "
            "the model again"
        ) from exc


def _is_missing(label: Any) -> bool:
    if label is None or type(label).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(label, float) and label != label


def text_of(label: Any) -> str:
    """A label as text."""
    if isinstance(label, bytes):
        return label.decode(errors="backslashreplace")
    if isinstance(label, tuple):  # NumPy's scalars would say their type
        return str(tuple(part.item() if isinstance(part, np.generic) else part for part in label))
    return str(label)


def unique(names: Iterable[str]) -> list[str]:
    """The names, with `_2`, `_3`... if a database would take two of them for the same."""
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
