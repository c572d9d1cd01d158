"""A dispatch's rows in the form in which an engine stores them, each value checked on its way.

`writer` writes these; nothing is rounded, cut or turned into NULL without an error.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from mlops_plugin.databases.engines.engine import Engine
from mlops_plugin.databases.moments import holds_other_years
from mlops_plugin.databases.sink.value_checks import ValueCheck, first_true
from mlops_plugin.errors import KeyColumnError, MlopsError, SinkError, UnsupportedType


class StoredRows:
    """One pass over a dispatch; `count` is the rows that went through, `refusal` why it ended early."""

    def __init__(
        self,
        batches: pa.RecordBatchReader,
        key: tuple[str, ...],
        engine: Engine,
        checks: Mapping[str, Sequence[ValueCheck]],
        texts: Collection[str] = (),
    ) -> None:
        """`texts`: columns of decimals that the table has as texts; ODBC would write +01.25 for 1.25."""
        self.schema = pa.schema(
            [
                (field.name, pa.string() if field.name in texts else _stored_type_of(field, engine))
                for field in batches.schema
            ]
        )
        self.count = 0
        self.refusal: MlopsError | None = None
        self._batches = batches
        self._key = key
        self._engine = engine
        self._checks = checks
        self._texts = texts

    def reader(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(self.schema, self._stored())

    def _stored(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._batches:
                columns = [
                    self._column(batch.column(position), field) for position, field in enumerate(self.schema)
                ]
                self.count += batch.num_rows
                yield pa.RecordBatch.from_arrays(columns, schema=self.schema)
        except MlopsError as error:
            # A driver that pulls batches through Arrow's C interface sees the text only.
            self.refusal = error
            raise

    def _column(self, values: pa.Array, field: pa.Field) -> pa.Array:
        if field.name in self._key and values.null_count:
            row = first_true(pc.is_null(values)) or 0
            raise KeyColumnError(
                f"key column '{field.name}' is NULL in row {self.count + row + 1} of the dispatch; "
                "leave such rows out in the query"
            )
        try:
            stored = _written_out(values) if field.name in self._texts else _cast(values, field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise UnsupportedType(
                f"column '{field.name}' of type {values.type} cannot be stored as {field.type} in "
                f"{self._engine.name}: {error}; cast it in the query to what this type "
                "holds, or to text"
            ) from error
        if pa.types.is_floating(field.type):
            self._refuse_lost_numbers(stored, field.name)
        if holds_other_years(stored):
            raise SinkError(
                f"column '{field.name}' holds a date outside the years 1 to 9999, which cannot be read back; "
                "cast it to text in the query, or leave such rows out"
            )
        if not self._engine.stores_nul and pa.types.is_string(stored.type):
            self._refuse_nul(stored, field.name)
        for check in self._checks.get(field.name, ()):
            check.require_kept(stored, self.count)
        return stored

    def _refuse_lost_numbers(self, values: pa.Array, column: str) -> None:
        for name, is_stored, test in (
            ("NaN", self._engine.stores_nan, pc.is_nan),
            ("an infinity", self._engine.stores_infinity, pc.is_inf),
        ):
            if is_stored:
                continue
            if (row := first_true(test(values))) is not None:
                raise SinkError(
                    f"column '{column}' holds {name} in row {self.count + row + 1} of the dispatch, "
                    f"which {self._engine.name} cannot store; "
                    "fix the model or leave such rows out in the query"
                )

    def _refuse_nul(self, values: pa.Array, column: str) -> None:
        if has_nul(values) and (row := first_true(pc.match_substring(values, "\0"))) is not None:
            raise SinkError(
                f"column '{column}' holds a text with a NUL character in row {self.count + row + 1} of the "
                f"dispatch, which {self._engine.name} cannot store; remove it in the query"
            )


def has_nul(texts: pa.Array) -> bool:
    """Whether there is a zero byte among the bytes of these texts, or of their neighbours in memory."""
    data = texts.buffers()[2]
    if data is None:
        return False
    least = pc.min(pa.Array.from_buffers(pa.uint8(), data.size, [None, data]))
    return bool(least.is_valid and least.as_py() == 0)


def _stored_type_of(field: pa.Field, engine: Engine) -> pa.DataType:
    try:
        return _stored_type(field.type, engine)
    except UnsupportedType as error:
        raise UnsupportedType(f"column '{field.name}': {error}") from error


def _stored_type(given: pa.DataType, engine: Engine) -> pa.DataType:
    """The plain Arrow type in which every driver takes the values of a column."""
    types = pa.types
    if types.is_dictionary(given):
        return _stored_type(given.value_type, engine)
    column_type = engine.column_type(given, is_key=False)
    if column_type == engine.column_types["text"]:  # a decimal in SQLite as well
        return pa.string()
    if types.is_unsigned_integer(given):
        return {8: pa.int16(), 16: pa.int32(), 32: pa.int64(), 64: pa.decimal128(20, 0)}[given.bit_width]
    if types.is_timestamp(given):
        return pa.timestamp("us", "UTC" if given.tz is not None and engine.keeps_time_zone else None)
    if types.is_float16(given) or types.is_float32(given):
        return pa.float64() if column_type == engine.column_types["float64"] else pa.float32()
    plain = [(types.is_large_binary, pa.binary()), (types.is_fixed_size_binary, pa.binary())]
    plain += [(types.is_date64, pa.date32()), (types.is_time, pa.time64("us"))]
    return next((stored for test, stored in plain if test(given)), given)


def _written_out(values: pa.Array) -> pa.StringArray:
    """Numbers as databases write them; Arrow writes 1E-7."""
    if not pa.types.is_decimal(values.type):
        return values.cast(pa.string())
    return pa.array([None if value is None else f"{value:f}" for value in values.to_pylist()], pa.string())


def _cast(values: pa.Array, stored: pa.DataType) -> pa.Array:
    if isinstance(values.type, pa.UuidType):
        return pa.array([None if value is None else str(value) for value in values.to_pylist()], stored)
    return values.cast(stored)
