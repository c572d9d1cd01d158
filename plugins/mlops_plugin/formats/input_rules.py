"""The rules for a model without a signature: its table, from the fitted model and the query's schema.

docs/models.md describes them to users. They never look at a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from mlops_plugin.arrow_values import MOST_EXACT
from mlops_plugin.errors import FeatureError
from mlops_plugin.formats.boosting import column_of_boosting, has_categories, is_boosting
from mlops_plugin.formats.column_values import ColumnSpec, Missing, usual_unit
from mlops_plugin.formats.estimator_walk import (
    Reader,
    categories_behind,
    categories_of,
    first_step,
    input_tag,
    is_missing,
    is_own,
    kind_of,
    known_names,
    leads_to_documents,
    numbers_of,
    readers_of,
    reads_documents,
    reads_records,
    runs_foreign_code,
    tells_integers,
)
from mlops_plugin.formats.features import (
    check_names,
    check_record,
    float_of_training,
    is_number,
    is_text,
    needs_doubles,
)
from mlops_plugin.formats.mlflow_models import trained_types
from mlops_plugin.formats.model_input import Container, InputSpec, spec_of
from mlops_plugin.formats.types_of_training import (
    doubted,
    imputed_as,
    known_behind,
    trained_in_single,
    written_as,
)

# What people write in `model: {dtypes: ...}` instead of NumPy's names.
PLAIN_DTYPES: dict[str, tuple[str, Missing]] = {
    "integer": ("int64", "nan"),
    "number": ("float64", "nan"),
    "boolean": ("bool", "none"),
    "text": ("str", "nan"),
    "date": ("date", "none"),
    "timestamp": ("datetime64[us]", "nat"),
    "decimal": ("decimal", "none"),
    "bytes": ("bytes", "none"),
}


@dataclass(frozen=True)
class StatedInput:
    """What the configuration says of a model's input; `trained`: what training has recorded beside it."""

    container: Container | None = None
    dtypes: Mapping[str, str] | None = None
    trained: Mapping[str, str] | None = None

    def require_features(self, features: tuple[str, ...]) -> None:
        """Raise `FeatureError` if `dtypes` names a column that is no feature."""
        if unknown := sorted(set(self.dtypes or ()) - set(features)):
            raise FeatureError(
                f"`model: {{dtypes: ...}}` names {', '.join(unknown)}, but the model's features are "
                f"{', '.join(features)}; name features only"
            )


