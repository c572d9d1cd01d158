"""From Arrow rows to what scikit-learn reads: columns found by name, in the model's order, as float64."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import numpy as np
import pyarrow as pa

from mlops_plugin.arrow_values import as_doubles, doubles_of
from mlops_plugin.errors import FeatureError

BLOCK_ROWS = 1024
Numbers = np.ndarray[Any, Any]


def check_names(features: tuple[str, ...], rows: pa.Schema) -> None:
    """Raise `FeatureError` if `rows` lack a feature or have it twice."""
    missing = [name for name in features if name not in rows.names]
    if missing:
        others = [name for name in rows.names if name not in features]
        raise FeatureError(
            f"the query's rows lack {len(missing)} of the model's {len(features)} features: "
            f"{', '.join(_with_nearest(name, others) for name in missing)}; "
            "select them, or name them so with AS"
        )
    twice = [name for name in features if len(rows.get_all_field_indices(name)) > 1]
    if twice:
        raise FeatureError(
            f"the query returns {_quoted(twice)} more than once; give each column its own name"
        )


def check_record(step: Any, field: pa.Field) -> None:
    """Raise `FeatureError` if a `DictVectorizer` would pass over every value of the column.

    It keeps a number under the column's name, and a text under `name=text`; what it does not know is 0.
    """
    known = getattr(step, "vocabulary_", None)
    if not known:
        return
    is_known_number = field.name in known
    prefix = f"{field.name}{step.separator}"
    texts = [key.removeprefix(prefix) for key in known if key.startswith(prefix)]
    if is_text(field.type) and is_known_number and not texts:
        found, remedy = "numbers", "the number itself"
    elif is_number(field.type) and texts and not is_known_number:
        found, remedy = f"texts ({', '.join(map(repr, texts[:3]))})", "CAST(... AS CHAR)"
    else:
        return
    raise FeatureError(
        f"the model's DictVectorizer knows {found} in '{field.name}', but the query returns {field.type}, "
        f"which it would ignore; select {remedy}, or train on what the query returns"
    )


_DOUBLE = pa.float64()
_FEW_ROWS = 64  # of a request: Arrow puts them into a matrix at once


def feature_matrix(rows: pa.RecordBatch, features: tuple[str, ...]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Rows x features in float64, C order; NULL is NaN. Integers beyond 2**53 lose their last digits."""
    if rows.num_rows <= _FEW_ROWS and all(kind == _DOUBLE for kind in rows.schema.types):
        few = rows if tuple(rows.schema.names) == features else rows.select(features)
        return np.asarray(few.to_tensor(null_to_nan=True, row_major=True).to_numpy())
    # One fixed order: in Fortran order predictions differ in the last bit, and slices of it are slow.
    matrix = np.empty((rows.num_rows, len(features)), dtype=np.float64, order="C")
    columns = [as_float64(rows.column(name)) for name in features]
    # Block by block, so that the lines being filled stay in the processor's cache: three times as fast.
    for start in range(0, rows.num_rows, BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        for position, column in enumerate(columns):
            matrix[block, position] = column[block]
    return matrix


def null_counts(rows: pa.RecordBatch, features: tuple[str, ...]) -> dict[str, int]:
    """How many values of each feature are NULL or NaN; features without any are left out."""
    counts = {name: int(rows.column(name).is_null(nan_is_null=True).sum().as_py() or 0) for name in features}
    return {name: count for name, count in counts.items() if count}


def infinite_counts(rows: pa.RecordBatch, features: tuple[str, ...]) -> dict[str, int]:
    """How many values of each numeric feature are infinite; features without any are left out."""
    numbers = [name for name in features if is_number(rows.column(name).type)]
    counts = {name: int(np.isinf(as_float64(rows.column(name))).sum()) for name in numbers}
    return {name: count for name, count in counts.items() if count}


def as_float64(column: pa.Array) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The numbers of a column; NULL is NaN. Integers beyond 2**53 lose their last digits."""
    if isinstance(column, pa.DictionaryArray):
        column = column.dictionary_decode()
    if column.type == pa.float64() and not column.null_count:
        return doubles_of(column)
    return doubles_of(as_doubles(column))


def narrowed(name: str, numbers: Numbers, dtype: str) -> Numbers:
    """A column's numbers in fewer bits; raises `FeatureError` for one that would become infinite there."""
    with np.errstate(over="ignore"):
        found: Numbers = numbers.astype(dtype)
    is_infinite = np.isinf(found)
    if is_infinite.any() and (is_beyond := is_infinite & np.isfinite(numbers)).any():
        raise FeatureError(
            f"column '{name}': {numbers[is_beyond][0]:g} is beyond the numbers that the model's {dtype} can "
            "express; leave such rows out in the query or with `input:`"
        )
    return found


def needs_doubles(known: Numbers) -> bool:
    """Whether numbers of four bytes could not equal all of these: 0.1 is 0.10000000149 there."""
    with np.errstate(over="ignore"):
        return bool((known.astype(np.float32) != known).any())


def float_of_training(known: Numbers) -> str:
    """The type of the numbers that training knew: of fewer bytes if all are rounded so and fractions show.

    0.1 is 0.10000000149 in four bytes, and was 0.1 before.
    """
    fractions = known[np.isfinite(known) & (known % 1 != 0)]
    for dtype in ("float16", "float32"):
        with np.errstate(over="ignore"):
            rounded = known.astype(dtype)
        if (rounded == known).all():
            shortest = [float(str(number)) for number in fractions.astype(dtype)]
            return dtype if shortest != fractions.tolist() else "float64"
    return "float64"


def is_number(kind: pa.DataType) -> bool:
    """Whether a column of this type can be read as float64."""
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    # A column of NULLs only has no type of its own in some databases.
    tests = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_null)
    return any(test(kind) for test in tests)


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds texts."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _with_nearest(name: str, others: Iterable[str]) -> str:
    by_folded = {other.casefold(): other for other in others}
    close = get_close_matches(name.casefold(), by_folded, n=1)
    return f"'{name}' (did you mean '{by_folded[close[0]]}'?)" if close else f"'{name}'"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
