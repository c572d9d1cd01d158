"""Every type of every engine at its limits, and what each way in makes of it.

test_read_types.py proves each cell against real servers; `python -m type_matrix` prints them into
docs/databases.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

NAN = float("nan")


@dataclass(frozen=True)
class Arrives:
    """Every value arrives, in this Arrow type; `values` where they are not the row's own."""

    arrow_type: str
    values: Sequence[Any] | None = None


@dataclass(frozen=True)
class Refused:
    """The column is refused with this cast (`a` is the column), which gives `values`, in this order."""

    cast: str
    values: Sequence[Any]


@dataclass(frozen=True)
class TooLong:
    """Refused as long as `max_text_bytes` is less than `size`; then it arrives in this type."""

    size: int
    arrow_type: str


Outcome = Arrives | Refused | TooLong


@dataclass(frozen=True)
class StoredType:
    """A column type with values, as SQL and as Python; outcomes are in the order of the engine's ways in."""

    sql: str
    values: dict[str, Any]
    outcomes: tuple[Outcome, ...]


def _row(sql: str, values: dict[str, Any], *outcomes: Outcome | str) -> StoredType:
    found = [Arrives(outcome) if isinstance(outcome, str) else outcome for outcome in outcomes]
    return StoredType(sql, values, tuple(found))


def _numbers(*numbers: int | float) -> dict[str, Any]:
    return {repr(number): number for number in numbers}


def _decimals(*numbers: str) -> dict[str, Any]:
    return {number: Decimal(number) for number in numbers}


def _texts(*texts: str) -> dict[str, Any]:
    return {f"'{text}'": text for text in texts}


_DOUBLES = (0.1, 1 / 3, 5e-324, 2.225073858507201e-308, 1.7976931348623157e308, -1.7976931348623157e308)
_FLOATS = {"1.1": 1.10000002384185791015625, "16777215": 16777215.0}
_FLOATS |= {"1.401298464324817e-45": 1.401298464324817e-45, "-3.4028234663852886e38": -3.4028234663852886e38}
_BEYOND_BMP = _texts("äöü", "😀", "e\u0301", "")
_DIGITS_38 = _decimals("9" * 38, "-" + "9" * 38, "0")
_FRACTION_38 = _decimals("0." + "9" * 38, "-0." + "0" * 37 + "1")
_WIDE = "123456789012345678901234567890.0123456789"  # 40 digits
_UUID = "123e4567-e89b-12d3-a456-426655440000"
_DAYS = {"'0001-01-01'": date(1, 1, 1), "'2000-02-29'": date(2000, 2, 29), "'9999-12-31'": date(9999, 12, 31)}
_SECONDS = {
    "'0001-01-01 00:00:00'": datetime(1, 1, 1),
    "'1969-12-31 23:59:59'": datetime(1969, 12, 31, 23, 59, 59),
    "'9999-12-31 23:59:59'": datetime(9999, 12, 31, 23, 59, 59),
}
_MICROSECONDS = {
    "'0001-01-01 00:00:00.000001'": datetime(1, 1, 1, 0, 0, 0, 1),
    "'1969-12-31 23:59:59.999999'": datetime(1969, 12, 31, 23, 59, 59, 999999),
    "'9999-12-31 23:59:59.999999'": datetime(9999, 12, 31, 23, 59, 59, 999999),
}
_CLOCK = {"'00:00:00'": time(), "'23:59:59'": time(23, 59, 59)}
_FINE_CLOCK = {
    "'00:00:00.000001'": time(0, 0, 0, 1),
    "'23:59:59.999999'": time(23, 59, 59, 999999),
}


def _since_midnight(values: dict[str, Any]) -> Arrives:
    return Arrives(
        "duration[us]",
        [
            timedelta(
                hours=clock.hour, minutes=clock.minute, seconds=clock.second, microseconds=clock.microsecond
            )
            for clock in values.values()
        ],
    )