class InputRules:
    """Decides once what a fitted model reads; `features` are its columns in its own order."""

    def __init__(self, model: Any, features: tuple[str, ...], stated: StatedInput) -> None:
        self._features = features
        self._stated = stated
        self._trained = stated.trained or {}
        self._is_named = known_names(model) is not None
        self._is_counted = bool(getattr(model, "n_features_in_", None))
        self._readers = readers_of(model, features)
        whole = [reader.step for reader in self._readers if reader.columns == features]
        whole_tables = [
            reader.step for reader in self._readers if reader.columns == features and not reader.is_series
        ]
        self._reads_documents = any(map(reads_documents, whole_tables))
        self._reads_records = any(map(reads_records, whole))
        self._is_foreign = any(runs_foreign_code(step) and not is_boosting(step) for step in whole)
        direct = [reader.step for reader in self._readers]
        self._foreign = {id(step) for step in direct if runs_foreign_code(step)}
        self._telling = {id(step) for step in direct if tells_integers(step)}
        self._behind = known_behind(categories_behind(model, direct), features)
        self._leads_to_documents = leads_to_documents(model)
        self._reads_numbers = not (self._reads_documents or self._reads_records) and all(
            _is_numeric(reader.step) for reader in self._readers
        )
        self._is_single = self._reads_numbers and trained_in_single(model)
        self._looks_at_names = self._is_named and not _ignores_names(first_step(model))
        stated.require_features(features)

    def specs(self, rows: pa.Schema) -> list[InputSpec]:
        """The table for rows of this schema; if there are several, the first that the model does not refuse.

        Several only if neither the model nor the configuration tells the container: a class of the user's
        own that keeps none of scikit-learn's conventions. Raises `FeatureError` if no table is right.
        """
        check_names(self._features, rows)
        trained_types.require_trained_kinds(self._trained, rows)
        columns = tuple(self._column(rows.field(name), rows) for name in self._features)
        found = [
            spec for container in self._containers(rows) for spec in self._specs_in(container, columns, rows)
        ]
        found[0].check(rows)
        return found

    def example(self) -> dict[str, Any]:
        """A made-up row: what an encoder knows, a text for documents, 1 for everything else."""
        row: dict[str, Any] = dict.fromkeys(self._features, 1.0)
        for name in self._features:
            readers = [reader for reader in self._readers if name in reader.columns]
            known = [value for found in categories_of(name, readers) for value in found.tolist()]
            known = [value for value in known if not is_missing(value)]
            if known:
                row[name] = known[0]
            elif any(reads_documents(reader.step) for reader in readers):
                row[name] = "text"
        return row

    def _specs_in(
        self, container: Container, columns: tuple[ColumnSpec, ...], rows: pa.Schema
    ) -> Iterator[InputSpec]:
        if container in ("documents", "series"):
            yield InputSpec(container, tuple(_as_documents(column) for column in columns))
        elif (
            container == "matrix"
            and all(is_number(rows.field(name).type) for name in self._features)
            and not any(column.dtype == "object" for column in columns)
        ):
            yield from self._matrices(columns)
        else:
            yield spec_of(container, columns)

    def _matrices(self, columns: tuple[ColumnSpec, ...]) -> Iterator[InputSpec]:
        """Arrays of numbers; of integers first, if all are and code of the user's own may tell."""
        is_stated = set(self._features) <= set(self._stated.dtypes or ())
        if all(column.is_undecided or (is_stated and column.splits) for column in columns):
            yield InputSpec("matrix", columns, None)
            if is_stated:
                return
        if self._stated.dtypes and not all(column.is_numeric for column in columns):
            yield InputSpec("matrix", columns, "object")
        else:
            is_single = all(column.dtype == "float32" for column in columns)
            yield InputSpec("matrix", columns, "float32" if is_single else "float64")

    def _containers(self, rows: pa.Schema) -> list[Container]:
        if self._stated.container is not None:
            return [self._stated.container]
        if self._reads_documents:
            return ["documents"]
        if self._reads_records:
            return ["records"]
        if self._is_named:
            is_plain = self._reads_numbers and not self._stated.dtypes
            return ["matrix"] if is_plain and not self._looks_at_names else ["frame"]
        one_text = len(self._features) == 1 and is_text(rows.field(self._features[0]).type)
        if one_text and self._leads_to_documents and not self._is_counted:
            # Documents first: a step that reads documents finds names in a DataFrame, and no error.
            return ["documents", "series", "frame"]
        if self._is_counted:
            return ["matrix", "frame"] if self._is_foreign else ["matrix"]
        if not self._is_foreign:
            return ["frame"]
        return ["frame", "matrix", "documents", "series"] if one_text else ["frame", "matrix"]

    def _column(self, field: pa.Field, rows: pa.Schema) -> ColumnSpec:
        dtype = (self._stated.dtypes or {}).get(field.name)
        if dtype is not None:
            return stated_column(field.name, dtype)
        if self._reads_numbers:
            is_single = self._is_single and field.name not in self._trained
            dtype = "float32" if is_single else trained_types.single_or_double(self._trained, field.name)
            return ColumnSpec(field.name, dtype, "nan")
        readers = [reader for reader in self._readers if field.name in reader.columns]
        for reader in readers:
            if reads_records(reader.step):
                check_record(reader.step, field)
            stated = self._stated.dtypes or {}
            column = column_of_boosting(reader.step, reader.columns, field, rows, stated)
            if column is not None:
                return column
        if any(reads_documents(reader.step) for reader in readers):
            return ColumnSpec(field.name, "text", "nan")
        known = _Known(field.name, readers)
        if (column := known.column(field)) is not None:
            return column
        recorded = None if known.missing == "none" else trained_types.trained_column(self._trained, field)
        if recorded is not None:
            return recorded
        is_blind = not any(id(reader.step) in self._telling for reader in readers)
        is_foreign = any(id(reader.step) in self._foreign for reader in readers)
        # What an encoder behind code of the user's own knows tells how that code wrote a number.
        behind = self._behind[field.name]
        known_as = written_as(behind) or imputed_as(readers, rows, is_foreign=is_foreign)
        column = column_by_type(field, known.missing, is_float=is_blind or known_as == "f")
        if not is_foreign:
            # scikit-learn's own that tell 1 from 1.0 take no missing value: training had none. But an array
            # may have been one of floats.
            return replace(column, is_undecided=column.splits and not self._is_named)
        is_told = known_as is not None
        return doubted(column, rows, self._readers, behind, is_told=is_told)


