"""Which of two dispatches counts; what decides it is written together with the rows, on every way in."""

from __future__ import annotations

import logging
import threading
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlops_plugin.databases.database import Database, read_rows
from mlops_plugin.databases.sink.dispatches_table import DispatchesTable
from mlops_plugin.databases.sink.write_request import WriteRequest, Written
from mlops_plugin.databases.sink.writer import write_predictions
from mlops_plugin.errors import KeyColumnError, MlopsError, SinkError, StaleTry
from support.sinks import Mode, predictions, registration, sink_config
from support.ways_in import WAYS_IN, WayIn, way_in

DAY_2, DAY_3 = datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC)


def write(
    way: WayIn,
    dispatch: str,
    number: int,
    ids: list[int],
    *,
    end: datetime | None = None,
    mode: Mode = "upsert",
    is_forced: bool = False,
    table: str = "predictions",
    create: bool = True,
) -> Written:
    """Persist a dispatch that took this number before it read; each prediction is the number / 100."""
    sink = sink_config(mode, table=table, create=create)
    order = registration(number, end, is_forced=is_forced)
    request = WriteRequest(sink, ("id",), dispatch, registration=order, is_narrow=way.is_narrow)
    rows = predictions(pa.array(ids, pa.int64()), [number / 100] * len(ids), dispatch=dispatch).to_reader(
        max_chunksize=2
    )
    with way.open() as database:
        return write_predictions(database, request, rows)


def write_as_before(way: WayIn, ids: list[int], mode: Mode, dispatch: str = "before") -> None:
    """Leave a table as versions without `mlops_dispatches` did."""
    replace(way, is_narrow=False).write(predictions(ids, dispatch=dispatch), mode, dispatch=dispatch)


def registered(way: WayIn, columns: str = "dispatch_id, number") -> list[tuple[Any, ...]]:
    names = ", ".join(way.quoted(name) for name in columns.split(", "))
    return sorted(way.rows(f"SELECT {names} FROM mlops_dispatches"))


def owners(way: WayIn, table: str = "predictions") -> dict[int, str]:
    return {int(key): owner for key, _, owner in way.stored(table=table)}


def test_dispatch_is_registered_beside_its_rows(way: WayIn, mode: Mode) -> None:
    assert write(way, "d1", 10, [1, 2], end=DAY_2, mode=mode) == Written(2)
    columns = "sink_table, dispatch_id, id, number, interval_end, model, mode"
    expected = ("predictions", "d1", 1, 10, "2026-01-02 00:00:00.000000", "churn", mode)
    assert registered(way, columns) == [expected]
    assert write(way, "d2", 2**62, [], mode=mode) == Written(0)
    assert registered(way, "dispatch_id, id, number")[-1] == ("d2", 2, 2**62)


def test_older_dispatch_leaves_newer_rows_and_writes_the_others(way: WayIn) -> None:
    write(way, "new", 20, [1, 2, 3])
    assert write(way, "old", 10, [2, 3, 4, 5]) == Written(persisted=2, superseded=2)
    assert way.stored() == [
        (1, 0.2, "new"),
        (2, 0.2, "new"),
        (3, 0.2, "new"),
        (4, 0.1, "old"),
        (5, 0.1, "old"),
    ]
    assert write(way, "newest", 30, [1, 2, 3, 4, 5]) == Written(5)
    assert set(owners(way).values()) == {"newest"}


def test_later_interval_counts_whenever_it_was_read(way: WayIn) -> None:
    write(way, "january 3", 10, [1, 2], end=DAY_3)
    assert write(way, "january 2", 20, [1, 2, 3], end=DAY_2) == Written(1, 2)
    assert owners(way) == {1: "january 3", 2: "january 3", 3: "january 2"}
    zone = datetime.fromisoformat("2026-01-03T02:00:00+01:00")  # an hour after DAY_3
    assert write(way, "one o'clock", 5, [1], end=zone) == Written(1)


def test_number_decides_between_equal_intervals_and_without_one(way: WayIn) -> None:
    write(way, "interval", 20, [1, 2], end=DAY_3)
    assert write(way, "same, read before", 10, [1], end=DAY_3) == Written(0, 1)
    assert write(way, "none, read before", 11, [1]) == Written(0, 1)
    assert write(way, "same, read later", 21, [1], end=DAY_3) == Written(1)
    assert write(way, "none, read later", 22, [2]) == Written(1)
    assert write(way, "interval, read before", 15, [2], end=DAY_3 + timedelta(days=9)) == Written(0, 1)


