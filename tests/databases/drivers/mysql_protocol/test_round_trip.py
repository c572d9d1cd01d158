"""Rows that are written over `mysql` are read back as they were, by each way to write them."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_plugin.databases.database import ReadOptions
from mlops_plugin.databases.drivers.mysql import MysqlDatabase
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import DatabaseError
from support.servers import Server, ServerDatabase, start_mariadb
from support.ways_in import spec_of

_COLUMNS = {
    "n": ("BIGINT", pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "u": ("BIGINT UNSIGNED", pa.uint64(), st.integers(0, 2**64 - 1)),
    "f": ("DOUBLE", pa.float64(), st.floats(allow_nan=False, allow_infinity=False)),
    "t": ("LONGTEXT", pa.string(), st.text(st.characters(exclude_categories=["Cs"]), max_size=400)),
    "b": ("LONGBLOB", pa.binary(), st.binary(max_size=400)),
    "d": ("DECIMAL(30,10)", pa.decimal128(38, 10), st.decimals(-(10**19), 10**19, places=10)),
    "day": ("DATE", pa.date32(), st.dates()),
    "at": ("DATETIME(6)", pa.timestamp("us"), st.datetimes()),
    "span": (
        "TIME(6)",
        pa.duration("us"),
        st.timedeltas(datetime.timedelta(hours=-838), datetime.timedelta(hours=838)),
    ),
}
_TABLE = TableName.parse("rows")
_COLUMN_LIST = ", ".join(f"`{name}` {sql}" for name, (sql, _, _) in _COLUMNS.items())
_ROWS = st.lists(st.tuples(*(st.none() | values for _, _, values in _COLUMNS.values())), max_size=40)


@pytest.fixture(scope="module", params=["in bulk", "by statements"])
def database(request: pytest.FixtureRequest, mariadb: Server) -> Iterator[MysqlDatabase]:
    """A connection with an empty table; one writes as to MariaDB, one as to Oracle's MySQL."""
    mariadb.administration.execute("SET GLOBAL max_allowed_packet = 64 * 1024 * 1024")
    with MysqlDatabase(spec_of(mariadb.new_database(), "mysql"), ReadOptions()) as opened:
        assert opened._connection.can_bulk
        opened._connection._broker.can_bulk = request.param == "in bulk"
        opened.execute(f"CREATE TABLE `rows` ({_COLUMN_LIST})")
        yield opened


@given(rows=_ROWS)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_every_value_comes_back(database: MysqlDatabase, rows: list[tuple[object, ...]]) -> None:
    schema = pa.schema([(name, kind) for name, (_, kind, _) in _COLUMNS.items()])
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in _COLUMNS]
    written = pa.table(columns, schema=schema)
    database.execute("DELETE FROM `rows`")
    assert database.insert(_TABLE, written.to_reader()) == len(rows)
    read = database.read("SELECT * FROM `rows`", batch_rows=7).read_all()
    database.commit()
    assert read.schema == schema
    assert read.to_pylist() == written.to_pylist()


@pytest.mark.parametrize(
    "rows",
    [
        [(1, 0.5, "abc"), (2**62, -1.5, "def"), (-3, 2.5, "ghi")],
        [(1, 0.5, "abc"), (None, 1.5, "eleven long"), (3, 2.5, "ghi")],  # as many bytes as its neighbours
        [(None, 0.5, "abc"), (None, 1.5, "def")],
        [(1, None, None)],
    ],
    ids=["none NULL", "one NULL", "a column NULL", "one row"],
)
def test_rows_of_one_size_come_back(database: MysqlDatabase, rows: list[tuple[object, ...]]) -> None:
    schema = pa.schema([(name, _COLUMNS[name][1]) for name in "nft"])
    written = pa.table([list(column) for column in zip(*rows, strict=True)], schema=schema)
    database.execute("DELETE FROM `rows`")
    assert database.insert(_TABLE, written.to_reader()) == len(rows)
    read = database.read("SELECT n, f, t FROM `rows` ORDER BY f", batch_rows=10).read_all()
    database.rollback()
    assert sorted(map(str, read.to_pylist())) == sorted(map(str, written.to_pylist()))


