"""Probes of real listeners, dead ports and databases: each failed stage is named, and none takes too long."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mlops_plugin.config.schema import EventsConfig, HostConfig
from mlops_plugin.connections import get_connection
from mlops_plugin.events.address import StoreAddress
from mlops_plugin.events.migrating import upgrade
from mlops_plugin.monitoring import board as boards
from mlops_plugin.monitoring.board import Attempt, ProbeBoard, probe_all
from mlops_plugin.monitoring.host_probe import _outcome
from mlops_plugin.monitoring.probe_result import Notes, ProbeResult
from mlops_plugin.monitoring.targets import DatabaseTarget, EventStoreTarget, HostTarget, Target
from support.listeners import deaf_listener, listener, silent_server
from support.servers import ServerDatabase
from support.ways_in import WayIn


def test_a_host_without_a_port_is_watched_where_airflow_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__PORT", "8123")
    target = HostTarget.of(HostConfig(host="localhost"))
    assert (target.id, target.name) == ("host localhost:8123", "localhost:8123")
    assert HostTarget.of(HostConfig(host="localhost", port=80)).port == 80


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a probe that keeps to its timeout end when a busy machine lets it."""
    monkeypatch.setattr(boards, "_GRACE_S", 60.0)


def host(name: str, port: int) -> HostTarget:
    return HostTarget(name, port, name)


def probed(target: Target, timeout_s: float = 60.0) -> ProbeResult:
    (reading,) = probe_all([target], timeout_s=timeout_s)
    assert reading.result is not None
    return reading.result


def test_a_listening_port_is_up_and_has_a_latency() -> None:
    with listener() as port:
        result = probed(host("127.0.0.1", port))

    assert (result.state, result.error) == ("up", None)
    assert [(step.name, step.address, step.outcome) for step in result.steps] == [("IPv4", "127.0.0.1", "ok")]
    assert result.seconds is not None
    assert result.seconds > 0


@pytest.mark.parametrize(("address", "family"), [("127.0.0.1", "IPv4"), ("::1", "IPv6")])
def test_a_closed_port_is_refused(address: str, family: str) -> None:
    with listener(address) as port:
        assert probed(host(address, port)).state == "up"
    result = probed(host(address, port))

    assert (result.state, result.seconds) == ("down", None)
    assert result.error == f"{family} {address}: refused"


@pytest.mark.slow
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(("address", "family"), [("127.0.0.1", "IPv4"), ("::1", "IPv6")])
def test_a_host_that_does_not_answer_is_timed_out(address: str, family: str) -> None:
    with deaf_listener(address) as port:
        result = probed(host(address, port), timeout_s=1)

    assert (result.state, result.error) == ("down", f"{family} {address}: timed out")


# To these Linux gives TCP no route, whatever the routes of the machine: broadcast, and multicast.
@pytest.mark.parametrize(("address", "family"), [("255.255.255.255", "IPv4"), ("ff02::1", "IPv6")])
def test_an_address_without_a_route_is_unreachable(address: str, family: str) -> None:
    result = probed(host(address, 80))

    assert [(step.name, step.outcome) for step in result.steps] == [(family, "unreachable")]
    assert (result.state, result.error) == (
        "down",
        f"{family} {address}: unreachable: Network is unreachable",
    )


def test_a_name_is_tried_by_every_family_and_a_missing_one_is_shown() -> None:
    with listener() as port:
        result = probed(host("localhost", port))

    names = {step.name: step for step in result.steps}
    assert names["name resolution"].outcome == "ok"
    assert names["IPv4"].outcome == "ok"
    addresses = {found[4][0] for found in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)}
    assert names["IPv6"].outcome == ("refused" if "::1" in addresses else "no address")
    assert result.state == ("partly" if "::1" in addresses else "up")


def test_a_name_that_does_not_exist_fails_in_name_resolution() -> None:
    result = probed(host("nowhere.invalid", 80))

    assert result.state == "down"
    assert [step.name for step in result.steps] == ["name resolution"]
    assert str(result.error).startswith("name resolution: failed: ")


@pytest.mark.parametrize("name", ["a" * 64 + ".example", "..", "exa\u0000mple"])
def test_a_name_that_no_host_can_have_is_reported_not_raised(name: str) -> None:
    result = probed(host(name, 80))

    assert [step.name for step in result.steps] == ["name resolution"]
    assert result.state == "down"


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (0, "ok"),
        (errno.ECONNREFUSED, "refused"),
        (errno.ENETUNREACH, "unreachable"),
        (errno.EHOSTUNREACH, "unreachable"),
        (errno.ETIMEDOUT, "timed out"),
        (errno.EACCES, "failed"),
    ],
)
def test_an_error_number_is_an_outcome(code: int, outcome: str) -> None:
    assert _outcome(code)[0] == outcome


@pytest.mark.slow
@pytest.mark.usefixtures("patient")
def test_a_hundred_dead_hosts_are_reported_within_the_timeout_and_not_one_after_the_other() -> None:
    with deaf_listener() as port:
        targets, timeout_s = [host(f"127.0.0.{number}", port) for number in range(1, 101)], 2
        began = time.monotonic()
        readings = probe_all(targets, timeout_s=timeout_s)
        took = time.monotonic() - began

    assert took < len(targets) * timeout_s  # what they take at least, one after the other
    assert [reading.result and reading.result.error for reading in readings] == [
        f"IPv4 127.0.0.{number}: timed out" for number in range(1, 101)
    ]


