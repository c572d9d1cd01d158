"""A predictions table that is missing, incomplete, or brought along by the user."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from mlops_plugin.databases.engines.registry import POSTGRESQL
from mlops_plugin.databases.sink.predictions_table import check_table, create_statement, unique_keys
from mlops_plugin.databases.sink.write_request import WriteRequest
from mlops_plugin.databases.sink.writer import write_predictions
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import KeyColumnError, SinkError
from support.sinks import AT, Mode, predictions, registration, sink_config
from support.ways_in import WayIn, sqlite_way, way_in

COLUMNS = (
    "prediction DOUBLE PRECISION, dispatch_id VARCHAR(36), model VARCHAR(99), artifact_sha256 CHAR(64), "
    "predicted_at {time}"
)


def create_own(way: WayIn, key: str, more: str = "", end: str = "") -> None:
    """A user's table; `key` and `more` are SQL."""
    time = {"mysql": "DATETIME(6)", "sqlite": "TEXT"}.get(way.engine, "TIMESTAMPTZ")
    columns = ", ".join(part for part in (key, COLUMNS.format(time=time), more) if part)
    way.execute(f"CREATE TABLE predictions ({columns}){end}")


def test_a_missing_table_is_refused_with_a_statement_that_creates_it(way: WayIn, mode: Mode) -> None:
    label = pa.array(["a", "b"])
    table = predictions([1, 2], label=label)
    with pytest.raises(SinkError, match=r"'way'.*\bpredictions\b") as refused:
        way.write(table, mode, create=False)

    way.execute(str(refused.value).split(":\n", 1)[1])
    assert way.write(table, mode, create=False) == 2


def test_missing_columns_are_refused_all_at_once_with_statements_that_add_them(
    way: WayIn, mode: Mode
) -> None:
    way.write(predictions([1]), mode)
    table = predictions([2], dispatch="d2", label=pa.array(["a"]), probability_yes=pa.array([0.5]))
    with pytest.raises(SinkError, match="'label', 'probability_yes'") as refused:
        way.write(table, mode, dispatch="d2")

    for statement in str(refused.value).splitlines()[1:]:
        way.execute(statement)
    assert way.write(table, mode, dispatch="d2") == 1


def test_the_check_in_advance_says_the_same_and_changes_nothing(way: WayIn) -> None:
    schema = predictions([1]).schema
    with way.open() as database:
        assert check_table(database, sink_config("upsert"), key=["id"], schema=schema) is None
        with pytest.raises(SinkError):
            check_table(database, sink_config("upsert", create=False), key=["id"], schema=schema)
        assert database.columns(TableName("predictions")) is None
    way.write(predictions([1]), "upsert")
    with way.open() as database:
        assert check_table(database, sink_config("upsert", create=False), key=["id"], schema=schema)


@pytest.mark.parametrize("key", ["id BIGINT", "id BIGINT NOT NULL UNIQUE", "id INTEGER PRIMARY KEY"])
def test_upsert_is_right_whether_or_not_the_users_table_has_a_unique_key(way: WayIn, key: str) -> None:
    create_own(way, key)
    way.write(predictions(range(6)), "upsert")
    for _ in range(2):
        table = predictions(range(4, 9), [0.7] * 5, dispatch="d2")
        assert way.write(table, "upsert", dispatch="d2", create=False) == 5

    assert way.stored() == [
        *[(number, 0.5, "d1") for number in range(4)],
        *[(number, 0.7, "d2") for number in range(4, 9)],
    ]


@pytest.mark.timeout(60)
def test_upsert_without_a_unique_key_does_not_compare_every_row_with_every_row(way: WayIn) -> None:
    """20,000 rows over 20,000: four minutes on MariaDB if it did, about a second otherwise."""
    create_own(way, "id INTEGER")
    for dispatch in ("d1", "d2"):
        table = predictions(range(20_000), dispatch=dispatch)
        assert way.write(table.to_reader(), "upsert", dispatch=dispatch) == 20_000

    assert way.rows("SELECT COUNT(*), COUNT(DISTINCT id) FROM predictions") == [(20_000, 20_000)]