def test_row_whose_key_is_there_takes_over_values_only(database: MysqlDatabase) -> None:
    table, kept = TableName.parse("kept"), pa.table({"id": [1, 2], "n": [10, 20], "t": ["a", "b"]})
    database.execute("CREATE OR REPLACE TABLE kept (id BIGINT PRIMARY KEY, n BIGINT, t TEXT)")
    database.insert(table, kept.to_reader())
    rows = pa.table({"id": [2, 3, 2], "n": [21, 31, 22], "t": ["x", "y", "z"]})
    assert database.upsert(table, rows.to_reader(), ["n"]) == 3
    read = database.read("SELECT * FROM kept ORDER BY id", batch_rows=7).read_all()
    assert read.to_pylist() == [
        {"id": 1, "n": 10, "t": "a"},
        {"id": 2, "n": 22, "t": "b"},
        {"id": 3, "n": 31, "t": "y"},
    ]


@pytest.mark.parametrize("length", [250, 251, 65_535, 65_536, 2**24 - 1, 2**24 + 10])
def test_text_of_every_length_comes_back(database: MysqlDatabase, length: int) -> None:
    texts = ["short", "x" * length, None]
    database.execute("DELETE FROM `rows`")
    database.insert(_TABLE, pa.table({"t": pa.array(texts)}).to_reader())
    read = database.read("SELECT t FROM `rows`", batch_rows=10).read_all().column("t").to_pylist()
    assert [text and (len(text), text[:1]) for text in read] == [(5, "s"), (length, "x"), None]
    database.rollback()


def test_rows_of_many_parts_arrive_in_order(database: MysqlDatabase) -> None:
    numbers = pa.table({"n": pa.array(range(30_000)), "t": pa.array([f"{n:0200}" for n in range(30_000)])})
    database.execute("DELETE FROM `rows`")
    assert database.insert(_TABLE, numbers.to_reader(max_chunksize=25_000)) == 30_000
    read = database.read("SELECT n, t FROM `rows` ORDER BY n", batch_rows=1_000)
    batches = list(read)
    assert {batch.num_rows for batch in batches} == {1_000}
    assert pa.Table.from_batches(batches) == numbers
    database.rollback()


def test_rejected_row_names_the_table_and_leaves_the_connection_usable(database: MysqlDatabase) -> None:
    with pytest.raises(DatabaseError) as error:
        database.insert(_TABLE, pa.table({"day": pa.array(["no date"])}).to_reader())
    assert "no date" in str(error.value)
    database.rollback()
    assert database.read("SELECT 1 AS one", batch_rows=1).read_all().to_pylist() == [{"one": 1}]


def _batches(*numbers: int, then: Exception | None = None) -> pa.RecordBatchReader:
    """A batch of each number, and then an error."""
    schema = pa.schema([("id", pa.int64())])

    def batches() -> Iterator[pa.RecordBatch]:
        for number in numbers:
            yield pa.record_batch([pa.array([number])], schema=schema)
        if then is not None:
            raise then

    return pa.RecordBatchReader.from_batches(schema, batches())


@pytest.mark.parametrize("numbers", [(1, 1), (1, 1, 2, 3)], ids=["last", "before others"])
def test_batch_that_the_server_refuses_is_an_error(database: MysqlDatabase, numbers: tuple[int, ...]) -> None:
    database.execute("CREATE OR REPLACE TABLE keyed (id BIGINT PRIMARY KEY)")
    with pytest.raises(DatabaseError) as error:
        database.insert(TableName.parse("keyed"), _batches(*numbers))
    assert "Duplicate entry '1'" in error.value.driver_says
    database.rollback()
    assert database.read("SELECT COUNT(*) AS n FROM keyed", batch_rows=1).read_all().to_pylist() == [{"n": 0}]