_BIG = "1" * 64
_BIGINT_UNSIGNED = {"18446744073709551615": 2**64 - 1, "0": 0}
_AS_UNSIGNED = Refused("CAST(`a` AS DECIMAL(20, 0))", [Decimal(2**64 - 1), Decimal(0)])
_AS_CHAR = "CAST(`a` AS CHAR)"
_POINT = {"POINT(0.1, -2)": None}
_WELL_KNOWN = bytes.fromhex("0101000000" + "9a9999999999b93f" + "00000000000000c0")

MARIADB = [
    _row("BOOLEAN", {"TRUE": 1, "FALSE": 0}, "int64", "int8"),
    _row("TINYINT", _numbers(-128, 127), "int64", "int8"),
    _row("TINYINT UNSIGNED", _numbers(0, 255), "int64", "uint8"),
    _row("SMALLINT", _numbers(-(2**15), 2**15 - 1), "int64", "int16"),
    _row("SMALLINT UNSIGNED", _numbers(0, 2**16 - 1), "int64", "uint16"),
    _row("MEDIUMINT", _numbers(-(2**23), 2**23 - 1), "int64", "int32"),
    _row("MEDIUMINT UNSIGNED", _numbers(0, 2**24 - 1), "int64", "uint32"),
    _row("INT", _numbers(-(2**31), 2**31 - 1), "int64", "int32"),
    _row("INT UNSIGNED", _numbers(0, 2**32 - 1), "int64", "uint32"),
    _row("INT(5) ZEROFILL", _numbers(42), "int64", "uint32"),
    _row("BIGINT", _numbers(-(2**63), 2**63 - 1), "int64", "int64"),
    _row("BIGINT UNSIGNED", _BIGINT_UNSIGNED, _AS_UNSIGNED, "uint64"),
    _row("BIT(1)", {"b'1'": 1, "b'0'": 0}, "int64", "uint64"),
    _row("BIT(8)", {"b'11111111'": 255}, Refused(_AS_UNSIGNED.cast, [Decimal(255)]), "uint64"),
    _row("BIT(64)", {f"b'{_BIG}'": 2**64 - 1, "b'0'": 0}, _AS_UNSIGNED, "uint64"),
    _row("DECIMAL(10,2)", _decimals("-12345678.91", "0.00"), "decimal128(10, 2)", "decimal128(38, 2)"),
    _row("DECIMAL(38,0)", _DIGITS_38, "decimal128(38, 0)", "decimal128(38, 0)"),
    _row("DECIMAL(5,5)", _decimals("-0.12345", "0.99999"), "decimal128(5, 5)", "decimal128(38, 5)"),
    _row("DECIMAL(38,38)", _FRACTION_38, Refused(_AS_CHAR, list(_FRACTION_38)), "decimal128(38, 38)"),
    _row("DECIMAL(40,10)", _decimals(_WIDE), Refused(_AS_CHAR, [_WIDE]), Refused(_AS_CHAR, [_WIDE])),
    _row("FLOAT", _FLOATS, "float", "float"),
    _row("DOUBLE", _numbers(*_DOUBLES), "double", "double"),
    _row("DATE", _DAYS, "date32[day]", "date32[day]"),
    _row(
        "DATE",
        {"'2020-00-01'": None, "'0000-00-00'": None},
        Refused(_AS_CHAR, ["2020-00-01", "0000-00-00"]),
        Refused(_AS_CHAR, ["2020-00-01", "0000-00-00"]),
    ),
    _row("DATETIME", _SECONDS, "timestamp[us]", "timestamp[us]"),
    _row("DATETIME(6)", _MICROSECONDS, "timestamp[us]", "timestamp[us]"),
    _row(
        "DATETIME",
        {"'0000-00-00 00:00:00'": None},
        Refused(_AS_CHAR, ["0000-00-00 00:00:00"]),
        Refused(_AS_CHAR, ["0000-00-00 00:00:00"]),
    ),
    _row(
        "DATETIME(6)",
        {"'2020-01-00 00:00:00'": None},
        Refused(_AS_CHAR, ["2020-01-00 00:00:00.000000"]),
        Refused(_AS_CHAR, ["2020-01-00 00:00:00.000000"]),
    ),
    _row(
        "TIMESTAMP",
        {
            "'1970-01-01 00:00:01'": datetime(1970, 1, 1, 0, 0, 1),
            "'2038-01-19 03:14:07'": datetime(2038, 1, 19, 3, 14, 7),
        },
        "timestamp[us]",
        "timestamp[us]",
    ),
    _row(
        "TIMESTAMP(6)",
        {"'2020-01-02 03:04:05.123456'": datetime(2020, 1, 2, 3, 4, 5, 123456)},
        "timestamp[us]",
        "timestamp[us]",
    ),
    _row("TIME", _CLOCK, "time64[us]", _since_midnight(_CLOCK)),
    _row("TIME(6)", _FINE_CLOCK, "time64[us]", _since_midnight(_FINE_CLOCK)),
    _row(
        "TIME",
        {
            "'-838:59:59'": -timedelta(hours=838, minutes=59, seconds=59),
            "'24:00:00'": timedelta(days=1),
        },
        Refused(_AS_CHAR, ["-838:59:59", "24:00:00"]),
        "duration[us]",
    ),
    _row(
        "TIME(6)",
        {"'-00:00:00.000001'": -timedelta(microseconds=1)},
        Refused(_AS_CHAR, ["-00:00:00.000001"]),
        "duration[us]",
    ),
    _row("YEAR", _numbers(1901, 2155, 0), "int64", "int16"),
    _row("CHAR(5)", _BEYOND_BMP | {"'a  '": "a"}, "string", "string"),
    _row("VARCHAR(10)", _BEYOND_BMP | _texts(" a  ", "😀" * 10) | {"'a\\0b'": "a\0b"}, "string", "string"),
    _row("VARCHAR(10) CHARACTER SET latin1", _texts("é€"), "string", "string"),
    _row("VARCHAR(10) CHARACTER SET utf16", _texts("é😀"), "string", "string"),
    _row("VARCHAR(6000)", {"REPEAT('é', 3000)": "é" * 3000}, TooLong(6000, "string"), "string"),
    _row("TEXT", {"REPEAT('é', 2048)": "é" * 2048}, "string", "string"),
    _row("TEXT", {"REPEAT('😀', 1025)": "😀" * 1025}, TooLong(4100, "string"), "string"),
    _row("LONGTEXT", {"REPEAT('x', 70000)": "x" * 70000, "''": ""}, TooLong(70000, "string"), "string"),
    _row("JSON", _texts('{"a": "😀"}', "[1.0,  2]"), "string", "string"),
    _row("ENUM('a','😀')", _texts("a", "😀"), "string", "string"),
    _row("SET('a','b')", _texts("a,b", ""), "string", Refused("CONCAT(`a`, '')", ["a,b", ""])),
    _row("BINARY(3)", {"x'00ff01'": b"\x00\xff\x01", "x'ff'": b"\xff\0\0"}, "binary", "binary"),
    _row("VARBINARY(300)", {"x'00ff00'": b"\x00\xff\x00", "x''": b""}, "binary", "binary"),
    _row("BLOB", {"x'00ff'": b"\x00\xff"}, "binary", "binary"),
    _row("LONGBLOB", {"REPEAT(x'ff', 5000)": b"\xff" * 5000}, TooLong(5000, "binary"), "binary"),
    _row("UUID", _texts(_UUID), "string", "string"),
    _row("INET6", _texts("::1"), "string", "string"),
    _row(
        "POINT",
        _POINT,
        Refused("ST_AsBinary(`a`)", [_WELL_KNOWN]),
        Refused("ST_AsBinary(`a`)", [_WELL_KNOWN]),
    ),
]

