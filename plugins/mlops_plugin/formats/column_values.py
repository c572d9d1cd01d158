"""One column of a model's table: its type of training, and an Arrow column's values in that type."""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, time
from decimal import Decimal
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal
from uuid import UUID

import numpy as np
import pyarrow as pa

from mlops_plugin.arrow_values import (
    as_booleans,
    as_clock_times,
    as_dates,
    as_decimals,
    as_doubles,
    as_instants,
    as_spans,
    as_type,
    plain_dtype,
    require_digits,
    type_named,
)
from mlops_plugin.errors import FeatureError
from mlops_plugin.formats.features import as_float64, is_number, is_text, narrowed, needs_doubles
from mlops_plugin.formats.runtime import REFUSES_NULL

_PANDAS_OF_MICROSECONDS = 3
Missing = Literal["nan", "none", "nat", "NA", "refused"]

_INTEGER = re.compile(r"u?int(8|16|32|64)")
_NULLABLE_INTEGER = re.compile(r"U?Int(8|16|32|64)")
_FLOAT = re.compile(r"float(16|32|64)")
_NULLABLE_FLOAT = re.compile(r"Float(32|64)")
_INSTANT = re.compile(r"datetime64\[(s|ms|us|ns)(?:, *(.+))?\]")
_SPAN = re.compile(r"timedelta64\[(s|ms|us|ns)\]")
_TEXTS = ("str", "string", "text")
_OBJECTS = ("date", "time", "decimal", "bytes", "uuid", "json", "object")
_MOST_DTYPES = 256  # whose kind is remembered: it is asked about each column of each request
_BY_ARROW = "[pyarrow]"  # behind the Arrow type of a pandas column that Arrow holds

Values = Any  # a NumPy array or a pandas array, of one column


@dataclass(frozen=True)
class ColumnSpec:
    """A column as in training.

    `dtype` is NumPy's or pandas's name: int64, float64, float32, bool, Int64, Float64, boolean,
    datetime64[us], datetime64[us, UTC], timedelta64[us], category, or one of texts (`str`: pandas's own;
    `string`: its nullable one; `text`: Python strings in a column of objects) and objects (`date`, `time`,
    `decimal`, `bytes`, `json`, `object`), or in pandas a type of Arrow's (int64[pyarrow]). `missing` says how
    a missing value looks: NaN, None, NaT, pd.NA, or that training knew none. For an integer or a boolean,
    `nan` and `none` mean that rows without the value are asked in a table of their own, in which the
    column is float64 or of objects (`InputSpec.parts`).
    """

    name: str
    dtype: str
    missing: Missing = "nan"
    categories: tuple[Any, ...] | None = None
    is_ordered: bool = False
    unknown: Literal["refused", "missing"] = "refused"  # a category that training did not have
    is_undecided: bool = False  # training may have had it as `otherwise` says
    arrow_type: pa.DataType | None = None  # in tables of Polars and Arrow; None: that of the query
    other: str | None = None  # the type that `otherwise` gives it; None: by its own

    def __post_init__(self) -> None:
        _kind_of(self.dtype)

    @property
    def splits(self) -> bool:
        """Whether rows without a value must be asked in a table of their own."""
        return self.missing != "refused" and _kind_of(self.dtype) in ("integer", "bool")

    def otherwise(self) -> ColumnSpec:
        """The column as `other` says, or with the other look of NULL.

        With NULLs among them, pandas has integers as floats, and booleans and texts as objects.
        """
        usual = {"integer": "float64", "text": "text"}.get(_kind_of(self.dtype), "object")
        dtype = self.other or usual
        missing: Missing = "none" if dtype in ("bool", "object", "text", "json") else "nan"
        missing = "nat" if dtype.startswith("datetime64") else missing
        return replace(self, dtype=dtype, missing=missing, is_undecided=False, other=None)

    @property
    def is_plain_float(self) -> bool:
        return self.dtype == "float64" and self.missing == "nan"

    @property
    def is_text(self) -> bool:
        return _kind_of(self.dtype) == "text"

    @property
    def is_instant(self) -> bool:
        return _kind_of(self.dtype) == "instant"

    @property
    def is_numeric(self) -> bool:
        return _kind_of(self.dtype) in ("integer", "bool", "float", "nullable")