def test_upsert_takes_a_compound_key_that_the_users_table_does_not_know(way: WayIn) -> None:
    create_own(way, "id INTEGER, region VARCHAR(20)")
    regions = pa.array(["a", "b", "a"])
    for dispatch in ("d1", "d2"):
        table = predictions([1, 1, 2], dispatch=dispatch, region=regions)
        assert way.write(table, "upsert", dispatch=dispatch, key=("id", "region")) == 3

    assert way.stored("id, region, dispatch_id") == [(1, "a", "d2"), (1, "b", "d2"), (2, "a", "d2")]


def test_upsert_keeps_what_the_user_added_to_a_row(way: WayIn) -> None:
    create_own(way, "id INTEGER PRIMARY KEY", "reviewed_by VARCHAR(20)")
    way.write(predictions([1, 2]), "upsert")
    way.execute("UPDATE predictions SET reviewed_by = 'ada' WHERE id = 1")
    way.write(predictions([1, 2], dispatch="d2"), "upsert", dispatch="d2")

    assert way.rows("SELECT reviewed_by, dispatch_id FROM predictions WHERE id = 1") == [("ada", "d2")]


def test_a_second_unique_key_never_updates_another_row(way: WayIn) -> None:
    create_own(way, "id INTEGER PRIMARY KEY", "email VARCHAR(50) UNIQUE")
    way.write(predictions([1, 2], email=pa.array(["a@x", "b@x"])), "upsert")
    with pytest.raises((KeyColumnError, SinkError, Exception), match=r"(?i)duplicate|unique"):
        way.write(predictions([3], dispatch="d2", email=pa.array(["a@x"])), "upsert", dispatch="d2")

    assert way.stored("id, email, dispatch_id") == [(1, "a@x", "d1"), (2, "b@x", "d1")]


@pytest.mark.parametrize("mode", ["append", "replace"])
def test_a_key_twice_is_refused_in_a_users_table_without_a_unique_key(way: WayIn, mode: Mode) -> None:
    create_own(way, "id INTEGER")
    with pytest.raises(KeyColumnError, match=r"id = 7 .*\b2\b"):
        way.write(predictions([1, 7, 2, 3, 4, 7]), mode)

    assert way.stored("id") == []


def test_append_to_a_table_made_for_upsert_says_what_its_unique_key_needs(way: WayIn) -> None:
    way.write(predictions([1, 2]), "upsert")
    owner = "mlops_dispatch" if way.is_narrow else "dispatch_id"
    with pytest.raises(KeyColumnError, match=owner):
        way.write(predictions([2, 3], dispatch="d2"), "append", dispatch="d2")


def test_an_unsuitable_column_type_is_an_error_and_not_another_value(way: WayIn, mode: Mode) -> None:
    """An id that does not fit an INTEGER; SQLite's holds 64 bits."""
    create_own(way, "id INTEGER")
    way.write(predictions([1], dispatch="d0"), mode, dispatch="d0")
    if way.engine == "sqlite":
        assert way.write(predictions([2**40]), mode) == 1
        return
    with pytest.raises(Exception, match=r"(?i)out of range|not in range"):
        way.write(predictions([2, 2**40]), mode)

    assert way.stored("id") == [(1,)]


def test_unique_keys_are_found_and_partial_ones_told_apart(way: WayIn) -> None:
    create_own(
        way, "id INTEGER PRIMARY KEY", "a INTEGER NOT NULL, b INTEGER NOT NULL, c VARCHAR(50), UNIQUE (a, b)"
    )
    if way.engine == "mysql":
        way.execute("CREATE UNIQUE INDEX part ON predictions (c(3))")
        partial = {frozenset({""})}
    else:
        if way.engine != "duckdb":  # it has no partial indexes
            way.execute("CREATE UNIQUE INDEX part ON predictions (c) WHERE a > 1")
        way.execute("CREATE UNIQUE INDEX computed ON predictions (b, (lower(c)))".replace("((", "("))
        partial = {frozenset({"b", ""})}
    with way.open() as database:
        assert (
            unique_keys(database, TableName("predictions"))
            == {frozenset({"id"}), frozenset({"a", "b"})} | partial
        )


