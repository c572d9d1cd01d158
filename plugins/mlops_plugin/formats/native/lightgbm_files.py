"""LightGBM's own text files: what `Booster.save_model` writes, also of the wrappers for scikit-learn."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mlops_plugin.errors import ArtifactError, FeatureError
from mlops_plugin.formats.artifact import read_verified, refuse_no_model
from mlops_plugin.formats.column_values import ColumnSpec
from mlops_plugin.formats.features import is_text
from mlops_plugin.formats.input_rules import Said
from mlops_plugin.formats.native.libraries import LIGHTGBM, import_library, load_failure
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
_END = "\nend of trees"
_CATEGORIES = "\npandas_categorical:"  # the last line that Python writes; other tools leave it out
_SPACE = re.compile(r"\s")


def load_lightgbm(
    artifact: ArtifactConfig, features: tuple[str, ...] | None, signed: SignedSpec | None = None
) -> NativeRuntime:
    """Load what `Booster.save_model` wrote. Raises `DriverMissing` without the library."""
    content, sha256 = read_verified(artifact)
    refuse_no_model(artifact.uri, content)
    text = _require_whole(artifact.uri, content)
    lightgbm = import_library(LIGHTGBM, artifact.uri)
    try:
        booster = lightgbm.Booster(model_str=text)
    except Exception as exc:  # whatever the library or its JSON says of a broken file
        raise load_failure(artifact.uri, "lightgbm", exc) from exc
    model = LightGBMModel(booster, text, features)
    estimator = estimator_of(artifact.uri, model, model.class_count, artifact.classes)
    said = Said(dtypes=artifact.dtypes)
    return NativeRuntime(artifact.uri, sha256, estimator, features, said=said, signed=signed)


class LightGBMModel:
    """A Booster and what its text says of the columns of training."""

    def __init__(self, booster: Any, text: str, configured: tuple[str, ...] | None) -> None:
        self._booster = booster
        header = dict(line.split("=", 1) for line in text.split("\n\n", 1)[0].splitlines() if "=" in line)
        objective = header.get("objective", "").split(" ")[0]
        is_classifier = objective in _CLASSIFIERS
        self.class_count = max(2, int(header.get("num_class", 1))) if is_classifier else None
        self.feature_count: int = booster.num_feature()
        self.names = _names(tuple(booster.feature_name()), configured)
        self._seen = header.get("feature_infos", "").split(" ")
        self._categorical = _categorical_places(text, self._seen)
        self._lists: list[list[Any]] | None = booster.pandas_categorical or (
            [] if _CATEGORIES in text else None
        )

    def columns(self, fields: Sequence[pa.Field], dtypes: Mapping[str, str]) -> tuple[ColumnSpec, ...]:
        """Categories of pandas in the columns that had them, whose order alone the file tells."""
        lists = self._lists_by_place(fields, dtypes)
        return tuple(
            ColumnSpec(field.name, "category", categories=tuple(lists[place]), unknown="missing")
            if place in lists  # LightGBM takes a category that training did not have for a missing value
            else number_column(field.name, dtypes)
            for place, field in enumerate(fields)
        )

    def example(self) -> list[Any]:
        """Ones, and the first categories if the file records whose they are."""
        row: list[Any] = [1.0] * self.feature_count
        if self._lists and len(self._lists) == len(self._categorical):
            for place, categories in zip(sorted(self._categorical), self._lists, strict=True):
                row[place] = categories[0] if categories else None
        return row

    def answer(self, table: Any) -> Values:
        """Values, probabilities or margins, as the objective says."""
        found = np.asarray(self._booster.predict(table))
        return of_two_classes(found) if self.class_count is not None and found.ndim == 1 else found

    def places(self, _table: Any, probabilities: Values) -> Values:
        """As LightGBM's classifier decides."""
        return first_of_likeliest(probabilities)

    def _lists_by_place(self, fields: Sequence[pa.Field], dtypes: Mapping[str, str]) -> dict[int, list[Any]]:
        if self._lists is None:
            self._require_said(fields, dtypes)
            return {}
        if not self._lists:
            return {}
        texts = {place for place, field in enumerate(fields) if is_text(field.type)}
        # A column of texts had categories. If that leaves none over, others with codes were numbers.
        places = sorted(texts if len(texts) == len(self._lists) else texts | self._categorical)
        found = dict(zip(places, self._lists, strict=False))
        if len(places) != len(self._lists) or not all(
            self._may_be(fields[place], place, categories) for place, categories in found.items()
        ):
            named = ", ".join(f"'{fields[place].name}' ({fields[place].type})" for place in places)
            raise FeatureError(
                f"LightGBM's file has {len(self._lists)} lists of categories and does not record whose they "
                f"are; candidates in the query are {named or 'none'}: cast columns in the query to their "
                "types of training, or write a signature where the model is trained"
            )
        return found

    def _may_be(self, field: pa.Field, place: int, categories: list[Any]) -> bool:
        """Whether these can be the categories of a column with the query's type and the codes of training."""
        are_texts = any(isinstance(category, str) for category in categories)
        codes = [float(code) for code in re.findall(r"-?[\d.]+(?:e[+-]?\d+)?", self._seen[place])]
        is_any = pa.types.is_null(field.type)
        return max(codes, default=0) < len(categories) and (is_any or are_texts == is_text(field.type))

    def _require_said(self, fields: Sequence[pa.Field], dtypes: Mapping[str, str]) -> None:
        """A file without its last line is another tool's, or was cut off: then codes would be mistaken."""
        doubtful = [fields[place].name for place in sorted(self._categorical)]
        doubtful = [name for name in doubtful if name not in dtypes]
        if doubtful:
            raise FeatureError(
                f"LightGBM's file has no line `pandas_categorical`, so nothing tells what the codes of "
                f"{', '.join(map(repr, doubtful))} mean; save the model again with Python, or set "
                f"`model: {{dtypes: {{{doubtful[0]}: integer}}}}` if the query returns the very codes"
            )


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
    if _END not in text:
        raise ArtifactError(
            f"model file '{uri}' ends before its line `end of trees`; copy it again, or save the model again"
        )
    return text


def _names(found: tuple[str, ...], configured: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The file's names; `features:` may say where it has `_` for a space."""
    if found == tuple(f"Column_{number}" for number in range(len(found))):
        return None
    if configured is not None and tuple(_SPACE.sub("_", name) for name in configured) == found:
        return configured
    return found


def _categorical_places(text: str, seen: Sequence[str]) -> set[int]:
    said = re.search(r"^\[categorical_feature: ([\d,]+)\]$", text, re.MULTILINE)
    places = {int(place) for place in said[1].split(",")} if said else set()
    return places | {place for place, info in enumerate(seen) if info and not info.startswith(("[", "none"))}
