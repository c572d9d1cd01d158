"""What is particular to a DuckDB file: one process has it, and its driver is silent about some errors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pytest

from mlops_plugin.databases.selection import Condition, narrowed
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import DatabaseError, UnsupportedType
from support.ways_in import WayIn, duckdb_way

_OPEN = """
import json, sys
from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.databases.opening import open_database
from mlops_plugin.errors import DatabaseError
try:
    open_database(ConnectionSpec(**json.loads(sys.argv[1]))).close()
except DatabaseError as error:
    print(error)
"""


@pytest.fixture
def duckdb(tmp_path: Path) -> WayIn:
    way = duckdb_way(tmp_path)
    way.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, word VARCHAR)")
    return way


def _opened_by_another_process(way: WayIn) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _OPEN, json.dumps(asdict(way.spec))],
        env={"PYTHONPATH": str(Path(__file__).parents[3] / "plugins"), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_another_process_is_told_that_the_file_has_one_writer(duckdb: WayIn) -> None:
    with duckdb.open():
        said = _opened_by_another_process(duckdb)
        assert "connection 'way'" in said
        assert "one process at a time" in said
    assert _opened_by_another_process(duckdb) == ""


def test_rows_come_in_batches_as_large_as_asked_for(duckdb: WayIn) -> None:
    with duckdb.open() as database:
        batches = list(database.read("SELECT range AS n FROM range(25_000)", batch_rows=10_000))
    assert len(batches) <= 4
    assert max(batch.num_rows for batch in batches) <= 10_000
    assert pa.Table.from_batches(batches).column("n").to_pylist() == list(range(25_000))


def test_batches_of_long_texts_stay_apart(duckdb: WayIn) -> None:
    query = "SELECT repeat('x', 10_000) AS t FROM range(6_144)"  # 20 MB for each 2,048 rows
    with duckdb.open() as database:
        rows = [batch.num_rows for batch in database.read(query, batch_rows=10_000)]
    assert rows == [2_048] * 3


def test_connections_of_one_process_see_what_the_others_commit(duckdb: WayIn) -> None:
    count = "SELECT count(*) AS n FROM t"
    with duckdb.open() as writer, duckdb.open() as reader:
        writer.execute("INSERT INTO t VALUES (1, 'a')")
        assert reader.read(count, batch_rows=1).read_all().to_pylist() == [{"n": 0}]
        reader.rollback()
        writer.commit()
        assert reader.read(count, batch_rows=1).read_all().to_pylist() == [{"n": 1}]


def test_rows_that_break_off_are_an_error_and_not_the_end(duckdb: WayIn) -> None:
    schema = pa.schema([("id", pa.int32()), ("word", pa.string())])

    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch([[1], ["a"]], schema=schema)
        raise UnsupportedType("the source failed")

    with duckdb.open() as database, pytest.raises(UnsupportedType, match="the source failed"):
        database.insert(TableName("t"), pa.RecordBatchReader.from_batches(schema, batches()))
    assert duckdb.rows("SELECT * FROM t") == []


def test_a_query_that_fails_half_way_is_an_error_of_the_connection(duckdb: WayIn) -> None:
    query = "SELECT CAST(CASE WHEN i = 250000 THEN 'x' ELSE '1' END AS INTEGER) AS n FROM range(300000) r(i)"
    with duckdb.open() as database:
        rows = database.read(query, batch_rows=1000)
        with pytest.raises(DatabaseError, match="connection 'way'"):
            rows.read_all()


@pytest.mark.parametrize("aggregate", ["SUM(id)", "CAST(1 AS UHUGEINT)"])
def test_a_number_of_many_digits_is_a_double_for_a_model_and_refused_for_a_key(
    aggregate: str, duckdb: WayIn
) -> None:
    duckdb.execute("INSERT INTO t VALUES (1, 'a')")
    query = f"SELECT {aggregate} AS n FROM t"
    with duckdb.open(exact_columns=()) as database:
        rows = database.read(query, batch_rows=1).read_all()
        assert (str(rows.schema.types[0]), rows.to_pylist()) == ("double", [{"n": 1.0}])
    with duckdb.open(exact_columns=("n",)) as database, pytest.raises(UnsupportedType, match="'n' of type"):
        database.read(query, batch_rows=1)


def test_a_cursor_may_stand_on_an_integer_beyond_63_bits(duckdb: WayIn) -> None:
    duckdb.execute(
        "CREATE TABLE u AS SELECT UNNEST([5, 9223372036854775809, 18446744073709551615]::UBIGINT[]) v"
    )
    with duckdb.open() as database:
        condition, values = database.engine.at_or_after('"v"', 2**63 + 1)
        query, parameters = narrowed("SELECT v FROM u", [Condition(condition, values)], "duckdb")
        found = database.read(query, batch_rows=9, parameters=parameters).read_all()
    assert sorted(found.column(0).to_pylist()) == [2**63 + 1, 2**64 - 1]