class _Known:
    """What fitted encoders and imputers know of a column."""

    def __init__(self, name: str, readers: list[Reader]) -> None:
        self._categories = list(categories_of(name, readers))
        self.missing = _missing_of(readers, self._categories)

    def column(self, field: pa.Field) -> ColumnSpec | None:
        """The column as its encoder knows it; None if no encoder knows it."""
        for categories in self._categories:
            kind = kind_of(categories)
            if kind is not None:
                return self._column(field, kind)
        return None

    def _column(self, field: pa.Field, kind: str) -> ColumnSpec:
        name, arrow = field.name, _plain(field.type)
        is_null = pa.types.is_null(arrow)
        if kind == "text":
            if not (is_text(arrow) or is_null):
                raise self._mismatch(field, "texts", "CAST(... AS CHAR)")
            return _text(name, self.missing)
        if kind in ("integer", "number", "boolean"):
            if not (is_number(arrow) or is_null):
                raise self._mismatch(field, "numbers", "the number itself")
            # pandas keeps None beside numbers, and whatever is missing among truths, in a column of objects.
            are_objects = self.missing == "none" or (
                kind == "boolean" and self._categories[0].dtype == object
            )
            is_exact = pa.types.is_decimal(arrow) and arrow.scale > 0
            if (is_exact and are_objects) or (
                pa.types.is_float32(arrow) and needs_doubles(numbers_of(self._categories[0]))
            ):
                raise self._mismatch(field, "numbers of eight bytes", "a column of eight bytes")
            if are_objects:
                return ColumnSpec(name, "object", self.missing or "none")
            if kind == "boolean":
                return ColumnSpec(name, "bool" if pa.types.is_boolean(arrow) else "int64", "none")
            is_whole = pa.types.is_integer(arrow) or pa.types.is_boolean(arrow)
            is_whole = is_whole or (pa.types.is_decimal(arrow) and arrow.scale <= 0)
            if kind == "integer" and not (is_whole or is_null) and self._knows_large():
                raise self._mismatch(field, "whole numbers beyond 2^53", "CAST(... AS DECIMAL(20, 0))")
            if kind == "integer" and is_whole:
                return ColumnSpec(name, "int64", "nan")
            return ColumnSpec(name, float_of_training(numbers_of(self._categories[0])), "nan")
        if kind == "instant":
            zone = getattr(arrow, "tz", None)
            if pa.types.is_timestamp(arrow) and (zone is None) == self._knows_zone():
                known, cast = (
                    ("times in a time zone", "TIMESTAMPTZ")
                    if zone is None
                    else ("times without a time zone", "TIMESTAMP")
                )
                raise self._mismatch(field, known, f"CAST(... AS {cast})")
            if self.missing == "none":  # beside Python's own times
                if not (pa.types.is_timestamp(arrow) or is_null):
                    raise self._mismatch(field, "times and None", "CAST(... AS TIMESTAMP)")
                return ColumnSpec(name, "object", "none")
            return ColumnSpec(name, _instants_in(usual_unit(), zone), "nat")
        if kind == "span":
            return ColumnSpec(name, f"timedelta64[{usual_unit()}]", "nat")
        if kind == "other":
            raise self._mismatch(field, "values that no query returns", "a number or a text")
        return ColumnSpec(name, kind, self.missing or "none")

    def _knows_large(self) -> bool:
        """Whether a double may be next to a category without being the same number."""
        return any(abs(value) > MOST_EXACT for value in self._categories[0].tolist() if not is_missing(value))

    def _knows_zone(self) -> bool:
        return any(getattr(value, "tzinfo", None) for known in self._categories for value in known.tolist())

    def _mismatch(self, field: pa.Field, known: str, instead: str) -> FeatureError:
        return FeatureError(
            f"the model's encoder knows {known} in '{field.name}' ({_examples(self._categories)}), but the "
            f"query returns {field.type}, which would match none of them; select {instead}, or train "
            "on what the query returns"
        )


