"""The columns of a MySQL result: their Arrow types, and how their values are read; `mysql` asks here."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from mlops_plugin.arrow_values import LABELS
from mlops_plugin.databases.drivers.mysql_protocol.binary_rows import (
    Bits,
    Kind,
    Moment,
    Nothing,
    Number,
    Span,
    Text,
)
from mlops_plugin.databases.drivers.mysql_protocol.statements import ColumnDefinition
from mlops_plugin.databases.moments import INSTANTS
from mlops_plugin.databases.source_column import SourceColumn

_BINARY_CHARSET = 63
_UNSIGNED = 32
_ENUM = 256
_SET = 2048
_DECIMALS = ("DECIMAL", "NEWDECIMAL")
# How many bytes of an integer are sent, and what it is in Arrow.
_INTEGERS = {
    "TINY": (1, pa.int8(), pa.uint8()),
    "SHORT": (2, pa.int16(), pa.uint16()),
    "INT24": (4, pa.int32(), pa.uint32()),
    "LONG": (4, pa.int32(), pa.uint32()),
    "LONGLONG": (8, pa.int64(), pa.uint64()),
    "YEAR": (2, pa.int16(), pa.int16()),
}
_OTHERS: dict[str, tuple[Kind, pa.DataType]] = {
    "FLOAT": (Number("<f4", pa.float32()), pa.float32()),
    "DOUBLE": (Number("<f8", pa.float64()), pa.float64()),
    "DATE": (Moment(pa.date32()), pa.date32()),
    "NEWDATE": (Moment(pa.date32()), pa.date32()),
    "DATETIME": (Moment(pa.timestamp("us")), pa.timestamp("us")),
    "TIMESTAMP": (Moment(pa.timestamp("us")), pa.timestamp("us")),
    "TIME": (Span(), pa.duration("us")),
    "BIT": (Bits(), pa.uint64()),
    "JSON": (Text(pa.string()), pa.string()),
    "NULL": (Nothing(), pa.null()),
}


class MysqlColumn:
    """One column of a result: its Arrow type and field, and how its values are read."""

    def __init__(self, source: Callable[[str, str], SourceColumn], definition: ColumnDefinition) -> None:
        """`source` makes one of a name and a type, as `OpenDatabase` does."""
        from mysql.connector.constants import FieldType

        kind = str(FieldType.get_info(definition.kind) or "")
        is_set = bool(definition.flags & _SET)
        self.source = source(definition.name, "SET" if is_set else kind)
        if is_set:
            raise self.source.refusal("arrives without its order", instead="CONCAT({0}, '')")
        if kind == "GEOMETRY":
            raise self.source.refusal("arrives as internal bytes", instead="ST_AsBinary({0})")
        self.kind, self.type = _kind(kind, definition)
        metadata = INSTANTS if kind == "TIMESTAMP" else LABELS if definition.flags & _ENUM else None
        self.field = pa.field(definition.name, self.type, metadata=metadata)

    def exact(self, array: pa.Array) -> pa.Array:
        """Values as they were read, in the column's type. Raises `UnsupportedType`."""
        try:
            return array if array.type == self.type else pc.cast(array, self.type)
        except pa.ArrowInvalid as error:
            raise self.source.refusal(
                f"holds a value that {self.type} cannot hold: {error}",
                is_number=pa.types.is_decimal(self.type),
            ) from error


def _kind(name: str, definition: ColumnDefinition) -> tuple[Kind, pa.DataType]:
    if name in _INTEGERS:
        width, signed, unsigned = _INTEGERS[name]
        is_unsigned = bool(definition.flags & _UNSIGNED)
        arrow_type = unsigned if is_unsigned else signed
        return Number(f"<{'u' if is_unsigned else 'i'}{width}", arrow_type), arrow_type
    if name in _OTHERS:
        return _OTHERS[name]
    if name in _DECIMALS:
        return Text(pa.string()), pa.decimal128(38, definition.decimals)
    arrow_type = pa.binary() if definition.charset == _BINARY_CHARSET else pa.string()
    return Text(arrow_type), arrow_type
