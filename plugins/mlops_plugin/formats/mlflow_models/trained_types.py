"""Types of features in training, as MLflow's signature records them, beside what the fitted model tells.

The words are those of `model: {dtypes: ...}`. A record is coarser than a model: an encoder, or a library with
categories of its own, knows better, so a record decides only where neither tells.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from mlops_plugin.errors import FeatureError
from mlops_plugin.formats.column_values import ColumnSpec, Missing

# What MLflow calls the types of columns.
OF_COLUMNS = {
    "boolean": "boolean",
    "integer": "int32",
    "long": "integer",
    "float": "float32",
    "double": "number",
    "string": "text",
    "datetime": "timestamp",
    "binary": "bytes",
}
# NumPy's names, in tensors.
OF_TENSORS = {
    "bool": "boolean",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "int64": "integer",
    "uint8": "uint8",
    "uint16": "uint16",
    "uint32": "uint32",
    "uint64": "uint64",
    "float32": "float32",
    "float64": "number",
    "object": "text",
    "str": "text",
}
_NUMBERS = ("integer", "number", "boolean", "decimal")
# An integer or a boolean with missing values in training, which pandas may have had in three ways.
_OR_NULL = " or NULL"
# Kinds of a query's column that a column of training can be made of.
_READABLE = {
    "text": ("text",),
    "bytes": ("binary",),
    "timestamp": ("timestamp", "date", "text"),  # SQLite has no type for either
    "boolean": ("boolean", "integer", "decimal"),
    "boolean or NULL": ("boolean", "integer", "decimal"),
}
_CASTS = {
    "text": "CAST({name} AS CHAR)",
    "timestamp": "CAST({name} AS DATETIME(6)) or TIMESTAMP(6)",
    "bytes": "the bytes themselves",
    "boolean": "CAST({name} AS BOOLEAN)",
}
_DTYPES: dict[str, tuple[str, Missing]] = {
    "integer": ("int64", "nan"),
    "number": ("float64", "nan"),
    "boolean": ("bool", "none"),
}


def with_missing(dtype: str) -> str:
    """The word for a column that MLflow calls optional: training may have had missing values in it."""
    return dtype if dtype in ("text", "bytes", "timestamp", "number", "float32") else dtype + _OR_NULL


def require_trained_kinds(trained: Mapping[str, str], rows: pa.Schema) -> None:
    """Raise `FeatureError` if a column of the query is of another kind than in training."""
    from mlops_plugin.formats.signature.signed_input import kind_in_arrow

    for name, dtype in trained.items():
        if name not in rows.names:
            continue
        found = rows.field(name).type
        readable = _READABLE.get(dtype, _NUMBERS)
        if kind_in_arrow(found) in ("null", *readable):
            continue
        cast = _CASTS.get(dtype, "CAST({name} AS DOUBLE PRECISION)").format(name=name)
        raise FeatureError(
            f"column '{name}': found {found}, but MLflow's signature of the model says {dtype}; write "
            f"{cast} in "
            "the query"
        )


def single_or_double(trained: Mapping[str, str], name: str) -> str:
    """The type of a number that the model reads as a float: 0.1 is another number in 32 bits."""
    return "float32" if trained.get(name) == "float32" else "float64"


def trained_column(trained: Mapping[str, str], field: pa.Field) -> ColumnSpec | None:
    """A number or boolean as it was in training, a time if the query has texts; else None."""
    dtype = trained.get(field.name)
    if dtype is None or dtype in ("text", "bytes") or dtype.endswith(_OR_NULL):
        return None
    if dtype == "timestamp":
        # Dates and zones are not distinguished from other times; SQLite has texts for all of them.
        is_time = pa.types.is_timestamp(field.type) or pa.types.is_date(field.type)
        return None if is_time else ColumnSpec(field.name, "datetime64[us]", "nat")
    return ColumnSpec(field.name, *_DTYPES.get(dtype, (dtype, "nan")))