@functools.cache
def usual_unit() -> Literal["us", "ns"]:
    """In which unit pandas reads times of a database or a file: nanoseconds before pandas 3."""
    try:
        return "ns" if int(version("pandas").partition(".")[0]) < _PANDAS_OF_MICROSECONDS else "us"
    except PackageNotFoundError:
        return "us"


def is_known_dtype(dtype: str) -> bool:
    """Whether a `ColumnSpec` may have this dtype."""
    return dtype == "category" or any(match(dtype) for match in _KINDS.values())


def is_readable(spec: ColumnSpec, found: pa.DataType) -> bool:
    """Whether values of an Arrow type can be the column's."""
    if pa.types.is_dictionary(found):
        found = found.value_type
    if by_arrow := _arrow_type(spec.dtype):
        spec = replace(spec, dtype=plain_dtype(by_arrow))
    if spec.dtype == "category" and pa.types.is_float32(found):
        return not needs_doubles(
            np.array([each for each in spec.categories or () if isinstance(each, float)])
        )
    tests = _READABLE_OBJECTS.get(spec.dtype) or _READABLE[_kind_of(spec.dtype)]
    return bool(pa.types.is_null(found) or any(test(found) for test in tests))


def check_columns(columns: Sequence[ColumnSpec], rows: pa.Schema) -> None:
    """Raise `FeatureError` with every column that cannot hold what the model reads."""
    wrong = [column for column in columns if not is_readable(column, rows.field(column.name).type)]
    if not wrong:
        return
    found = ", ".join(f"'{column.name}' is {rows.field(column.name).type}" for column in wrong)
    kinds = {_kind_of(column.dtype) for column in wrong}
    if kinds <= {"integer", "float", "nullable", "bool"}:
        raise FeatureError(
            f"the model reads numbers, but {found}; cast or encode it in the query; rows of a request hold "
            "numbers as numbers: 1.5, not '1.50'"
        )
    if kinds == {"text"}:
        raise FeatureError(f"the model reads text, but {found}; cast it in the query")
    if kinds == {"category"}:
        raise FeatureError(
            f"the model knows categories such as {(wrong[0].categories or ())[:3]}, but {found}, whose four "
            "bytes have other digits; cast it to DECIMAL(p, s) in the query"
        )
    wanted = ", ".join(f"'{column.name}' as {column.dtype}" for column in wrong)
    is_decimal = {column.dtype for column in wrong} == {"decimal"}
    cast = "cast it to DECIMAL (on SQLite to TEXT)" if is_decimal else "cast it"
    raise FeatureError(
        f"the model reads {wanted}, but {found}; {cast} in the query, or correct `model: {{dtypes: ...}}`"
    )


def array_of(spec: ColumnSpec, column: pa.Array) -> Values:
    """The column's values as in training; raises `FeatureError` for one that its type cannot express."""
    column = decoded(column)
    kind = _kind_of(spec.dtype)
    if spec.missing == "refused" and column.null_count:
        raise FeatureError(
            f"{REFUSES_NULL}: of {len(column)} rows, {column.null_count} in '{spec.name}' are NULL, but its "
            f"{spec.dtype} had no missing values in training; leave such rows out in the query, or fill them "
            "with COALESCE"
        )
    with _explained(spec, column):
        return _BUILDERS[kind](spec, column)


def trained_array_of(spec: ColumnSpec, column: pa.Array) -> pa.Array:
    """The column in Arrow, numbers, dates and times of day in their own type; raises `FeatureError`."""
    with _explained(spec, column):
        if spec.arrow_type is not None:
            return as_type(decoded(column), spec.arrow_type)
        if spec.dtype == "decimal" and pa.types.is_string(decoded(column).type):
            raise ValueError("texts, whose number of digits nothing tells")
        return _as_trained_on(spec.dtype, decoded(column)) if spec.dtype in ("date", "time") else column


@contextlib.contextmanager
def _explained(spec: ColumnSpec, column: pa.Array) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError, OverflowError) as exc:
        reason = str(exc).partition("\n")[0]
        raise FeatureError(
            f"column '{spec.name}': found {column.type} with a value that the model's {spec.dtype} cannot "
            f"express ({reason}); cast it in the query, or correct its type in `model: {{dtypes: ...}}`"
        ) from exc


def decoded(column: pa.Array) -> pa.Array:
    """The values of a dictionary-encoded column, any other column as it is."""
    return column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column


