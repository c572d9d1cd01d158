"""LightGBM's own text files: what `Booster.save_model` writes, also of the wrappers for scikit-learn."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mlops_plugin.errors import ArtifactError
from mlops_plugin.formats.artifact import Verified, read_verified, refuse_no_model
from mlops_plugin.formats.column_values import ColumnSpec
from mlops_plugin.formats.input_rules import StatedInput
from mlops_plugin.formats.native.libraries import LIGHTGBM, import_library, load_failure
from mlops_plugin.formats.native.lightgbm_categories import LightGBMCategories, header_of
from mlops_plugin.formats.native.native_model import (
    NativeRuntime,
    Values,
    estimator_of,
    first_of_likeliest,
    number_column,
    of_two_classes,
)

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ArtifactConfig
    from mlops_plugin.formats.model_input import SignedSpec

_CLASSIFIERS = ("binary", "multiclass", "multiclassova")
# How a part begins and ends. LightGBM's parser runs behind the end of a file that was cut.
_PARTS = (("tree\n", "\nend of trees"), ("\nparameters:", "\nend of parameters"))
_CATEGORIES = "\npandas_categorical:"  # the last line that Python writes; other tools leave it out
_SPACE = re.compile(r"\s")


def load_lightgbm(
    artifact: ArtifactConfig,
    features: tuple[str, ...] | None,
    signed: SignedSpec | None = None,
    verified: Verified | None = None,
) -> NativeRuntime:
    """Load what `Booster.save_model` wrote. Raises `DriverMissing` without the library."""
    content, sha256, trained = verified or read_verified(artifact)
    refuse_no_model(artifact.uri, content)
    text = _require_whole(artifact.uri, content)
    lightgbm = import_library(LIGHTGBM, artifact.uri)
    try:
        booster = lightgbm.Booster(model_str=text)
    except Exception as exc:  # whatever the library or its JSON says of a broken file
        raise load_failure(artifact.uri, "lightgbm", exc) from exc
    model = LightGBMModel(booster, text, features)
    estimator = estimator_of(artifact.uri, model, model.class_count, artifact.classes)
    stated = StatedInput(dtypes=artifact.dtypes, trained=trained)
    return NativeRuntime(artifact.uri, sha256, estimator, features, stated=stated, signed=signed)


class LightGBMModel:
    """A Booster and what its text says of the columns of training."""

    def __init__(self, booster: Any, text: str, configured: tuple[str, ...] | None) -> None:
        self._booster = booster
        header = header_of(text)
        objective = header.get("objective", "").split(" ")[0]
        is_classifier = objective in _CLASSIFIERS
        self.class_count = max(2, int(header.get("num_class", 1))) if is_classifier else None
        self.feature_count: int = booster.num_feature()
        self.names = _names(tuple(booster.feature_name()), configured)
        lists = booster.pandas_categorical or ([] if _CATEGORIES in text else None)
        self._categories = LightGBMCategories(text, lists)

    def columns(self, fields: Sequence[pa.Field], dtypes: Mapping[str, str]) -> tuple[ColumnSpec, ...]:
        """Categories of pandas in the columns that had them, whose order alone the file tells."""
        lists = self._categories.by_place(fields, dtypes)
        return tuple(
            ColumnSpec(field.name, "category", categories=tuple(lists[place]), unknown="missing")
            if place in lists  # LightGBM takes a category that training did not have for a missing value
            else number_column(field.name, dtypes)
            for place, field in enumerate(fields)
        )

    def example(self) -> list[Any]:
        """Ones, and the first categories if the file records whose they are."""
        lists = self._categories.lists
        return [(lists.get(place) or [1.0])[0] for place in range(self.feature_count)]

    def answer(self, table: Any) -> Values:
        """Values, probabilities or margins, as the objective says."""
        found = np.asarray(self._booster.predict(table))
        return of_two_classes(found) if self.class_count is not None and found.ndim == 1 else found

    def places(self, _table: Any, probabilities: Values) -> Values:
        """As LightGBM's classifier decides."""
        return first_of_likeliest(probabilities)


def _require_whole(uri: str, content: bytes) -> str:
    """The text; raises `ArtifactError` if it is none of LightGBM's, or ends too early."""
    try:
        text = content.decode()
    except UnicodeDecodeError as exc:
        raise load_failure(uri, "lightgbm", exc) from exc
    text = text.replace("\r\n", "\n")
    if not text.startswith("tree\n") or "\0" in text:
        raise ArtifactError(
            f"model file '{uri}' is no text file of LightGBM, which begins with the line `tree`; write it "
            "with `model.booster_.save_model(file)`, or `save_model(file)` of a Booster"
        )
    for begins, ends in _PARTS:
        if begins in text and ends not in text:
            raise ArtifactError(
                f"model file '{uri}' ends before its line `{ends.strip()}`; copy it again, or save the model "
                "again"
            )
    return text


def _names(found: tuple[str, ...], configured: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The file's names; `features:` may say where it has `_` for a space."""
    if found == tuple(f"Column_{number}" for number in range(len(found))):
        return None
    if configured is not None and tuple(_SPACE.sub("_", name) for name in configured) == found:
        return configured
    return found
