"""Tables of an engine that is not known: what its ODBC driver says of their columns decides what is refused.

Known engines play the unknown one: their connections say `dialect: ansi`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from mlops_plugin.databases.sink.predictions_table import check_table
from mlops_plugin.errors import MlopsError, SinkError
from support.sinks import predictions, sink_config
from support.ways_in import WayIn

_DOUBLE, _FLOAT, _LONG, _TEXT = pa.float64(), pa.float32(), pa.int64(), pa.string()
_MOMENT, _CLOCK, _PRICE = pa.timestamp("us"), pa.time64("us"), pa.decimal128(10, 4)
_FINE = datetime(2026, 1, 2, 3, 4, 5, 123456)
_WHOLE = _FINE.replace(microsecond=0)
# Column, type of what is written, a value that is held, and what is said of one that is not.
_COLUMNS: list[tuple[str, pa.DataType, Any, str | None]] = [
    ("DOUBLE PRECISION", _DOUBLE, 0.1, None),
    ("DOUBLE PRECISION", _FLOAT, 0.5, None),
    ("INTEGER", _DOUBLE, 1.0, "which rounds a double to a whole number; .* DOUBLE PRECISION"),
    ("DECIMAL(10,2)", _DOUBLE, 0.5, r"\(10,2\), which rounds a double to its decimal places"),
    ("VARCHAR(30)", _DOUBLE, 0.5, "does not hold every double"),
    ("INTEGER", _LONG, 7, None),
    ("DECIMAL(20,0)", _LONG, 2**62, None),
    ("DOUBLE PRECISION", _LONG, 2**53, None),
    ("DOUBLE PRECISION", _LONG, 2**53 + 1, "change 9007199254740993 in row 1"),
    ("DATE", _LONG, 20260102, "does not hold every int64"),
    ("DECIMAL(20,4)", _PRICE, Decimal("1.2345"), None),
    ("DECIMAL(10,2)", _PRICE, Decimal("1.5000"), "rounds numbers with 4 decimal places to 2"),
    ("DOUBLE PRECISION", pa.decimal128(38, 2), Decimal("0.01"), "does not hold every number of 38 digits"),
    ("VARCHAR(30)", _TEXT, "züge 🚂 ", None),
    ("VARCHAR(30)", _TEXT, "a\0b", "holds a text with a NUL character in row 1"),
    ("CHAR(5)", _TEXT, "abcde", None),
    ("CHAR(5)", _TEXT, "ab", "change 'ab' in row 1 .* to 5 characters"),
    ("INTEGER", _TEXT, "007", "does not hold every string"),
    ("DATE", pa.date32(), date(2026, 1, 2), None),
    ("DATE", _MOMENT, _FINE, "drops the time of day"),
    ("TIME(6)", _CLOCK, time(1, 2, 3, 4), None),
    ("TIMESTAMP(6)", _MOMENT, _FINE, None),
    ("TIMESTAMP(3)", _MOMENT, _FINE, "has 3 digits for the fraction"),
    ("TIMESTAMP(0)", _MOMENT, _WHOLE, None),
    ("TIMESTAMP(0)", _MOMENT, _FINE, "has 0 digits for the fraction"),
    ("BOOLEAN", pa.bool_(), True, None),
]
_REAL = ("REAL", _DOUBLE, 0.1, "REAL|FLOAT4?, which rounds a double to seven digits")
_WAYS = {
    "odbc-postgres": [
        *_COLUMNS,
        _REAL,
        ("BYTEA", pa.binary(), b"\0a", None),
        ("BYTEA", _TEXT, "\\x41", "hold every string"),
        ("UUID", _TEXT, "A", "a uuid"),
    ],
    "odbc-mariadb": [
        *_COLUMNS,
        ("FLOAT", *_REAL[1:]),
        ("VARBINARY(9)", pa.binary(), b"\0a", None),
        ("BINARY(3)", pa.binary(), b"\0", "to 3 bytes"),
    ],
}
_CELLS = [
    pytest.param(name, number, id=f"{name}-{column[0]}-{column[1]}-{number}")
    for name, columns in _WAYS.items()
    for number, column in enumerate(columns)
]
_TABLE = (
    "id INTEGER, dispatch_id VARCHAR(36), model VARCHAR(99), artifact_sha256 VARCHAR(64), predicted_at {time}"
)


@pytest.fixture
def as_unknown(way_named: Callable[[str], WayIn]) -> Callable[..., WayIn]:
    """The way of a name, whose engine nobody knows."""

    def way_of(name: str, dialect: str = "ansi") -> WayIn:
        way = way_named(name)
        extra = {**way.spec.extra, "dialect": dialect}
        if name == "odbc-mariadb":  # where a name in double quotes would be a text
            extra["INITSTMT"] = "SET SESSION sql_mode = CONCAT(@@sql_mode, ',ANSI_QUOTES')"
        return dataclasses.replace(way, spec=dataclasses.replace(way.spec, extra=extra))

    return way_of


def make(way: WayIn, table: str, columns: str, moment: str = "TIMESTAMP(6)") -> None:
    columns = f"{columns}, {_TABLE.format(time=moment)}"
    if way.engine == "mysql":  # where the first TIMESTAMP of a table takes care of itself
        columns = columns.replace("TIMESTAMP(", "DATETIME(")
    way.execute(f"CREATE TABLE {table} ({columns})")


def check(way: WayIn, table: str) -> None:
    """As `mlops check --connect` does."""
    sink, schema = sink_config("append", table=table), predictions([1]).schema
    with way.open() as database:
        check_table(database, sink, key=("id",), schema=schema)


@pytest.mark.parametrize(("name", "number"), _CELLS)
def test_a_column_takes_a_value_as_it_is_or_refuses_it(
    name: str, number: int, as_unknown: Callable[..., WayIn]
) -> None:
    way, table = as_unknown(name), f"u{number}"
    column, arrow_type, value, refused = _WAYS[name][number]
    make(way, table, f"value {column}")
    rows = predictions([1], value=pa.array([value], arrow_type)).drop_columns(["prediction"])
    if refused:
        with pytest.raises(MlopsError, match=re.compile(refused, re.DOTALL)):
            way.write(rows, "append", table=table, create=False)
        assert way.rows(f"SELECT COUNT(*) FROM {table}") == [(0,)]
        return
    assert way.write(rows, "append", table=table, create=False) == 1
    ((stored,),) = way.rows(f"SELECT value FROM {table}")
    if isinstance(value, time) and way.engine == "mysql":
        stored = (datetime.min + stored).time()
    assert (bytes(stored) if isinstance(value, bytes) else stored) == value


@pytest.mark.parametrize("name", _WAYS)
def test_all_columns_are_named_at_once(name: str, as_unknown: Callable[..., WayIn]) -> None:
    way = as_unknown(name)
    make(way, "several", "prediction INTEGER, score DECIMAL(5,2)", "TIMESTAMP(0)")
    rows = predictions([1], score=pa.array([0.1]))
    with pytest.raises(SinkError, match="table several") as error:
        way.write(rows, "append", table="several", create=False)
    assert re.findall(r"^column '(\w+)' is", str(error.value), re.MULTILINE) == [
        "prediction",
        "score",
        "predicted_at",
    ]


def test_a_type_without_a_word_in_odbc_is_not_judged(as_unknown: Callable[..., WayIn]) -> None:
    """SQLite's driver has a number of its own, -25, for BIGINT."""
    way = as_unknown("odbc-sqlite")
    make(way, "unjudged", "prediction BIGINT", "VARCHAR(40)")
    with way.open() as database:
        check_table(
            database, sink_config("append", table="unjudged"), key=("id",), schema=predictions([1]).schema
        )


def test_sql_servers_table_is_judged_by_its_driver_too(as_unknown: Callable[..., WayIn]) -> None:
    """SQLite takes names in brackets, which is as far as SQL Server can be played here."""
    way = as_unknown("odbc-sqlite", "mssql")
    make(way, "servers", "prediction INTEGER", "VARCHAR(40)")
    wanted = r"INTEGER, which rounds .*run ALTER TABLE \[servers\] ALTER COLUMN \[prediction\] FLOAT\(53\)"
    with way.open() as database, pytest.raises(SinkError, match=wanted):
        check_table(
            database, sink_config("append", table="servers"), key=("id",), schema=predictions([1]).schema
        )