_AS_TEXT = 'CAST("a" AS TEXT)'


def _as_text(*texts: str) -> Refused:
    return Refused(_AS_TEXT, texts)


def _no_times(sql: str, *literals: str, shown: Sequence[str] = ()) -> StoredType:
    refused = _as_text(*(shown or literals))
    return _row(sql, {f"'{literal}'": None for literal in literals}, refused, refused)


POSTGRESQL = [
    _row("boolean", {"true": True, "false": False}, "bool", "bool"),
    _row("smallint", _numbers(-(2**15), 2**15 - 1), "int64", "int16"),
    _row("integer", _numbers(-(2**31), 2**31 - 1), "int64", "int32"),
    _row("bigint", _numbers(-(2**63), 2**63 - 1), "int64", "int64"),
    _row("oid", _numbers(2**32 - 1), "int64", _as_text("4294967295")),
    _row("numeric(10,2)", _decimals("-12345678.91", "0.00"), "decimal128(10, 2)", "decimal128(10, 2)"),
    _row("numeric(38,0)", _DIGITS_38, "decimal128(38, 0)", "decimal128(38, 0)"),
    _row("numeric(5,5)", _decimals("-0.12345", "0.99999"), "decimal128(5, 5)", "decimal128(5, 5)"),
    _row("numeric(38,38)", _FRACTION_38, "decimal128(38, 38)", "decimal128(38, 38)"),
    _row("numeric(40,10)", _decimals(_WIDE), _as_text(_WIDE), _as_text(_WIDE)),
    _row("numeric(4,-2)", _decimals("123400"), _as_text("123400"), _as_text("123400")),
    _row("numeric(2,4)", _decimals("0.0012"), _as_text("0.0012"), _as_text("0.0012")),
    _row("numeric(5,2)", {"'NaN'": None, "1": None}, _as_text("NaN", "1.00"), _as_text("NaN", "1.00")),
    _row("numeric", _decimals("1.500000"), _as_text("1.500000"), _as_text("1.500000")),
    _row(
        "numeric",
        {"0.12345678901234567890": None, "'Infinity'": None, "1e40": None},
        _as_text("0.12345678901234567890", "Infinity", "1" + "0" * 40),
        _as_text("0.12345678901234567890", "Infinity", "1" + "0" * 40),
    ),
    _row(
        "money",
        {"-92233720368547758.08": None, "12.34": None},
        Refused('CAST("a" AS NUMERIC(22, 3))', [Decimal("-92233720368547758.080"), Decimal("12.340")]),
        Refused('CAST("a" AS NUMERIC(22, 3))', [Decimal("-92233720368547758.080"), Decimal("12.340")]),
    ),
    _row(
        "real",
        _FLOATS | {"'-0'": -0.0, "'NaN'": NAN, "'-Infinity'": float("-inf")},
        "float",
        "float",
    ),
    _row(
        "double precision",
        _numbers(*_DOUBLES) | {"'-0'": -0.0, "'NaN'": NAN, "'-Infinity'": float("-inf")},
        "double",
        "double",
    ),
    _row("bit(1)", {"b'1'": "1"}, "string", _as_text("1")),
    _row("bit(64)", {f"b'{_BIG}'": _BIG}, "string", _as_text(_BIG)),
    _row("varbit", {"b'101'": "101"}, "string", _as_text("101")),
    _row("date", _DAYS, "date32[day]", "date32[day]"),
    _no_times("date", "infinity", "0044-03-15 BC", "20000-01-01"),
    _row("timestamp", _SECONDS | _MICROSECONDS, "timestamp[us]", "timestamp[us]"),
    _row("timestamp(0)", _SECONDS, "timestamp[us]", "timestamp[us]"),
    _no_times("timestamp", "-infinity", "0044-03-15 01:02:03 BC"),
    _row(
        "timestamptz",
        {
            "'2020-01-02 03:04:05.123456+05'": datetime(2020, 1, 1, 22, 4, 5, 123456, UTC),
            "'0001-01-01 00:00:00+00'": datetime(1, 1, 1, tzinfo=UTC),
            "'9999-12-31 23:59:59.999999+00'": datetime(9999, 12, 31, 23, 59, 59, 999999, UTC),
        },
        "timestamp[us, tz=UTC]",
        "timestamp[us, tz=UTC]",
    ),
    _no_times("timestamptz", "infinity"),
    _row("time", _CLOCK | _FINE_CLOCK, "time64[us]", "time64[us]"),
    _row("time(0)", _CLOCK, "time64[us]", "time64[us]"),
    _no_times("time", "24:00:00"),
    _row("timetz", _texts("23:59:59.123456+05:30"), "string", _as_text("23:59:59.123456+05:30")),
    _row(
        "interval",
        _texts("1 year 2 days 03:04:05.000006"),
        "string",
        Arrives("month_day_nano_interval", [pa.MonthDayNano([12, 2, 11_045_000_006_000])]),
    ),
    _row("char(5)", {"'a'": "a    ", "'😀'": "😀    "}, "string", "string"),
    _row('"char"', {"'a'": "a", "''": ""}, "string", _as_text("a", "")),
    _row("varchar(10)", _BEYOND_BMP | _texts(" a  ", "😀" * 10), "string", "string"),
    _row("varchar(6000)", {"repeat('é', 3000)": "é" * 3000}, TooLong(6000, "string"), "string"),
    _row("text", {"repeat('é', 2048)": "é" * 2048, "E'\\\\ \\r\\n\\x01'": "\\ \r\n\x01"}, "string", "string"),
    _row("text", {"repeat('😀', 1025)": "😀" * 1025, "''": ""}, TooLong(4100, "string"), "string"),
    _row("json", _texts('{"a":  "😀"}'), "string", "string"),
    _row("jsonb", _texts('{"a": "😀"}'), "string", "string"),
    _row("xml", _texts("<a>😀</a>"), "string", _as_text("<a>😀</a>")),
    _row("mood (an enum)", _texts("häppy"), "string", "string"),
    _row("amount (a domain over numeric(5,2))", _decimals("1.25"), "decimal128(5, 2)", "decimal128(5, 2)"),
    _row("pair (a composite)", {"'(1,a)'": "(1,a)"}, "string", _as_text("(1,a)")),
    _row("bytea", {"'\\x00ff'": b"\x00\xff", "''": b""}, "binary", "binary"),
    _row("bytea", {"decode(repeat('ff', 5000), 'hex')": b"\xff" * 5000}, TooLong(5000, "binary"), "binary"),
    _row("uuid", _texts(_UUID), "string", "string"),
    _row("inet", _texts("::1"), "string", _as_text("::1/128")),
    _row(
        "integer[]", _texts("{1,NULL,2}", "{{1,2},{3,4}}"), "string", _as_text("{1,NULL,2}", "{{1,2},{3,4}}")
    ),
    _row("int4range", _texts("[1,2)"), "string", _as_text("[1,2)")),
    _row("point", _texts("(0.1,2)"), "string", _as_text("(0.1,2)")),
]

