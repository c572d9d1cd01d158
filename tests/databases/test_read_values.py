"""Every type of every engine, at its limits: a value arrives as stored, or the reader refuses it."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mlops_plugin.errors import DatabaseError, UnsupportedType
from ways_in import WayIn, way_in

_BITS_64 = "1" + "0" * 62 + "1"
_WIDE = "123456789012345678901234567890.0123456789"  # 40 digits

MARIADB: list[tuple[str, str, Any]] = [
    ("BOOLEAN", "TRUE", 1),
    ("TINYINT", "-128", -128),
    ("TINYINT UNSIGNED", "255", 255),
    ("SMALLINT", "-32768", -32768),
    ("SMALLINT UNSIGNED", "65535", 65535),
    ("MEDIUMINT UNSIGNED", "16777215", 16777215),
    ("INT", "-2147483648", -(2**31)),
    ("INT UNSIGNED", "4294967295", 2**32 - 1),
    ("BIGINT", "-9223372036854775808", -(2**63)),
    ("BIGINT", "9223372036854775807", 2**63 - 1),
    ("BIT(1)", "b'1'", 1),
    ("BIT(1)", "b'0'", 0),
    ("DECIMAL(10,2)", "-12345678.91", Decimal("-12345678.91")),
    ("DECIMAL(38,10)", _WIDE[2:], Decimal(_WIDE[2:])),
    ("DECIMAL(30,0)", "9" * 30, Decimal("9" * 30)),
    ("DOUBLE", "1.7976931348623157e308", 1.7976931348623157e308),
    ("DOUBLE", "0.1", 0.1),
    ("DOUBLE", "5e-324", 5e-324),
    ("DOUBLE", "9007199254740993", 9007199254740992.0),
    ("DATE", "'9999-12-31'", date(9999, 12, 31)),
    ("DATE", "'0001-01-01'", date(1, 1, 1)),
    ("DATETIME", "'9999-12-31 23:59:59'", datetime(9999, 12, 31, 23, 59, 59)),
    ("DATETIME(6)", "'1000-01-01 00:00:00.000001'", datetime(1000, 1, 1, 0, 0, 0, 1)),
    ("YEAR", "2155", 2155),
    ("CHAR(3)", "'äöü'", "äöü"),
    ("VARCHAR(10)", "'😀😀😀😀😀😀😀😀😀😀'", "😀" * 10),
    ("VARCHAR(10)", "''", ""),
    ("TEXT", "'tëxt 😀'", "tëxt 😀"),
    ("LONGTEXT", "REPEAT('é', 1000)", "é" * 1000),
    ("JSON", "'{\"a\": 1}'", '{"a": 1}'),
    ("ENUM('a','ü')", "'ü'", "ü"),
    ("BLOB", "x'00ff'", b"\x00\xff"),
    ("VARBINARY(5)", "x'00ff00'", b"\x00\xff\x00"),
    ("BINARY(3)", "x'00ff01'", b"\x00\xff\x01"),
    ("UUID", "'123e4567-e89b-12d3-a456-426655440000'", "123e4567-e89b-12d3-a456-426655440000"),
]
MARIADB_ODBC = [
    *MARIADB,
    ("FLOAT", "1.1", 1.10000002384185791015625),
    ("FLOAT", "16777215", 16777215.0),
    ("SET('a','b')", "'a,b'", "a,b"),
    ("TIME(6)", "'23:59:59.123456'", time(23, 59, 59, 123456)),
]
MARIADB_ODBC_REFUSED = [
    ("BIGINT UNSIGNED", "18446744073709551615"),
    ("BIT(8)", "b'11111111'"),
    ("BIT(64)", f"b'{_BITS_64}'"),
    ("DECIMAL(40,10)", _WIDE),
    ("TIME", "'-838:59:59'"),
    ("TIME(6)", "'-838:59:59.999999'"),
    ("TIME", "'24:00:00'"),
    ("DATETIME(6)", "'0000-00-00 00:00:00'"),
    ("DATETIME", "'0000-00-00 00:00:00'"),
    ("DATE", "'2020-00-01'"),
    ("POINT", "POINT(1, 2)"),
    ("DATE", "'0000-00-00'"),
]
MYSQL = [
    *MARIADB,
    ("BIGINT UNSIGNED", "18446744073709551615", 2**64 - 1),
    ("BIT(64)", f"b'{_BITS_64}'", 2**63 + 1),
    ("TIME", "'-838:59:59'", -timedelta(hours=838, minutes=59, seconds=59)),
    ("TIME(6)", "'23:59:59.123456'", timedelta(hours=23, minutes=59, seconds=59, microseconds=123456)),
]
MYSQL_REFUSED = [
    ("FLOAT", "16777215"),
    ("SET('a','b')", "'a,b'"),
    ("DECIMAL(40,10)", _WIDE),
    ("POINT", "POINT(1, 2)"),
    ("DATE", "'0000-00-00'"),
    ("DATETIME", "'0000-00-00 00:00:00'"),
]

POSTGRES: list[tuple[str, str, Any]] = [
    ("boolean", "true", True),
    ("boolean", "false", False),
    ("smallint", "-32768", -32768),
    ("integer", "-2147483648", -(2**31)),
    ("bigint", "-9223372036854775808", -(2**63)),
    ("bigint", "9223372036854775807", 2**63 - 1),
    ("numeric(10,2)", "-12345678.91", Decimal("-12345678.91")),
    ("numeric(38,10)", _WIDE[2:], Decimal(_WIDE[2:])),
    ("numeric(30,0)", "9" * 30, Decimal("9" * 30)),
    ("real", "1.1", 1.10000002384185791015625),
    ("double precision", "1.7976931348623157e308", 1.7976931348623157e308),
    ("double precision", "0.1", 0.1),
    ("double precision", "5e-324", 5e-324),
    ("double precision", "'-Infinity'", float("-inf")),
    ("date", "'9999-12-31'", date(9999, 12, 31)),
    ("date", "'0001-01-01'", date(1, 1, 1)),
    ("timestamp", "'9999-12-31 23:59:59.999999'", datetime(9999, 12, 31, 23, 59, 59, 999999)),
    ("timestamp", "'0001-01-01 00:00:00.000001'", datetime(1, 1, 1, 0, 0, 0, 1)),
    ("timestamptz", "'2020-01-02 03:04:05.123456+05'", datetime(2020, 1, 1, 22, 4, 5, 123456, UTC)),
    ("time", "'23:59:59.123456'", time(23, 59, 59, 123456)),
    ("char(3)", "'äöü'", "äöü"),
    ("varchar(10)", "'😀😀😀😀😀😀😀😀😀😀'", "😀" * 10),
    ("varchar(10)", "''", ""),
    ("text", "'tëxt 😀'", "tëxt 😀"),
    ("text", "repeat('é', 1000)", "é" * 1000),
    ("json", "'{\"a\": 1}'", '{"a": 1}'),
    ("jsonb", "'{\"a\": 1}'", '{"a": 1}'),
    ("mood", "'häppy'", "häppy"),
    ("bytea", "'\\x00ff'", b"\x00\xff"),
    ("uuid", "'123e4567-e89b-12d3-a456-426655440000'", "123e4567-e89b-12d3-a456-426655440000"),
]
POSTGRES_ADBC = [
    *POSTGRES,
    ("integer[]", "'{1,NULL,2}'", [1, None, 2]),
]
POSTGRES_ODBC = [
    *POSTGRES,
    ("int4range", "'[1,2)'", "[1,2)"),
    ("json", "to_json(repeat('é', 500))", '"' + "é" * 500 + '"'),
    ("varchar", "repeat('é', 500)", "é" * 500),
    ("oid", "4294967295", 2**32 - 1),
]
POSTGRES_REFUSED = [
    ("numeric", "1234567890123456789012345678901234567890.5"),
    ("numeric", "0.12345678901234567890"),
    ("numeric(40,10)", _WIDE),
    ("numeric(4,-2)", "123400"),
    ("numeric(5,2)", "'NaN'"),
    ("money", "12.34"),
    ("date", "'infinity'"),
    ("date", "'0044-03-15 BC'"),
    ("timestamp", "'infinity'"),
    ("timestamptz", "'-infinity'"),
]
POSTGRES_ADBC_REFUSED = [
    *POSTGRES_REFUSED,
    ("int4range", "'[1,2)'"),
    ("oid", "4294967295"),
    ("timetz", "'23:59:59+05'"),
    ("bit(8)", "b'11111111'"),
    ("inet", "'::1'"),
    ("point", "'(1,2)'"),
    ("numeric(10,2)[]", "'{1.5}'"),
]

SQLITE: list[tuple[str, str, Any]] = [
    ("INTEGER", "-9223372036854775808", -(2**63)),
    ("TINYINT", "9223372036854775807", 2**63 - 1),
    ("BOOLEAN", "TRUE", 1),
    ("REAL", "0.1", 0.1),
    ("REAL", "1.7976931348623157e308", 1.7976931348623157e308),
    ("REAL", "9e999", float("inf")),
    ("DECIMAL(10,2)", "0.25", 0.25),
    ("TEXT", "'tëxt 😀'", "tëxt 😀"),
    ("VARCHAR(3)", "'longer than three'", "longer than three"),
    ("TEXT", "''", ""),
    ("", "'no type'", "no type"),
    ("BLOB", "x'00ff'", b"\x00\xff"),
    ("DATE", "'2020-01-02'", "2020-01-02"),
    ("DATETIME", "'2020-01-02 03:04:05.123456'", "2020-01-02 03:04:05.123456"),
]

_ARRIVING = {
    "odbc-mariadb": MARIADB_ODBC,
    "mysql": MYSQL,
    "odbc-postgres": POSTGRES_ODBC,
    "postgres": POSTGRES_ADBC,
    "sqlite": SQLITE,
}
_REFUSED = {
    "odbc-mariadb": MARIADB_ODBC_REFUSED,
    "mysql": MYSQL_REFUSED,
    "odbc-postgres": POSTGRES_REFUSED,
    "postgres": POSTGRES_ADBC_REFUSED,
}


def _create(way: WayIn, sql_type: str, *literals: str) -> None:
    if way.engine == "postgres":
        way.execute("CREATE TYPE mood AS ENUM ('sad', 'häppy')")
    # MySQL takes a date of zeros only when asked to.
    sql_mode = ["SET sql_mode = ''"] if way.engine == "mysql" else []
    rows = [f"INSERT INTO t VALUES ({number}, {literal})" for number, literal in enumerate(literals)]
    way.execute(*sql_mode, f"CREATE TABLE t (n INTEGER, a {sql_type})", *rows)


@pytest.mark.parametrize(
    ("name", "sql_type", "literal", "expected"),
    [(name, *case) for name, cases in _ARRIVING.items() for case in cases],
)
def test_value_arrives_as_stored(
    name: str, sql_type: str, literal: str, expected: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    way = way_in(name, request, tmp_path)
    # NULLs on both sides: a reader that guesses types from the first row would guess wrong.
    _create(way, sql_type, "NULL", literal, "NULL")
    with way.open() as database:
        described = database.describe("SELECT a FROM t")
        found = database.read("SELECT a FROM t ORDER BY n", batch_rows=1).read_all()
    assert found.column("a").to_pylist() == [None, expected, None]
    assert described.names == ["a"]
    assert described.types == found.schema.types


@pytest.mark.parametrize(
    ("name", "sql_type", "literal"), [(name, *case) for name, cases in _REFUSED.items() for case in cases]
)
def test_value_that_would_not_arrive_is_refused(
    name: str, sql_type: str, literal: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    way = way_in(name, request, tmp_path)
    _create(way, sql_type, "NULL", literal)
    with way.open() as database, pytest.raises((UnsupportedType, DatabaseError)) as refusal:
        database.read("SELECT a FROM t ORDER BY n", batch_rows=10).read_all()
    assert "'way'" in str(refusal.value)
    if isinstance(refusal.value, UnsupportedType):
        assert "'a'" in str(refusal.value)
