"""In which types a model had its columns in training, by what its estimators were fitted on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from mlops_plugin.arrow_values import holds_integers
from mlops_plugin.errors import FeatureError
from mlops_plugin.formats.boosting import is_boosting
from mlops_plugin.formats.column_values import ColumnSpec, Missing, usual_unit
from mlops_plugin.formats.estimator_walk import (
    Categories,
    Reader,
    ends_of,
    is_code_for_queries,
    is_missing,
    is_own,
    kind_of,
    numbers_of,
    runs_foreign_code,
)
from mlops_plugin.formats.features import float_of_training, is_number, is_text, needs_doubles

_FLOAT = re.compile(r"-?\d+\.0")
_WHOLE = re.compile(r"-?\d+")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_MIDNIGHT = re.compile(r"\d{4}-\d\d-\d\d[T ]00:00:00")
# What estimators of scikit-learn learn in the type of their rows, whatever the type of the labels is.
_LEARNED = (
    "X_",
    "X_fit_",
    "X_train_",
    "_fit_X",
    "cluster_centers_",
    "coef_",
    "coefs_",
    "location_",
    "means_",
    "theta_",
)
_LOOKS: dict[str, Missing] = {"None": "none", "nan": "nan", "<NA>": "NA"}


@dataclass(frozen=True)
class KnownBehind:
    """What encoders know of a column that code has handed to them.

    `categories`: those known under the column's name. `own`: the texts among them, and missing values as
    Python writes them. `others`: those of columns that are no feature of the model; made of any, maybe.
    """

    categories: Categories | None = None
    own: Sequence[str] = ()
    others: Sequence[str] = ()

    @property
    def texts(self) -> Sequence[str]:
        return [*self.own, *self.others]


def trained_in_single(model: Any) -> bool:
    """Whether scikit-learn's own estimators compute with 32 bits, as they do if all columns had them.

    Code of somebody else, a library of boosted trees (in a stack) or a step with a parameter for it makes
    float32 of other numbers as well.
    """
    if runs_foreign_code(model):
        return False
    params = model.get_params(deep=True)
    for name, value in params.items():
        if is_boosting(value) or (name.endswith("dtype") and value in (np.float32, "float32")):
            return False
    return any(map(_has_singles, (step for step, _ in ends_of(model, None))))


def _has_singles(step: Any) -> bool:
    learned = (getattr(step, name, None) for name in _LEARNED)
    arrays = (each[0] if isinstance(each, list) and each else each for each in learned)
    return any(isinstance(each, np.ndarray) and each.dtype == np.float32 for each in arrays)


def known_behind(found: Iterable[Categories], features: Sequence[str]) -> dict[str, KnownBehind]:
    """What encoders tell of each of the model's features; nothing of one tells of another."""
    texts: dict[str | None, list[str]] = {None: []}
    named: dict[str, Categories] = {}
    for known in found:
        name = known.name if known.name in features else None
        if name is not None:
            named[name] = known
        if known.values.dtype.kind in "OU":
            values = [each for each in known.values.tolist() if isinstance(each, str) or is_missing(each)]
            texts.setdefault(name, []).extend(map(str, values))
    return {name: KnownBehind(named.get(name), texts.get(name, ()), texts[None]) for name in features}


def doubted(
    column: ColumnSpec,
    rows: pa.Schema,
    readers: Sequence[Reader],
    behind: KnownBehind,
    *,
    is_told: bool,
) -> ColumnSpec:
    """A column that code of the user's own reads, with the other type that it may have had in training.

    `readers`: all of the model. `is_told`: something else tells whether it was of integers. Raises
    `FeatureError` for texts in place of what an encoder behind the code knows.
    """
    field = rows.field(column.name)
    found = behind.categories
    known = None if found is None else found.values
    kind = None if known is None else kind_of(known)
    if known is not None and kind not in (None, "text") and is_text(field.type):
        if kind in ("integer", "number") and float_of_training(numbers_of(known)) == "float64":
            return replace(column, is_undecided=True, other="float64")  # or the code makes numbers of them
        raise _matches_none(field, known, "text")
    if found is not None and found.is_of_boosting:
        if kind == "boolean" and pa.types.is_integer(field.type):
            return replace(column, dtype="bool", missing="none")  # as MySQL and SQLite keep them
        if kind == "text" and is_number(field.type) and _are_numbers(behind.own):
            return replace(column, is_undecided=True, other="text")  # or the code writes them so
    if known is not None and kind == "number":
        numbers = numbers_of(known)
        if pa.types.is_float32(field.type) and needs_doubles(numbers):
            raise _matches_none(field, known, "number")
        if column.dtype == "float64" and (fewer := float_of_training(numbers)) != "float64":
            return replace(column, is_undecided=True, other=fewer)
    if kind == "instant" and pa.types.is_date(field.type):
        return replace(column, dtype=f"datetime64[{usual_unit()}]", missing="nat")
    foreign = [reader for reader in readers if runs_foreign_code(reader.step)]
    beside = {reader.columns for reader in foreign}
    is_alone = beside == {(column.name,)}
    if column.dtype in ("int64", "float64", "bool"):
        other = trained_otherwise(behind.texts if is_alone else behind.own, column.dtype)
        if other is not None:
            return replace(column, is_undecided=True, other=other)
    are_texts = len(beside) == 1 and _are_texts(next(iter(beside)), rows)
    written = missing_as_written(column, behind.texts if is_alone or are_texts else behind.own)
    if written is not None:
        return written
    if column.dtype == "float64" and holds_integers(field) and not is_told:
        return replace(column, dtype="int64", is_undecided=True)
    is_trained = any(not (is_boosting(each.step) or is_code_for_queries(each.step)) for each in foreign)
    in_doubt = moment_in_doubt(column, field, behind) if is_trained else None
    return in_doubt or replace(
        column, is_undecided=not is_told and (column.splits or (is_trained and column.is_text))
    )


