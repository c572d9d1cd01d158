"""Golden rows as Arrow: in the types that a database gives, or in those of a query."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from mlops_plugin.arrow_values import (
    array_of,
    array_of_numbers,
    as_clock_times,
    as_doubles,
    as_spans,
    doubles_of,
)
from mlops_plugin.errors import SignatureError
from mlops_plugin.formats.signature.cells import Duration, Instant, is_missing
from mlops_plugin.formats.signature.signature import Signature, SignedColumn

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SIMPLE = {
    "boolean": pa.bool_(),
    "number": pa.float64(),
    "text": pa.string(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "binary": pa.binary(),
    "mixed": pa.null(),  # the writer refuses such columns
    "unknown": pa.null(),
}


def golden_batch(signature: Signature) -> pa.RecordBatch:
    """The golden rows in the types of their kind: 64 bits, doubles, texts; every missing value is NULL.

    Raises `SignatureError` for a value of another kind than its column's.
    """
    columns = signature.input.columns
    values = zip(*signature.golden.rows, strict=True) if signature.golden.rows else [()] * len(columns)
    arrays = []
    for column, cells in zip(columns, values, strict=True):
        try:
            arrays.append(_array(column, cells))
        except (pa.ArrowException, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise SignatureError(
                f"signature '{signature.uri}': a golden row has a value in column '{column.name}' that is no "
                f"{column.kind}; write the signature again"
            ) from error
    return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns])


def as_read(batch: pa.RecordBatch, rows: pa.Schema) -> tuple[pa.RecordBatch, list[int]]:
    """The golden rows as a query of this schema would return them, and the places of those that it can.

    A row is left out if a column's type has no room for its value: 1.5 in an integer, 300 in a byte.
    """
    kept = np.ones(batch.num_rows, dtype=bool)
    arrays = []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        wanted = rows.field(field.name).type
        array, fits = _cast(column, wanted.value_type if pa.types.is_dictionary(wanted) else wanted)
        arrays.append(array)
        kept &= fits
    places = np.flatnonzero(kept)
    read = pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)
    return read.take(array_of_numbers(places)), places.tolist()


def rounded_like(batch: pa.RecordBatch, rows: pa.Schema) -> tuple[pa.RecordBatch, list[str]]:
    """The golden rows with doubles as columns of four bytes round them, and the columns that this changes.

    0.1 in training is 0.10000000149 in such a column: no golden row has room in it as it is, but the query's
    rows are rounded likewise.
    """
    arrays, changed = batch.columns, []
    for place, field in enumerate(batch.schema):
        if not (pa.types.is_floating(field.type) and pa.types.is_float32(rows.field(field.name).type)):
            continue
        values = doubles_of(arrays[place])
        with np.errstate(over="ignore"):
            near = values.astype(np.float32).astype(np.float64)
        is_other = np.isfinite(near) & (near != values)
        if is_other.any():
            near = np.where(is_other, near, values)
            arrays[place] = pa.array(near, mask=arrays[place].is_null().to_numpy(zero_copy_only=False))
            changed.append(field.name)
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names), changed


def _array(column: SignedColumn, cells: Sequence[Any]) -> pa.Array:
    values = [None if is_missing(cell) else cell for cell in cells]
    present = [value for value in values if value is not None]
    match column.kind:
        case "integer":
            is_wide = any(value > 2**63 - 1 for value in present)
            return array_of(values, pa.uint64() if is_wide else pa.int64())
        case "timestamp":
            return _instants(values)
        case "duration":
            return _spans(values)
        case "decimal":
            return pa.array(values, _decimal_type(present))
        case "text":
            return array_of([None if value is None else str(value) for value in values], pa.string())
        case "number":
            return array_of([None if value is None else float(value) for value in values], pa.float64())
        case kind:
            return array_of(values, _SIMPLE[kind])


def _instants(values: Sequence[Instant | None]) -> pa.Array:
    present = [value for value in values if value is not None]
    has_zone = any(value.moment.tzinfo is not None for value in present)
    is_fine = any(value.nanosecond % 1000 for value in present)
    counted = [None if value is None else _nanoseconds(value) // (1 if is_fine else 1000) for value in values]
    return array_of(counted, pa.int64()).cast(
        pa.timestamp("ns" if is_fine else "us", "UTC" if has_zone else None)
    )


def _nanoseconds(value: Instant) -> int:
    moment = value.moment if value.moment.tzinfo is not None else value.moment.replace(tzinfo=timezone.utc)
    since = moment.replace(microsecond=0) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 10**9 + value.nanosecond


def _spans(values: Sequence[Duration | None]) -> pa.Array:
    is_fine = any(value is not None and value.nanoseconds % 1000 for value in values)
    counted = [None if value is None else value.nanoseconds // (1 if is_fine else 1000) for value in values]
    return array_of(counted, pa.int64()).cast(pa.duration("ns" if is_fine else "us"))


def _decimal_type(values: Sequence[Decimal]) -> pa.DataType:
    exponents = [value.as_tuple().exponent for value in values]
    scale = max((-exponent for exponent in exponents if isinstance(exponent, int)), default=0)
    return pa.decimal128(38, min(max(scale, 0), 37))


def _cast(column: pa.Array, wanted: pa.DataType) -> tuple[pa.Array, np.ndarray[Any, np.dtype[np.bool_]]]:
    """The values in another type (NULL for those that it has no room for), and a mask of those it has."""
    if column.type.equals(wanted):
        return column, np.ones(len(column), dtype=bool)
    parts = [_cast_one(column.slice(place, 1), wanted) for place in range(len(column))]
    fits = np.array([part is not None for part in parts], dtype=bool)
    nothing = pa.nulls(1, wanted)
    arrays = [nothing if part is None else part for part in parts]
    return pa.concat_arrays(arrays) if arrays else pa.array([], wanted), fits


def _cast_one(value: pa.Array, wanted: pa.DataType) -> pa.Array | None:
    if value.null_count:
        return pa.nulls(1, wanted)
    try:
        if pa.types.is_decimal(wanted) and pa.types.is_floating(value.type):
            return pa.array([Decimal(repr(value[0].as_py()))], wanted)
        if pa.types.is_time(value.type) and not pa.types.is_time(wanted):
            cast = (as_spans(value) if pa.types.is_duration(wanted) else value).cast(wanted)
            return cast if as_clock_times(cast).equals(value.cast(pa.time64("us"))) else None
        if pa.types.is_duration(value.type) and pa.types.is_time(wanted):
            cast = as_clock_times(value).cast(wanted)
            return cast if as_spans(cast).cast(value.type).equals(value) else None
        cast = value.cast(wanted)
        back = as_doubles(cast) if pa.types.is_decimal(wanted) else cast
        return cast if back.cast(value.type).equals(value) else None
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, ValueError):
        return None
