"""Finds the first and the last key of a dispatch while its rows stream through `collect`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mlops_plugin.errors import KeyColumnError

_KEY_CHARS = 200  # the range is for people, not for the data itself


class KeyRange:
    """The least and the greatest key so far, in the order of the key's columns; refuses NULL."""

    def __init__(self, model: str, key: tuple[str, ...]) -> None:
        self._model = model
        self._key = key
        self._first: tuple[Any, ...] | None = None
        self._last: tuple[Any, ...] | None = None

    @property
    def first(self) -> dict[str, Any] | None:
        """The least key, column -> JSON value; None if there were no rows or its type has no order."""
        return self._by_column(self._first)

    @property
    def last(self) -> dict[str, Any] | None:
        """The greatest key, like `first`."""
        return self._by_column(self._last)

    def see(self, batch: pa.RecordBatch) -> None:
        """Take a batch into account; raises `KeyColumnError` if a key is NULL."""
        for column in self._key:
            nulls = batch.column(column).null_count
            if nulls:
                raise KeyColumnError(
                    f"models.{self._model}.key: column '{column}' is NULL in {nulls} of {batch.num_rows} "
                    "rows; a key must identify its row: leave them out in the query or choose another key"
                )
        if batch.num_rows == 0:
            return
        if batch.num_rows == 1 and all(_has_order(batch.column(column).type) for column in self._key):
            self._take(*[tuple(batch.column(column)[0].as_py() for column in self._key)] * 2)
            return
        try:
            least, greatest = self._end(batch, "ascending"), self._end(batch, "descending")
        except pa.ArrowNotImplementedError:
            return  # e.g. binary UUIDs in some engines: nothing depends on the range
        self._take(least, greatest)

    def _take(self, least: tuple[Any, ...], greatest: tuple[Any, ...]) -> None:
        self._first = least if self._first is None else min(self._first, least)
        self._last = greatest if self._last is None else max(self._last, greatest)

    def _by_column(self, values: tuple[Any, ...] | None) -> dict[str, Any] | None:
        if values is None:
            return None
        return {column: _json_value(value) for column, value in zip(self._key, values, strict=True)}

    def _end(self, batch: pa.RecordBatch, order: str) -> tuple[Any, ...]:
        keys = batch.select(list(self._key))
        row = pc.select_k_unstable(keys, k=1, sort_keys=[(column, order) for column in self._key])
        return tuple(column[row[0].as_py()].as_py() for column in keys.columns)


def _has_order(kind: pa.DataType) -> bool:
    """Whether a type certainly has an order, so that a single row need not be sorted."""
    return bool(pa.types.is_integer(kind) or pa.types.is_string(kind))


def outermost(
    pick: Callable[..., dict[str, Any]], keys: Iterable[dict[str, Any] | None], types: Mapping[str, str]
) -> dict[str, Any] | None:
    """The least (`pick` is `min`) or greatest (`max`) of keys in JSON; None if there is none.

    `types`: column -> Arrow type; a decimal is text in JSON but must be compared as a number.
    """

    def order(key: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(
            Decimal(value) if types[column].startswith("decimal") else value for column, value in key.items()
        )

    known = [key for key in keys if key is not None]
    return pick(known, key=order) if known else None


def _json_value(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _KEY_CHARS else value[: _KEY_CHARS - 1] + "…"
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, date | time):  # datetime is a date
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    return str(value)