@functools.lru_cache(_MOST_DTYPES)
def _kind_of(dtype: str) -> str:
    if dtype == "category":
        return "category"
    for kind, match in _KINDS.items():
        if match(dtype):
            return kind
    raise ValueError(f"'{dtype}' is not a column type")


def _integers(spec: ColumnSpec, column: pa.Array) -> Values:
    if column.null_count:
        if column.null_count < len(column):
            raise ValueError("missing values beside others")
        return _nothing(spec, len(column))
    require_digits(column)
    wanted = pa.from_numpy_dtype(np.dtype(spec.dtype))
    return column.cast(wanted).to_numpy(zero_copy_only=False)


def _booleans(_: ColumnSpec, column: pa.Array) -> Values:
    if column.null_count:
        if column.null_count < len(column):
            raise ValueError("missing values beside others")
        return np.full(len(column), None, dtype=object)
    return as_booleans(column).to_numpy(zero_copy_only=False)


def _floats(spec: ColumnSpec, column: pa.Array) -> Values:
    numbers = as_float64(column)
    return numbers if spec.dtype == "float64" else narrowed(spec.name, numbers, spec.dtype)


def _nullables(spec: ColumnSpec, column: pa.Array) -> Values:
    import pandas as pd

    if spec.dtype == "boolean":
        column = as_booleans(column)
    else:
        column = as_type(column, pa.from_numpy_dtype(np.dtype(spec.dtype.lower())))
    return pd.array(column.to_pylist(), dtype=spec.dtype)


def _texts(spec: ColumnSpec, column: pa.Array) -> Values:
    import pandas as pd

    values = column.cast(pa.string())
    if spec.dtype == "text" or (spec.dtype == "str" and spec.missing in ("none", "NA")):
        return _objects(spec, values)
    if spec.dtype == "string":
        return pd.array(values.to_pylist(), dtype="string")
    texts = values.to_pandas()
    if texts.dtype != object:
        return texts.array
    return _objects(spec, values)  # pandas before 3 has no type for texts, and NaN among them


def _objects(spec: ColumnSpec, column: pa.Array) -> Values:
    values = np.fromiter(_plain_values(spec.dtype, column), object, len(column))  # lists are one value each
    if column.null_count and spec.missing != "none":
        values[column.is_null().to_numpy(zero_copy_only=False)] = _missing_value(spec.missing)
    return values


def _plain_values(dtype: str, column: pa.Array) -> list[Any]:
    if dtype == "decimal":
        return as_decimals(column)
    values: list[Any] = _as_trained_on(dtype, column).to_pylist()
    parse = _PARSERS.get(dtype)
    return values if parse is None else [None if text is None else parse(text) for text in values]


def _as_trained_on(dtype: str, column: pa.Array) -> pa.Array:
    """Dates and times of day in Arrow's type for them; any other column as it is."""
    if dtype == "date":
        return as_dates(column)
    return as_clock_times(column) if dtype == "time" and not pa.types.is_time(column.type) else column


def _instants(spec: ColumnSpec, column: pa.Array) -> Values:
    unit, zone = _INSTANT.findall(spec.dtype)[0]
    zone = re.sub(r"^UTC(?=[+-])", "", zone) or None  # pandas's word for an offset, in Arrow's
    return as_instants(column, pa.timestamp(unit, zone)).to_pandas().array


def _spans(spec: ColumnSpec, column: pa.Array) -> Values:
    (unit,) = _SPAN.findall(spec.dtype)
    return as_spans(column).cast(pa.duration(unit)).to_pandas().array


def _held_by_arrow(spec: ColumnSpec, column: pa.Array) -> Values:
    import pandas as pd

    return pd.arrays.ArrowExtensionArray(as_type(column, _arrow_type(spec.dtype)))


def _categories(spec: ColumnSpec, column: pa.Array) -> Values:
    import pandas as pd

    known = pd.Index(list(spec.categories or ()))
    values = _as_categories(known.tolist(), column)
    codes = known.get_indexer(pd.Index(values, dtype=known.dtype if not column.null_count else object))
    is_unknown = (codes < 0) & column.is_valid().to_numpy(zero_copy_only=False)
    if is_unknown.any() and spec.unknown == "refused":
        first = column[int(np.flatnonzero(is_unknown)[0])].as_py()
        raise FeatureError(
            f"column '{spec.name}': {first!r} is not one of the {len(known)} categories of training; leave "
            "such rows out in the query or with `input:`, or add it to the training data"
        )
    return pd.Categorical.from_codes(codes, categories=known, ordered=spec.is_ordered)