@pytest.mark.parametrize("engine", ["MyISAM", "Aria"])
def test_a_mysql_engine_without_transactions_is_refused(mariadb_way: WayIn, engine: str, mode: Mode) -> None:
    create_own(mariadb_way, "id INTEGER PRIMARY KEY", end=f" ENGINE={engine}")
    with pytest.raises(SinkError, match=f"{engine}.*ENGINE=InnoDB"):
        mariadb_way.write(predictions([1]), mode)


def test_a_generated_number_beside_the_key_does_not_stop_an_update_in_place(
    mariadb_way: WayIn,
) -> None:
    create_own(mariadb_way, "number INT AUTO_INCREMENT PRIMARY KEY, id INT NOT NULL UNIQUE")
    mariadb_way.write(predictions([10, 20]), "upsert")
    mariadb_way.write(predictions([10, 20], dispatch="d2"), "upsert", dispatch="d2")

    assert mariadb_way.stored("number, id, dispatch_id") == [(1, 10, "d2"), (2, 20, "d2")]


def test_keys_that_the_users_collation_takes_for_one_are_refused(
    mariadb_way: WayIn,
) -> None:
    create_own(mariadb_way, "id VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY")
    with pytest.raises(KeyColumnError, match=r"\(id\).*Duplicate entry"):
        mariadb_way.write(predictions(["a", "A"]), "upsert")


def test_keys_that_sqlite_takes_for_one_are_refused(tmp_path: Path) -> None:
    way = sqlite_way(tmp_path)
    create_own(way, "id TEXT COLLATE NOCASE PRIMARY KEY")
    with pytest.raises(SinkError, match=r"\b2 rows .*predictions.* 1 "):
        way.write(predictions(["a", "A"]), "upsert")

    assert way.stored("id") == []


@pytest.mark.parametrize("twins", [("Ann", "ann"), ("a", "a "), ("e", "é")])
def test_a_key_does_not_take_the_place_of_one_that_the_collation_cannot_tell_apart(
    mariadb_way: WayIn, twins: tuple[str, str]
) -> None:
    create_own(mariadb_way, "id VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY")
    first, second = twins
    mariadb_way.write(predictions([first, "other"]), "upsert")
    with pytest.raises(KeyColumnError, match=r"\bpredictions\b.*\bid = "):
        mariadb_way.write(predictions([second], dispatch="d2"), "upsert", dispatch="d2")
    mariadb_way.write(predictions([first], dispatch="d3"), "upsert", dispatch="d3")

    assert mariadb_way.stored("id, dispatch_id") == sorted([(first, "d3"), ("other", "d1")])


_ICU = "CREATE COLLATION folding (provider = icu, locale = 'und-u-ks-level1', deterministic = false)"


