"""A scikit-learn estimator as a runtime: rows in by name, predictions, probabilities and scores out."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from mlops_plugin.errors import ArtifactError, FeatureError
from mlops_plugin.formats.features import (
    check_features,
    feature_frame,
    feature_matrix,
    infinite_counts,
    is_number,
    null_counts,
)
from mlops_plugin.formats.outputs import Answers, OutputColumns, ask, output_columns
from mlops_plugin.formats.runtime import REFUSES_INFINITE, REFUSES_NULL

# What estimators raise for rows they do not like; anything else is a fault of its own and stays visible.
REFUSALS = (ValueError, TypeError, LookupError, ArithmeticError)
# Transformers that hand each column on as it is, so what follows may well encode text.
DISPATCHERS = ("ColumnTransformer", "FeatureUnion", "FunctionTransformer")


class ScikitRuntime:
    """Anything with `predict`: estimators, pipelines, searches, and other libraries that do the same."""

    def __init__(self, uri: str, artifact_sha256: str, model: Any, features: tuple[str, ...] | None) -> None:
        self._uri = uri
        self.artifact_sha256 = artifact_sha256
        self._model = model
        self.features = _feature_names(uri, model, features)
        first = _first_step(model)
        counted = hasattr(model, "n_features_in_")
        self._reads_documents = _reads_documents(first) and len(self.features) == 1
        # Where nothing counted the columns in training, a step of the user's own took them as a DataFrame.
        self._named = hasattr(model, "feature_names_in_") or not counted
        self._encodes = self._reads_documents or not counted or _encodes(first)
        self._takes_matrix = not self._named or _looks_at_no_names(first)
        self._columns = self._try_out(first)
        self._checked: pa.Schema | None = None  # the last one that `check` had nothing against

    @property
    def outputs(self) -> pa.Schema:
        return self._columns.schema

    def check(self, rows: pa.Schema) -> None:
        if self._checked is not None and self._checked.equals(rows):
            return
        check_features(self.features, rows, text=self._encodes)
        if self._reads_documents and not pa.types.is_string(rows.field(self.features[0]).type):
            found = rows.field(self.features[0])
            raise FeatureError(
                f"the model reads text, but '{found.name}' is {found.type}; cast it in the query"
            )
        self._checked = rows

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        self.check(rows.schema)
        if rows.num_rows == 0:  # scikit-learn refuses to predict nothing
            return pa.RecordBatch.from_pylist([], schema=self.outputs)
        try:
            answers = self._ask(rows)
        except REFUSALS as exc:
            raise FeatureError(_refusal(rows, self.features, exc)) from exc
        return self._columns.to_arrow(self._uri, answers, rows.num_rows)

    def _ask(self, rows: pa.RecordBatch) -> Answers:
        if not (self._named and self._takes_matrix):
            return ask(self._model, self._input(rows))
        with warnings.catch_warnings():
            # It knows names and is given none: its columns stand in its own order already.
            warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)
            return ask(self._model, self._input(rows))

    def _input(self, rows: pa.RecordBatch) -> Any:
        """A matrix, or a DataFrame for a model that finds columns by name."""
        if self._reads_documents:
            documents = rows.column(self.features[0]).to_pylist()
            return np.array([np.nan if text is None else text for text in documents], dtype=object)
        if self._encodes and (self._named or not self._are_numbers(rows.schema)):
            frame = feature_frame(rows, self.features)
            return frame if self._named else frame.to_numpy(dtype=object)
        matrix = feature_matrix(rows, self.features)
        if self._takes_matrix:
            return matrix
        import pandas as pd  # scikit-learn has imported it already

        return pd.DataFrame(matrix, columns=list(self.features), copy=False)

    def _are_numbers(self, rows: pa.Schema) -> bool:
        return all(is_number(rows.field(name).type) for name in self.features)

    def _try_out(self, first: Any) -> OutputColumns:
        """Ask the model about one made-up row: only its answer tells how many outputs a regressor has.

        A model that refuses the row gets the columns its kind usually has; `predict` checks them.
        """
        row: dict[str, Any] = dict.fromkeys(self.features, "text" if self._reads_documents else 1.0)
        row.update(_known_categories(first, self.features))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what the model thinks of a made-up row is of no interest
                answers = self._ask(pa.RecordBatch.from_pylist([row]))
        except REFUSALS as exc:
            if type(exc).__name__ == "NotFittedError":
                raise ArtifactError(f"model file '{self._uri}' holds a model that was never fitted") from exc
            answers = None
        return output_columns(self._model, answers)


def _feature_names(uri: str, model: Any, configured: tuple[str, ...] | None) -> tuple[str, ...]:
    known = getattr(model, "feature_names_in_", None)
    if known is not None:
        names = tuple(str(name) for name in known)
        if configured is not None and set(configured) != set(names):
            raise FeatureError(
                f"`features:` says {', '.join(configured)}, but the model in '{uri}' was trained on "
                f"{', '.join(names)}; leave `features:` out, the model knows its own"
            )
        return names
    expected = getattr(model, "n_features_in_", None)
    if configured is None:
        count = "its" if expected is None else f"its {expected}"
        raise FeatureError(
            f"the model in '{uri}' was trained without feature names; set `features:` to {count} columns, "
            "in the order of training"
        )
    if expected is not None and len(configured) != expected:
        raise FeatureError(
            f"`features:` names {len(configured)} columns, but the model in '{uri}' was trained on "
            f"{expected}; name them all, in the order of training"
        )
    return configured


def _first_step(model: Any) -> Any:
    """What reads the columns first: inside searches and pipelines, the first estimator."""
    while True:
        if hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        elif getattr(model, "steps", None):
            model = model.steps[0][1]
        else:
            return model


def _input_tag(step: Any, tag: str, default: bool) -> bool:
    tags = getattr(step, "__sklearn_tags__", None)
    return bool(getattr(tags().input_tags, tag)) if tags else default


def _encodes(first: Any) -> bool:
    if getattr(first, "is_categorical_", None) is not None:  # HistGradientBoosting trained on categories
        return True
    return _input_tag(first, "categorical", False) or type(first).__name__ in DISPATCHERS


def _reads_documents(first: Any) -> bool:
    """Text vectorizers take one column as a sequence of documents, not a table."""
    return _input_tag(first, "string", False) and not _input_tag(first, "two_d_array", True)


def _looks_at_no_names(first: Any) -> bool:
    """Whether all that an estimator does with names is to compare them with those of its training.

    For one row, that takes scikit-learn half of the whole prediction. An estimator of somebody else may do
    anything with names, and one that is made of others hands them on.
    """
    is_own = type(first).__module__.startswith("sklearn.")
    return is_own and first.get_params(deep=True).keys() == first.get_params(deep=False).keys()


def _known_categories(first: Any, features: tuple[str, ...]) -> dict[str, Any]:
    """One value per encoded column that its encoder has seen in training."""
    known = {}
    for encoder, columns in _encoders(first, features):
        for column, categories in zip(columns, getattr(encoder, "categories_", ()), strict=False):
            name = features[column] if isinstance(column, int) else column
            known[str(name)] = categories[:1].tolist()[0]
    return known


def _encoders(first: Any, features: tuple[str, ...]) -> Iterator[tuple[Any, Any]]:
    if hasattr(first, "transformers_"):
        for _, transformer, columns in first.transformers_:
            if isinstance(columns, list):
                yield _first_step(transformer), columns
    else:
        yield first, features


def _refusal(rows: pa.RecordBatch, features: tuple[str, ...], exc: Exception) -> str:
    said = str(exc).partition("\n")[0]
    nulls = _listed(null_counts(rows, features))
    infinite = _listed(infinite_counts(rows, features))
    if nulls and re.search("nan|null|none|missing", said, re.IGNORECASE):
        return (
            f"{REFUSES_NULL}: of {rows.num_rows} rows, {nulls} are NULL; leave such rows "
            f"out in the query, fill them with COALESCE, or train with an imputer (the model says: {said})"
        )
    if infinite and "infinity" in said:
        return (
            f"{REFUSES_INFINITE}: of {rows.num_rows} rows, {infinite} are infinite; "
            f"leave such rows out in the query (the model says: {said})"
        )
    types = {name: rows.schema.field(name).type for name in features}
    texts = ", ".join(f"'{name}' is {kind}" for name, kind in types.items() if not is_number(kind))
    facts = [f"NULL: {nulls}" if nulls else "", f"not numbers: {texts}" if texts else ""]
    return "; ".join(filter(None, [f"the model refuses the rows: {type(exc).__name__}: {said}", *facts]))


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} in '{name}'" for name, count in counts.items())
