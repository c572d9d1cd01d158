"""What MariaDB's ODBC driver, and MySQL's, change on the way."""

from __future__ import annotations

import pyarrow as pa

from mlops_plugin.arrow_values import LABELS
from mlops_plugin.databases.drivers.odbc.driver_manager import BIT, OdbcColumn
from mlops_plugin.databases.drivers.odbc.rules import MOST_DIGITS, OdbcRules, Unreadable
from mlops_plugin.databases.moments import INSTANTS
from mlops_plugin.databases.source_column import SourceColumn


class MysqlRules(OdbcRules):
    def delivered_type(self, source: SourceColumn, column: OdbcColumn) -> pa.DataType | None:
        if found := super().delivered_type(source, column):
            return found
        match column.type_name:
            case "bit" if column.sql_type != BIT:
                raise source.refusal("arrives as bytes", instead="CAST({0} AS DECIMAL(20, 0))")
            case "geometry":
                raise source.refusal("arrives as internal bytes", instead="ST_AsBinary({0})")
            case "decimal" if column.precision == column.scale:
                # For the sign and the zero before the point, there is room only if one more digit could be.
                if column.precision == MOST_DIGITS:
                    raise source.refusal("without a digit before the point loses its last digit")
                return pa.decimal128(column.precision, column.scale)
            case "float":
                return pa.float32()  # what it holds; it is fetched as a double, see `fetched_type`
            # A date of zeros would end the process, a TIME beyond a day arrives as another.
            case "date":
                return pa.date32()
            case "datetime" | "timestamp":
                return pa.timestamp("us")
            case "time":
                return pa.time64("us")
        return None

    def metadata(self, column: OdbcColumn) -> dict[bytes, bytes] | None:
        # An ENUM is described as a CHAR.
        return {"timestamp": INSTANTS, "char": LABELS}.get(column.type_name)

    def fetched_type(self, column: OdbcColumn | None, announced: pa.DataType) -> pa.DataType:
        types = pa.types
        if column is None and announced == pa.int64():
            return pa.decimal128(20, 0)  # it may be unsigned: too large a value is then noticed
        if types.is_boolean(announced):
            return pa.int64()  # MariaDB's driver answers NULL for a BIT(1) fetched as a bit
        if types.is_floating(announced):
            return pa.float64()  # it writes eight bytes where arrow-odbc makes room for the four of a float
        if types.is_temporal(announced) and column is not None and column.scale == 0:
            return pa.string()  # with fractions the driver reserves too little room, see `unreadable`
        return super().fetched_type(column, announced)

    def written_type(self, conn_id: str, field: pa.Field) -> pa.DataType:
        if pa.types.is_timestamp(field.type) or pa.types.is_date(field.type):
            # MariaDB's driver forgets to free 48 bytes for each date or timestamp that it sends as one.
            return pa.string()
        return super().written_type(conn_id, field)

    def unreadable(self, source: SourceColumn, column: OdbcColumn) -> list[Unreadable]:
        if column.scale == 0:
            return []  # only with fractions: others are fetched as text
        name = source.engine.enclose(column.name)
        if column.type_name == "time":
            condition = f"{name} < '00:00:00' OR {name} >= '24:00:00'"
        elif column.type_name in ("datetime", "timestamp"):
            condition = f"MONTH({name}) = 0 OR DAY({name}) = 0"
        else:
            return []
        return [Unreadable(condition, "holds a zero date, or a time outside one day")]