@pytest.mark.parametrize(
    ("name", "first", "kind"),
    [
        ("postgres", "CREATE EXTENSION citext", "CITEXT"),
        ("postgres", _ICU, "TEXT COLLATE folding"),
        pytest.param("odbc-postgres", "CREATE EXTENSION citext", "CITEXT", marks=pytest.mark.long),
        ("duckdb", "SELECT 1", "VARCHAR COLLATE NOCASE"),
    ],
)
def test_a_key_does_not_take_the_place_of_one_that_another_engine_cannot_tell_apart(
    name: str, first: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    way = way_in(name, request, tmp_path)
    way.execute(first)
    create_own(way, f"id {kind} PRIMARY KEY")
    way.write(predictions(["Ann", "Zoë"]), "upsert")
    with pytest.raises(KeyColumnError, match=r"\bpredictions\b.*\bid = 'Ann'.*'ann'"):
        way.write(predictions(["ann"], dispatch="d2"), "upsert", dispatch="d2")
    way.write(predictions(["Zoë"], dispatch="d3"), "upsert", dispatch="d3")

    assert way.stored("CAST(id AS VARCHAR(9)), dispatch_id") == [("Ann", "d1"), ("Zoë", "d3")]


@pytest.mark.parametrize(
    ("key", "twin"), [("NOCASE PRIMARY KEY", "ANN"), ("NOCASE", "ANN"), ("RTRIM", "Ann ")]
)
def test_a_key_does_not_take_the_place_of_one_that_sqlite_cannot_tell_apart(
    tmp_path: Path, key: str, twin: str
) -> None:
    way = sqlite_way(tmp_path)
    create_own(way, f"id TEXT COLLATE {key}")
    way.write(predictions(["Ann", "Zoë"]), "upsert")
    with pytest.raises(KeyColumnError, match=rf"\bpredictions\b.*\bid = 'Ann'.*'{twin}'"):
        way.write(predictions([twin], dispatch="d2"), "upsert", dispatch="d2")
    way.write(predictions(["Zoë"], dispatch="d3"), "upsert", dispatch="d3")

    assert way.stored("id, dispatch_id") == [("Ann", "d1"), ("Zoë", "d3")]


def test_a_key_occurs_once_though_another_table_inherits_from_the_sink(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    way = way_in("postgres", request, tmp_path)
    create_own(way, "id BIGINT PRIMARY KEY")
    way.write(predictions([1, 2]), "upsert")
    way.execute(
        "CREATE TABLE archive (PRIMARY KEY (id)) INHERITS (predictions)",
        "INSERT INTO archive SELECT * FROM predictions WHERE id = 1",
        "DELETE FROM ONLY predictions WHERE id = 1",
    )
    way.write(predictions([1, 3], dispatch="d2"), "upsert", dispatch="d2")

    assert way.stored("id, dispatch_id") == [(1, "d2"), (2, "d1"), (3, "d2")]


def test_the_created_table_keeps_key_and_provenance_filled() -> None:
    schema = predictions([1]).schema
    statement = create_statement(POSTGRESQL, sink_config("append"), key=["id"], schema=schema)
    assert '"id" BIGINT NOT NULL' in statement
    assert 'PRIMARY KEY ("dispatch_id", "id")' in statement
    assert "UNIQUE" not in statement


def test_a_table_that_is_searched_by_key_has_an_index_that_begins_with_it() -> None:
    statement = create_statement(
        POSTGRESQL,
        sink_config("append"),
        key=["id"],
        schema=predictions([1]).schema,
        is_searched_by_key=True,
    )
    assert 'PRIMARY KEY ("dispatch_id", "id")' in statement
    assert 'UNIQUE ("id", "dispatch_id")' in statement


def test_an_append_replaces_no_row_of_another_dispatch_in_sqlite(tmp_path: Path) -> None:
    way = sqlite_way(tmp_path)
    create_own(way, "id INTEGER PRIMARY KEY ON CONFLICT REPLACE")
    assert way.write(predictions([1, 2]), "append", create=False) == 2
    with pytest.raises(SinkError, match=r"replace others .* must include dispatch_id"):
        way.write(predictions([2, 3], dispatch="d2"), "append", create=False, dispatch="d2")
    assert way.write(predictions([1, 2]), "append", create=False) == 2  # its own
    assert way.write(predictions([3], dispatch="d2"), "append", create=False, dispatch="d2") == 1
    assert way.stored() == [(1, 0.5, "d1"), (2, 0.5, "d1"), (3, 0.5, "d2")]


@pytest.mark.parametrize(
    ("more", "mode"),
    [
        ("UNIQUE (id) ON CONFLICT REPLACE", "upsert"),
        ("UNIQUE (id) ON CONFLICT REPLACE, UNIQUE (id, region)", "upsert"),
        ("area TEXT DEFAULT 'x', UNIQUE (id, area) ON CONFLICT REPLACE", "append"),
    ],
)
def test_no_row_of_another_key_or_dispatch_is_replaced_in_sqlite(
    tmp_path: Path, more: str, mode: Mode
) -> None:
    way = sqlite_way(tmp_path)
    create_own(way, "id INTEGER, region TEXT", more)
    here, there = (pa.array([region] * 2) for region in ("here", "there"))
    key = ("id", "region")
    assert way.write(predictions([1, 2], region=here), mode, key=key, create=False) == 2
    table = predictions([2, 3], dispatch="d2", region=there)
    with pytest.raises(SinkError, match="would replace"):
        way.write(table, mode, key=key, create=False, dispatch="d2")
    assert way.write(predictions([1, 2], [0.7] * 2, region=here), mode, key=key, create=False) == 2
    assert way.stored() == [(1, 0.7, "d1"), (2, 0.7, "d1")]


def write_registered(way: WayIn, rows: pa.Table, number: int, dispatch: str = "d1") -> int:
    order = registration(number)
    with way.open() as database:
        request = WriteRequest(sink_config("upsert"), ("id",), dispatch, registration=order)
        return write_predictions(database, request, rows.to_reader()).persisted


def test_an_update_that_a_trigger_drops_is_missed_also_if_an_earlier_try_wrote_the_row(
    tmp_path: Path,
) -> None:
    way = sqlite_way(tmp_path)
    create_own(way, "id INTEGER PRIMARY KEY")
    write_registered(way, predictions([1, 2]), 1)
    way.execute(
        "CREATE TRIGGER kept BEFORE UPDATE ON predictions WHEN OLD.id = 2 BEGIN SELECT RAISE(IGNORE); END"
    )
    again = predictions([1, 2], [0.7, 0.7])
    later = pa.array([AT + timedelta(seconds=1)] * 2, pa.timestamp("us", "UTC"))
    again = again.set_column(again.schema.get_field_index("predicted_at"), "predicted_at", later)
    with pytest.raises(SinkError, match="2 rows were sent to predictions, but 1 arrived"):
        write_registered(way, again, 1)
    assert way.stored() == [(1, 0.5, "d1"), (2, 0.5, "d1")]


def test_a_trigger_that_sets_the_time_stops_no_first_try(tmp_path: Path) -> None:
    way = sqlite_way(tmp_path)
    create_own(way, "id INTEGER PRIMARY KEY")
    way.execute(
        "CREATE TRIGGER timed AFTER INSERT ON predictions BEGIN"
        " UPDATE predictions SET predicted_at = '2000-01-01' WHERE id = NEW.id; END"
    )
    assert write_registered(way, predictions([1]), 1) == 1
    assert write_registered(way, predictions([1, 2], dispatch="d2"), 2, "d2") == 2
    assert way.write(predictions([3]), "upsert", create=False) == 1  # not registered


@pytest.mark.parametrize("more", ["replacement TEXT", "UNIQUE (dispatch_id, id) ON CONFLICT REPLACE"])
def test_own_rows_may_be_replaced_and_other_words_say_nothing(tmp_path: Path, more: str) -> None:
    way = sqlite_way(tmp_path)
    create_own(way, "id INTEGER", more)
    for dispatch in ("d1", "d2", "d1"):
        assert (
            way.write(predictions([1, 2], dispatch=dispatch), "append", create=False, dispatch=dispatch) == 2
        )
    assert len(way.stored()) == 4


def test_replace_misses_rows_that_a_trigger_keeps(tmp_path: Path) -> None:
    way = sqlite_way(tmp_path)
    create_own(way, "id INTEGER")
    way.write(predictions([1, 2]), "replace", create=False)
    way.execute("CREATE TRIGGER kept BEFORE DELETE ON predictions BEGIN SELECT RAISE(IGNORE); END")
    with pytest.raises(SinkError, match="are still there"):
        way.write(predictions([3], dispatch="d2"), "replace", create=False, dispatch="d2")
    assert way.stored() == [(1, 0.5, "d1"), (2, 0.5, "d1")]


def test_rows_that_a_trigger_keeps_from_being_deleted_are_missed(tmp_path: Path) -> None:
    way = sqlite_way(tmp_path)
    create_own(way, "id INTEGER")
    way.write(predictions([1, 2]), "upsert", create=False)
    way.execute(
        "CREATE TRIGGER kept BEFORE DELETE ON predictions WHEN OLD.id = 2 BEGIN SELECT RAISE(IGNORE); END"
    )
    with pytest.raises(SinkError, match="are still there"):
        way.write(predictions([1, 2], dispatch="d2"), "upsert", create=False, dispatch="d2")
    assert way.stored() == [(1, 0.5, "d1"), (2, 0.5, "d1")]