@pytest.mark.parametrize("numbers", [(1, 2), (1, 1)], ids=["nothing", "a row"])
def test_source_that_fails_leaves_no_answer_behind(database: MysqlDatabase, numbers: tuple[int, ...]) -> None:
    database.execute("CREATE OR REPLACE TABLE keyed (id BIGINT PRIMARY KEY)")
    with pytest.raises(ZeroDivisionError):
        database.insert(TableName.parse("keyed"), _batches(*numbers, then=ZeroDivisionError()))
    assert database.read("SELECT 3 AS three", batch_rows=1).read_all().to_pylist() == [{"three": 3}]
    database.rollback()


def test_first_rows_come_before_a_whole_batch_is_there(database: MysqlDatabase) -> None:
    read = database.read("SELECT seq FROM seq_1_to_30000", batch_rows=20_000)
    assert [batch.num_rows for batch in read] == [5_000, 20_000, 5_000]


def test_reader_that_is_dropped_leaves_the_connection_usable(database: MysqlDatabase) -> None:
    reader = database.read("SELECT seq FROM seq_1_to_300000", batch_rows=10)
    assert reader.read_next_batch().column("seq").to_pylist() == list(range(1, 11))
    assert database.read("SELECT 2 AS two", batch_rows=1).read_all().to_pylist() == [{"two": 2}]


def test_procedure_with_several_results_gives_the_first(database: MysqlDatabase) -> None:
    database.execute(
        "CREATE OR REPLACE PROCEDURE two() BEGIN SELECT 1 AS one; SELECT 2 AS two, 'x' AS x; END"
    )
    for _ in range(2):
        assert database.read("CALL two()", batch_rows=10).read_all().to_pylist() == [{"one": 1}]


def test_parameters_of_every_type_are_compared_as_themselves(database: MysqlDatabase) -> None:
    at = datetime.datetime(2024, 2, 29, 23, 59, 59, 999999, datetime.UTC)
    values = [
        1,
        -(2**63),
        2**64 - 1,
        0.1,
        "it's 100% \\ ?",
        b"\0\xff",
        Decimal("1.10"),
        at,
        at.date(),
        None,
        True,
    ]
    names = [f"p{number}" for number in range(len(values))]
    query = "SELECT " + ", ".join(f"? AS {name}" for name in names)
    (row,) = database.read(query, batch_rows=1, parameters=values).read_all().to_pylist()
    expected = [*values[:7], at.replace(tzinfo=None), at.date(), None, 1]
    assert list(row.values()) == expected


def test_missing_parameter_is_an_error(database: MysqlDatabase) -> None:
    with pytest.raises(DatabaseError) as error:
        database.read("SELECT ? AS one, ? AS two", batch_rows=1, parameters=[1])
    assert "2" in str(error.value)
    assert database.read("SELECT 1 AS one", batch_rows=1).read_all().num_rows == 1


def test_rows_pass_over_tls(tmp_path: Path) -> None:
    certificate, key = _self_signed(tmp_path)
    with start_mariadb(f"--ssl-cert={certificate}", f"--ssl-key={key}", f"--ssl-ca={certificate}") as server:
        spec = spec_of(_requiring_tls(server), "mysql", extra={"ssl_ca": str(certificate)})
        with MysqlDatabase(spec, ReadOptions()) as database:
            (cipher,) = database.read("SHOW STATUS LIKE 'Ssl_cipher'", batch_rows=1).read_all().to_pylist()
            assert cipher["Value"]
            assert database._connection.can_bulk
            database.execute("CREATE TABLE `rows` (n BIGINT, t TEXT)")
            written = pa.table({"n": pa.array(range(50_000)), "t": pa.array(["text"] * 50_000)})
            assert database.insert(_TABLE, written.to_reader()) == 50_000
            assert database.read("SELECT * FROM `rows` ORDER BY n", batch_rows=9_999).read_all() == written


def _requiring_tls(server: Server) -> ServerDatabase:
    database = server.new_database()
    server.administration.execute(f"ALTER USER '{database.user}'@'%' REQUIRE SSL")
    return database


def _self_signed(folder: Path) -> tuple[Path, Path]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    for file in files:
        file.chmod(0o644)
    for parent in (folder, *folder.parents[:3]):
        if parent.stat().st_uid == folder.stat().st_uid and str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    return files
