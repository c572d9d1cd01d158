"""A sink whose rows are narrow: its view shows what a table would hold, whatever happens to its parts."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import uuid
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlops_plugin.databases.not_predicted import not_predicted
from mlops_plugin.databases.sink.dispatches_table import DispatchesTable
from mlops_plugin.databases.sink.rights import require_rights
from mlops_plugin.databases.sink.write_request import Registration, WriteRequest, Written
from mlops_plugin.databases.sink.writer import write_predictions
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import MlopsError, SinkError
from support.sinks import MODES, Mode, predictions, registration, sink_config
from support.ways_in import WAYS_IN, WayIn, way_in

# One for each engine; the others show the same of the same statements.
IN_SHORT = ("mysql", "postgres", "sqlite")
WAYS = [name if name in IN_SHORT else pytest.param(name, marks=pytest.mark.long) for name in WAYS_IN]
ON_SERVERS = [name for name in WAYS if name != "sqlite"]
SHARED = "dispatch_id, model, artifact_sha256, predicted_at"


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> WayIn:
    return replace(way_in(request.param, request, tmp_path), is_narrow=True)


@pytest.fixture(params=ON_SERVERS)
def server_way(request: pytest.FixtureRequest, tmp_path: Path) -> WayIn:
    return replace(way_in(request.param, request, tmp_path), is_narrow=True)


def write(way: WayIn, dispatch: str, order: Registration, ids: list[int], mode: Mode, **more: Any) -> Written:
    """Persist a dispatch; each prediction is its number / 100. `more` goes into the request."""
    table = more.pop("table", "predictions")
    request = WriteRequest(
        sink_config(mode, table=table), ("id",), dispatch, registration=order, is_narrow=True, **more
    )
    rows = predictions(pa.array(ids, pa.int64()), [order.order.number / 100] * len(ids), dispatch=dispatch)
    with way.open() as database:
        return write_predictions(database, request, rows.to_reader(max_chunksize=2))


def is_narrow(way: WayIn, table: str = "predictions") -> bool:
    with way.open() as database:
        return database.engine.view_holds(database, TableName.parse(table), "") is not None


def columns(way: WayIn, table: str) -> tuple[str, ...] | None:
    with way.open() as database:
        return database.columns(TableName.parse(table))


def test_view_shows_the_columns_and_values_of_a_table(way: WayIn, mode: Mode) -> None:
    rows = predictions([1, 2, 3], [0.1, None, 0.3], label=pa.array(["é", None, ""]))
    replace(way, is_narrow=False).write(rows, mode, table="one_table")
    way.write(rows, mode)
    assert is_narrow(way)
    assert not is_narrow(way, "one_table")
    assert columns(way, "predictions") == columns(way, "one_table")
    assert columns(way, "predictions_rows") == ("id", "prediction", "label", "mlops_dispatch")
    assert way.stored("*") == way.stored("*", table="one_table")


def test_sink_that_was_one_table_stays_one(way: WayIn, mode: Mode) -> None:
    replace(way, is_narrow=False).write(predictions([1], dispatch="d0"), mode, dispatch="d0")
    assert write(way, "d1", registration(10), [2], mode) == Written(1)
    assert not is_narrow(way)
    assert columns(way, "predictions_rows") is None
    assert (2, 0.1, "d1") in way.stored()


@pytest.mark.parametrize("name", ["mysql", "odbc-postgres"])  # COPY takes no view
def test_view_of_the_users_own_is_written_as_ever(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    way = way_in(name, request, tmp_path)
    way.write(predictions([1]), "append", table="mine")
    way.execute("CREATE VIEW predictions AS SELECT * FROM mine")
    assert write(way, "d2", registration(10), [2], "append") == Written(1)
    assert way.stored(table="mine") == [(1, 0.5, "d1"), (2, 0.1, "d2")]


def test_view_that_was_dropped_comes_back_over_all_rows(way: WayIn) -> None:
    write(way, "d1", registration(10), [1, 2], "upsert")
    way.execute("DROP VIEW predictions")
    sink = sink_config("upsert", create=False)
    request = WriteRequest(sink, ("id",), "d2", registration=registration(20))
    with way.open() as database, pytest.raises(SinkError, match="CREATE VIEW") as refused:
        write_predictions(database, request, predictions([2]).to_reader())
    assert write(way, "d2", registration(20), [2], "upsert") == Written(1)
    assert write(way, "late", registration(15), [1, 2], "upsert") == Written(1, 1)
    assert way.stored() == [(1, 0.15, "late"), (2, 0.2, "d2")]
    way.execute("DROP VIEW predictions", str(refused.value).split(":\n", 1)[1])
    assert len(way.stored()) == 2


def test_view_that_was_dropped_is_made_before_a_new_column_is_asked_for(way: WayIn) -> None:
    write(way, "d1", registration(10), [1], "upsert")
    way.execute("DROP VIEW predictions")
    rows = predictions([2], dispatch="d2", label=pa.array(["a"]))
    with pytest.raises(SinkError, match="'label'") as refused:
        way.write(rows, "upsert", dispatch="d2")
    assert way.stored() == [(1, 0.1, "d1")]
    for statement in str(refused.value).splitlines()[1:]:
        way.execute(statement)
    request = WriteRequest(sink_config("upsert"), ("id",), "d2", registration=registration(20))
    with way.open() as database:
        write_predictions(database, request, rows.to_reader())
    assert way.stored("id, label, dispatch_id") == [(1, None, "d1"), (2, "a", "d2")]


def test_view_that_was_renamed_is_refused(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    # Its join goes on naming the old table, whose dispatches its rows would seem to come from.
    way = replace(way_in("postgres", request, tmp_path), is_narrow=True)
    write(way, "d1", registration(10), [1], "upsert")
    way.execute(
        "ALTER VIEW predictions RENAME TO renamed", "ALTER TABLE predictions_rows RENAME TO renamed_rows"
    )
    with pytest.raises(SinkError, match="former names"):
        write(way, "d2", registration(20), [1], "upsert", table="renamed")
    assert way.stored(table="renamed") == [(1, 0.1, "d1")]


def test_sqlite_file_can_be_read_where_it_is_attached(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    way = way_in("sqlite", request, tmp_path)
    write(way, "d1", registration(10), [1], "upsert", table="main.predictions")
    with contextlib.closing(sqlite3.connect(":memory:")) as other:
        other.execute("ATTACH ? AS sink", [way.spec.host])
        assert other.execute("SELECT id, dispatch_id FROM sink.predictions").fetchall() == [(1, "d1")]


def test_table_of_rows_takes_no_other_models_predictions(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    way = way_in("sqlite", request, tmp_path)
    write(way, "d1", registration(10), [1], "append")
    with pytest.raises(SinkError, match="predictions_rows holds the rows that a view shows"):
        write(way, "d2", registration(20), [2], "append", table="predictions_rows")


def test_column_gets_the_type_that_its_refusal_names(server_way: WayIn) -> None:
    way = server_way
    way.write(predictions([1], label=pa.array([7])), "upsert")
    texts = predictions([2], dispatch="d2", label=pa.array(["a"]))
    with pytest.raises(SinkError, match="'label'") as refused:
        way.write(texts, "upsert", dispatch="d2")
    statements = re.findall(r"run (.+?)(?: \(the next|$)", str(refused.value), re.MULTILINE)
    way.execute(*statements[0].split("; "))
    way.write(texts, "upsert", dispatch="d2")
    assert way.stored("id, label, dispatch_id") == [(1, "7", "d1"), (2, "a", "d2")]


def test_table_in_the_place_of_the_view_gets_the_rows(way: WayIn) -> None:
    write(way, "d1", registration(10), [1], "upsert")
    way.execute(
        "CREATE TABLE kept AS SELECT * FROM predictions",
        "DROP VIEW predictions",
        "ALTER TABLE kept RENAME TO predictions",
    )
    assert write(way, "d2", registration(20), [1, 2], "upsert") == Written(2)
    assert way.stored() == [(1, 0.2, "d2"), (2, 0.2, "d2")]


def test_rows_whose_dispatches_are_forgotten_become_nobodys(way: WayIn, mode: Mode) -> None:
    write(way, "d1", registration(10), [1, 2], mode)
    way.execute("DROP VIEW predictions", "DROP TABLE mlops_dispatches")
    assert write(way, "d2", registration(5), [2], mode) == Written(1)
    found = way.rows("SELECT id, prediction, dispatch_id FROM predictions")
    old = {"append": {(1, 0.1, None), (2, 0.1, None)}, "upsert": {(1, 0.1, None)}, "replace": set()}[mode]
    assert set(found) == old | {(2, 0.05, "d2")}
    assert len(found) == len(old) + 1


def test_rows_that_an_upsert_did_not_read_again_keep_their_artifact_and_time(way: WayIn) -> None:
    first = registration(10)
    again = replace(
        registration(20), artifact_sha256="cd" * 32, predicted_at=first.predicted_at + timedelta(hours=1)
    )
    write(way, "d1", first, [1, 2], "upsert")
    (before,) = way.rows(f"SELECT {SHARED} FROM predictions WHERE id = 1")
    assert write(way, "d1", again, [2, 3], "upsert") == Written(2)
    assert way.rows(f"SELECT {SHARED} FROM predictions WHERE id = 1") == [before]
    assert way.stored("id, dispatch_id, artifact_sha256") == [
        (1, "d1", "ab" * 32),
        (2, "d1", "cd" * 32),
        (3, "d1", "cd" * 32),
    ]
    # It read between the two: fresher than the row that only the first try had.
    assert write(way, "between", registration(15), [1, 2], "upsert") == Written(1, 1)


def test_append_takes_out_the_rows_of_all_earlier_tries(way: WayIn) -> None:
    for number in (10, 20, 30):
        write(way, "d1", registration(number), [number, 1], "append")
        write(way, f"other {number}", registration(number), [1], "append")
    assert way.stored("id, dispatch_id") == [
        (1, "d1"),
        (1, "other 10"),
        (1, "other 20"),
        (1, "other 30"),
        (30, "d1"),
    ]


def test_keys_that_were_predicted_with_the_artifact_are_left_out(way: WayIn) -> None:
    other = replace(registration(20), artifact_sha256="cd" * 32)
    namesake = replace(registration(25), model="of another region")
    distinct = {"is_searched_by_key": True, "distinct_by_artifact": "ab" * 32}
    write(way, "d1", registration(10), [1, 2], "append", **distinct)
    write(way, "other artifact", other, [3], "append")
    assert write(way, "other model", namesake, [2, 4], "append", **distinct) == Written(2)
    assert write(way, "d2", registration(30), [2, 3, 4], "append", **distinct) == Written(2, 1)
    assert way.stored("id, dispatch_id") == [
        (1, "d1"),
        (2, "d1"),
        (2, "other model"),
        (3, "d2"),
        (3, "other artifact"),
        (4, "d2"),
        (4, "other model"),
    ]


def test_sqlite_finds_a_keys_rows_before_their_dispatches(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    # The other way round, each row of a query is compared with every dispatch that there is.
    way = way_in("sqlite", request, tmp_path)
    write(way, "d1", registration(10), [1, 2], "append", is_searched_by_key=True)
    way.execute("CREATE TABLE customers (id INTEGER)")
    with way.open() as database:
        condition = not_predicted(
            database,
            sink_config("append"),
            key=("id",),
            model="churn",
            artifact_sha256="ab" * 32,
            answered_by="cd" * 32,
            dispatch_id="d2",
        )
    assert condition is not None
    with contextlib.closing(sqlite3.connect(str(way.spec.host))) as other:
        query = f"EXPLAIN QUERY PLAN SELECT * FROM customers selected WHERE {condition.sql}"
        plan = [step for _, _, _, step in other.execute(query, condition.parameters)]
    assert [step.split()[1] for step in plan if step.startswith("SEARCH")] == ["r", "d"]


def test_upsert_keeps_a_column_that_the_user_added(way: WayIn) -> None:
    write(way, "d1", registration(10), [1, 2], "upsert")
    way.execute(
        "ALTER TABLE predictions_rows ADD COLUMN reviewed_by VARCHAR(20)",
        "UPDATE predictions_rows SET reviewed_by = 'ada' WHERE id = 1",
    )
    write(way, "d2", registration(20), [1, 2], "upsert")
    assert way.stored("id, reviewed_by", "predictions_rows")[0] == (1, "ada")
    assert way.stored() == [(1, 0.2, "d2"), (2, 0.2, "d2")]


def test_upsert_leaves_a_column_alone_that_the_server_computes(server_way: WayIn) -> None:
    write(server_way, "d1", registration(10), [1], "upsert")
    server_way.execute(
        "ALTER TABLE predictions_rows ADD probability_rest DOUBLE PRECISION"
        " GENERATED ALWAYS AS (1 - prediction) STORED"
    )
    write(server_way, "d2", registration(25), [1], "upsert")
    assert server_way.stored("id, probability_rest", "predictions_rows") == [(1, 0.75)]


@pytest.mark.parametrize("table", ["t" * 60, '"o\'clock"', "back\\slash"])
def test_name_that_cannot_have_narrow_rows_is_one_table(way: WayIn, table: str) -> None:
    write(way, "d1", registration(10), [1], "upsert", table=table)
    fits = len(table) == 60 and way.engine == "sqlite"  # whose names have no limit
    assert is_narrow(way, table) is fits
    assert way.stored(table=way.quote_table(table)) == [(1, 0.1, "d1")]


def test_other_table_of_the_rows_name_is_left_alone(way: WayIn) -> None:
    way.execute("CREATE TABLE predictions_rows (id INTEGER)")
    write(way, "d1", registration(10), [1], "upsert")
    assert not is_narrow(way)
    assert way.rows("SELECT * FROM predictions_rows") == []


def test_older_table_of_dispatches_gets_no_narrow_rows_beside_it(way: WayIn) -> None:
    with way.open() as database:
        now = DispatchesTable(database, sink_config("upsert")).create_statement()
        quote = database.engine.quote
    body = now[: now.index("PRIMARY KEY")]
    keys = f"PRIMARY KEY ({quote('sink_table')}, {quote('dispatch_id')})"
    way.execute(f"{body}{keys})")
    for number in (10, 20):
        assert write(way, "d1", registration(number), [1], "upsert") == Written(1)
    assert not is_narrow(way)
    assert way.rows("SELECT number FROM mlops_dispatches") == [(20,)]


@pytest.mark.parametrize("name", ["odbc-mariadb", "mysql"])
def test_what_another_dispatch_creates_meanwhile_is_no_missing_right(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    way = way_in(name, request, tmp_path)
    write(way, "d1", registration(10), [1], "upsert")
    view, rows = TableName.parse("predictions"), TableName.parse("predictions_rows")
    with way.open() as database:
        assert database.engine.may_create_narrow(database, view, rows)


def test_check_takes_a_users_view_of_any_name(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    way, name = way_in("mysql", request, tmp_path), "v" * 62
    way.write(predictions([1]), "append", table="mine")
    way.execute(f"CREATE VIEW {name} AS SELECT * FROM mine")
    with way.open() as database:
        require_rights(database, sink_config("append", table=name), ["id"], exists=True)


@pytest.mark.parametrize("name", ["odbc-mariadb", "mysql"])
def test_connection_that_may_not_create_views_gets_one_table(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    way = way_in(name, request, tmp_path)
    user = f"u{uuid.uuid4().hex[:8]}"
    rights = "SELECT, INSERT, UPDATE, DELETE, CREATE, CREATE TEMPORARY TABLES"
    way.execute(f"CREATE USER {user} IDENTIFIED BY 'x'", f"GRANT {rights} ON {way.spec.schema}.* TO {user}")
    poor = replace(way, spec=replace(way.spec, login=user, password="x"))
    assert write(poor, "d1", registration(10), [1], "upsert") == Written(1)
    assert not is_narrow(way)
    assert way.stored() == [(1, 0.1, "d1")]


@pytest.mark.parametrize("name", ["odbc-mariadb", "mysql"])
def test_connection_that_may_create_its_two_tables_only_gets_one_table(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    way = way_in(name, request, tmp_path)
    user = f"u{uuid.uuid4().hex[:8]}"
    rights = "SELECT, INSERT, UPDATE, DELETE, CREATE"
    way.execute(f"CREATE USER {user} IDENTIFIED BY 'x'")
    for table in ("predictions", "mlops_dispatches"):
        way.execute(f"GRANT {rights} ON {table} TO {user}")
    poor = replace(way, spec=replace(way.spec, login=user, password="x"))
    assert write(poor, "d1", registration(10), [1], "append") == Written(1)
    assert not is_narrow(way)
    assert way.stored() == [(1, 0.1, "d1")]


def test_right_to_read_the_view_is_enough_for_readers(server_way: WayIn) -> None:
    write(server_way, "d1", registration(10), [1], "upsert")
    user = f"u{uuid.uuid4().hex[:8]}"
    password = "IDENTIFIED BY 'x'" if server_way.engine == "mysql" else "PASSWORD 'x'"
    server_way.execute(f"CREATE USER {user} {password}", f"GRANT SELECT ON predictions TO {user}")
    reader = replace(server_way, spec=replace(server_way.spec, login=user, password="x"))
    with reader.open() as database:
        query = "SELECT id, dispatch_id FROM predictions"
        assert database.read(query, batch_rows=9).read_all().num_rows == 1
    with pytest.raises(MlopsError, match=r"(?i)denied"):
        write(reader, "d2", registration(20), [1], "upsert")


@pytest.mark.parametrize("mode", MODES)
def test_check_names_the_rights_on_the_rows(server_way: WayIn, mode: Mode) -> None:
    write(server_way, "d1", registration(10), [1], mode)
    user = f"u{uuid.uuid4().hex[:8]}"
    password = "IDENTIFIED BY 'x'" if server_way.engine == "mysql" else "PASSWORD 'x'"
    server_way.execute(
        f"CREATE USER {user} {password}",
        f"GRANT SELECT ON predictions TO {user}",
        f"GRANT SELECT ON predictions_rows TO {user}",
        f"GRANT SELECT, INSERT, DELETE ON mlops_dispatches TO {user}",
    )
    poor = replace(server_way, spec=replace(server_way.spec, login=user, password="x"))
    with poor.open() as database, pytest.raises(SinkError) as refused:
        require_rights(database, sink_config(mode), ["id"], exists=True)
    grants = [line.rstrip(";") for line in str(refused.value).splitlines() if line.startswith("GRANT")]
    assert grants
    assert all("predictions_rows" in grant or "TEMPORARY" in grant for grant in grants)
    server_way.execute(*grants)
    with poor.open() as database:
        require_rights(database, sink_config(mode), ["id"], exists=True)
    assert write(poor, "d2", registration(20), [2], mode) == Written(1)
    assert (2, 0.2, "d2") in server_way.stored()