def test_older_dispatch_replaces_nothing(way: WayIn) -> None:
    write(way, "new", 20, [1, 2, 3], mode="replace")
    assert write(way, "old", 10, [4, 5], mode="replace") == Written(0, 2)
    assert owners(way) == dict.fromkeys([1, 2, 3], "new")
    assert registered(way) == [("new", 20)]
    write(way, "newest", 30, [6], mode="replace")
    assert owners(way) == {6: "newest"}
    assert registered(way) == [("newest", 30)]


def test_another_model_that_wrote_the_table_last_is_named(
    way: WayIn, mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    def write_for(model: str, dispatch: str, number: int) -> bool:
        order = replace(registration(number), model=model)
        request = WriteRequest(sink_config(mode), ("id",), dispatch, registration=order)
        caplog.clear()
        with way.open() as database:
            write_predictions(database, request, predictions([number], dispatch=dispatch).to_reader())
        return "model 'lab' was the last to write predictions" in caplog.text

    found = [write_for(*each) for each in [("lab", "d1", 1), ("shop", "d2", 2), ("shop", "d3", 3)]]
    assert found == [False, mode != "append", False]


def test_many_dispatches_before_it_are_not_read_to_compare_one(mariadb_way: WayIn) -> None:
    write(mariadb_way, "d1", 1, [1])
    others = "number, interval_end, model, artifact_sha256, predicted_at, mode, is_forced, written_at"
    mariadb_way.execute(
        f"INSERT INTO mlops_dispatches (sink_table, dispatch_id, id, {others})"
        f" SELECT sink_table, CONCAT('d', seq), seq, {others} FROM mlops_dispatches, seq_2_to_500"
    )
    with mariadb_way.open() as database:
        before = _entries_read(database)
        DispatchesTable(database, sink_config("upsert")).compare("d501", registration(2))
        assert _entries_read(database) - before < 50


def _entries_read(database: Database) -> int:
    """Of tables, by this session; to read its status counts as another kind of reading."""
    query = (
        "SELECT CAST(SUM(variable_value) AS SIGNED) AS n FROM information_schema.session_status"
        " WHERE variable_name IN ('HANDLER_READ_KEY', 'HANDLER_READ_NEXT')"
    )
    return int(read_rows(database, query)[0][0])


def test_older_dispatch_does_not_refill_a_table_that_a_newer_one_has_emptied(way: WayIn) -> None:
    write(way, "first", 10, [1], mode="replace")
    write(way, "empty", 20, [], mode="replace")
    assert write(way, "old", 15, [1], mode="replace") == Written(0, 1)
    assert owners(way) == {}


def test_appended_rows_stay_beside_each_other(way: WayIn) -> None:
    write(way, "new", 20, [1, 2], mode="append")
    assert write(way, "old", 10, [1, 2], mode="append") == Written(2)
    assert len(way.stored()) == 4


def test_rows_of_an_earlier_version_are_older(way: WayIn, mode: Mode) -> None:
    write_as_before(way, [1, 2], mode)
    assert write(way, "in flight", 0, [1, 2], mode=mode) == Written(2)
    assert "in flight" in {owner for _, _, owner in way.stored()}


def test_try_whose_rows_were_read_again_writes_nothing(way: WayIn, mode: Mode) -> None:
    write(way, "d1", 20, [1, 2], mode=mode)
    with pytest.raises(StaleTry):
        write(way, "d1", 10, [1, 2, 3], mode=mode)
    assert way.stored() == [(1, 0.2, "d1"), (2, 0.2, "d1")]
    assert write(way, "d1", 20, [1, 2], mode=mode) == Written(2)
    assert write(way, "d1", 30, [1, 2], mode=mode) == Written(2)
    # Narrow rows of an earlier try that an upsert has left alone keep what is known of that try.
    tries = [("d1", 1, 20), ("d1", 2, 20), ("d1", 3, 30)]
    expected = tries if way.is_narrow and mode == "upsert" else [("d1", 1, 30)]
    assert registered(way, "dispatch_id, id, number") == expected


def test_forced_dispatch_replaces_newer_rows_and_is_marked(way: WayIn) -> None:
    write(way, "new", 20, [1, 2, 3])
    assert write(way, "forced", 10, [1, 2], is_forced=True) == Written(2)
    assert owners(way) == {1: "forced", 2: "forced", 3: "new"}
    assert [(owner, bool(forced)) for owner, forced in registered(way, "dispatch_id, is_forced")] == [
        ("forced", True),
        ("new", False),
    ]
    # What it wrote has its own age: whatever was read later counts again.
    assert write(way, "later", 15, [1, 3]) == Written(1, 1)
    assert owners(way) == {1: "later", 2: "forced", 3: "new"}


def test_forced_replacement_counts_until_something_was_read_later(way: WayIn) -> None:
    write(way, "new", 20, [1], mode="replace")
    assert write(way, "forced", 10, [2], mode="replace", is_forced=True) == Written(1)
    assert write(way, "before", 5, [3], mode="replace") == Written(0, 1)
    assert write(way, "later", 15, [4], mode="replace") == Written(1)
    assert owners(way) == {4: "later"}


def test_tables_of_one_schema_do_not_mix(way: WayIn) -> None:
    write(way, "new", 20, [1], table="one")
    assert write(way, "old", 10, [1], table="two") == Written(1)
    assert write(way, "old replaces", 10, [1], table="three", mode="replace") == Written(1)
    assert [name for (name,) in registered(way, "sink_table")] == ["one", "three", "two"]


def test_failed_dispatch_is_not_registered(way: WayIn, mode: Mode) -> None:
    write(way, "d1", 10, [1], mode=mode)
    with pytest.raises(KeyColumnError):
        write(way, "d2", 20, [2, 3, 2], mode=mode)
    assert registered(way) == [("d1", 10)]
    assert write(way, "d3", 15, [2], mode=mode) == Written(1)


def test_users_table_without_a_unique_key_and_with_ids_as_it_likes(way: WayIn) -> None:
    double, moment, options = (
        ("DOUBLE", "DATETIME(6)", " CHARACTER SET latin1")
        if way.engine == "mysql"
        else ("DOUBLE PRECISION", "TIMESTAMP", "")
    )
    way.execute(
        f"CREATE TABLE predictions (id BIGINT, prediction {double}, dispatch_id CHAR(36),"
        f" model VARCHAR(99), artifact_sha256 VARCHAR(64), predicted_at {moment}){options}"
    )
    new, old = "00000000-0000-4000-8000-000000000002", "00000000-0000-4000-8000-000000000001"
    write(way, new, 20, [1, 2])
    assert write(way, old, 10, [1, 2, 3]) == Written(1, 2)
    assert {key: str(owner) for key, owner in owners(way).items()} == {1: new, 2: new, 3: old}


def test_without_the_table_and_the_right_to_create_it_the_last_writer_wins(
    way: WayIn, caplog: pytest.LogCaptureFixture
) -> None:
    write_as_before(way, [1], "upsert")
    with caplog.at_level(logging.WARNING):
        write(way, "new", 20, [1], create=False)
        assert write(way, "old", 10, [1], create=False) == Written(1)
    assert owners(way) == {1: "old"}
    assert "CREATE TABLE" in caplog.text
    with way.open() as database:
        statement = DispatchesTable(database, sink_config("upsert", create=False)).create_statement()
    way.execute(statement)
    write(way, "new", 20, [1], create=False)
    assert write(way, "old", 10, [1], create=False) == Written(0, 1)


@pytest.mark.parametrize("name", [name for name in WAYS_IN if name != "sqlite"])
def test_connection_that_may_only_write_its_predictions_goes_on_as_before(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    way = way_in(name, request, tmp_path)
    way.write(predictions([1]), "append")
    user = f"u{uuid.uuid4().hex[:8]}"
    if way.engine == "mysql":
        way.execute(f"CREATE USER {user} IDENTIFIED BY 'x'", f"GRANT ALL ON predictions TO {user}")
    else:
        way.execute(
            f"CREATE USER {user} PASSWORD 'x'",
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
            f"GRANT ALL ON predictions TO {user}",
        )
    poor = replace(way, spec=replace(way.spec, login=user, password="x"))
    with caplog.at_level(logging.WARNING):
        assert write(poor, "d2", 10, [1], mode="append") == Written(1)
    assert "CREATE TABLE" in caplog.text
    assert len(way.stored()) == 2


def test_table_of_that_name_with_other_columns_is_refused(way: WayIn) -> None:
    way.execute("CREATE TABLE mlops_dispatches (dispatch_id VARCHAR(36))")
    with pytest.raises(SinkError, match="'sink_table'"):
        write(way, "d1", 10, [1])


@pytest.mark.slow
def test_dispatches_at_once_into_tables_of_one_schema_all_succeed(way: WayIn) -> None:
    errors: list[MlopsError] = []
    write(way, "first", 1, [1], table="table_0", mode="replace")

    def dispatch(table: int) -> None:
        try:
            for count in range(10):
                write(way, f"{table} {count}", 10 + count, [1, 2], table=f"table_{table}", mode="replace")
        except MlopsError as error:
            errors.append(error)

    threads = [threading.Thread(target=dispatch, args=[table]) for table in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert registered(way, "sink_table, number") == [(f"table_{table}", 19) for table in range(4)]
