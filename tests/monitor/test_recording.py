"""A round of the DAG `mlops_monitor`: what it records, and whom it tells."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mlops_plugin.config.schema import NotifierConfig
from mlops_plugin.errors import NotifierUnusable
from mlops_plugin.events.probes import Change, ProbeHistory
from mlops_plugin.monitor.notification import check_notifiers, notify
from mlops_plugin.monitor.recording import Round, record_round
from servers import free_port
from workshop import Workshop

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FELL = Change("host a:1", "up", "down", NOW, NOW, "IPv4 192.0.2.1: refused")
NOTIFIER = "monitor.notifier_for_tests.FileNotifier"


def watch(workshop: Workshop, **monitor: Any) -> None:
    workshop.sections["monitor"] = monitor
    workshop.write()


def one_round(workshop: Workshop) -> Round:
    with workshop.deployment.event_store() as store:
        return record_round(workshop.loaded.config, store, workshop.home)


def dispatch(workshop: Workshop) -> None:
    """One dispatch, as from the terminal."""
    workshop.run(workshop.dispatch())


def test_a_round_records_hosts_databases_and_the_event_store(workshop: Workshop) -> None:
    port = free_port()
    watch(
        workshop,
        hosts=[{"host": "127.0.0.1", "port": port}],
        databases=[{"connection": "source", "table": "customers"}],
    )
    first = one_round(workshop)
    with socket.create_server(("127.0.0.1", port)):
        second = one_round(workshop)

    states = {probe.target: probe.state for probe in first.probes}
    assert states == {
        f"host 127.0.0.1:{port}": "down",
        "event store": "up",
        "database source customers": "up",
    }
    assert [(change.before, change.after) for change in first.changes] == [("up", "down")]
    assert [(change.before, change.after) for change in second.changes] == [("down", "up")]
    with workshop.deployment.event_store() as store:
        history = ProbeHistory(store)
        probes = history.probes(f"host 127.0.0.1:{port}", since=datetime.now(UTC) - timedelta(hours=1))
        (incident,) = history.incidents(
            f"host 127.0.0.1:{port}", since=datetime.now(UTC) - timedelta(hours=1)
        )
    assert [probe.state for probe in probes] == ["down", "up"]
    assert incident.error == "IPv4 127.0.0.1: refused"
    assert incident.ended_at == probes[1].at


def test_a_round_records_how_each_models_last_dispatch_ended(workshop: Workshop) -> None:
    assert [probe.target for probe in one_round(workshop).probes] == ["event store"]
    dispatch(workshop)
    (model,) = (probe for probe in one_round(workshop).probes if probe.target == "model churn")
    assert model.state == "up"

    workshop.add_model("churn", source={"query": "SELECT id, a, b, c FROM nobody"})
    with pytest.raises(Exception, match="nobody"):
        dispatch(workshop)
    done = one_round(workshop)
    (change,) = done.changes
    assert (done.names[change.target], change.after) == ("model churn", "down")
    assert "nobody" in str(change.error)


def test_every_notifier_is_told_with_its_templates_filled_in(tmp_path: Path) -> None:
    file = tmp_path / "told"
    text = "{{ target }} was {{ before }} and is {{ after }} since {{ since.year }}: {{ error }}"
    config = NotifierConfig(notifier=NOTIFIER, arguments={"file": str(file), "text": text})

    assert notify(FELL, "Feature service", [config, config], {}) == []
    line = "Feature service was up and is down since 2026: IPv4 192.0.2.1: refused\n"
    assert file.read_text() == line * 2


def test_a_notifier_that_fails_keeps_no_other_from_being_told(tmp_path: Path) -> None:
    bad = NotifierConfig(notifier=NOTIFIER, arguments={"file": str(tmp_path), "text": "x"})
    good = NotifierConfig(notifier=NOTIFIER, arguments={"file": str(tmp_path / "told"), "text": "x"})

    (failure,) = notify(FELL, "a", [bad, good], {})
    assert failure.startswith(f"monitor.notify[0] ({NOTIFIER}): IsADirectoryError")
    assert (tmp_path / "told").read_text() == "x\n"


@pytest.mark.parametrize(
    ("path", "arguments", "said"),
    [
        ("nowhere.at.All", {}, "cannot be imported"),
        ("monitor.notifier_for_tests.Nothing", {}, "cannot be imported"),
        ("pathlib.Path", {}, "is not an Airflow notifier"),
        (NOTIFIER, {"colour": "red"}, "does not take these arguments"),
    ],
)
def test_a_notifier_that_cannot_be_made_is_refused(path: str, arguments: dict[str, str], said: str) -> None:
    with pytest.raises(NotifierUnusable, match=said):
        check_notifiers([NotifierConfig(notifier=path, arguments=arguments)])
