"""What a program asks: the body of an infer request, in JSON or with binary data, as typed columns."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlops_plugin.errors import CaseError
from mlops_plugin.inference_server.tensors import column_of_binary, column_of_json
from mlops_plugin.serving.wanted import MAX_ROWS
from mlops_plugin.web.well_formed import ColumnName, Text

MATRIX = "features"  # the name of the one tensor that holds all features
HEADER_LENGTH = "Inference-Header-Content-Length"
_FEW_ROWS = 64  # of most requests
_MOST_DIGITS = 20  # of a length
_Size = Annotated[int, Field(ge=0, le=1 << 53)]
_MOST_COLUMNS = 100_000


class _Part(BaseModel):
    # Clients send parameters of other servers, and the protocol lets a server ignore them.
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class InputParameters(_Part):
    """What an input says beside its values."""

    binary_data_size: _Size | None = None


class InputTensor(_Part):
    """One input: a feature's values, or all features of each row."""

    name: ColumnName
    shape: Annotated[list[_Size], Field(min_length=1, max_length=2)]
    datatype: str
    parameters: InputParameters = InputParameters()
    data: list[Any] | None = None


class OutputParameters(_Part):
    """How an output is wanted."""

    binary_data: bool | None = None
    classification: int | None = None


class WantedOutput(_Part):
    """One output by its name."""

    name: ColumnName
    parameters: OutputParameters = OutputParameters()


class RequestParameters(_Part):
    """What holds for the whole request."""

    binary_data_output: bool = False


class InferRequest(_Part):
    """The JSON part of a request."""

    id: Annotated[Text, Field(max_length=1000)] | None = None
    parameters: RequestParameters = RequestParameters()
    inputs: Annotated[list[InputTensor], Field(min_length=1, max_length=10_000)]
    outputs: Annotated[list[WantedOutput], Field(max_length=10_000)] | None = None


@dataclass(frozen=True)
class Asked:
    """A request whose tensors are columns, by the name of their input; those of the matrix are flat."""

    request: InferRequest
    columns: Mapping[str, pa.Array]


