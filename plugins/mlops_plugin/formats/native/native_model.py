"""A library's own model as an estimator: what it answers, the labels of its classes, the columns it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from mlops_plugin.errors import ArtifactError, FeatureError
from mlops_plugin.formats.column_values import ColumnSpec, is_known_dtype
from mlops_plugin.formats.features import check_names
from mlops_plugin.formats.input_rules import StatedInput
from mlops_plugin.formats.mlflow_models.trained_types import require_trained_kinds, single_or_double
from mlops_plugin.formats.model_input import InputSpec
from mlops_plugin.formats.scikit import ScikitRuntime

Values = np.ndarray[Any, Any]
Label = bool | int | float | str

# What `model: {dtypes: ...}` may say of a column that becomes a number.
_WHOLE_OR_DOUBLE = ("integer", "number", "boolean", "bool")


class NativeModel(Protocol):
    """A model of one of the libraries, as its file holds it."""

    @property
    def names(self) -> tuple[str, ...] | None:
        """The columns of training in their order; None if the file does not name them."""

    @property
    def feature_count(self) -> int:
        """How many columns it reads."""

    def columns(self, fields: Sequence[pa.Field], dtypes: Mapping[str, str]) -> tuple[ColumnSpec, ...]:
        """Each column as training had it, by the types of the query's columns; `dtypes` as configured.

        Raises `FeatureError` if that is not certain.
        """

    def example(self) -> list[Any]:
        """A value for each column that the model may take."""

    def answer(self, table: Any) -> Values:
        """What the library says of a matrix or a DataFrame: numbers, or rows x classes of probabilities."""

    def places(self, table: Any, probabilities: Values, /) -> Values:
        """The place of each row's class, as the library decides; by a model that answers probabilities."""


class NativeRegressor:
    """A model that answers numbers: values, ranking scores, quantiles, raw margins."""

    _estimator_type = "regressor"

    def __init__(self, native: NativeModel) -> None:
        self.native = native
        self.n_features_in_ = native.feature_count
        self.feature_names_in_ = native.names

    def predict(self, table: Any) -> Values:
        """The library's own answer."""
        return self.native.answer(table)


class NativeClassifier(NativeRegressor):
    """A model that answers the probabilities of its classes."""

    _estimator_type = "classifier"

    def __init__(self, native: NativeModel, labels: Sequence[Label]) -> None:
        super().__init__(native)
        self.classes_ = np.array(labels)

    def predict_proba(self, table: Any) -> Values:
        """Rows x classes."""
        return self.native.answer(table)

    def predict(self, table: Any) -> Values:
        """The labels of the classes that the library decides for."""
        return self.labels_of(table, self.predict_proba(table))

    def labels_of(self, table: Any, probabilities: Values) -> Values:
        """The same for rows whose probabilities are known."""
        return np.asarray(self.classes_.take(self.native.places(table, probabilities)))


def of_two_classes(second: Values) -> Values:
    """Rows x 2: of two classes libraries answer the second one's probability."""
    return np.vstack((1.0 - second, second)).T


def first_of_likeliest(probabilities: Values) -> Values:
    """The place of the likeliest class, as the wrappers of LightGBM and XGBoost decide."""
    return np.asarray(np.argmax(probabilities, axis=1))


class NativeRules:
    """The table of a model without a signature, by its file and the query's schema."""

    def __init__(self, native: NativeModel, features: tuple[str, ...], stated: StatedInput) -> None:
        self._native = native
        self._features = features
        self._trained = stated.trained or {}
        singles = {name: "float32" for name in features if single_or_double(self._trained, name) == "float32"}
        self._dtypes = {**singles, **(stated.dtypes or {})}
        stated.require_features(features)

    def specs(self, rows: pa.Schema) -> list[InputSpec]:
        """The one table for rows of this schema; raises `FeatureError` if they do not fit the model."""
        check_names(self._features, rows)
        require_trained_kinds(self._trained, rows)
        columns = self._native.columns([rows.field(name) for name in self._features], self._dtypes)
        is_plain = all(column.dtype.startswith("float") for column in columns)
        spec = InputSpec("matrix" if is_plain else "frame", columns)
        spec.check(rows)
        return [spec]

    def example(self) -> dict[str, Any]:
        """A made-up row."""
        return dict(zip(self._features, self._native.example(), strict=True))


class NativeRuntime(ScikitRuntime):
    """A `NativeRegressor` or `NativeClassifier`, asked like any estimator."""

    def _input_rules(self, model: NativeRegressor, stated: StatedInput) -> NativeRules:
        return NativeRules(model.native, self.features, stated)


def number_column(name: str, dtypes: Mapping[str, str]) -> ColumnSpec:
    """A column of numbers: float64, unless the configuration says that training had fewer bits.

    Raises `FeatureError` if it says that the column is no number.
    """
    dtype = dtypes.get(name, "number")
    if dtype.lower() in ("float16", "float32"):
        return ColumnSpec(name, dtype.lower())
    if dtype in _WHOLE_OR_DOUBLE or (is_known_dtype(dtype) and ColumnSpec(name, dtype).is_numeric):
        return ColumnSpec(name, "float64")
    raise FeatureError(
        f"`model: {{dtypes: {{{name}: {dtype}}}}}`: the model reads numbers there; write number, or float32"
    )


def estimator_of(
    uri: str, native: NativeModel, class_count: int | None, labels: Sequence[Label] | None
) -> NativeRegressor:
    """The model with the labels that the configuration gives; `class_count` None: it answers numbers.

    Raises `ArtifactError` if labels are missing, or are not those of this model.
    """
    if class_count is None:
        if labels is not None:
            raise ArtifactError(
                f"model file '{uri}' answers numbers, not classes; remove `model: {{classes: ...}}`"
            )
        return NativeRegressor(native)
    if labels is None:
        raise ArtifactError(
            f"model file '{uri}' predicts {class_count} classes and does not hold their labels; set "
            "`model: {classes: [...]}` to the labels of training in their order: `list(model.classes_)` of a "
            f"classifier, {[*range(class_count)] if class_count < 4 else '[0, 1, ...]'} of a Booster "
            "(mlops init: --classes)"
        )
    if len(labels) != class_count:
        raise ArtifactError(
            f"`model: {{classes: ...}}` names {len(labels)} labels, but the model in '{uri}' predicts "
            f"{class_count} classes; name them all, in the order of training"
        )
    return NativeClassifier(native, labels)
