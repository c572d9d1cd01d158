"""The model's table as its signature describes it, and whether a query's columns can become that table."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pyarrow as pa

from mlops_plugin.arrow_values import plain_dtype, type_named
from mlops_plugin.errors import FeatureError, SignatureError

if TYPE_CHECKING:
    from mlops_plugin.formats.model_input import ColumnSpec, InputSpec
    from mlops_plugin.formats.signature.signature import Signature, SignedColumn

# What stands in a column of objects, in the words of `ColumnSpec`.
_OBJECTS = {
    "text": "text",
    "date": "date",
    "time": "time",
    "decimal": "decimal",
    "binary": "bytes",
}
# Polars and Arrow keep their own types; these only say which columns of a query may become them.
_NEUTRAL = {
    "integer": "int64",
    "number": "float64",
    "boolean": "boolean",
    "text": "text",
    "timestamp": "object",
    **_OBJECTS,
}
# Else narrow integers of a query could overflow.
_POLARS_NUMBERS = {
    **{f"{sign}int{bits}": type_named(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "float32": pa.float32(),
    "float64": pa.float64(),
}
_LOOKS = {"nan": "nan", "none": "none", "nat": "nat", "pd.NA": "NA"}
# Kinds of a query's column that a column of training can be made of.
_READABLE = {
    "integer": ("integer", "number", "boolean", "decimal"),
    "number": ("integer", "number", "boolean", "decimal"),
    "decimal": ("integer", "decimal", "text"),  # a double has lost digits; SQLite has no other type
    "boolean": ("boolean", "integer", "decimal"),
    "text": ("text",),
    "timestamp": ("timestamp", "date", "text"),  # SQLite has no type for either
    "date": ("date", "text"),
    "time": ("time", "duration", "text"),  # MySQL's TIME; SQLite has no such type
    "duration": ("duration", "time", "interval", "text"),
    "binary": ("binary",),
}
# With six digits: MySQL cuts fractions of a second off otherwise. SQLite has texts for times.
_CASTS = {
    "integer": "CAST({name} AS BIGINT)",
    "number": "CAST({name} AS DOUBLE PRECISION)",
    "decimal": "CAST({name} AS DECIMAL(p, s)), or CAST({name} AS TEXT) on SQLite,",
    "boolean": "CAST({name} AS BOOLEAN)",
    "text": "CAST({name} AS VARCHAR(n)) or CHAR(n)",
    "timestamp": "CAST({name} AS TIMESTAMP(6)) or DATETIME(6), or a text such as '2026-01-31 09:30:00',",
    "date": "CAST({name} AS DATE), or a text such as '2026-01-31',",
    "time": "CAST({name} AS TIME(6)), or a text such as '09:30:00',",
    "binary": "CAST({name} AS BINARY) or BYTEA",
    "duration": "CAST({name} AS TIME(6)), or a text such as '1 day 02:30:00',",
}


def input_spec(signature: Signature) -> InputSpec:
    """The table that the model reads; raises `SignatureError` for a type that Arrow rows cannot become."""
    from mlops_plugin.formats.model_input import InputSpec

    signed = signature.input
    container = "series" if signed.holder == "series" else signed.container
    columns = tuple(_column_spec(signature, column) for column in signed.columns)
    if container != "matrix":
        return InputSpec(container, columns)
    dtypes = {column.dtype for column in signed.columns}
    kinds = {column.kind for column in signed.columns}
    if not kinds <= {"boolean", "integer", "number"} or "object" in dtypes:
        return InputSpec("matrix", columns, "object")
    if "number" not in kinds:
        return InputSpec("matrix", columns, None)
    return InputSpec("matrix", columns, "float32" if dtypes == {"float32"} else "float64")


def with_categories_of(model: Any, spec: InputSpec) -> InputSpec:
    """The same table; a category that training did not have is what the model takes it for, if it does.

    LightGBM and scikit-learn's histogram gradient boosting take it for a missing value, CatBoost for another
    category. Whatever else reads the column may do anything with it, and it stays refused.
    """
    from mlops_plugin.formats.boosting import takes_unknown_categories
    from mlops_plugin.formats.estimator_walk import hands_on, readers_of

    if spec.container != "frame" or not any(column.dtype == "category" for column in spec.columns):
        return spec
    readers = [reader for reader in readers_of(model, spec.names) if not hands_on(reader.step)]
    columns = []
    for column in spec.columns:
        ways = {takes_unknown_categories(reader.step) for reader in readers if column.name in reader.columns}
        kinds = {type(category) for category in column.categories or ()}
        if column.dtype == "category" and ways == {"missing"}:
            column = replace(column, unknown="missing")
        elif column.dtype == "category" and ways == {"other"} and kinds in ({str}, {int}):
            column = replace(column, dtype="text" if kinds == {str} else "int64", categories=None)
        columns.append(column)
    return replace(spec, columns=tuple(columns))


def missing_in_golden_rows(signature: Signature) -> frozenset[str] | None:
    """The columns of which a golden row misses a value; None if some answer is not stable."""
    from mlops_plugin.formats.signature.cells import is_missing

    if signature.golden.unstable:
        return None
    names = [column.name for column in signature.input.columns]
    return frozenset(
        name
        for row in signature.golden.rows
        for name, cell in zip(names, row, strict=True)
        if is_missing(cell)
    )


def check_query(signature: Signature, rows: pa.Schema) -> None:
    """Raise `FeatureError` if a query's column is of another kind than in training, with the cast to write.

    Missing columns are not looked for: `runtime.check` names them, with the nearest of the query's.
    """
    for column in signature.input.columns:
        if column.name not in rows.names:
            continue
        found = rows.field(column.name).type
        kind = kind_in_arrow(found)
        readable = _readable(signature, column)
        if readable is None or kind == "null" or kind in readable:
            continue
        cast = _CASTS.get(column.kind, "a cast").format(name=column.name)
        raise FeatureError(
            f"column '{column.name}': found {found}, but the model was trained on {column.kind} "
            f"({column.dtype}, by the signature '{signature.uri}'); write {cast} in the query"
        )


def _readable(signature: Signature, column: SignedColumn) -> tuple[str, ...] | None:
    if column.kind == "decimal" and signature.input.container == "polars":
        return ("integer", "decimal")  # how many digits texts have is not known before they are read
    return _READABLE.get(column.kind)


def kind_in_arrow(kind: pa.DataType) -> str:
    """An Arrow type in the words of a signature; null if all values are missing."""
    types = pa.types
    if types.is_dictionary(kind):
        return kind_in_arrow(kind.value_type)
    for name, tests in {
        "null": (types.is_null,),
        "boolean": (types.is_boolean,),
        "integer": (types.is_integer,),
        "number": (types.is_floating,),
        "decimal": (types.is_decimal,),
        "text": (types.is_string, types.is_large_string, types.is_string_view),
        "date": (types.is_date,),
        "timestamp": (types.is_timestamp,),
        "time": (types.is_time,),
        "duration": (types.is_duration,),
        "interval": (types.is_interval,),
        "binary": (types.is_binary, types.is_large_binary, types.is_fixed_size_binary),
    }.items():
        if any(test(kind) for test in tests):
            return name
    return "other"


def _column_spec(signature: Signature, column: SignedColumn) -> ColumnSpec:
    from mlops_plugin.formats.column_values import ColumnSpec

    missing = (
        "none" if column.missing is None and column.dtype == "object" else _LOOKS.get(column.missing or "")
    )
    if signature.input.container in ("polars", "arrow"):
        dtype = _NEUTRAL.get(column.kind, "object")
    elif column.dtype == "object":
        dtype = "uuid" if _holds_uuids(signature, column) else _OBJECTS.get(column.kind, "object")
    elif column.dtype.startswith(("<U", "|U")):
        dtype = "text"
    else:
        dtype = column.dtype
    try:
        return ColumnSpec(
            column.name,
            dtype,
            missing or _usual_look(dtype),  # type: ignore[arg-type]
            categories=_categories(column) if dtype == "category" else None,
            is_ordered=column.ordered,
            arrow_type=_arrow_type(signature.input.container, column.dtype),
        )
    except ValueError as error:
        raise SignatureError(
            f"signature '{signature.uri}': column '{column.name}' is {column.dtype}, which rows of "
            "a database cannot become; train with NumPy's types, or pandas's own for missing values, text, "
            "categories and Arrow"
        ) from error


def _holds_uuids(signature: Signature, column: SignedColumn) -> bool:
    """psycopg2 makes such values of PostgreSQL's type; they are kept as texts."""
    place = signature.input.columns.index(column)
    return any(isinstance(row[place], UUID) for row in signature.golden.rows)


def _arrow_type(container: str, dtype: str) -> pa.DataType | None:
    """The type of a column of Polars or Arrow, if the query's could be another one of the same kind."""
    if container == "polars":
        return _POLARS_NUMBERS.get(dtype.lower())
    with contextlib.suppress(ValueError):
        if container == "arrow" and plain_dtype(kind := type_named(dtype)):
            return kind
    return None


def _categories(column: SignedColumn) -> tuple[Any, ...]:
    from mlops_plugin.formats.signature.cells import Duration, Instant

    plain = []
    for value in column.categories or ():
        if isinstance(value, Instant):
            value = value.moment
        elif isinstance(value, Duration):
            value = timedelta(microseconds=value.nanoseconds // 1000)
        plain.append(value)
    return tuple(plain)


def _usual_look(dtype: str) -> str:
    """How pandas shows a missing value, if training had none."""
    if dtype.startswith(("datetime64", "timedelta64")):
        return "nat"
    if dtype in ("string", "boolean") or dtype[:1] in ("I", "U", "F") or dtype.endswith("[pyarrow]"):
        return "NA"
    return "none" if dtype in (*_OBJECTS.values(), "object") else "nan"
