"""Over ODBC, a second connection describes the columns of a query; without it, no type is guessed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from mlops_plugin.arrow_values import holds_labels
from mlops_plugin.databases.database import Database, read_rows
from mlops_plugin.databases.opening import open_database
from mlops_plugin.errors import DatabaseError, UnsupportedType
from support.servers import Server, ServerDatabase
from support.ways_in import spec_of

_LARGEST = 2**64 - 1  # what arrow-odbc alone reads as -1


@pytest.fixture
def largest(mariadb: Server) -> Iterator[ServerDatabase]:
    """A database with a number that must be described, and a user `visitor` who may read it."""
    database = mariadb.new_database()
    database.execute(
        "CREATE TABLE t (n BIGINT UNSIGNED)",
        f"INSERT INTO t VALUES ({_LARGEST})",
        "CREATE USER visitor IDENTIFIED BY 'of a day'",
        f"GRANT SELECT ON {database.database}.* TO visitor",
    )
    yield database
    database.execute("DROP USER IF EXISTS visitor")


def _visit(largest: ServerDatabase) -> Database:
    return open_database(spec_of(largest, "odbc", login="visitor", password="of a day"))


def _end_describing(database: Database, largest: ServerDatabase) -> None:
    """End the visitor's connection that describes, and not the one that reads."""
    ((own,),) = read_rows(database, "SELECT CAST(CONNECTION_ID() AS SIGNED) AS id")
    visiting = "SELECT id FROM information_schema.processlist WHERE user = 'visitor'"
    deadline = time.monotonic() + 60
    while len(others := [number for (number,) in largest.rows(visiting) if number != own]) != 1:
        assert time.monotonic() < deadline, "connections of earlier visitors are still there"
        time.sleep(0.02)
    largest.execute(f"KILL {others[0]}")


def test_connection_that_describes_is_made_again_if_its_server_ended_it(largest: ServerDatabase) -> None:
    with _visit(largest) as database:
        _end_describing(database, largest)
        with pytest.raises(UnsupportedType):
            database.read("SELECT n FROM t", batch_rows=1)
        exact = "SELECT CAST(n AS DECIMAL(20, 0)) AS n FROM t"
        assert [int(n) for (n,) in read_rows(database, exact)] == [_LARGEST]


def test_query_that_cannot_be_described_is_not_read(largest: ServerDatabase) -> None:
    with _visit(largest) as database:
        _end_describing(database, largest)
        largest.execute("DROP USER visitor")
        with pytest.raises(DatabaseError) as error:
            database.read("SELECT n FROM t", batch_rows=1)
        assert "describing the query" in str(error.value)


@pytest.mark.parametrize(
    "prepare",
    [
        lambda database: database.engine.limit_statements(database, 9.5),  # as the Showroom does
        lambda database: database.engine.compare_exactly(database),  # as for `skip_predicted`
        lambda database: database.execute("SELECT 1 INTO @one"),
    ],
    ids=["limit", "comparison", "variable"],
)
def test_columns_are_described_behind_a_setting(
    prepare: Callable[[Database], None], mariadb_database: ServerDatabase
) -> None:
    with open_database(spec_of(mariadb_database, "odbc")) as database:
        prepare(database)
        reader = database.read("SELECT CAST('-01:00:00' AS TIME) AS t", batch_rows=1)
        with pytest.raises(UnsupportedType, match="-01:00:0"):  # the driver makes one o'clock of it
            reader.read_all()


def test_a_char_is_told_from_an_enum(mariadb_database: ServerDatabase) -> None:
    """Its index would be of no use to who sorted it as a text of its own."""
    mariadb_database.execute(
        "CREATE TABLE t (kind ENUM('b', 'a'), some SET('b', 'a'), id CHAR(36), name VARCHAR(9))",
        "INSERT INTO t VALUES ('a', 'a,b', 'x', 'y')",
    )
    queries = {
        "SELECT kind, some, id, name FROM t": {"kind", "some"},
        "SELECT id AS kind, kind AS id FROM t WHERE name > ''": {"id"},
        "SELECT a.id, b.kind AS other FROM t a JOIN (SELECT * FROM t GROUP BY kind) b ON a.id = b.id": {
            "other"
        },
    }
    with open_database(spec_of(mariadb_database, "odbc")) as database:
        for query, labels in queries.items():
            assert {field.name for field in database.describe(query) if holds_labels(field)} == labels
