"""The own files of XGBoost, JSON and UBJSON: what `save_model` writes, of whichever of its classes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mlops_plugin.errors import FeatureError
from mlops_plugin.formats.artifact import Verified, read_verified, refuse_no_model
from mlops_plugin.formats.column_values import ColumnSpec
from mlops_plugin.formats.features import is_text
from mlops_plugin.formats.input_rules import StatedInput
from mlops_plugin.formats.native.libraries import XGBOOST, import_library, load_failure
from mlops_plugin.formats.native.native_model import (
    NativeRuntime,
    Values,
    estimator_of,
    first_of_likeliest,
    number_column,
    of_two_classes,
)
from mlops_plugin.formats.native.ubjson import require_whole
from mlops_plugin.formats.native.xgboost_categories import kept_categories, require_whole_texts

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ArtifactConfig
    from mlops_plugin.formats.model_input import SignedSpec

_TWO_CLASSES = ("binary:logistic", "binary:hinge")
_TWO_CLASSES_OF_CLASSIFIERS = "reg:logistic"  # of a Booster or a regressor these are values
_MANY_CLASSES = ("multi:softprob", "multi:softmax")
_HALF = 0.5  # the classifier's own border
_ALL_TREES = (0, 0)
_UBJSON = re.compile(rb"\{([A-Za-z]|$)")  # then the first name's length; in JSON its quote, or a space


def load_xgboost(
    artifact: ArtifactConfig,
    features: tuple[str, ...] | None,
    signed: SignedSpec | None = None,
    verified: Verified | None = None,
) -> NativeRuntime:
    """Load what `save_model` wrote. Raises `DriverMissing` without the library."""
    content, sha256, trained = verified or read_verified(artifact)
    refuse_no_model(artifact.uri, content)
    xgboost = import_library(XGBOOST, artifact.uri)
    try:
        if _UBJSON.match(content):
            require_whole(content)
        booster = xgboost.Booster()
        booster.load_model(bytearray(content))
        model = XGBoostModel(xgboost, booster)
    except Exception as exc:  # whatever the library says of a broken file
        raise load_failure(artifact.uri, "xgboost", exc) from exc
    # Its classifier takes no labels but the places of classes.
    labels = artifact.classes
    if labels is None and model.class_count is not None:
        labels = tuple(range(model.class_count))
    estimator = estimator_of(artifact.uri, model, model.class_count, labels)
    stated = StatedInput(dtypes=artifact.dtypes, trained=trained)
    return NativeRuntime(artifact.uri, sha256, estimator, features, stated=stated, signed=signed)


class XGBoostModel:
    """A Booster and what its configuration says of training."""

    def __init__(self, xgboost: Any, booster: Any) -> None:
        learner = json.loads(booster.save_config())["learner"]
        self._library = xgboost
        self._booster = booster
        self._objective: str = learner["objective"]["name"]
        self._is_linear = learner["gradient_booster"]["name"] == "gblinear"
        parameters = learner["learner_model_param"]
        self._has_several = int(parameters["num_target"]) > 1
        self.class_count: int | None = None
        if self._objective in _MANY_CLASSES:
            self.class_count = int(parameters["num_class"])
        elif self._objective in _TWO_CLASSES or (
            self._objective == _TWO_CLASSES_OF_CLASSIFIERS and _is_of_classifier(booster)
        ):
            self.class_count = 2
        self.feature_count: int = booster.num_features()
        self.names = tuple(booster.feature_names) if booster.feature_names else None
        self._iterations = _iterations(booster)
        self._categorical = {place for place, kind in enumerate(booster.feature_types or ()) if kind == "c"}
        self._categories = (kept_categories(booster) or {}) if self._categorical else {}

    def columns(self, fields: Sequence[pa.Field], dtypes: Mapping[str, str]) -> tuple[ColumnSpec, ...]:
        """Categories of training in the columns whose file has them."""
        return tuple(self._column(place, field, dtypes) for place, field in enumerate(fields))

    def example(self) -> list[Any]:
        """Ones, and the first categories."""
        return [self._categories.get(place, [1.0])[0] for place in range(self.feature_count)]

    def answer(self, table: Any) -> Values:
        """Values, margins or probabilities, as the objective says."""
        if self._objective == "multi:softmax":  # it answers classes; its classifier makes them probabilities
            from scipy.special import softmax

            return np.asarray(softmax(self._ask(table, "margin"), axis=1))
        found = self._ask(table, "value")
        return of_two_classes(found) if self.class_count == 2 and found.ndim == 1 else found

    def places(self, table: Any, probabilities: Values) -> Values:
        """As XGBoost's classifier decides; for several labels each by itself."""
        if self._objective == "multi:softmax":
            return self._ask(table, "value").astype(np.int64)
        if self._has_several:
            return np.asarray(probabilities > _HALF).astype(np.int64)
        return first_of_likeliest(probabilities)

    def _ask(self, table: Any, kind: str) -> Values:
        if self._is_linear:  # it cannot be asked in place
            rows = self._library.DMatrix(table, enable_categorical=True)
            return np.asarray(
                self._booster.predict(rows, output_margin=kind == "margin", validate_features=False)
            )
        return np.asarray(
            self._booster.inplace_predict(
                table, iteration_range=self._iterations, predict_type=kind, validate_features=False
            )
        )

    def _column(self, place: int, field: pa.Field, dtypes: Mapping[str, str]) -> ColumnSpec:
        categories = self._categories.get(place)
        if categories is None:
            if place in self._categorical and field.name not in dtypes:
                raise FeatureError(
                    f"XGBoost's file has no categories for '{field.name}': train and save the model with "
                    f"XGBoost 3.1 or later, or set `model: {{dtypes: {{{field.name}: integer}}}}` if the "
                    "query returns the very codes of training"
                )
            return number_column(field.name, dtypes)
        require_whole_texts(field.name, categories)
        are_texts = any(isinstance(category, str) for category in categories)
        if are_texts != is_text(field.type) and not pa.types.is_null(field.type):
            raise FeatureError(
                f"XGBoost knows {categories[:3]} in '{field.name}', but the query returns {field.type}; cast "
                "it to the type of training"
            )
        return ColumnSpec(field.name, "category", categories=tuple(categories))


def _is_of_classifier(booster: Any) -> bool:
    """Whether `XGBClassifier` saved it."""
    return '"classifier"' in (booster.attr("scikit_learn") or "")


def _iterations(booster: Any) -> tuple[int, int]:
    """Up to the best one, if a class for scikit-learn was saved; a Booster's own `predict` uses all trees."""
    attributes = booster.attributes()
    if "scikit_learn" not in attributes or "best_iteration" not in attributes:
        return _ALL_TREES
    return (0, int(attributes["best_iteration"]) + 1)
