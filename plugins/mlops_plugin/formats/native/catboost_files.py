"""CatBoost's own binary files: what `save_model` writes, of whichever of its classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mlops_plugin.errors import ArtifactError, FeatureError
from mlops_plugin.formats.artifact import Verified, read_verified, refuse_no_model
from mlops_plugin.formats.column_values import ColumnSpec
from mlops_plugin.formats.features import is_text
from mlops_plugin.formats.input_rules import StatedInput
from mlops_plugin.formats.likeliest import CLOSE
from mlops_plugin.formats.native.catboost_categories import CategoryWriting, is_believed
from mlops_plugin.formats.native.libraries import CATBOOST, import_library, load_failure
from mlops_plugin.formats.native.native_model import (
    Label,
    NativeRuntime,
    Values,
    estimator_of,
    first_of_likeliest,
    number_column,
)
from mlops_plugin.formats.native_threads import thread_limit

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ArtifactConfig
    from mlops_plugin.formats.model_input import SignedSpec

_SEVERAL_LABELS = ("MultiLogloss", "MultiCrossEntropy")
# What `CatBoostRegressor.predict` answers by default; otherwise the values themselves.
_ANSWERS = {"Poisson": "Exponent", "Tweedie": "Exponent", "RMSEWithUncertainty": "RMSEWithUncertainty"}
_MARK, _SIZE = b"CBM1", 4  # a size is a number of four bytes
_CHECKED_PARTS = (b"text", b"embe")
_BORDER = "binclass_probability_threshold"


def load_catboost(
    artifact: ArtifactConfig,
    features: tuple[str, ...] | None,
    signed: SignedSpec | None = None,
    verified: Verified | None = None,
) -> NativeRuntime:
    """Load what `save_model` wrote. Raises `DriverMissing` without the library."""
    content, sha256, trained = verified or read_verified(artifact)
    refuse_no_model(artifact.uri, content)
    _require_whole(artifact.uri, content)
    catboost = import_library(CATBOOST, artifact.uri)
    try:
        model = CatBoostModel(catboost.CatBoost().load_model(blob=content))
    except Exception as exc:  # whatever the library says of a broken file
        raise load_failure(artifact.uri, "catboost", exc) from exc
    if artifact.classes is not None and artifact.classes != model.labels:
        held = "no labels" if model.labels is None else f"the labels {', '.join(map(str, model.labels))}"
        raise ArtifactError(f"model file '{artifact.uri}' holds {held}; remove `model: {{classes: ...}}`")
    count = None if model.labels is None else len(model.labels)
    estimator = estimator_of(artifact.uri, model, count, model.labels)
    stated = StatedInput(dtypes=artifact.dtypes, trained=trained)
    return NativeRuntime(artifact.uri, sha256, estimator, features, stated=stated, signed=signed)


def _require_whole(uri: str, content: bytes) -> None:
    """Raise `ArtifactError` for a file that CatBoost did not write, or that ends too early.

    CatBoost reads behind the end of such a one. A file is a mark, the trees, and maybe tables of categories
    and parts that check themselves; trees and each table are preceded by their size.
    """
    if not content.startswith(_MARK):
        raise ArtifactError(
            f"model file '{uri}' is no binary file of CatBoost, which begins with `{_MARK.decode()}`; write "
            "it with `model.save_model(file)`"
        )
    end = _behind(content, len(_MARK))
    if end < len(content) and not content.startswith(_CHECKED_PARTS, end):
        tables = int.from_bytes(content[end : end + _SIZE], "little")
        end += _SIZE
        while tables and end <= len(content):
            end = _behind(content, end)
            tables -= 1
    if end > len(content):
        raise ArtifactError(
            f"model file '{uri}' has {len(content)} bytes and should have {end} or more; copy it again, or "
            "save the model again"
        )


def _behind(content: bytes, place: int) -> int:
    """Where what begins here ends, by its size."""
    return place + _SIZE + int.from_bytes(content[place : place + _SIZE], "little")


class CatBoostModel:
    """A model of CatBoost's base class, asked what its classifier or regressor would answer."""

    def __init__(self, model: Any) -> None:
        self._model = model
        metadata = dict(model.get_metadata().items())
        loss = str(json.loads(metadata.get("params", "{}")).get("loss_function", {}).get("type", ""))
        self._has_several = loss in _SEVERAL_LABELS
        self._has_border = _BORDER in metadata
        self._answers = _ANSWERS.get(loss, "RawFormulaVal")
        self.labels: tuple[Label, ...] | None = tuple(model.classes_.tolist()) or None
        if self._has_several:  # each is there or not
            self.labels = (0, 1)
        names = tuple(map(str, model.feature_names_))
        self.feature_count = len(names)
        self.names = None if names == tuple(map(str, range(len(names)))) else names
        self._categorical = set(model.get_cat_feature_indices())
        self._texts = set(model.get_text_feature_indices())
        self._embedded = set(model.get_embedding_feature_indices())
        self._threads = thread_limit()
        self._writing = CategoryWriting(sorted(self._categorical))

    def columns(self, fields: Sequence[pa.Field], dtypes: Mapping[str, str]) -> tuple[ColumnSpec, ...]:
        """Categories as whole numbers, texts or booleans; numbers as float64."""
        self._writing = CategoryWriting(sorted(self._categorical))
        for place, field in enumerate(fields):
            if is_believed(dtypes.get(field.name)):
                self._writing.trust(place)
        return tuple(self._column(place, field, dtypes) for place, field in enumerate(fields))

    def example(self) -> list[Any]:
        """Ones and texts."""
        return ["text" if place in self._texts else 1 for place in range(self.feature_count)]

    def answer(self, table: Any) -> Values:
        """Probabilities of a classifier; else what `CatBoostRegressor` answers."""
        if hasattr(table, "iloc"):
            self._writing.require_that_of_training(table, lambda rows: self._ask(rows, "RawFormulaVal"))
        return self._ask(table, self._answers if self.labels is None else "Probability")

    def places(self, table: Any, probabilities: Values, /) -> Values:
        """As CatBoost decides: by its border, or the likeliest class; it is asked where two are as likely."""
        if self._has_several:
            return self._ask(table, "Class").astype(np.int64)
        if self._has_border:
            return self._classes(table)
        places = first_of_likeliest(probabilities)
        second, first = np.partition(probabilities, -2, axis=1)[:, -2:].T
        (close,) = np.nonzero(~(first - second >= CLOSE))
        if len(close):
            places[close] = self._classes(table.iloc[close] if hasattr(table, "iloc") else table[close])
        return places

    def _classes(self, table: Any) -> Values:
        known = {label: place for place, label in enumerate(self.labels or ())}
        return np.array([known[label] for label in self._ask(table, "Class").reshape(-1).tolist()], np.int64)

    def _ask(self, table: Any, kind: str) -> Values:
        if isinstance(table, np.ndarray) and table.dtype == np.float64:
            with np.errstate(
                over="ignore"
            ):  # it makes float32 of every number; column by column twice as fast
                table = np.array(table, dtype=np.float32, order="F")
        return np.asarray(self._model.predict(table, prediction_type=kind, thread_count=self._threads))

    def _column(self, place: int, field: pa.Field, dtypes: Mapping[str, str]) -> ColumnSpec:
        if place in self._embedded:
            raise FeatureError(
                f"'{field.name}' is an embedding to CatBoost, which no column of a query can be"
            )
        if place in self._texts:
            return ColumnSpec(field.name, "text", "refused")
        if place not in self._categorical:
            return number_column(field.name, dtypes)
        # CatBoost compares the text of a category: 1, '1' and True are one, '1.0' is another.
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_boolean(kind):
            return ColumnSpec(field.name, "bool", "refused")
        if pa.types.is_integer(kind):
            return ColumnSpec(field.name, "int64", "refused")
        if is_text(kind) or pa.types.is_null(kind):
            return ColumnSpec(field.name, "text", "refused")
        raise FeatureError(
            f"CatBoost's categories are texts or whole numbers, but '{field.name}' is {kind}; cast it in the "
            "query"
        )