def _as_categories(known: list[Any], column: pa.Array) -> list[Any]:
    """The values in the type of the categories, so that 1 is found among floats and 1 among booleans."""
    kinds = {type(category) for category in known}
    if kinds <= {int, float} and is_number(column.type):
        if float not in kinds:
            require_digits(column)
            column = column.cast(pa.int64())
        elif pa.types.is_decimal(column.type):
            column = as_doubles(column)
        else:
            column = column.cast(pa.float64())  # raises for a whole number that no double is
    elif kinds == {bool} and is_number(column.type):
        column = as_booleans(column)
    elif is_text(column.type) and len(kinds) == 1 and (dtype := _OBJECTS_OF.get(next(iter(kinds)))):
        return list(_objects(ColumnSpec("", dtype, "none"), column))  # SQLite has no types for these
    return column.to_pylist()  # type: ignore[no-any-return]


def _nothing(spec: ColumnSpec, rows: int) -> Values:
    if spec.missing == "nan":
        return np.full(rows, np.nan)
    return np.full(rows, None, dtype=object)


def _missing_value(missing: Missing) -> Any:
    import pandas as pd

    return {"nan": np.nan, "nat": pd.NaT, "NA": pd.NA, "none": None, "refused": None}[missing]


@functools.cache
def _arrow_type(dtype: str) -> pa.DataType | None:
    """The type of a pandas column that Arrow holds; None for other columns, and for types of no database."""
    if not dtype.endswith(_BY_ARROW):
        return None
    try:
        kind = type_named(dtype.removesuffix(_BY_ARROW))
        return kind if plain_dtype(kind) else None
    except ValueError:
        return None


def _is_any(kind: pa.DataType) -> bool:
    return not pa.types.is_nested(kind)


_KINDS: dict[str, Callable[[str], object]] = {
    "integer": _INTEGER.fullmatch,
    "nullable": lambda dtype: (
        dtype == "boolean" or _NULLABLE_INTEGER.fullmatch(dtype) or _NULLABLE_FLOAT.fullmatch(dtype)
    ),
    "float": _FLOAT.fullmatch,
    "bool": lambda dtype: dtype == "bool",
    "text": lambda dtype: dtype in _TEXTS,
    "instant": _INSTANT.fullmatch,
    "span": _SPAN.fullmatch,
    "object": lambda dtype: dtype in _OBJECTS,
    "arrow": lambda dtype: _arrow_type(dtype) is not None,
}
_OBJECTS_OF: dict[type, str] = {date: "date", time: "time", Decimal: "decimal", UUID: "uuid"}
_READABLE: dict[str, tuple[Callable[[pa.DataType], bool], ...]] = {
    "integer": (is_number,),
    "nullable": (is_number,),
    "float": (is_number,),
    "bool": (pa.types.is_boolean, pa.types.is_integer, pa.types.is_decimal),
    "text": (pa.types.is_string, pa.types.is_large_string),
    "instant": (pa.types.is_timestamp, pa.types.is_date, pa.types.is_string),
    "span": (pa.types.is_duration, pa.types.is_time, pa.types.is_interval, pa.types.is_string),
    "category": (_is_any,),
    "object": (_is_any,),
}
_TEXT = (pa.types.is_string, pa.types.is_large_string)
# Else one of them would be fed to the model in place of another.
_READABLE_OBJECTS: dict[str, tuple[Callable[[pa.DataType], bool], ...]] = {
    "date": (pa.types.is_date, pa.types.is_timestamp, *_TEXT),
    "time": (pa.types.is_time, pa.types.is_duration, *_TEXT),
    # Not of doubles: those have lost a decimal's digits.
    "decimal": (pa.types.is_decimal, pa.types.is_integer, *_TEXT),
    "bytes": (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary),
    "uuid": _TEXT,
    "json": _TEXT,
}
_PARSERS: dict[str, Callable[[str], Any]] = {"uuid": UUID, "json": json.loads}
_BUILDERS: dict[str, Callable[[ColumnSpec, pa.Array], Values]] = {
    "integer": _integers,
    "nullable": _nullables,
    "float": _floats,
    "bool": _booleans,
    "text": _texts,
    "instant": _instants,
    "span": _spans,
    "category": _categories,
    "object": _objects,
    "arrow": _held_by_arrow,
}
