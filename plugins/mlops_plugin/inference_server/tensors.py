"""Tensors of the Open Inference Protocol as Arrow columns, and back, in JSON and in binary.

A value that its datatype does not hold exactly is refused; a decimal in a floating-point tensor is the
nearest such number, as everywhere.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mlops_plugin.arrow_values import array_of_numbers
from mlops_plugin.errors import CaseError
from mlops_plugin.serving.case_values import text_of
from mlops_plugin.web.well_formed import check_text

ARROW_TYPES: dict[str, pa.DataType] = {
    "BOOL": pa.bool_(),
    "INT8": pa.int8(),
    "INT16": pa.int16(),
    "INT32": pa.int32(),
    "INT64": pa.int64(),
    "UINT8": pa.uint8(),
    "UINT16": pa.uint16(),
    "UINT32": pa.uint32(),
    "UINT64": pa.uint64(),
    "FP32": pa.float32(),
    "FP64": pa.float64(),
    "BYTES": pa.string(),
}
_DATATYPES = {kind: name for name, kind in ARROW_TYPES.items()}
_LITTLE_ENDIAN = {
    name: np.dtype(f"<{letter}")
    for name, letter in {
        "BOOL": "u1", "INT8": "i1", "INT16": "i2", "INT32": "i4", "INT64": "i8", "UINT8": "u1",
        "UINT16": "u2", "UINT32": "u4", "UINT64": "u8", "FP32": "f4", "FP64": "f8",
    }.items()
}  # fmt: skip
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {"BOOL": (bool,), "FP32": (int, float), "FP64": (int, float)}
_MAX_FLOAT32 = float(np.finfo(np.float32).max)
_LENGTH = struct.Struct("<I")  # before each element of binary BYTES


def arrow_type(where: str, datatype: str) -> pa.DataType:
    """The column's type; raises `CaseError` for a datatype that is not supported."""
    kind = ARROW_TYPES.get(datatype)
    if kind is None:
        raise CaseError(f"{where}: datatype '{datatype}' is not supported; use {', '.join(ARROW_TYPES)}")
    return kind


def column_of_json(where: str, datatype: str, values: Sequence[Any]) -> pa.Array:
    """Values from JSON, None for NULL, as a column; raises `CaseError` for a value of another type."""
    kind = arrow_type(where, datatype)
    # If the sum is finite, all are; only otherwise, and for other types, is each looked at.
    if datatype == "FP64" and {*map(type, values)} == {float} and math.isfinite(sum(values)):
        return array_of_numbers(np.array(values))
    expected = _PYTHON_TYPES.get(datatype, (str,) if datatype == "BYTES" else (int,))
    for place, value in enumerate(values):
        if value is not None and (type(value) not in expected or not _is_held(datatype, value)):
            raise CaseError(f"{where}: value {place} is {_short(value)}, which is not a valid {datatype}")
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise CaseError(f"{where}: a value does not fit into {datatype}: {error}") from error


def _is_held(datatype: str, value: Any) -> bool:
    """What `pyarrow` would not refuse by itself."""
    if isinstance(value, str):
        try:
            check_text(value)
        except ValueError:
            return False
    if isinstance(value, float):
        return math.isfinite(value) and (datatype == "FP64" or abs(value) <= _MAX_FLOAT32)
    return True


def column_of_binary(where: str, datatype: str, content: memoryview, count: int) -> pa.Array:
    """`count` values from little-endian bytes; raises `CaseError` unless the bytes are exactly these."""
    kind = arrow_type(where, datatype)
    if datatype == "BYTES":
        return pa.array(_texts(where, content, count), kind)
    layout = _LITTLE_ENDIAN[datatype]
    if len(content) != count * layout.itemsize:
        raise CaseError(
            f"{where}: {count} values of {datatype} are {count * layout.itemsize} bytes, but "
            f"binary_data_size is {len(content)}"
        )
    values = np.frombuffer(content, layout)
    if datatype == "BOOL":
        if values.size and values.max() > 1:
            raise CaseError(f"{where}: a byte of BOOL is {values.max()}; send 0 or 1")
        values = values.astype(bool)
    return pa.array(values, kind, from_pandas=False)


def _texts(where: str, content: memoryview, count: int) -> list[str]:
    texts: list[str] = []
    at = 0
    while at < len(content) and len(texts) < count:
        if at + _LENGTH.size > len(content):
            break
        (size,) = _LENGTH.unpack_from(content, at)
        at += _LENGTH.size + size
        if at > len(content):
            break
        try:
            texts.append(check_text(bytes(content[at - size : at]).decode()))
        except ValueError as error:
            raise CaseError(f"{where}: value {len(texts)} is not UTF-8 text: {error}") from error
    if len(texts) != count or at != len(content):
        raise CaseError(
            f"{where}: {len(content)} bytes do not hold exactly {count} elements of BYTES, each with its "
            "length before it"
        )
    return texts


def tensor_column(column: pa.Array) -> tuple[str, pa.Array]:
    """A column of answers as a tensor holds it, and its datatype: what has none becomes text."""
    if (datatype := _DATATYPES.get(column.type)) is not None:
        return datatype, column
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    if pa.types.is_large_string(column.type) or pa.types.is_null(column.type):
        column = column.cast(pa.string())
    datatype = _DATATYPES.get(column.type)
    if datatype is not None:
        return datatype, column
    texts = [None if value is None else text_of(value) for value in column.to_pylist()]
    return "BYTES", pa.array(texts, pa.string())


def binary_of(datatype: str, column: pa.Array) -> bytes:
    """A tensor without NULL as little-endian bytes."""
    if datatype == "BYTES":
        encoded = [text.encode() for text in column.to_pylist()]
        return b"".join(part for text in encoded for part in (_LENGTH.pack(len(text)), text))
    values = column.to_numpy(zero_copy_only=False)
    return bytes(values.astype(_LITTLE_ENDIAN[datatype]).tobytes())


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
