"""What holds for writing through every way in: values, transactions, names and readable failures."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import DatabaseError, UnsupportedType
from support.ways_in import WayIn, way_in

_SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("the word", pa.string()),
        ("score", pa.float64()),
        ("at", pa.timestamp("us")),
        ("on", pa.date32()),
        ("ok", pa.bool_()),
    ]
)
_COLUMNS: dict[str, list[object]] = {
    "id": [-(2**63), 2**63 - 1, None],
    "the word": ["ä 😀 'quoted' \\ % ?", "", None],
    "score": [0.1, 1.7976931348623157e308, None],
    "at": [datetime(2020, 1, 2, 3, 4, 5, 678901), datetime(1999, 12, 31), None],
    "on": [date(9999, 12, 31), date(2020, 2, 29), None],
    "ok": [True, False, None],
}
_T = TableName("t")
_ROWS = pa.table(_COLUMNS, schema=_SCHEMA)


def _create(way: WayIn, table: str = "t") -> str:
    with way.open() as database:
        quote = database.engine.quote
        columns = ", ".join(
            f"{quote(field.name)} {database.engine.column_type(field.type, is_key=False)}"
            for field in _SCHEMA
        )
        database.execute(f"CREATE TABLE {quote(table)} ({columns})")
        database.commit()
        return quote(table)


def test_written_rows_are_read_back_equal(way: WayIn) -> None:
    table = _create(way, 'my "table"')
    with way.open() as database:
        # In another order than the table's: columns are matched by name.
        shuffled = _ROWS.select(["ok", "the word", "id", "on", "score", "at"])
        assert database.insert(TableName('my "table"'), shuffled.to_reader(max_chunksize=2)) == 3
        database.commit()
    with way.open() as database:
        found = database.read(f"SELECT * FROM {table}", batch_rows=100).read_all()
    for name, expected in _COLUMNS.items():
        # SQLite has no dates: they are text there.
        is_text = way.name == "sqlite" and name in ("at", "on")
        assert found.column(name).to_pylist() == ([_as_text(v) for v in expected] if is_text else expected), (
            name
        )


def _as_text(value: object) -> str | None:
    if isinstance(value, datetime):
        return value.isoformat(" ", "microseconds")
    return None if value is None else str(value)


def test_nothing_is_seen_before_commit_and_nothing_stays_after_rollback(way: WayIn) -> None:
    table = _create(way)
    count = f"SELECT count(*) FROM {table}"
    with way.open() as database:
        database.insert(_T, _ROWS.to_reader())
        database.execute(f"DELETE FROM {table} WHERE score = ?", (0.1,))
        assert way.rows(count) == [(0,)]
        assert database.read(f"SELECT count(*) AS n FROM {table}", batch_rows=1).read_all().to_pylist() == [
            {"n": 2}
        ]
        database.rollback()
        database.insert(_T, _ROWS.to_reader())
    assert way.rows(count) == [(0,)]  # closing does not commit
    with way.open() as database:
        database.insert(_T, _ROWS.to_reader())
        database.commit()
        assert way.rows(count) == [(3,)]


def test_error_in_the_middle_leaves_nothing(way: WayIn) -> None:
    table = _create(way)

    def batches() -> object:
        yield from _ROWS.to_batches()
        raise UnsupportedType("the source failed")

    reader = pa.RecordBatchReader.from_batches(_SCHEMA, batches())
    with way.open() as database, pytest.raises((UnsupportedType, DatabaseError), match="the source failed"):
        database.insert(_T, reader)
    assert way.rows(f"SELECT count(*) FROM {table}") == [(0,)]


def test_no_rows_write_nothing(way: WayIn) -> None:
    table = _create(way)
    with way.open() as database:
        assert database.insert(_T, _ROWS.slice(0, 0).to_reader()) == 0
        database.commit()
    assert way.rows(f"SELECT count(*) FROM {table}") == [(0,)]


def test_more_rows_than_a_chunk_are_all_written(way: WayIn) -> None:
    table = _create(way)
    rows = pa.table({"id": range(12_345), "the word": [f"😀{n}" for n in range(12_345)]})
    with way.open() as database:
        assert database.insert(_T, rows.to_reader(max_chunksize=5_001)) == 12_345
        database.commit()
    count, least, most = way.rows(f"SELECT count(*), min(id), max(id) FROM {table}")[0]
    assert (count, least, most) == (12_345, 0, 12_344)


def test_memory_does_not_grow_with_the_dates_that_are_written(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """MariaDB's driver forgets 48 bytes for each one that it sends as a date or timestamp."""
    way = way_in("odbc-mariadb", request, tmp_path)
    way.execute("CREATE TABLE t (day DATE, at DATETIME(6))")
    day, at = pa.array([date(2026, 3, 29)]), pa.array([datetime(2026, 3, 29, 1, 2, 3, 4)], pa.timestamp("us"))
    batch = pa.record_batch([pa.repeat(day[0], 50_000), pa.repeat(at[0], 50_000)], names=["day", "at"])
    resident_mb: list[float] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for _ in range(12):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            resident_mb.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
            yield batch

    with way.open() as database:
        database.insert(_T, pa.RecordBatchReader.from_batches(batch.schema, batches()))
        database.commit()
    assert resident_mb[-1] - resident_mb[2] < 20  # it would be 43: 450,000 rows of two
    assert way.rows("SELECT DISTINCT CAST(day AS CHAR), CAST(at AS CHAR) FROM t") == [
        ("2026-03-29", "2026-03-29 01:02:03.000004")
    ]


