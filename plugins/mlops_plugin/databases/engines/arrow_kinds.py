"""Groups Arrow types into the kinds of value that engines have column types for; the sink asks, too."""

from __future__ import annotations

import pyarrow as pa


def kind_of(arrow_type: pa.DataType) -> str:
    """The kind of value (a key of `Engine.column_types`) that an Arrow type holds; '' for none.

    Unsigned integers take the next wider signed type: not every engine has them, and ODBC drivers
    read their upper half as negative numbers.
    """
    types = pa.types
    if types.is_dictionary(arrow_type):
        return kind_of(arrow_type.value_type)
    if isinstance(arrow_type, pa.UuidType):
        return "text"
    if types.is_unsigned_integer(arrow_type):
        return {8: "int16", 16: "int32", 32: "int64", 64: "decimal"}[arrow_type.bit_width]
    if types.is_integer(arrow_type):
        return f"int{arrow_type.bit_width}"
    if types.is_timestamp(arrow_type):
        return "timestamp" if arrow_type.tz is None else "timestamp_utc"
    tests = {
        "bool": types.is_boolean,
        "float32": lambda value: types.is_float16(value) or types.is_float32(value),
        "float64": types.is_float64,
        "decimal": types.is_decimal,
        "text": lambda v: types.is_string(v) or types.is_large_string(v) or types.is_string_view(v),
        "binary": lambda v: types.is_binary(v) or types.is_large_binary(v) or types.is_fixed_size_binary(v),
        "date": types.is_date,
        "time": types.is_time,
    }
    return next((kind for kind, test in tests.items() if test(arrow_type)), "")


def value_kind(arrow_type: pa.DataType) -> str:
    """`kind_of`, with one word for integers of every width."""
    kind = kind_of(arrow_type)
    return "int" if kind.startswith("int") else kind


def digits_of(arrow_type: pa.DataType) -> tuple[int, int]:
    """The digits of a decimal, and how many of them follow the point."""
    if pa.types.is_dictionary(arrow_type):
        return digits_of(arrow_type.value_type)
    if pa.types.is_uint64(arrow_type):
        return 20, 0
    return arrow_type.precision, arrow_type.scale