def _missing_of(readers: list[Reader], categories: list[np.ndarray[Any, Any]]) -> Missing | None:
    found: set[Missing] = set()
    for known in categories:
        if known.dtype == object:
            found |= {_look_of(value) for value in known.tolist() if is_missing(value)}
    for reader in readers:
        if (
            not found
            and type(reader.step).__name__ in ("SimpleImputer", "MissingIndicator")
            and is_own(reader.step)
        ):
            value = reader.step.missing_values
            if is_missing(value):
                found.add(_look_of(value))
    if len(found) > 1:
        return "none" if "none" in found else "nan"
    return next(iter(found), None)


def stated_column(name: str, stated: str) -> ColumnSpec:
    """As `model: {dtypes: ...}` says."""
    dtype, missing = PLAIN_DTYPES.get(stated, (stated, _usual_missing(stated)))
    if stated == "timestamp":
        dtype = _instants_in(usual_unit(), None)
    return ColumnSpec(name, dtype, missing)


def _instants_in(unit: str, zone: str | None) -> str:
    return f"datetime64[{unit}, {zone}]" if zone else f"datetime64[{unit}]"


def column_by_type(field: pa.Field, missing: Missing | None, *, is_float: bool) -> ColumnSpec:
    """By the type of the query's column alone; `is_float`: whole numbers were floats, or may be."""
    name, kind = field.name, _plain(field.type)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        if missing == "none":
            return ColumnSpec(name, "object", "none")
        if is_float:
            return ColumnSpec(name, "float64", "nan")
        return ColumnSpec(name, *(("bool", "none") if pa.types.is_boolean(kind) else ("int64", "nan")))
    if is_number(kind):
        return ColumnSpec(name, "float64", "nan")
    if is_text(kind):
        return _text(name, missing)
    if pa.types.is_timestamp(kind):
        unit = "ns" if kind.unit == "ns" else usual_unit()
        return ColumnSpec(name, _instants_in(unit, kind.tz), "nat")
    if pa.types.is_duration(kind) or pa.types.is_interval(kind):
        return ColumnSpec(name, f"timedelta64[{usual_unit()}]", "nat")
    return ColumnSpec(name, "object", "none")


def _text(name: str, missing: Missing | None) -> ColumnSpec:
    return ColumnSpec(name, "str" if missing in (None, "nan") else "text", missing or "nan")


def _as_documents(column: ColumnSpec) -> ColumnSpec:
    return ColumnSpec(column.name, "text", "none" if column.missing == "none" else "nan")


def _usual_missing(dtype: str) -> Missing:
    if dtype.startswith(("datetime64", "timedelta64")):
        return "nat"
    if dtype[:1].isupper() or dtype in ("boolean", "string"):
        return "NA"
    return "none" if dtype in ("bool", "date", "time", "decimal", "bytes", "json", "object") else "nan"


def _is_numeric(step: Any) -> bool:
    """Whether an estimator looks at nothing but the numbers in its columns."""
    if not is_own(step):
        return is_boosting(step) and not has_categories(step)
    if getattr(step, "is_categorical_", None) is not None or input_tag(step, "categorical"):
        return False
    if reads_documents(step) or reads_records(step) or tells_integers(step):
        return False
    if type(step).__name__ == "SimpleImputer":
        return np.asarray(step.statistics_).dtype.kind != "O" and step.missing_values is not None
    return type(step).__name__ not in ("FunctionTransformer", "MissingIndicator")


def _ignores_names(first: Any) -> bool:
    """Whether all that an estimator does with names is to compare them with those of its training.

    For one row, that takes scikit-learn half of the whole prediction. An estimator of somebody else may do
    anything with names, and one that is made of others hands them on.
    """
    is_own = type(first).__module__.startswith("sklearn.")
    return is_own and first.get_params(deep=True).keys() == first.get_params(deep=False).keys()


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _look_of(value: Any) -> Missing:
    if value is None:
        return "none"
    return "NA" if type(value).__name__ == "NAType" else "nan"


def _examples(categories: list[np.ndarray[Any, Any]]) -> str:
    return ", ".join(repr(value) for value in categories[0].tolist()[:3])
