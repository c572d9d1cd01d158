"""An event store that is away, refuses or is full says so in one line, and works again when it is back."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mlops_plugin.config.schema import EventsConfig
from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.errors import ConnectionUnusable, EventStoreError
from mlops_plugin.events.address import StoreAddress
from mlops_plugin.events.migrating import current, upgrade
from mlops_plugin.events.store import EventStore
from mlops_plugin.events.tables import SCHEMA_VERSION, VERSION_TABLE
from support.ended_connections import end_connections
from support.event_stories import connection_of, found, new_identity
from support.servers import (
    PASSWORD,
    USER,
    Engine,
    Server,
    ServerDatabase,
    free_port,
    start_mariadb,
    start_postgres,
)


def set_version(address: StoreAddress, version: str) -> None:
    engine = address.create_engine().execution_options(writes=True)
    with engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = :it"), {"it": version})
    engine.dispose()


def server_store(connection: ConnectionSpec) -> EventStore:
    return EventStore.open(EventsConfig(), connection, Path("/nonexistent"))


@pytest.fixture(params=["mariadb", "postgres"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


def test_without_tables_it_says_which_command_makes_them(empty_address: StoreAddress) -> None:
    with EventStore(empty_address) as store:
        with pytest.raises(EventStoreError, match="mlops db upgrade"):
            store.dispatches()
        with pytest.raises(EventStoreError, match="mlops db upgrade"):
            store.begin(new_identity())
        if empty_address.path:
            assert not empty_address.path.exists()
        upgrade(empty_address)  # the very same store works as soon as they are there
        store.begin(new_identity())


def test_older_tables_ask_for_an_upgrade(address: StoreAddress) -> None:
    set_version(address, "0000")
    with (
        EventStore(address) as store,
        pytest.raises(EventStoreError, match=r"0000.*mlops db upgrade"),
    ):
        store.dispatches()


def test_newer_tables_are_left_alone(address: StoreAddress) -> None:
    set_version(address, "9999")
    newer = "have version 9999, newer than this code"
    with EventStore(address) as store, pytest.raises(EventStoreError, match=newer):
        store.begin(new_identity())
    with pytest.raises(EventStoreError, match=newer):
        upgrade(address)
    assert current(address) == "9999"
    set_version(address, SCHEMA_VERSION)
    assert upgrade(address) == SCHEMA_VERSION


def test_a_table_that_was_dropped_is_named(address: StoreAddress) -> None:
    engine = address.create_engine().execution_options(writes=True)
    with EventStore(address) as store:
        store.dispatches()
        with engine.begin() as connection:
            connection.execute(sa.text("DROP TABLE mlops_event"))
        engine.dispose()
        with pytest.raises(EventStoreError, match="mlops_event"):
            store.begin(new_identity())
        assert store.dispatches() == []  # nothing is half-written


@pytest.mark.parametrize("wrong", ["password", "schema", "port"])
def test_a_wrong_connection_gives_the_drivers_words_without_the_password(server: Server, wrong: str) -> None:
    secret = "wr0ng-pa55/wörd"
    changes: dict[str, dict[str, Any]] = {
        "password": {"password": secret},
        "schema": {"schema": "nowhere"},
        "port": {"port": free_port()},
    }
    connection = connection_of(server.new_database(), **changes[wrong])
    with server_store(connection) as store, pytest.raises(EventStoreError) as caught:
        store.begin(new_identity())
    message = str(caught.value)
    assert message.startswith(
        "event store (connection 'mlops_events'): recording the beginning of a dispatch failed: "
    )
    assert {
        "password": "Access denied" in message or "password authentication failed" in message,
        "schema": "nowhere" in message,
        "port": "refused" in message or "Can't connect" in message,
    }[wrong]
    assert "\n" not in message
    whole = "".join(traceback.format_exception(caught.value))
    assert secret not in whole
    assert PASSWORD not in whole


def test_a_host_that_does_not_answer_is_given_up(server: Server) -> None:
    # 192.0.2.0/24 is reserved for documentation: nothing answers there, or the network says so at once.
    connection = connection_of(server.administration, host="192.0.2.1")
    started = time.monotonic()
    with server_store(connection) as store, pytest.raises(EventStoreError):
        store.dispatches()
    assert time.monotonic() - started < 60  # the system itself would try for two minutes


@pytest.mark.parametrize("engine", ["mariadb", "postgres"])
def test_a_server_that_was_killed_and_is_back_is_used_again(engine: str, tmp_path: Path) -> None:
    # Unlike the shared servers these keep what was committed through a kill.
    durable = {
        "mariadb": lambda: start_mariadb("--innodb-flush-log-at-trx-commit=1"),
        "postgres": lambda: start_postgres("synchronous_commit=on"),
    }
    with durable[engine]() as server:
        address = StoreAddress.of(EventsConfig(), connection_of(server.new_database()), tmp_path)
        upgrade(address)
        identity = new_identity()
        with EventStore(address) as store:
            store.begin(identity)
            server.kill()
            for _ in range(12):  # more than the pool holds
                with pytest.raises(EventStoreError, match="mlops_events"):
                    store.step_started(identity.dispatch_id, "collect", 1)
            with restarted(server):
                store.step_started(identity.dispatch_id, "collect", 2)
                assert found(store, identity.dispatch_id).tries == 2
                assert len(store.events(identity.dispatch_id)) == 2
                store.close()


def test_a_write_over_a_connection_that_was_cut_is_repeated(address: StoreAddress) -> None:
    identity = new_identity()
    with EventStore(address) as store:
        store.begin(identity)
        _cut_connections(address)
        store.step_started(identity.dispatch_id, "collect", 1)
        assert len(store.events(identity.dispatch_id)) == 2


def _cut_connections(address: StoreAddress) -> None:
    """All but one's own; an SQLite file has none."""
    if there := address.connection:
        engine: Engine = "mysql" if there.conn_type == "mysql" else "postgres"
        assert there.host
        assert there.port
        end_connections(ServerDatabase(engine, there.host, there.port, USER, PASSWORD, str(there.schema)))


