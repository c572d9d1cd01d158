"""In which types code of the user's own had its columns, by what estimators around it were fitted on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from mlops_plugin.errors import FeatureError
from mlops_plugin.formats.boosting import is_boosting
from mlops_plugin.formats.column_values import ColumnSpec, Missing, usual_unit
from mlops_plugin.formats.estimator_walk import (
    Reader,
    encoders_in,
    is_code_for_queries,
    is_own,
    kind_of,
    numbers_of,
)
from mlops_plugin.formats.features import float_of_training, is_text, needs_doubles

Encoded = Sequence[tuple[str | None, str]]  # texts that encoders know, with the name of the column if they do
Named = dict[str, np.ndarray[Any, Any]]  # the categories that an encoder behind other code knows, by column

_FLOAT = re.compile(r"-?\d+\.0")
_WHOLE = re.compile(r"-?\d+")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_MIDNIGHT = re.compile(r"\d{4}-\d\d-\d\d[T ]00:00:00")
_LOOKS: dict[str, Missing] = {"None": "none", "nan": "nan", "<NA>": "NA"}


def named_categories(model: Any, direct: Sequence[Any]) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """What encoders know of columns that other code has handed to them under their names.

    `direct` are left out: these read columns themselves.
    """
    for encoder in encoders_in(model):
        names = getattr(encoder, "feature_names_in_", None)
        if names is not None and not any(encoder is step for step in direct):
            yield from zip(map(str, names), encoder.categories_, strict=True)


def doubted(
    column: ColumnSpec,
    rows: pa.Schema,
    readers: Sequence[Reader],
    encoded: Encoded,
    named: Named,
    *,
    is_told: bool,
) -> ColumnSpec:
    """A column that code of the user's own reads, with the other type that it may have had in training.

    `readers`: all of the model. `is_told`: something else tells whether it was of integers. Raises
    `FeatureError` for texts in place of what an encoder behind the code knows.
    """
    field = rows.field(column.name)
    known = named.get(column.name)
    kind = None if known is None else kind_of(known)
    if known is not None and kind not in (None, "text") and is_text(field.type):
        raise _matches_none(field, known, "text")
    if known is not None and kind == "number":
        numbers = numbers_of(known)
        if pa.types.is_float32(field.type) and needs_doubles(numbers):
            raise _matches_none(field, known, "number")
        if column.dtype == "float64" and (fewer := float_of_training(numbers)) != "float64":
            return replace(column, is_undecided=True, other=fewer)
    if kind == "instant" and pa.types.is_date(field.type):
        return replace(column, dtype=f"datetime64[{usual_unit()}]", missing="nat")
    foreign = [reader for reader in readers if not is_own(reader.step)]
    beside = {reader.columns for reader in foreign}
    name = None if beside == {(column.name,)} else column.name
    if column.dtype in ("int64", "float64", "bool"):
        other = trained_otherwise(encoded, name, column.dtype)
        if other is not None:
            return replace(column, is_undecided=True, other=other)
    are_texts = len(beside) == 1 and _are_texts(next(iter(beside)), rows)
    written = missing_as_written(column, encoded, None if are_texts else name)
    if written is not None:
        return written
    is_trained = any(not (is_boosting(each.step) or is_code_for_queries(each.step)) for each in foreign)
    in_doubt = moment_in_doubt(column, field, encoded) if is_trained else None
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


def written_as(encoded: Encoded, name: str) -> str | None:
    """How code before some encoders wrote whole numbers: `f` as '1.0', `i` as '1', None if they do not tell.

    An encoder that knows the column by its name tells more than others do.
    """
    own = [text for column, text in encoded if column == name]
    known = own or [text for _, text in encoded]
    floats, integers = (any(map(form.fullmatch, known)) for form in (_FLOAT, _WHOLE))
    if floats == integers:
        return None
    return "f" if floats else "i"


def trained_otherwise(encoded: Encoded, name: str | None, dtype: str) -> str | None:
    """In which other type code before an encoder had a column, by the encoder's texts; None: nothing tells.

    'True' was a boolean, and '1' a whole number, if the code has written them. `name` None: all are its own.
    """
    known = [text for column, text in encoded if name in (column, None)]
    floats, integers = (any(map(form.fullmatch, known)) for form in (_FLOAT, _WHOLE))
    are_booleans = not {"True", "False"}.isdisjoint(known)
    if floats or are_booleans == integers:
        return None
    wanted = "bool" if are_booleans else "int64"
    return wanted if wanted != dtype else None


def missing_as_written(column: ColumnSpec, encoded: Encoded, name: str | None) -> ColumnSpec | None:
    """The column with the missing value that code before some encoders wrote; None if nothing tells.

    `name` None: all these texts are the column's own, or those of others like it.
    """
    known = [text for known_as, text in encoded if name is None or known_as == name]
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


def moment_in_doubt(column: ColumnSpec, field: pa.Field, encoded: Encoded) -> ColumnSpec | None:
    """A column of dates or times, which training may have had as datetime64, or in nanoseconds; else None.

    What encoders know of the days that code before them wrote tells.
    """
    if pa.types.is_date(field.type) and column.dtype == "object":
        instants = f"datetime64[{usual_unit()}]"
        own = [text for name, text in encoded if name == field.name] or [text for _, text in encoded]
        if any(map(_MIDNIGHT.fullmatch, own)):
            return replace(column, dtype=instants, missing="nat")
        return replace(column, is_undecided=not any(map(_DAY.fullmatch, own)), other=instants)
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


def _are_texts(names: tuple[str, ...], rows: pa.Schema) -> bool:
    return all(name in rows.names and is_text(rows.field(name).type) for name in names)
