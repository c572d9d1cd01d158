"""In which types code of the user's own had its columns, by what estimators around it were fitted on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from mlops_plugin.formats.boosting import is_boosting
from mlops_plugin.formats.column_values import ColumnSpec, Missing, usual_unit
from mlops_plugin.formats.estimator_walk import Reader, is_code_for_queries, is_own
from mlops_plugin.formats.features import is_text

Encoded = Sequence[tuple[str | None, str]]  # texts that encoders know, with the name of the column if they do

_FLOAT = re.compile(r"-?\d+\.0")
_WHOLE = re.compile(r"-?\d+")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_MIDNIGHT = re.compile(r"\d{4}-\d\d-\d\d[T ]00:00:00")
_LOOKS: dict[str, Missing] = {"None": "none", "nan": "nan", "<NA>": "NA"}


def doubted(
    column: ColumnSpec, rows: pa.Schema, readers: Sequence[Reader], encoded: Encoded, *, is_told: bool
) -> ColumnSpec:
    """A column that code of the user's own reads, with the other type that it may have had in training.

    `readers`: all of the model. `is_told`: something else tells whether it was of integers.
    """
    field = rows.field(column.name)
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
