"""Columns of a user's own table: a value arrives as it is, or is refused with column, loss and remedy."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlops_plugin.errors import MlopsError
from support.sinks import MODES, predictions
from support.ways_in import WayIn, way_in

_UUID = "123e4567-e89b-12d3-a456-426655440000"
_FINE = datetime(2026, 1, 2, 3, 4, 5, 123456)
_FINE_UTC = _FINE.replace(tzinfo=UTC)
_WHOLE = _FINE.replace(microsecond=0)
_DOUBLE, _FLOAT, _LONG = pa.float64(), pa.float32(), pa.int64()
_TEXT, _BYTES, _MOMENT = pa.string(), pa.binary(), pa.timestamp("us")


@dataclass(frozen=True)
class UsersColumn:
    """A column, a value written into it, and what the error says; without words, the value arrives."""

    sql: str
    arrow_type: pa.DataType
    value: Any
    refused: str | None = None


_MYSQL = [
    UsersColumn(
        "FLOAT", _DOUBLE, 0.1, "FLOAT, which rounds a double to seven digits; run ALTER TABLE .* DOUBLE"
    ),
    UsersColumn("FLOAT", _FLOAT, 0.5),
    UsersColumn("DOUBLE(10,2)", _DOUBLE, 0.5, r"DOUBLE\(10,2\), which does not hold every double"),
    UsersColumn("INT", _DOUBLE, 1.0, "rounds a double to a whole number; .* MODIFY `value` DOUBLE"),
    UsersColumn("BOOLEAN", _DOUBLE, 1.0, "rounds a double to a whole number"),
    UsersColumn("DECIMAL(10,2)", _DOUBLE, 0.5, "rounds a double to its decimal places"),
    UsersColumn("VARCHAR(30)", _DOUBLE, 0.5, r"VARCHAR\(30\), which does not hold every double"),
    UsersColumn("DECIMAL(10,2)", pa.decimal128(10, 4), Decimal("1.5000"), "with 4 decimal places to 2"),
    UsersColumn("DECIMAL(20,4)", pa.decimal128(10, 4), Decimal("1.2345")),
    UsersColumn("DECIMAL(5,2)", _LONG, 1000, "(?i)out of range"),
    UsersColumn("INT", pa.decimal128(5, 1), Decimal("1.5"), "does not hold every number of 5 digits"),
    UsersColumn("DOUBLE", pa.decimal128(38, 2), Decimal("0.01"), "does not hold every number of 38 digits"),
    UsersColumn("DOUBLE", _LONG, 2**53),
    UsersColumn("DOUBLE", _LONG, 2**53 + 1, "change 9007199254740993 in row 1 .* up to 9007199254740992"),
    UsersColumn("FLOAT", _LONG, 2**24 + 1, "change 16777217 in row 1"),
    UsersColumn("INT UNSIGNED", _LONG, 2**32 - 1),
    UsersColumn("INT UNSIGNED", _LONG, -1, "(?i)out of range"),
    UsersColumn("BIGINT UNSIGNED", pa.uint64(), 2**64 - 1),
    UsersColumn("BIT(8)", _LONG, 255),
    UsersColumn("BIT(8)", _LONG, 256, "(?i)too long|out of range"),
    UsersColumn("YEAR", _LONG, 2026),
    UsersColumn("YEAR", _LONG, 26, "change 26 in row 1 .* 1901 to 2155"),
    UsersColumn("VARCHAR(20)", _LONG, -(2**63)),
    UsersColumn("DATE", _LONG, 20260102, "does not hold every int64"),
    UsersColumn("DATETIME", _MOMENT, _WHOLE),
    UsersColumn("DATETIME", _MOMENT, _FINE, r"DATETIME\) .* has 0 digits .* MODIFY `value` DATETIME\(6\)"),
    UsersColumn("TIMESTAMP(3) NULL", pa.timestamp("us", "UTC"), _FINE_UTC, "has 3 digits for the fraction"),
    UsersColumn("TIMESTAMP(6) NULL", pa.timestamp("us", "UTC"), _FINE_UTC),
    UsersColumn("DATE", _MOMENT, _WHOLE, "drops the time of day"),
    UsersColumn("TIME", pa.time64("us"), time(1, 2, 3, 4), "has 0 digits for the fraction"),
    UsersColumn("DATETIME", pa.date32(), date(2026, 1, 2)),
    UsersColumn(
        "VARCHAR(3)", _TEXT, "four", r"change 'four' in row 1 .* room for 3 characters; give it a longer"
    ),
    UsersColumn("VARCHAR(3)", _TEXT, "😀é😀"),
    UsersColumn("VARCHAR(3)", _TEXT, "abc  ", "change 'abc  ' in row 1 .* room for 3 characters"),
    UsersColumn("CHAR(5)", _TEXT, "ab ", "change 'ab ' in row 1 .* blanks"),
    UsersColumn("TINYTEXT", _TEXT, "é" * 128, "room for 255 bytes"),
    UsersColumn("VARCHAR(9) CHARACTER SET latin1", _TEXT, "é€"),
    UsersColumn("VARCHAR(9) CHARACTER SET latin1", _TEXT, "😀", "(?i)incorrect string value"),
    UsersColumn("ENUM('a','it''s')", _TEXT, "it's"),
    UsersColumn("ENUM('a','b')", _TEXT, "A", "change 'A' in row 1 .* has the members 'a', 'b'"),
    UsersColumn("ENUM('a','b')", _TEXT, "1", "change '1' in row 1"),
    UsersColumn("SET('a','b')", _TEXT, "b,a", "does not hold every string"),
    UsersColumn("INT", _TEXT, "007", "does not hold every string"),
    UsersColumn("DATE", _TEXT, "2026-01-02"),
    UsersColumn("DATE", _TEXT, "2026-1-2", "change '2026-1-2' in row 1"),
    UsersColumn("VARBINARY(9)", _TEXT, "é "),
    UsersColumn("BINARY(3)", _BYTES, b"\0\1\2"),
    UsersColumn("BINARY(3)", _BYTES, b"\0\1", "to 3 bytes"),
    UsersColumn("VARCHAR(9)", _BYTES, b"a", "does not hold every binary"),
]
_MARIADB_ONLY = [
    UsersColumn("UUID", _TEXT, _UUID),
    UsersColumn("UUID", _TEXT, _UUID.upper(), f"change '{_UUID.upper()}' in row 1"),
    UsersColumn("INET6", _TEXT, "::0001", "does not hold every string"),
]
_POSTGRESQL = [
    UsersColumn(
        "real", _DOUBLE, 0.1, 'REAL, which rounds .* run ALTER TABLE .* ALTER COLUMN "value" TYPE DOUBLE'
    ),
    UsersColumn("real", _FLOAT, 0.5),
    UsersColumn("double precision", _FLOAT, 1.10000002384185791015625),
    UsersColumn("integer", _DOUBLE, 1.0, "rounds a double to a whole number"),
    UsersColumn("numeric", _DOUBLE, 0.5, "rounds a double to its decimal places"),
    UsersColumn("numeric(10,2)", pa.decimal128(10, 4), Decimal("1.5000"), "with 4 decimal places to 2"),
    UsersColumn("numeric", pa.decimal128(10, 4), Decimal("1.2345")),
    UsersColumn("numeric(4,-2)", pa.decimal128(4, 0), Decimal("1234"), "does not hold every number"),
    UsersColumn("amount", pa.decimal128(10, 4), Decimal("1.5000"), "with 4 decimal places to 2"),
    UsersColumn("numeric(20,0)", pa.uint64(), 2**64 - 1),
    UsersColumn("double precision", _LONG, 2**53 + 1, "change 9007199254740993 in row 1"),
    UsersColumn("smallint", _LONG, 2**15, "(?i)out of range|not in range"),
    UsersColumn("boolean", _LONG, 2, "every number but 0 .* BIGINT"),
    UsersColumn("boolean", pa.bool_(), True),
    UsersColumn("integer", pa.bool_(), True),
    UsersColumn("text", _LONG, -(2**63)),
    UsersColumn("timestamp(0)", _MOMENT, _WHOLE),
    UsersColumn("timestamp(0)", _MOMENT, _FINE, "has 0 digits for the fraction"),
    UsersColumn("timestamptz(3)", pa.timestamp("us", "UTC"), _FINE_UTC, "has 3 digits for the fraction"),
    UsersColumn("timestamptz", pa.timestamp("us", "UTC"), _FINE_UTC),
    UsersColumn("timestamptz", pa.timestamp("us", "UTC"), datetime(1969, 1, 2, 3, 4, 5, 6, UTC)),
    UsersColumn("date", _MOMENT, _WHOLE, "drops the time of day"),
    UsersColumn("time(0)", pa.time64("us"), time(1, 2, 3, 4), "has 0 digits for the fraction"),
    UsersColumn("timestamp", _TEXT, "2026-01-02 24:00:00", "change '2026-01-02 24:00:00' in row 1"),
    UsersColumn("time", _TEXT, "23:59:60", "change '23:59:60' in row 1"),
    UsersColumn("varchar(3)", _TEXT, "four", "room for 3 characters"),
    UsersColumn("varchar(3)", _TEXT, "abc  ", "change 'abc  ' in row 1"),
    UsersColumn("char(5)", _TEXT, "abc", "change 'abc' in row 1 .* to 5 characters"),
    UsersColumn("char(3)", _TEXT, "abc"),
    UsersColumn("mood", _TEXT, "häppy"),
    UsersColumn("mood", _TEXT, "HÄPPY", "(?i)invalid input value for enum"),
    UsersColumn("uuid", _TEXT, _UUID),
    UsersColumn("uuid", _TEXT, _UUID.upper(), f"change '{_UUID.upper()}' in row 1"),
    UsersColumn("jsonb", _TEXT, '{"b": 1}', "JSONB, which does not hold every string"),
    UsersColumn("inet", _TEXT, "::1", "INET, which does not hold every string"),
    UsersColumn("bytea", _BYTES, b"\0\xff"),
    UsersColumn("bytea", _TEXT, "\\x41", "BYTEA, which does not hold every string"),
    UsersColumn("text", _BYTES, b"a", "does not hold every binary"),
]
_SQLITE = [
    UsersColumn("TEXT", _DOUBLE, 0.1, "15 digits; .* DOUBLE PRECISION"),
    UsersColumn("INTEGER", _DOUBLE, 0.1),
    UsersColumn("DECIMAL(10,2)", pa.decimal128(10, 2), Decimal("0.10"), "decimal128\\(10, 2\\) to a double"),
    UsersColumn("TEXT", pa.decimal128(10, 2), Decimal("0.10")),
    UsersColumn("BIGINT UNSIGNED", pa.uint64(), 2**64 - 1, "uint64 to a double"),
    UsersColumn("REAL", _LONG, 2**53 + 1, "change 9007199254740993 in row 1"),
    UsersColumn("INTEGER", _TEXT, "007", "change '007' in row 1"),
    UsersColumn("STRING", _TEXT, "1e3", "change '1e3' in row 1"),
    UsersColumn("INTEGER", _TEXT, "7a"),
    UsersColumn("DATE", _TEXT, "2026-01-02"),
    UsersColumn("VARCHAR(3)", _TEXT, "007"),
    UsersColumn("", _TEXT, "007"),
    UsersColumn("TIMESTAMP", _MOMENT, _FINE),
]
_DUCKDB = [
    UsersColumn("FLOAT", _DOUBLE, 0.1, "rounds a double to seven digits; run ALTER TABLE .* TYPE DOUBLE"),
    UsersColumn("FLOAT", _FLOAT, 0.5),
    UsersColumn("INTEGER", _DOUBLE, 1.0, "rounds a double to a whole number"),
    UsersColumn("BOOLEAN", _DOUBLE, 1.0, "BOOLEAN, which does not hold every double"),
    UsersColumn("BOOLEAN", _LONG, 2, "every number but 0 .* BIGINT"),
    UsersColumn("DECIMAL(10,2)", _DOUBLE, 0.5, "rounds a double to its decimal places"),
    UsersColumn("VARCHAR", _DOUBLE, 0.5, "VARCHAR, which does not hold every double"),
    UsersColumn("DECIMAL(10,2)", pa.decimal128(10, 4), Decimal("1.5000"), "with 4 decimal places to 2"),
    UsersColumn("DECIMAL(20,4)", pa.decimal128(10, 4), Decimal("1.2345")),
    UsersColumn("DECIMAL(5,2)", _LONG, 1000, "(?i)could not cast|out of range"),
    UsersColumn("HUGEINT", pa.decimal128(38, 0), Decimal("9" * 38)),
    UsersColumn("INTEGER", pa.decimal128(5, 1), Decimal("1.5"), "does not hold every number of 5 digits"),
    UsersColumn("DOUBLE", pa.decimal128(38, 2), Decimal("0.01"), "does not hold every number of 38 digits"),
    UsersColumn("DOUBLE", _LONG, 2**53 + 1, "change 9007199254740993 in row 1 .* up to 9007199254740992"),
    UsersColumn("FLOAT", _LONG, 2**24 + 1, "change 16777217 in row 1"),
    UsersColumn("UINTEGER", _LONG, 2**32 - 1),
    UsersColumn("UINTEGER", _LONG, -1, "(?i)out of range"),
    UsersColumn("UBIGINT", pa.uint64(), 2**64 - 1),
    UsersColumn("TIMESTAMP_S", _MOMENT, _FINE, "has 0 digits for the fraction"),
    UsersColumn("TIMESTAMP_S", _MOMENT, _WHOLE),
    UsersColumn("TIMESTAMP_NS", _MOMENT, _FINE),
    UsersColumn("TIMESTAMP_NS", _MOMENT, datetime(9999, 1, 1), "(?i)could not convert"),
    UsersColumn("TIMESTAMPTZ", pa.timestamp("us", "UTC"), datetime(1969, 1, 2, 3, 4, 5, 6, UTC)),
    UsersColumn("DATE", _MOMENT, _WHOLE, "drops the time of day"),
    UsersColumn("TIMESTAMP", _TEXT, "2026-01-02 24:00:00", "change '2026-01-02 24:00:00' in row 1"),
    UsersColumn("VARCHAR(3)", _TEXT, "four "),
    UsersColumn("mood", _TEXT, "häppy"),
    UsersColumn("mood", _TEXT, "HÄPPY", "(?i)could not convert"),
    UsersColumn("UUID", _TEXT, _UUID.upper(), f"change '{_UUID.upper()}' in row 1"),
    UsersColumn("JSON", _TEXT, '{"b":  1}'),
    UsersColumn("DATE", _TEXT, "2026-1-2", "change '2026-1-2' in row 1"),
    UsersColumn("INTEGER", _TEXT, "007", "INTEGER, which does not hold every string"),
    UsersColumn("BLOB", _TEXT, "a\\x41", "BLOB, which does not hold every string"),
    UsersColumn("BLOB", _BYTES, b"\0\xff"),
    UsersColumn("BIT", _TEXT, "101", "BIT, which does not hold every string"),
    UsersColumn("INTEGER[]", _TEXT, "[1]", "does not hold every string"),
    UsersColumn("VARCHAR", _BYTES, b"a", "does not hold every binary"),
]
_COLUMNS = {
    "odbc-mariadb": _MYSQL + _MARIADB_ONLY,
    "mysql": _MYSQL + _MARIADB_ONLY,
    "odbc-postgres": _POSTGRESQL,
    "postgres": _POSTGRESQL,
    "odbc-sqlite": _SQLITE,
    "sqlite": _SQLITE,
    "duckdb": _DUCKDB,
}
_CELLS = [
    pytest.param(name, number, id=f"{name}-{column.sql}-{column.arrow_type}-{number}")
    for name, columns in _COLUMNS.items()
    for number, column in enumerate(columns)
]
_PROVENANCE = (
    "prediction DOUBLE PRECISION, dispatch_id VARCHAR(36), model VARCHAR(99), artifact_sha256 CHAR(64), "
    "predicted_at {time}"
)


@pytest.fixture(scope="module")
def users(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The way out of a name; its tables t0, t1, ... have the columns that are tried."""
    found: dict[str, WayIn] = {}

    def way_of(name: str) -> WayIn:
        if name not in found:
            way = way_in(name, request, tmp_path_factory.mktemp(name))
            if way.engine in ("postgres", "duckdb"):
                way.execute("CREATE TYPE mood AS ENUM ('häppy')")
            if way.engine == "postgres":
                way.execute("CREATE DOMAIN amount AS numeric(5,2)")
            way.execute(
                *(
                    f"CREATE TABLE t{number} (id INTEGER PRIMARY KEY, value {column.sql}, {_provenance(way)})"
                    for number, column in enumerate(_COLUMNS[name])
                )
            )
            found[name] = way
        return found[name]

    return way_of


