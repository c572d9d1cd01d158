"""Names that SQL reads otherwise without quotes: of columns, tables and schemas, in every use of them."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest

from mlops_plugin.config.schema import PartitionsConfig
from mlops_plugin.databases.cursor_bounds import between, from_on
from mlops_plugin.databases.engines.registry import engine_named
from mlops_plugin.databases.not_predicted import not_predicted
from mlops_plugin.databases.selection import narrowed
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.pipeline.reading.partitions import plan_partitions
from support.hostile_names import MISREAD, NAMES
from support.sinks import MODES, predictions, sink_config
from support.ways_in import WayIn
from support.written_types import WAYS_OUT

_WAYS = [name for names in WAYS_OUT.values() for name in names]
_CELLS = [
    pytest.param(way, name, id=f"{way}-{name}")
    for way in _WAYS
    for name in NAMES
    if name not in MISREAD.get(way, ())
]
_ROWS = 6


def _ids(rows: pa.RecordBatchReader, column: str) -> list[int]:
    return sorted(rows.read_all().column(column).to_pylist())


@pytest.mark.parametrize(("way_name", "name"), _CELLS)
def test_a_name_serves_as_table_column_partition_and_cursor(
    way_name: str, name: str, way_named: Callable[[str], WayIn]
) -> None:
    way = way_named(way_name)
    quote = engine_named(way.engine).quote
    table = quote(f"source {name}")
    values = ", ".join(f"({number})" for number in range(_ROWS))
    # Whoever writes the query quotes as the engine wants it; a driver of Python's wants % doubled, ours not.
    way.execute(f"CREATE TABLE {table} ({quote(name)} BIGINT)", f"INSERT INTO {table} VALUES {values}")
    query = f"SELECT {quote(name)} FROM {table}"
    with way.open() as database:
        assert database.columns(TableName(f"source {name}")) == (name,)
        assert database.describe(query).names == [name]
        assert _ids(database.read(query, batch_rows=10), name) == list(range(_ROWS))
        ways = [PartitionsConfig(hash=(name,), count=2)]
        if way_name != "odbc-sqlite":  # whose driver calls a MIN text, which is refused
            ways.append(PartitionsConfig(column=name, count=2))
        for wanted in ways:
            found = []
            for partition in plan_partitions(database, query, wanted, "p"):
                statement, parameters = narrowed(query, partition.conditions, database.engine.name)
                found += _ids(database.read(statement, batch_rows=10, parameters=parameters), name)
            assert sorted(found) == list(range(_ROWS)), wanted
        for condition, expected in (
            (from_on(database.engine, name, 4), [4, 5]),
            (between(database.engine, name, 1, 3), [1, 2]),
        ):
            statement, parameters = narrowed(query, [condition], database.engine.name)
            found = _ids(database.read(statement, batch_rows=10, parameters=parameters), name)
            assert found == expected


@pytest.mark.parametrize(("way_name", "name"), _CELLS)
def test_a_name_serves_as_key_prediction_and_sink(
    way_name: str, name: str, way_named: Callable[[str], WayIn]
) -> None:
    way = way_named(way_name)
    table = '"sink ' + name.replace('"', '""') + '"'
    mode = MODES[NAMES.index(name) % len(MODES)]
    value = f"p {name}"
    for dispatch, keys in (("d1", [1, 2, 3]), ("d2", [1]), ("d2", [1])):
        rows = predictions(keys, dispatch=dispatch).rename_columns({"id": name, "prediction": value})
        assert way.write(rows, mode, dispatch=dispatch, key=(name,), table=table) == len(keys)
    engine = engine_named(way.engine)
    expected = {
        "append": [(1, "d1"), (1, "d2"), (2, "d1"), (3, "d1")],
        "upsert": [(1, "d2"), (2, "d1"), (3, "d1")],
        "replace": [(1, "d2")],
    }[mode]
    quoted = engine.quote(name)
    with way.open() as database:
        of_table = TableName.parse(table).quoted(engine)
        stored = f"SELECT {quoted}, dispatch_id, {engine.quote(value)} AS p FROM {of_table}"
        if way_name != "odbc-sqlite":  # which refuses to read doubles
            found = database.read(stored, batch_rows=10).read_all().to_pylist()
            assert sorted((row[name], row["dispatch_id"]) for row in found) == expected
        sink = sink_config("append", table=table)
        condition = not_predicted(
            database,
            sink,
            key=(name,),
            model="churn",
            artifact_sha256="ab" * 32,
            answered_by="cd" * 32,
            dispatch_id="d3",
        )
        assert condition is not None
        source = f"SELECT {quoted} FROM {TableName.parse(table).quoted(engine)}"
        statement, parameters = narrowed(source, [condition], engine.name)
        assert database.read(statement, batch_rows=10, parameters=parameters).read_all().num_rows == 0


@pytest.mark.parametrize("way_name", [name for name in _WAYS if "sqlite" not in name])
@pytest.mark.parametrize("schema", ["Mixed Case", "order", "grüße", 'my "own"', "per%cent;"])
def test_a_sink_may_stand_in_a_schema_of_any_name(
    way_name: str, schema: str, way_named: Callable[[str], WayIn]
) -> None:
    way = way_named(way_name)
    # Schemas of MariaDB are databases of all its server.
    schema = f"{schema} {way.spec.schema}"
    written = '"' + schema.replace('"', '""') + '"."Table 1"'
    with way.open() as database:
        database.execute(f"CREATE SCHEMA {database.engine.quote(schema)}")
        database.commit()
    for mode in MODES:
        for dispatch in ("d1", "d2"):
            rows = predictions([1, 2], dispatch=dispatch)
            assert way.write(rows, mode, dispatch=dispatch, table=f'{written[:-1]} {mode}"') == 2
