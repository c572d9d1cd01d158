"""Names and column types per engine."""

from __future__ import annotations

import pyarrow as pa
import pytest

from mlops_plugin.databases.engines.engine import Engine
from mlops_plugin.databases.engines.merge import Merge
from mlops_plugin.databases.engines.registry import ANSI, MSSQL, MYSQL, POSTGRESQL, SQLITE, engine_named
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import SinkError, UnsupportedType

ALL = (ANSI, MSSQL, MYSQL, POSTGRESQL, SQLITE)


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        ("predictions", ("predictions",)),
        ("sales.predictions", ("sales", "predictions")),
        ("a.b.c", ("a", "b", "c")),
        ('"a.b".c', ("a.b", "c")),
        ('a."say ""hi"""', ("a", 'say "hi"')),
        ("order", ("order",)),
        ("my table", ("my table",)),
        ("Straße.预测", ("Straße", "预测")),
        ("x; DROP TABLE y --", ("x; DROP TABLE y --",)),
    ],
)
def test_a_table_name_is_split_at_dots_outside_quotes(written: str, parts: tuple[str, ...]) -> None:
    assert TableName.parse(written).parts == parts


@pytest.mark.parametrize(
    "written",
    ["", ".", "a.", ".a", "a..b", 'a"b', '"a', '"a"b', '""', 'a."".b', "a.b.c.d", " a", "a .b", "a\0b"],
)
def test_a_table_name_that_is_none_is_refused(written: str) -> None:
    with pytest.raises(SinkError):
        TableName.parse(written)


@pytest.mark.parametrize(
    ("engine", "quoted"),
    [(MYSQL, '`a``b"c]d`'), (POSTGRESQL, '"a`b""c]d"'), (MSSQL, '[a`b"c]]d]'), (ANSI, '"a`b""c]d"')],
)
def test_a_quote_inside_a_name_is_doubled(engine: Engine, quoted: str) -> None:
    assert engine.quote('a`b"c]d') == quoted


def test_each_part_of_a_table_name_is_quoted() -> None:
    assert TableName.parse('sales."a.b"').quoted(MYSQL) == "`sales`.`a.b`"


@pytest.mark.parametrize("engine", ALL, ids=lambda engine: engine.name)
@pytest.mark.parametrize("name", ["", "a\0b", "x" * 2000])
def test_a_name_that_no_engine_takes_is_refused(engine: Engine, name: str) -> None:
    with pytest.raises(SinkError):
        engine.quote(name)


def test_names_are_measured_as_the_engine_measures_them() -> None:
    assert MYSQL.quote("ä" * 64)
    assert POSTGRESQL.quote("a" * 63)
    for engine, name in ((MYSQL, "a" * 65), (POSTGRESQL, "ä" * 32), (MYSQL, "model_🚀")):
        with pytest.raises(SinkError):
            engine.quote(name)


@pytest.mark.parametrize(
    ("said", "engine"),
    [
        ("MySQL", MYSQL),
        ("MariaDB", MYSQL),
        ("postgres", POSTGRESQL),
        ("PostgreSQL", POSTGRESQL),
        ("SQLite", SQLITE),
        ("Microsoft SQL Server", MSSQL),
        ("DB2/LINUXX8664", ANSI),
    ],
)
def test_an_engine_is_known_by_the_name_its_driver_gives(said: str, engine: Engine) -> None:
    assert engine_named(said) is engine


STORABLE = [
    pa.int8(),
    pa.int16(),
    pa.int32(),
    pa.int64(),
    pa.uint8(),
    pa.uint16(),
    pa.uint32(),
    pa.uint64(),
    pa.float16(),
    pa.float32(),
    pa.float64(),
    pa.bool_(),
    pa.decimal128(20, 4),
    pa.decimal256(38, 0),
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.binary(16),
    pa.date32(),
    pa.time64("us"),
    pa.timestamp("us"),
    pa.timestamp("ns", "UTC"),
    pa.uuid(),
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.int8(), pa.decimal128(9, 2)),
]


@pytest.mark.parametrize("engine", ALL, ids=lambda engine: engine.name)
@pytest.mark.parametrize("arrow_type", STORABLE, ids=str)
def test_every_engine_has_a_type_for_every_plain_value(engine: Engine, arrow_type: pa.DataType) -> None:
    for is_key in (False, True):
        assert engine.column_type(arrow_type, is_key=is_key)


@pytest.mark.parametrize("engine", ALL, ids=lambda engine: engine.name)
@pytest.mark.parametrize(
    "arrow_type",
    [pa.null(), pa.list_(pa.int8()), pa.struct({"a": pa.int8()}), pa.duration("s"), pa.decimal128(5, -2)],
    ids=str,
)
def test_a_value_without_a_column_type_is_refused(engine: Engine, arrow_type: pa.DataType) -> None:
    with pytest.raises(UnsupportedType):
        engine.column_type(arrow_type, is_key=False)


def test_unsigned_integers_fit_their_column() -> None:
    assert MYSQL.column_type(pa.uint8(), is_key=False) == "SMALLINT"
    assert POSTGRESQL.column_type(pa.uint32(), is_key=False) == "BIGINT"
    assert POSTGRESQL.column_type(pa.uint64(), is_key=True) == "NUMERIC(20,0)"


def test_a_decimal_beyond_the_engine_is_refused_with_its_limit() -> None:
    assert MYSQL.column_type(pa.decimal256(65, 10), is_key=False) == "DECIMAL(65,10)"
    with pytest.raises(UnsupportedType, match="38"):
        MSSQL.column_type(pa.decimal256(39, 10), is_key=False)
    with pytest.raises(UnsupportedType, match="65"):
        MYSQL.column_type(pa.decimal256(70, 10), is_key=False)


def test_a_text_key_can_be_indexed_and_keeps_case_apart_on_mysql() -> None:
    assert MYSQL.column_type(pa.string(), is_key=True).startswith("VARCHAR(255) CHARACTER SET utf8mb4")
    assert MYSQL.column_type(pa.string(), is_key=True).endswith("_bin")
    assert MYSQL.column_type(pa.string(), is_key=False).startswith("TEXT")


def test_sql_server_exchanges_whole_rows_in_an_upsert() -> None:
    """So no column keeps the answer of another artifact."""
    merge = Merge("[t]", "[#s]", ("[id]",), ("[prediction]",), is_unique=True, is_only_unique=True)
    delete, insert = MSSQL.merge(merge)
    assert delete == "DELETE FROM [t] WHERE EXISTS (SELECT 1 FROM [#s] s WHERE s.[id] = [t].[id])"
    assert insert.startswith("INSERT INTO [t] ([id], [prediction]) SELECT")