def _provenance(way: WayIn) -> str:
    time = {"mysql": "DATETIME(6)", "sqlite": "TEXT"}.get(way.engine, "TIMESTAMPTZ")
    return _PROVENANCE.format(time=time)


@pytest.mark.parametrize(("name", "number"), _CELLS)
def test_a_users_column_takes_a_value_as_it_is_or_refuses_it(name: str, number: int, users: Any) -> None:
    way, column, table = users(name), _COLUMNS[name][number], f"t{number}"
    rows = predictions([1, 2], value=pa.array([column.value, None], column.arrow_type))
    mode = MODES[number % len(MODES)]
    if column.refused:
        with pytest.raises(MlopsError, match=re.compile(column.refused, re.DOTALL)) as error:
            way.write(rows, mode, table=table)
        assert "connection 'way'" in str(error.value)
        assert way.rows(f"SELECT COUNT(*) FROM {table}") == [(0,)]
        return
    way.write(rows, mode, table=table)
    (stored,), (nothing,) = way.rows(f"SELECT {_shown(way, column)} FROM {table} ORDER BY id")
    assert nothing is None
    assert _as(column.value, stored) == column.value


def _shown(way: WayIn, column: UsersColumn) -> str:
    return "CAST(value AS DOUBLE)" if way.engine == "mysql" and column.sql == "FLOAT" else "value"