def _matches_none(field: pa.Field, known: np.ndarray[Any, Any], stated: str) -> FeatureError:
    examples = ", ".join(repr(value) for value in known.tolist()[:3])
    return FeatureError(
        f"an encoder behind the model's own code knows '{field.name}' as {examples}, and the query returns "
        f"{field.type}, in which none of them is equal: cast it in the query to the type of training, or, if "
        f"the code makes them of such values, set `model: {{dtypes: {{{field.name}: {stated}}}}}`"
    )


def written_as(behind: KnownBehind) -> str | None:
    """How code before some encoders wrote whole numbers: `f` as '1.0', `i` as '1', None if they do not tell.

    An encoder that knows the column by its name tells more than others do.
    """
    known = behind.own or behind.others
    floats, integers = (any(map(form.fullmatch, known)) for form in (_FLOAT, _WHOLE))
    if floats == integers:
        return None
    return "f" if floats else "i"


def trained_otherwise(known: Sequence[str], dtype: str) -> str | None:
    """In which other type code before an encoder had a column, by the encoder's texts; None: nothing tells.

    'True' was a boolean, and '1' a whole number, if the code has written them.
    """
    floats, integers = (any(map(form.fullmatch, known)) for form in (_FLOAT, _WHOLE))
    are_booleans = not {"True", "False"}.isdisjoint(known)
    if floats or are_booleans == integers:
        return None
    wanted = "bool" if are_booleans else "int64"
    return wanted if wanted != dtype else None


def missing_as_written(column: ColumnSpec, known: Sequence[str]) -> ColumnSpec | None:
    """The column with the missing value that code before an encoder wrote; None if nothing tells."""
    looks = {_LOOKS[text] for text in known if text in _LOOKS}
    if len(looks) != 1:
        return None
    (look,) = looks
    if look == "NA":
        nullable = {"int64": "Int64", "float64": "Float64", "bool": "boolean"}.get(column.dtype)
        dtype = "string" if column.is_text else nullable
        return None if dtype is None else replace(column, dtype=dtype, missing="NA")
    if column.is_text:
        return replace(column, dtype="text" if look == "none" else column.dtype, missing=look)
    is_of_objects = (column.dtype, look) in (("int64", "none"), ("bool", "nan"))
    return replace(column, dtype="object", missing=look) if is_of_objects else None


def moment_in_doubt(column: ColumnSpec, field: pa.Field, behind: KnownBehind) -> ColumnSpec | None:
    """A column of dates or times, which training may have had as datetime64, or in nanoseconds; else None.

    What encoders know of the days that code before them wrote tells.
    """
    if pa.types.is_date(field.type) and column.dtype == "object":
        instants = f"datetime64[{usual_unit()}]"
        known = behind.own or behind.others
        if any(map(_MIDNIGHT.fullmatch, known)):
            return replace(column, dtype=instants, missing="nat")
        return replace(column, is_undecided=not any(map(_DAY.fullmatch, known)), other=instants)
    if column.is_instant and column.dtype.startswith("datetime64[us"):
        return replace(column, is_undecided=True, other=column.dtype.replace("[us", "[ns"))
    return None


def imputed_as(readers: Sequence[Reader], rows: pa.Schema, *, is_foreign: bool) -> str | None:
    """The kind of number that an imputer of a column was fitted on: `i`, `f`, or None if it does not tell.

    An imputer keeps one type for all its columns: floats for whole numbers if one of them was of floats. That
    says nothing of a single one, which code of the user's own (`is_foreign`) may see as well.
    """
    for reader in readers:
        if type(reader.step).__name__ != "SimpleImputer" or not is_own(reader.step):
            continue
        kind = np.dtype(getattr(reader.step, "_fit_dtype", object)).kind
        known = [rows.field(name).type for name in reader.columns if name in rows.names]
        is_whole = len(known) == len(reader.columns) and all(map(pa.types.is_integer, known))
        if is_whole and (kind == "i" or (kind == "f" and (len(reader.columns) == 1 or not is_foreign))):
            return kind
    return None


def _are_numbers(texts: Sequence[str]) -> bool:
    return any(form.fullmatch(text) for text in texts for form in (_FLOAT, _WHOLE))


def _are_texts(names: tuple[str, ...], rows: pa.Schema) -> bool:
    return all(name in rows.names and is_text(rows.field(name).type) for name in names)
