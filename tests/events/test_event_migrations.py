"""Migrations make the tables of the code, from any state, on every engine, and only once."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import mlops_plugin.events
from mlops_plugin.config.schema import EventsConfig
from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.events.address import StoreAddress
from mlops_plugin.events.details.step_reports import Accounts, PersistReport, Place
from mlops_plugin.events.migrating import current, upgrade
from mlops_plugin.events.store import EventStore
from mlops_plugin.events.tables import SCHEMA_VERSION, VERSION_TABLE, metadata
from mlops_plugin.masking import learn
from support.event_stories import connection_of, new_identity

MIGRATIONS = Path(mlops_plugin.events.__file__).parent / "migrations"


def differences(address: StoreAddress) -> list[object]:
    """What autogenerate would change to make the database equal to tables.py."""
    engine = address.create_engine()
    with engine.connect() as connection:
        options = {
            "version_table": VERSION_TABLE,
            "compare_type": True,
            "include_name": lambda name, kind, _parents: kind != "table" or name in metadata.tables,
        }
        found = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
    engine.dispose()
    return list(found)


def execute(address: StoreAddress, *statements: str) -> None:
    engine = address.create_engine(create_file=True).execution_options(writes=True)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    engine.dispose()


def test_migrations_make_the_tables_of_the_code(empty_address: StoreAddress) -> None:
    assert current(empty_address) is None
    assert upgrade(empty_address) == SCHEMA_VERSION == current(empty_address)
    assert differences(empty_address) == []


def test_the_comparison_sees_a_difference(address: StoreAddress) -> None:
    execute(address, "ALTER TABLE mlops_event ADD COLUMN surplus INTEGER")
    assert "surplus" in str(differences(address))


def test_times_and_seconds_have_full_precision_in_the_database(address: StoreAddress) -> None:
    engine = address.create_engine()
    columns: dict[str, Any] = {
        column["name"]: column["type"] for column in sa.inspect(engine).get_columns("mlops_event")
    }
    engine.dispose()
    if engine.dialect.name == "mysql":
        assert columns["at"].fsp == 6
    if engine.dialect.name == "postgresql":
        assert columns["at"].timezone
    assert "DOUBLE" in str(columns["seconds"])


def test_mysql_tables_are_innodb_in_four_byte_utf8(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    database = request.getfixturevalue("mariadb_database")
    database.execute("ALTER DATABASE CHARACTER SET latin1")
    upgrade(StoreAddress.of(EventsConfig(), connection_of(database), tmp_path))
    rows = database.rows(
        "SELECT DISTINCT engine, table_collation FROM information_schema.tables "
        "WHERE table_schema = DATABASE() AND table_name IN ('mlops_dispatch', 'mlops_event')"
    )
    assert rows == [("InnoDB", "utf8mb4_bin")]


def test_upgrade_twice_changes_nothing(address: StoreAddress) -> None:
    with EventStore(address) as store:
        store.begin(new_identity())
        assert upgrade(address) == SCHEMA_VERSION
        assert len(store.dispatches()) == 1
    assert differences(address) == []


@pytest.mark.parametrize(
    "lost",
    [
        [f"DELETE FROM {VERSION_TABLE}"],
        [f"DROP TABLE {VERSION_TABLE}"],
        [f"DELETE FROM {VERSION_TABLE}", "DROP TABLE mlops_event"],
    ],
)
def test_an_upgrade_that_was_killed_is_completed(address: StoreAddress, lost: list[str]) -> None:
    execute(address, *lost)
    assert current(address) is None
    assert upgrade(address) == SCHEMA_VERSION
    assert differences(address) == []


def test_a_missing_index_of_an_unfinished_upgrade_is_made(address: StoreAddress) -> None:
    engine = address.create_engine()
    of_table = " ON mlops_dispatch" if engine.dialect.name == "mysql" else ""
    engine.dispose()
    execute(address, f"DELETE FROM {VERSION_TABLE}", f"DROP INDEX mlops_dispatch_state{of_table}")
    assert "mlops_dispatch_state" in str(differences(address))
    upgrade(address)
    assert differences(address) == []


def test_it_shares_a_database_with_others_and_their_alembic(empty_address: StoreAddress) -> None:
    if empty_address.path:
        empty_address.path.parent.mkdir(parents=True)
    execute(
        empty_address,
        "CREATE TABLE alembic_version (version_num VARCHAR(32))",
        "INSERT INTO alembic_version VALUES ('theirs')",
        "CREATE TABLE dispatch (id INTEGER)",
    )
    assert current(empty_address) is None
    upgrade(empty_address)
    engine = empty_address.create_engine()
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == "theirs"
        assert sa.inspect(connection).has_table("dispatch")
    engine.dispose()


UPGRADE = """
import pickle, sys
from mlops_plugin.events.migrating import upgrade
address = pickle.load(sys.stdin.buffer)
print(upgrade(address))
"""


def test_upgrades_at_the_same_time_wait_for_each_other(empty_address: StoreAddress) -> None:
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", UPGRADE],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env={"PYTHONPATH": ":".join(sys.path)},
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin
        process.stdin.write(pickle.dumps(empty_address))
        process.stdin.close()
        process.stdin = None
    said = [process.communicate(timeout=240) for process in processes]
    assert [(out.decode().strip(), err.decode()[-2000:]) for out, err in said] == [(SCHEMA_VERSION, "")] * 4
    assert differences(empty_address) == []


def test_every_version_leads_to_the_newest(empty_address: StoreAddress) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [SCHEMA_VERSION]
    versions = [revision.revision for revision in script.walk_revisions()][::-1]
    assert versions == sorted(versions), "the store compares versions as text"
    for version in versions:
        assert upgrade(empty_address, version) == version
    assert upgrade(empty_address) == SCHEMA_VERSION
    assert differences(empty_address) == []


def test_a_file_is_made_with_its_folders_and_lets_readers_in_while_writing(tmp_path: Path) -> None:
    connection = ConnectionSpec("file", "sqlite", str(tmp_path / "a b" / "50%25?#ü.db"))
    address = StoreAddress.of(EventsConfig(), connection, tmp_path)
    upgrade(address)
    assert address.path
    assert address.path.is_file()
    with EventStore(address) as store:
        store.begin(new_identity())
        assert len(store.dispatches()) == 1
    engine = address.create_engine()
    with engine.connect() as database:
        assert database.scalar(sa.text("PRAGMA journal_mode")) == "wal"
    engine.dispose()


def test_the_migrations_are_part_of_the_package() -> None:
    packages = [path.parent for path in MIGRATIONS.rglob("__init__.py")]
    assert set(packages) == {MIGRATIONS, MIGRATIONS / "versions"}  # else setuptools leaves them out
    assert list((MIGRATIONS / "versions").glob("0001_*.py"))


def test_dispatches_of_the_version_before_stay(empty_address: StoreAddress) -> None:
    upgrade(empty_address, "0007")
    execute(
        empty_address,
        "INSERT INTO mlops_dispatch (dispatch_id, model, origin, dry_run, state, created_at, updated_at,"
        " tries, rows_collected, rows_predicted, rows_rejected, rows_persisted) VALUES ('d1', 'churn',"
        " 'manual', '0', 'succeeded', '2026-01-02 03:04:05', '2026-01-02 03:04:05', 1, 5, 4, 1, 4)",
    )
    upgrade(empty_address)
    with EventStore(empty_address) as store:
        dispatch = store.get("d1")
        assert dispatch is not None
        assert (dispatch.rows_persisted, dispatch.rows_superseded) == (4, None)
        store.step_started("d1", "persist", 2)
        report = PersistReport(Accounts(5, 4, 1, 3, superseded=1), Place("sink", "churn_predictions"))
        store.step_succeeded("d1", "persist", 2, rows=3, report=report)
        store.finish("d1", collected=5, predicted=4, rejected=1, persisted=3, superseded=1)
        dispatch = store.get("d1")
        assert dispatch is not None
        assert (dispatch.rows_persisted, dispatch.rows_superseded) == (3, 1)


PLANTED = "sec ret9"
AT = datetime(2026, 1, 2, 3, 4, 5, 6)


def _plant(address: StoreAddress) -> None:
    """What an earlier version has stored of a secret."""
    logged = {"query": f"SELECT '{PLANTED}'", "columns": [{"name": PLANTED}]}
    dispatch: dict[str, Any] = {"dispatch_id": "d", "model": "churn", "origin": "showroom", "dry_run": True}
    dispatch |= {"state": "failed", "created_at": AT, "updated_at": AT, "tries": 1}
    dispatch |= {"query": f"SELECT '{PLANTED}'", "artifact_uri": f"s3://m?key={PLANTED}", "error": PLANTED}
    event = {"dispatch_id": "d", "model": "churn", "at": AT}
    started = {"dispatch_id": "d", "requested_by": PLANTED}
    notice = {"target": "t", "name": "T", "state_before": "up", "state_after": "down", "at": AT, "since": AT}
    rows = [
        ("dispatch", dispatch),
        ("event", {**event, "kind": "logged", "error": "at sec%20ret9", "details": json.dumps(logged)}),
        ("event", {**event, "kind": "started", "error": None, "details": json.dumps(started)}),
        ("incident", {"target": "t", "state": "down", "began_at": AT, "error": "PWD=unknown"}),
        ("notice", {**notice, "error": f"x {PLANTED}", "told": "[]"}),
    ]
    probe = {"at": AT, "state": "down", "error": PLANTED}
    rows += [("probe", {"target": f"t{number}", **probe}) for number in range(2100)]  # several pages
    engine = address.create_engine().execution_options(writes=True)
    with engine.begin() as connection:
        for name, values in rows:
            table = sa.table(f"mlops_{name}", *map(sa.column, values))
            connection.execute(sa.insert(table).values(values))
    engine.dispose()


def test_secrets_that_earlier_versions_have_stored_are_masked(empty_address: StoreAddress) -> None:
    if empty_address.path:
        empty_address.path.parent.mkdir(parents=True)
    upgrade(empty_address, "0008")
    _plant(empty_address)
    learn([PLANTED])
    assert upgrade(empty_address) == SCHEMA_VERSION
    engine = empty_address.create_engine()
    with engine.connect() as connection:

        def stored(statement: str) -> list[tuple[Any, ...]]:
            return [tuple(row) for row in connection.execute(sa.text(statement))]

        assert stored("SELECT query, artifact_uri, error FROM mlops_dispatch") == [
            ("SELECT '***'", "s3://m?key=***", "***")
        ]
        logged, started = stored("SELECT error, details FROM mlops_event ORDER BY id")
        assert logged[0] == "at ***"
        # A column's name is no text: others look for it.
        assert json.loads(logged[1]) == {"query": "SELECT '***'", "columns": [{"name": PLANTED}]}
        assert json.loads(started[1]) == {"dispatch_id": "d", "requested_by": PLANTED}
        assert stored("SELECT error, COUNT(*) FROM mlops_probe GROUP BY error") == [("***", 2100)]
        assert stored("SELECT error FROM mlops_incident") == [("PWD=***",)]
        assert stored("SELECT error FROM mlops_notice") == [("x ***",)]
    engine.dispose()