def parse(body: bytes, header_length: str | None) -> Asked:
    """The request in a body; raises `CaseError` if it is none."""
    size = _json_size(header_length, len(body))
    try:
        request = InferRequest.model_validate(json.loads(body[:size], parse_constant=_refuse_constant))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the request"
        raise CaseError(f"{where}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise CaseError(f"the request is not JSON: {error}") from error
    return Asked(request, _columns(request.inputs, memoryview(body)[size:]))


def _json_size(header_length: str | None, size: int) -> int:
    if header_length is None:
        return size
    is_number = header_length.isascii() and header_length.isdigit() and len(header_length) <= _MOST_DIGITS
    if not is_number or int(header_length) > size:
        raise CaseError(
            f"{HEADER_LENGTH} is '{header_length[:40]}'; send the number of bytes of the JSON part, at most "
            f"those of the body ({size})"
        )
    return int(header_length)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON; send null for a missing value, or binary data")


def _columns(inputs: Sequence[InputTensor], binary: memoryview) -> dict[str, pa.Array]:
    columns: dict[str, pa.Array] = {}
    for tensor in inputs:
        where = f"input '{tensor.name}'"
        # Before a value is read: these may be millions.
        if tensor.shape[0] > MAX_ROWS:
            raise CaseError(f"the request has {tensor.shape[0]} rows; send 1 to {MAX_ROWS}")
        if tensor.shape[-1] > _MOST_COLUMNS:
            raise CaseError(
                f"{where}: its shape is {tensor.shape}, and at most {_MOST_COLUMNS} columns are read"
            )
        if tensor.name in columns:
            raise CaseError(f"{where} is there twice; send each input once")
        size, count = tensor.parameters.binary_data_size, math.prod(tensor.shape)
        if (size is None) == (tensor.data is None):
            raise CaseError(f"{where}: send either `data` or binary data with `binary_data_size`")
        if size is not None:
            if size > len(binary):
                raise CaseError(f"{where}: binary_data_size is {size}, but only {len(binary)} bytes are left")
            columns[tensor.name] = column_of_binary(where, tensor.datatype, binary[:size], count)
            binary = binary[size:]
        else:
            values = _flat(where, tensor.data or [], tensor.shape)
            columns[tensor.name] = column_of_json(where, tensor.datatype, values)
    if len(binary):
        raise CaseError(f"{len(binary)} bytes of binary data do not belong to any input; correct the sizes")
    return columns


def _flat(where: str, data: list[Any], shape: Sequence[int]) -> list[Any]:
    """The values in row-major order, whether they were nested or not."""
    values = data
    if len(shape) == 2 and any(isinstance(row, list) for row in data):
        if len(data) != shape[0] or any(not isinstance(row, list) or len(row) != shape[1] for row in data):
            raise CaseError(f"{where}: the nested data are not of the shape {[*shape]}")
        values = [value for row in data for value in row]
    if len(values) != math.prod(shape):
        raise CaseError(
            f"{where}: the shape {[*shape]} has {math.prod(shape)} values, but {len(values)} came"
        )
    return values


@dataclass(frozen=True)
class GivenRows:
    """The rows of a request, with the model's key. `kind`: equal if rows have the same columns, of the same
    types, and NULL in the same columns; a model may see a column with NULL as one of another type."""

    batch: pa.RecordBatch
    kind: Hashable


def rows_of(asked: Asked, key: Sequence[str], features: Sequence[str], checked: Sequence[str]) -> GivenRows:
    """The request's rows, with the model's key; `checked` are the columns that the contract names.

    A missing key is the row's number, unless the model or the contract reads it. Raises `CaseError`.
    """
    by_name = {tensor.name: tensor for tensor in asked.request.inputs}
    columns: dict[str, pa.Array] = {}
    if MATRIX in by_name and MATRIX not in features:
        columns.update(_matrix_columns(by_name.pop(MATRIX), asked.columns[MATRIX], features))
    known = dict.fromkeys((*features, *checked, *key)) if by_name else {}
    for name, tensor in by_name.items():
        if name not in known:
            raise CaseError(
                f"the model has no input '{name}'; it has {_listed(known)}, or '{MATRIX}' with all features"
            )
        if name in columns:
            raise CaseError(f"input '{name}' is in '{MATRIX}', too; send it once")
        if len(tensor.shape) == 2 and tensor.shape[1] != 1:
            raise CaseError(f"input '{name}': its shape is {tensor.shape}; send [n] or [n, 1]")
        columns[name] = asked.columns[name]
    _require_complete(columns, features, checked)
    first, count = next((name, len(column)) for name, column in columns.items())
    other = next((name for name, column in columns.items() if len(column) != count), None)
    if other is not None:
        raise CaseError(f"input '{other}' has {len(columns[other])} rows, but '{first}' has {count}")
    if not 1 <= count <= MAX_ROWS:
        raise CaseError(f"the request has {count} rows; send 1 to {MAX_ROWS}")
    if null := next((name for name in key if name in columns and columns[name].null_count), None):
        raise CaseError(f"input '{null}' is a key, which must not be null; leave it out if rows have none")
    missing = [name for name in key if name not in columns]
    numbers = [_row_numbers(count)] * len(missing)
    arrays = [*numbers, *columns.values()]
    batch = pa.RecordBatch.from_arrays(arrays, names=[*missing, *columns])
    types = tuple((tensor.name, tensor.datatype) for tensor in asked.request.inputs)
    nulls = tuple(
        (place, array.null_count == count) for place, array in enumerate(arrays) if array.null_count
    )
    return GivenRows(batch, (types, nulls))


@functools.lru_cache(_FEW_ROWS)
def _row_numbers(count: int) -> pa.Int64Array:
    return pa.array(range(1, count + 1), pa.int64())


def _matrix_columns(tensor: InputTensor, values: pa.Array, features: Sequence[str]) -> dict[str, pa.Array]:
    width = len(features)
    if len(tensor.shape) != 2 or tensor.shape[1] != width:
        raise CaseError(
            f"input '{MATRIX}': its shape is {tensor.shape}, but the model has {width} features; send "
            f"[n, {width}], in the order of the model's metadata"
        )
    if len(values) == width:  # one row
        return {name: values.slice(place, 1) for place, name in enumerate(features)}
    return {
        name: values.take(pa.array(range(place, len(values), width), pa.int64()))
        for place, name in enumerate(features)
    }


def _require_complete(
    columns: Mapping[str, pa.Array], features: Sequence[str], checked: Sequence[str]
) -> None:
    missing = [name for name in dict.fromkeys((*features, *checked)) if name not in columns]
    if missing:
        raise CaseError(
            f"the request lacks the input {_listed(missing)}; send each, with null for a missing value"
        )


def _listed(names: Sequence[str] | Mapping[str, None]) -> str:
    shown = [f"'{name}'" for name in names]
    return ", ".join(shown[:20]) + (f" and {len(shown) - 20} more" if len(shown) > 20 else "")