_EXACT = (
    """CASE typeof("a") WHEN 'real' THEN printf('%!.20g', "a") WHEN 'blob' THEN hex("a") """
    """ELSE CAST("a" AS TEXT) END"""
)
_HEX = 'CASE WHEN "a" IS NOT NULL THEN hex("a") END'


def _in_sqlite(
    sql: str, values: dict[str, Any], over_odbc: Outcome | str | None, natively: str
) -> StoredType:
    """Without an outcome over ODBC, the column is refused, and its text is the cast."""
    as_text = Refused(_EXACT, [value if isinstance(value, str) else str(value) for value in values.values()])
    return _row(sql, values, over_odbc or as_text, natively)


_REALS = (*_DOUBLES, 1e22, float("inf"))
SQLITE = [
    _in_sqlite("INTEGER", _numbers(-(2**63), 2**63 - 1, 2**31), "int64", "int64"),
    _in_sqlite("TINYINT", _numbers(-(2**63), 2**63 - 1), "int64", "int64"),
    _in_sqlite("INT", _numbers(5_000_000_000), "int64", "int64"),
    _in_sqlite("BOOLEAN", {"TRUE": 1, "FALSE": 0}, "int64", "int64"),
    _in_sqlite("UNSIGNED BIG INT", _numbers(2**63 - 1), None, "int64"),
    _row(
        "INTEGER",
        {"1": None, "0.5": None},
        Refused(_EXACT, ["1", 0.5]),
        Arrives("double", [1.0, 0.5]),
    ),
    _row(
        "INTEGER",
        {"9007199254740993": None, "0.5": None},
        Refused(_EXACT, ["9007199254740993", 0.5]),
        Refused(_EXACT, ["9007199254740993", 0.5]),
    ),
    _row(
        "REAL",
        {"9e999" if real == float("inf") else repr(real): real for real in _REALS},
        Refused(_EXACT, _REALS),
        "double",
    ),
    _row("DECIMAL(10,2)", {"0.25": 0.25, "1e300": 1e300}, Refused(_EXACT, [0.25, 1e300]), "double"),
    _in_sqlite("NUMERIC", _texts("12345678901234567890.12 EUR"), None, "string"),
    _in_sqlite("TEXT", _BEYOND_BMP | _texts(" a  "), "string", "string"),
    _row("TEXT", {"'a' || char(0) || 'b'": "a\0b"}, Refused(_HEX, ["610062"]), "string"),
    _row(
        "TEXT", {"CAST(x'ff' AS TEXT)": None}, Refused(_HEX, ["FF"]), Refused('CAST("a" AS BLOB)', [b"\xff"])
    ),
    _in_sqlite("TEXT", {"printf('%.*c', 5000, 'x')": "x" * 5000}, TooLong(5000, "string"), "string"),
    _row(
        "TEXT",
        {"1": None, "x'ff'": None, "0.1": None},
        Refused(_EXACT, ["1", "FF", "0.1"]),
        Refused(_EXACT, ["1", "FF", "0.1"]),
    ),
    _in_sqlite("VARCHAR(3)", _texts("äö", "longer than three"), None, "string"),
    _in_sqlite("CLOB", _texts("😀"), "string", "string"),
    _in_sqlite("without a type", _texts("text"), "string", "string"),
    _in_sqlite("without a type", _numbers(5), None, "int64"),
    _in_sqlite("DATE", _texts("2020-01-02", "no date"), None, "string"),
    _in_sqlite("DATETIME", _texts("2020-01-02 03:04:05.123456"), None, "string"),
    _in_sqlite("DATETIME", _numbers(1577934245), None, "int64"),
    _in_sqlite("JSON", _texts('{"a": "😀"}'), None, "string"),
    _in_sqlite("UUID", _texts(_UUID), None, "string"),
    _row("BLOB", {"x'00ff'": b"\x00\xff", "x''": b""}, Refused(_EXACT, ["00FF", ""]), "binary"),
]

