"""As many columns as an engine returns."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.ways_in import sqlite_way


@pytest.mark.parametrize("count", [999, 1001, 1801, 1990])
def test_sqlite_returns_every_column_of_a_wide_table(count: int, tmp_path: Path) -> None:
    way = sqlite_way(tmp_path)
    values = [number if number % 3 else number / 2 if number % 2 else str(number) for number in range(count)]
    way.execute("CREATE TABLE t (" + ", ".join(f"c{number}" for number in range(count)) + ")")
    way.execute("INSERT INTO t VALUES (" + ", ".join(map(repr, values)) + ")")
    with way.open() as database:
        rows = database.read("SELECT * FROM t", batch_rows=10).read_all()
        assert database.describe("SELECT * FROM t").equals(rows.schema)
        parameter = database.read("SELECT * FROM t WHERE c1 = ?", batch_rows=10, parameters=[1]).read_all()
    assert list(rows.to_pylist()[0].values()) == values
    assert parameter.equals(rows)
