"""A disk that is full while rows are written: the error says so, and nothing of the rows stays."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pyarrow as pa
import pytest

from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.databases.database import Database, read_rows
from mlops_plugin.databases.opening import open_database
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import DatabaseError
from support.full_disk import no_file_beyond

TABLE = TableName("rows")


def insert(database: Database, count: int, *, commits: bool = False) -> None:
    rows = pa.table({"id": pa.array(range(count)), "name": ["x" * 100] * count})
    database.insert(TABLE, rows.to_reader(max_chunksize=1000))
    if commits:
        database.commit()


@pytest.mark.parametrize("engine", ["sqlite", "duckdb"])
def test_rows_that_find_no_place_are_rolled_back_and_so_are_later_ones(engine: str, tmp_path: Path) -> None:
    spec = ConnectionSpec(conn_id="sink", conn_type=engine, host=str(tmp_path / "sink.db"))
    with contextlib.closing(open_database(spec)) as database:
        database.execute("CREATE TABLE rows (id BIGINT, name TEXT)")
        insert(database, 10)
        database.commit()
        size = (tmp_path / "sink.db").stat().st_size
        with no_file_beyond(size + 10_000), pytest.raises(DatabaseError, match=r"writing|committing"):
            insert(database, 100_000, commits=True)
        database.rollback()
        insert(database, 10)
        database.rollback()
        assert read_rows(database, "SELECT count(*) AS n FROM rows") == [(10,)]
        insert(database, 5)
        database.commit()
        assert read_rows(database, "SELECT count(*) AS n FROM rows") == [(15,)]