_AS_VARCHAR = 'CAST("a" AS VARCHAR)'


def _duck_text(sql: str, *literals: str, shown: Sequence[str] = ()) -> StoredType:
    """A column that is refused; the cast gives what is shown."""
    return _row(sql, {f"'{literal}'": None for literal in literals}, Refused(_AS_VARCHAR, shown or literals))


def _written_out(*numbers: float) -> dict[str, Any]:
    return {f"'{number!r}'": number for number in numbers}


_HUGE, _UNSIGNED_HUGE = 2**127 - 1, 2**128 - 1
DUCKDB = [
    _row("BOOLEAN", {"TRUE": True, "FALSE": False}, "bool"),
    _row("TINYINT", _numbers(-128, 127), "int8"),
    _row("UTINYINT", _numbers(0, 255), "uint8"),
    _row("SMALLINT", _numbers(-(2**15), 2**15 - 1), "int16"),
    _row("USMALLINT", _numbers(0, 2**16 - 1), "uint16"),
    _row("INTEGER", _numbers(-(2**31), 2**31 - 1), "int32"),
    _row("UINTEGER", _numbers(0, 2**32 - 1), "uint32"),
    _row("BIGINT", _numbers(-(2**63), 2**63 - 1), "int64"),
    _row("UBIGINT", _BIGINT_UNSIGNED, "uint64"),
    _duck_text("HUGEINT", str(_HUGE), str(-_HUGE), "7"),
    _duck_text("UHUGEINT", str(_UNSIGNED_HUGE), "0"),
    _duck_text("BIGNUM", "1" * 60, "-7"),
    _row("DECIMAL(10,2)", _decimals("-12345678.91", "0.00"), "decimal128(10, 2)"),
    _row("DECIMAL(38,0)", _DIGITS_38, "decimal128(38, 0)"),
    _row("DECIMAL(5,5)", _decimals("-0.12345", "0.99999"), "decimal128(5, 5)"),
    # Without quotes, a number of so many digits would be a double.
    _row(
        "DECIMAL(38,38)", {f"'{text}'": number for text, number in _FRACTION_38.items()}, "decimal128(38, 38)"
    ),
    _row("FLOAT", _FLOATS | {"'-0'": -0.0, "'NaN'": NAN, "'-Infinity'": float("-inf")}, "float"),
    _row(
        "DOUBLE",
        _written_out(*_DOUBLES) | {"'-0'": -0.0, "'NaN'": NAN, "'-Infinity'": float("-inf")},
        "double",
    ),
    _row("VARCHAR", _BEYOND_BMP | _texts(" a  ") | {"'a' || chr(0) || 'b'": "a\0b"}, "string"),
    _row("VARCHAR(3)", _texts("longer than three"), "string"),
    _row("VARCHAR", {"repeat('é', 3000)": "é" * 3000}, "string"),
    _row("BLOB", {"'\\x00\\xFF'": b"\x00\xff", "''": b""}, "binary"),
    _row("UUID", _texts(_UUID), "string"),
    _row("JSON", _texts('{"a":  "😀"}'), "string"),
    _row("mood (an enum)", _texts("häppy"), "string"),
    _row("DATE", _DAYS, "date32[day]"),
    _duck_text("DATE", "infinity", "0044-03-15 (BC)", "20000-01-01"),
    _row("TIMESTAMP", _SECONDS | _MICROSECONDS, "timestamp[us]"),
    _duck_text("TIMESTAMP", "-infinity", "0044-03-15 (BC) 01:02:03"),
    _row("TIMESTAMP_S", _SECONDS, "timestamp[s]"),
    _row(
        "TIMESTAMP_MS",
        _SECONDS | {"'1969-12-31 23:59:59.999'": datetime(1969, 12, 31, 23, 59, 59, 999000)},
        "timestamp[ms]",
    ),
    _duck_text("TIMESTAMP_S", "infinity"),
    _duck_text("TIMESTAMP_NS", "2020-01-02 03:04:05.123456789", "infinity"),
    _row(
        "TIMESTAMP WITH TIME ZONE",
        {
            "'2020-01-02 03:04:05.123456+05'": datetime(2020, 1, 1, 22, 4, 5, 123456, UTC),
            "'0001-01-01 00:00:00+00'": datetime(1, 1, 1, tzinfo=UTC),
            "'9999-12-31 23:59:59.999999+00'": datetime(9999, 12, 31, 23, 59, 59, 999999, UTC),
        },
        "timestamp[us, tz=UTC]",
    ),
    _duck_text("TIMESTAMP WITH TIME ZONE", "infinity"),
    _row("TIME", _CLOCK | _FINE_CLOCK, "time64[us]"),
    _duck_text("TIME", "24:00:00"),
    _duck_text("TIME WITH TIME ZONE", "23:59:59.123456+05:30"),
    _row(
        "INTERVAL",
        _texts("1 year 2 days 03:04:05.000006"),
        Arrives("month_day_nano_interval", [pa.MonthDayNano([12, 2, 11_045_000_006_000])]),
    ),
    _duck_text(
        "INTERVAL",
        "2600000 hours",
        "-1 month -2600000 hours",
        shown=["2600000:00:00", "-1 month -2600000:00:00"],
    ),
    _duck_text("BIT", "101", "1" * 64),
    _duck_text("INTEGER[]", "[1, NULL, 2]"),
    _duck_text("INTEGER[2]", "[1, 2]"),
    _duck_text("STRUCT(n INTEGER, word VARCHAR)", "{''n'': 1, ''word'': a}", shown=["{'n': 1, 'word': a}"]),
    _duck_text("MAP(INTEGER, INTEGER)", "{1=2}"),
]

WAYS: dict[str, tuple[tuple[str, ...], list[StoredType]]] = {
    "MariaDB and MySQL": (("odbc-mariadb", "mysql"), MARIADB),
    "PostgreSQL": (("odbc-postgres", "postgres"), POSTGRESQL),
    "SQLite": (("odbc-sqlite", "sqlite"), SQLITE),
    "DuckDB": (("duckdb",), DUCKDB),
}
