"""The columns of a MySQL result: their Arrow types, and values read strictly; `mysql` asks here."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pyarrow as pa

from mlops_plugin.databases.source_column import SourceColumn

_Day = TypeVar("_Day", datetime.date, datetime.datetime)
_BINARY_CHARSET = 63
_UNSIGNED = 32
_SET = 2048
DECIMALS = (0, 246)  # column types DECIMAL and NEWDECIMAL
_INTEGERS = {
    "TINY": (pa.int8(), pa.uint8()),
    "SHORT": (pa.int16(), pa.uint16()),
    "INT24": (pa.int32(), pa.uint32()),
    "LONG": (pa.int32(), pa.uint32()),
    "LONGLONG": (pa.int64(), pa.uint64()),
    "YEAR": (pa.int16(), pa.int16()),
}
_OTHERS = {
    "DOUBLE": pa.float64(),
    "DATE": pa.date32(),
    "NEWDATE": pa.date32(),
    "DATETIME": pa.timestamp("us"),
    "TIMESTAMP": pa.timestamp("us"),
    "TIME": pa.duration("us"),
    "BIT": pa.uint64(),
    "JSON": pa.string(),
    "NULL": pa.null(),
}


class MysqlColumn:
    """One column of a result: its Arrow type, and its values as an array of that type."""

    def __init__(
        self, source: Callable[[str, str], SourceColumn], description: Sequence[Any], scale: int
    ) -> None:
        """`source` makes one of a name and a type, as `OpenDatabase` does."""
        from mysql.connector.constants import FieldType

        kind = str(FieldType.get_info(description[1]) or "")
        flags, charset = description[7:9]
        is_set = bool(flags & _SET)
        self.source = source(str(description[0]), "SET" if is_set else kind)
        if is_set:
            raise self.source.refusal("arrives without its order", instead="CONCAT({0}, '')")
        if kind == "FLOAT":
            # The text protocol writes six digits of it: 16777215 would arrive as 16777200.
            raise self.source.refusal("arrives with six digits only", instead="CAST({0} AS DOUBLE)")
        if description[1] in DECIMALS:
            self.type = pa.decimal128(38, scale)
        else:
            self.type = self._arrow_type(kind, bool(flags & _UNSIGNED), charset == _BINARY_CHARSET)

    def _arrow_type(self, kind: str, is_unsigned: bool, is_binary: bool) -> pa.DataType:
        if kind in _INTEGERS:
            return _INTEGERS[kind][is_unsigned]
        if kind in _OTHERS:
            return _OTHERS[kind]
        if kind == "GEOMETRY":
            raise self.source.refusal("arrives as bytes of its engine's own", instead="ST_AsBinary({0})")
        return pa.binary() if is_binary else pa.string()

    def array(self, values: Sequence[object]) -> pa.Array:
        if pa.types.is_binary(self.type):
            values = [bytes(value) if isinstance(value, bytearray) else value for value in values]
        try:
            return pa.array(values, self.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise self.source.refusal(
                f"holds a value that {self.type} cannot hold: {error}",
                is_number=pa.types.is_decimal(self.type),
            ) from error


class NoDate(Exception):
    """A value of a date's type that is no date, e.g. one of zeros."""

    def __init__(self, column: str, value: str) -> None:
        super().__init__(column, value)
        self.column = column
        self.value = value


def _parsed(kind: type[_Day], value: bytes, description: Sequence[Any]) -> _Day:
    try:
        return kind.fromisoformat(value.decode())
    except ValueError as error:
        raise NoDate(str(description[0]), value.decode()) from error


def strict_converter() -> type:
    """mysql.connector's converter of values, which makes NULL of a date of zeros; ours raises."""
    from mysql.connector.conversion import MySQLConverter

    class StrictConverter(MySQLConverter):
        @staticmethod
        def _date_to_python(value: bytes, dsc: Any = None) -> datetime.date:
            return _parsed(datetime.date, value, dsc)

        @staticmethod
        def _datetime_to_python(value: bytes, dsc: Any = None) -> datetime.datetime:
            return _parsed(datetime.datetime, value, dsc)

        _DATE_to_python = _NEWDATE_to_python = _date_to_python
        _DATETIME_to_python = _TIMESTAMP_to_python = _datetime_to_python

    return StrictConverter