def test_a_live_host_does_not_wait_for_dead_ones() -> None:
    with deaf_listener() as dead, listener() as live:
        board, targets = ProbeBoard(), [host("127.0.0.1", dead), host("127.0.0.1", live)]
        readings = board.look(targets, refresh_s=600, timeout_s=60)
        while readings[1].result is None:
            readings = board.look(targets, refresh_s=600, timeout_s=60, wait_s=0.05)

    assert [reading.is_probing for reading in readings] == [True, False]
    assert readings[0].result is None
    assert readings[1].result
    assert readings[1].result.state == "up"


@pytest.mark.usefixtures("patient")
def test_a_probe_that_ends_while_it_is_called_overdue_has_the_last_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks, go_on = threading.current_thread(), threading.Event()

    class EndsMeanwhile(Attempt):
        def _so_far(self) -> ProbeResult:
            found = super()._so_far()
            if threading.current_thread() is looks:
                go_on.set()
                assert self._ended.wait(60)
            return found

    @dataclass(frozen=True)
    class Late(HostTarget):
        def probe(self, timeout_s: float, notes: Notes) -> None:  # noqa: ARG002 - of the protocol
            with notes.step("connecting"):
                assert go_on.wait(60)

    monkeypatch.setattr(boards, "Attempt", EndsMeanwhile)
    (reading,) = ProbeBoard().look([Late("late", 80, "late")], refresh_s=600, timeout_s=0)
    assert reading.result
    assert (reading.result.error, reading.is_probing) == (None, False)


def test_a_second_viewer_does_not_double_the_probes() -> None:
    with counting_listener() as (port, accepted):
        board, targets = ProbeBoard(), [host("127.0.0.1", port)]
        readings = [board.look(targets, refresh_s=600, timeout_s=60, wait_s=60) for _ in range(5)]
        viewers = [
            threading.Thread(target=lambda: board.look(targets, refresh_s=600, timeout_s=60, wait_s=60))
            for _ in range(8)
        ]
        for viewer in viewers:
            viewer.start()
        for viewer in viewers:
            viewer.join()
        assert accepted() == 1
        assert len({reading.result and reading.result.at for (reading,) in readings}) == 1
        board.look(targets, refresh_s=0, timeout_s=60, wait_s=60)
        assert accepted() == 2


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("conn_type", ["mysql", "postgres"])
def test_a_driver_that_hangs_is_reported_in_time_and_not_joined_by_another(
    conn_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with silent_server() as port:
        monkeypatch.setenv("AIRFLOW_CONN_HANGING", f"{conn_type}://u:hidden@127.0.0.1:{port}/d")
        get_connection("hanging")  # Airflow's imports take their time, once in a process
        board, target = ProbeBoard(), database("hanging", None, tmp_path)
        (reading,) = board.look([target], refresh_s=0, timeout_s=2, wait_s=2)
        assert reading.result
        assert reading.result.error == "connecting: timed out"
        before = threading.active_count()
        for _ in range(5):
            board.look([target], refresh_s=0, timeout_s=2)
        assert threading.active_count() <= before


def test_a_database_answers_through_every_way_in(
    way: WayIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", uri_of(way))
    way.execute("CREATE TABLE customers (id INTEGER, amount REAL)")
    result = probed(database("warehouse", "customers", tmp_path))

    assert result.error is None
    assert [step.name for step in result.steps] == ["connection", "connecting", "query"]
    missing = probed(database("warehouse", "nobody", tmp_path))
    assert missing.state == "down"
    assert [step.outcome for step in missing.steps] == ["ok", "ok", "failed"]
    assert "nobody" in str(missing.error)


def test_a_wrong_password_fails_while_connecting_and_is_not_shown(
    mariadb_database: ServerDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = replace(mariadb_database, password="hidden-word")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", wrong.airflow_uri())
    result = probed(database("warehouse", None, tmp_path))

    assert [(step.name, step.outcome) for step in result.steps] == [
        ("connection", "ok"),
        ("connecting", "failed"),
    ]
    assert "Access denied" in str(result.error)
    assert "hidden-word" not in repr(result)


def test_a_connection_that_airflow_does_not_have_is_the_stage_that_fails(tmp_path: Path) -> None:
    result = probed(database("nobody", None, tmp_path))

    assert [(step.name, step.outcome) for step in result.steps] == [("connection", "failed")]
    assert "no Airflow connection 'nobody'" in str(result.error)


def test_the_event_store_is_up_once_it_has_its_tables(tmp_path: Path) -> None:
    target = EventStoreTarget(EventsConfig(), tmp_path)
    assert "mlops db upgrade" in str(probed(target).error)
    upgrade(StoreAddress.of(EventsConfig(), None, tmp_path))

    assert probed(target).state == "up"


def test_a_file_that_holds_the_event_store_is_probed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SAME", f"sqlite:///{tmp_path}/mlops/events.db")
    upgrade(StoreAddress.of(EventsConfig(), None, tmp_path))

    assert probed(database("same", "mlops_dispatch", tmp_path)).error is None
    assert "nobody" in str(probed(database("same", "nobody", tmp_path)).error)


def database(conn_id: str, table: str | None, home: Path) -> DatabaseTarget:
    return DatabaseTarget(conn_id, table, conn_id, EventsConfig(), home)


def uri_of(way: WayIn) -> str:
    if way.server:
        return way.server.airflow_uri(way.spec.conn_type)
    return f"sqlite:///{way.spec.host}"


@contextmanager
def counting_listener() -> Iterator[tuple[int, Callable[[], int]]]:
    """A port, and how many have connected to it so far."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        server.settimeout(0.2)
        count = 0

        def accepted() -> int:
            nonlocal count
            with contextlib.suppress(TimeoutError):
                while True:
                    server.accept()[0].close()
                    count += 1
            return count

        yield server.getsockname()[1], accepted