def _as(wanted: Any, stored: Any) -> Any:
    """A stored value in the class of the one that was written."""
    match wanted, stored:
        case str(), bytes():
            return stored.decode()
        case str(), uuid.UUID() | date():
            return str(stored)
        case bytes(), memoryview():
            return bytes(stored)
        case bool() | int(), bytes():
            return int.from_bytes(stored, "big")
        case bool() | int() | Decimal() | float(), _:
            return type(wanted)(stored)
        case datetime(tzinfo=None), str():
            return datetime.fromisoformat(stored)
        case datetime(), datetime(tzinfo=None) if wanted.tzinfo:
            return stored.replace(tzinfo=UTC)
        case time(), timedelta():
            return (datetime.min + stored).time()
        case date(), datetime() if not isinstance(wanted, datetime):
            return stored.date()
    return stored


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (pa.array([2**64 - 1, 5], pa.uint64()), ["18446744073709551615", "5"]),
        (pa.array([Decimal("1.25"), Decimal("-10.50")]), ["1.25", "-10.50"]),
        (pa.array([Decimal("1E-8"), Decimal("0")], pa.decimal128(20, 8)), ["0.00000001", "0.00000000"]),
    ],
    ids=["integers of 64 bits", "decimals", "small decimals"],
)
def test_decimals_in_a_column_of_texts_are_as_databases_write_them(
    values: pa.Array, texts: list[str], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    for name in ("odbc-mariadb", "mysql", "odbc-postgres", "postgres", "duckdb"):
        way = way_in(name, request, tmp_path)
        way.execute(f"CREATE TABLE predictions (id VARCHAR(30) PRIMARY KEY, {_provenance(way)})")
        for dispatch in ("d1", "d2"):
            way.write(predictions(values, dispatch=dispatch), "upsert", dispatch=dispatch)
        assert way.stored("id, dispatch_id") == sorted((text, "d2") for text in texts)


def test_every_column_that_would_change_values_is_named_at_once(way: WayIn) -> None:
    kinds = {
        "mysql": ("FLOAT", "DATETIME"),
        "postgres": ("REAL", "TIMESTAMPTZ(0)"),
        "sqlite": ("TEXT", "TEXT"),
        "duckdb": ("FLOAT", "TIMESTAMP_S"),
    }
    real, moment = kinds[way.engine]
    way.execute(
        f"CREATE TABLE predictions (id INTEGER PRIMARY KEY, prediction {real}, score {real}, "
        f"dispatch_id VARCHAR(36), model VARCHAR(99), artifact_sha256 CHAR(64), predicted_at {moment})"
    )
    with pytest.raises(MlopsError, match="table predictions") as error:
        way.write(predictions([1], score=pa.array([0.1])), "append")
    named = re.findall(r"^column '(\w+)' is", str(error.value), re.MULTILINE)
    assert named == ["prediction", "score", *(["predicted_at"] if way.engine != "sqlite" else [])]


def test_the_statement_in_the_error_mends_the_table(way: WayIn) -> None:
    if way.engine == "sqlite":
        way.execute(f"CREATE TABLE predictions (id INTEGER, score TEXT, {_provenance(way)})")
        with pytest.raises(MlopsError, match='"score" DOUBLE PRECISION'):
            way.write(predictions([1], score=pa.array([0.1])), "append")
        return
    kinds = {"mysql": "FLOAT", "postgres": "REAL", "duckdb": "FLOAT"}
    way.execute(f"CREATE TABLE predictions (id INTEGER, score {kinds[way.engine]}, {_provenance(way)})")
    with pytest.raises(MlopsError) as error:
        way.write(predictions([1], score=pa.array([0.1])), "append")
    way.execute(str(error.value).rpartition("; run ")[2])
    way.write(predictions([1], score=pa.array([0.1])), "append")
    assert way.rows("SELECT score FROM predictions") == [(0.1,)]


def test_upsert_keeps_the_score_of_a_users_own_table(way: WayIn) -> None:
    real = "DOUBLE PRECISION" if way.engine != "duckdb" else "DOUBLE"
    columns = f"score {real}, note VARCHAR(9), {_provenance(way)}"
    way.execute(f"CREATE TABLE predictions (id INTEGER PRIMARY KEY, {columns})")
    way.write(predictions([1], [0.1]), "upsert")
    way.execute("UPDATE predictions SET score = 0.7, note = 'mine'")
    way.write(predictions([1], dispatch="d2"), "upsert", dispatch="d2")
    assert way.stored("id, score, note, prediction") == [(1, 0.7, "mine", 0.5)]


_USERS_KEYS: dict[str, dict[str, tuple[pa.DataType, list[Any]]]] = {
    "mysql": {
        "BIGINT UNSIGNED": (pa.uint64(), [2**64 - 1, 0]),
        "DECIMAL(20,4)": (pa.decimal128(20, 4), [Decimal("1.0001"), Decimal("1.0002")]),
        "CHAR(36)": (_TEXT, [_UUID, _UUID.replace("1", "2")]),
        "VARBINARY(20)": (_TEXT, ["a", "a ", "A"]),
        "DATE": (pa.date32(), [date(2026, 1, 2), date(2026, 1, 3)]),
        "DATETIME(6)": (_MOMENT, [_FINE, _WHOLE]),
        "DATETIME": (_MOMENT, [_WHOLE, _WHOLE + timedelta(seconds=1)]),
        "BOOLEAN": (pa.bool_(), [True, False]),
        "BINARY(2)": (_BYTES, [b"\0\1", b"\0\2"]),
    },
    "postgres": {
        "uuid": (_TEXT, [_UUID, _UUID.replace("1", "2")]),
        "integer": (_LONG, [1, 2]),
        "numeric": (pa.decimal128(20, 4), [Decimal("1.0001"), Decimal("1.0002")]),
        "varchar(20)": (_TEXT, ["a", "a ", "A", "😀"]),
        "date": (pa.date32(), [date(2026, 1, 2), date(2026, 1, 3)]),
        "timestamptz": (pa.timestamp("us", "UTC"), [_FINE_UTC, _FINE_UTC.replace(microsecond=0)]),
        "timestamp": (_MOMENT, [_FINE, _WHOLE]),
        "boolean": (pa.bool_(), [True, False]),
        "bytea": (_BYTES, [b"\0\1", b"\0\2"]),
    },
    "sqlite": {
        "INTEGER": (_LONG, [2**62, 2]),
        "TEXT": (_TEXT, ["a", "a ", "A", "1", "01"]),
        "DATE": (_TEXT, ["2026-01-02", "2026-01-03"]),
        "TIMESTAMP": (_MOMENT, [_FINE, _WHOLE]),
        "REAL": (_DOUBLE, [0.1, 0.2]),
    },
    "duckdb": {
        "UUID": (_TEXT, [_UUID, _UUID.replace("1", "2")]),
        "INTEGER": (_LONG, [1, 2]),
        "DECIMAL(20,4)": (pa.decimal128(20, 4), [Decimal("1.0001"), Decimal("1.0002")]),
        "VARCHAR": (_TEXT, ["a", "a ", "A", "😀"]),
        "DATE": (pa.date32(), [date(2026, 1, 2), date(2026, 1, 3)]),
        "TIMESTAMPTZ": (pa.timestamp("us", "UTC"), [_FINE_UTC, _FINE_UTC.replace(microsecond=0)]),
        "BOOLEAN": (pa.bool_(), [True, False]),
        "BLOB": (_BYTES, [b"\0\1", b"\0\2"]),
    },
}
_USERS_KEY_CELLS = [
    pytest.param(name, number, sql, id=f"{name}-{sql}")
    for name, engine in zip(
        _COLUMNS,
        [engine for engine in _USERS_KEYS if engine != "duckdb" for _ in (0, 1)] + ["duckdb"],
        strict=True,
    )
    for number, sql in enumerate(_USERS_KEYS[engine])
]


@pytest.mark.parametrize(("name", "number", "sql"), _USERS_KEY_CELLS)
def test_a_users_key_column_finds_its_row_again(name: str, number: int, sql: str, users: Any) -> None:
    """In every mode, with a key of the database's own over it, whether or not that has the dispatch in it."""
    way = users(name)
    arrow_type, values = _USERS_KEYS[way.engine][sql]
    for mode in MODES:
        table = f"key_{number}_{mode}"
        unique = "word, dispatch_id" if mode == "append" else "word"
        way.execute(f"CREATE TABLE {table} (word {sql}, {_provenance(way)}, UNIQUE ({unique}))")
        for dispatch, keys in (("d1", values), ("d2", values[:1]), ("d2", values[:1])):
            rows = predictions(range(len(keys)), dispatch=dispatch, word=pa.array(keys, arrow_type))
            way.write(
                rows.drop_columns(["id"]), mode, dispatch=dispatch, table=table, key=("word",), create=False
            )
        counts = dict(way.rows(f"SELECT dispatch_id, COUNT(*) FROM {table} GROUP BY dispatch_id"))
        older = {"append": len(values), "upsert": len(values) - 1, "replace": 0}[mode]
        assert counts == {"d2": 1} | ({"d1": older} if older else {}), mode