def test_decimals_and_narrow_integers_are_written(way: WayIn) -> None:
    schema = pa.schema([("d", pa.decimal128(20, 4)), ("i", pa.int32()), ("f", pa.float32())])
    with way.open() as database:
        quote = database.engine.quote
        columns = ", ".join(
            f"{quote(field.name)} {database.engine.column_type(field.type, is_key=False)}" for field in schema
        )
        database.execute(f"CREATE TABLE t ({columns})")
        rows = pa.table(
            [[Decimal("1234567890123456.7891"), None], [-(2**31), None], [0.5, None]], schema=schema
        )
        assert database.insert(_T, rows.to_reader()) == 2
        database.commit()
    found = way.rows("SELECT d, i, f FROM t")
    assert [Decimal(str(found[0][0])), *found[0][1:]] == [Decimal("1234567890123456.7891"), -(2**31), 0.5]
    assert found[1] == (None, None, None)


def test_users_numeric_column_takes_whole_numbers_and_no_others_unnoticed(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    way = way_in("postgres", request, tmp_path)
    way.execute("CREATE TABLE t (n NUMERIC(10, 2), m NUMERIC)")
    with way.open() as database:
        rows = pa.table({"n": [7, None], "m": pa.array([2**64 - 1, 0], pa.uint64())})
        assert database.insert(_T, rows.to_reader()) == 2
        database.commit()
        with pytest.raises(UnsupportedType, match=r"'n'.*NUMERIC.*DOUBLE PRECISION"):
            database.insert(_T, pa.table({"n": [0.1]}).to_reader())
    assert way.rows("SELECT n, m FROM t") == [(Decimal(7), Decimal(2**64 - 1)), (None, Decimal(0))]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_mysql_does_not_have_is_refused_with_its_column(
    value: float, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    way = way_in("mysql", request, tmp_path)
    way.execute("CREATE TABLE t (score DOUBLE)")
    with (
        way.open() as database,
        pytest.raises(DatabaseError, match=r"'score'.*NaN"),
    ):
        database.insert(_T, pa.table({"score": [0.5, None, value]}).to_reader())
    assert way.rows("SELECT * FROM t") == []


def test_missing_table_wrong_column_and_broken_rule_are_said(way: WayIn) -> None:
    _create(way)
    way.execute("CREATE TABLE strict (id BIGINT NOT NULL PRIMARY KEY)")
    with way.open() as database:
        for target, rows, words in (
            (TableName("nowhere"), _ROWS, "nowhere"),
            (_T, pa.table({"no_such_column": [1]}), "no_such_column"),
            (TableName("strict"), pa.table({"id": [1, 1]}), "(?i)duplicate|unique"),
        ):
            with pytest.raises(DatabaseError, match=words) as error:
                database.insert(target, rows.to_reader())
            assert "connection 'way'" in str(error.value)
            database.rollback()