def test_a_connection_goes_back_without_the_transaction_that_it_came_with(
    server: Server, tmp_path: Path
) -> None:
    engine = StoreAddress.of(EventsConfig(), connection_of(server.new_database()), tmp_path).create_engine()
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE scratch (n INTEGER)"))
    left = engine.raw_connection()  # whose user forgot to end it
    left.cursor().execute("INSERT INTO scratch VALUES (1)")
    left.close()
    with engine.connect() as connection:  # the same: the pool has no other
        assert connection.scalar(sa.text("SELECT count(*) FROM scratch")) == 0
    engine.dispose()


@contextmanager
def restarted(server: Server) -> Iterator[None]:
    """The killed server again, on the same data and port."""
    for pid_file in server.log.parent.glob("data/postmaster.pid"):
        pid_file.unlink()
    process = subprocess.Popen(server.process.args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                server.administration.execute("SELECT 1")
                break
            except Exception:  # noqa: BLE001 -- not ready yet, whatever the driver calls it
                assert time.monotonic() < deadline, "the server did not come back"
                time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


def test_a_file_that_was_away_and_is_back_is_used_again(tmp_path: Path) -> None:
    address = StoreAddress.of(EventsConfig(), None, tmp_path)
    upgrade(address)
    assert address.path
    with EventStore(address) as store:
        store.begin(new_identity())
        away = address.path.rename(tmp_path / "away.db")
        with pytest.raises(EventStoreError, match=r"events\.db"):
            store.begin(new_identity())
        assert not address.path.exists()
        away.rename(address.path)
        store.begin(new_identity())
        assert len(store.dispatches()) == 2


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    address = StoreAddress.of(EventsConfig(), None, tmp_path)
    assert address.path
    address.path.parent.mkdir()
    address.path.write_text("no database, only text\n" * 100)
    for call in (EventStore(address).dispatches, lambda: upgrade(address)):
        with pytest.raises(EventStoreError, match=r"events\.db"):
            call()


# Run as another process: the limits and the lost privilege are the process's own.
RECORD = """
import os, resource, sys
from pathlib import Path
from support.event_stories import new_identity
from mlops_plugin.config.schema import EventsConfig
from mlops_plugin.errors import EventStoreError
from mlops_plugin.events.store import EventStore
store = EventStore.open(EventsConfig(), None, Path(sys.argv[1]))
store.dispatches()
{restrict}
try:
    for _ in range(1000):
        store.begin(new_identity())
except EventStoreError as error:
    print(error)
"""


def record_restricted(home: Path, restrict: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", RECORD.format(restrict=restrict), str(home)],
        capture_output=True, text=True, check=True, timeout=300, env={"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    return done.stdout


def test_a_read_only_file_is_an_error_that_says_so() -> None:
    # Root may write to read-only files, so the process becomes nobody, who must get as far as the file.
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        home.chmod(0o755)
        address = StoreAddress.of(EventsConfig(), None, home)
        upgrade(address)
        assert address.path
        address.path.parent.chmod(0o777)
        address.path.chmod(0o444)
        said = record_restricted(home, "os.getuid() or os.setuid(65534)")
    assert "recording the beginning of a dispatch failed: attempt to write a readonly database" in said


def test_a_full_disk_is_an_error_that_says_so_and_loses_nothing(tmp_path: Path) -> None:
    address = StoreAddress.of(EventsConfig(), None, tmp_path)
    upgrade(address)
    said = record_restricted(tmp_path, "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))")
    assert "recording the beginning of a dispatch failed: " in said
    assert "full" in said or "disk I/O" in said
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    with EventStore(address) as store:
        written = store.dispatches(limit=1000)
        assert written
        for record in written:
            found(store, record.dispatch_id)
        store.begin(new_identity())


def test_a_writer_waits_for_another_writer(tmp_path: Path) -> None:
    address = StoreAddress.of(EventsConfig(), None, tmp_path)
    upgrade(address)
    blocker = address.create_engine().execution_options(writes=True)
    with EventStore(address) as store, blocker.connect() as connection:
        connection.execute(sa.text("SELECT 1"))  # begins the transaction
        assert store.dispatches() == []  # readers do not wait
        waits = subprocess.Popen(
            [sys.executable, "-c", RECORD.replace("1000", "1").format(restrict=""), str(tmp_path)],
            env={"PYTHONPATH": ":".join(sys.path)},
        )
        time.sleep(3)
        assert waits.poll() is None
        connection.commit()
        assert waits.wait(120) == 0
        assert len(store.unfinished(older_than=timedelta(0))) == 1


@pytest.mark.parametrize(("conn_type", "host"), [("odbc", "db.example.org"), ("sqlite", None)])
def test_a_connection_that_cannot_hold_the_store_is_refused(conn_type: str, host: str | None) -> None:
    with pytest.raises(ConnectionUnusable, match="'wrong'"):
        server_store(ConnectionSpec("wrong", conn_type, host))
