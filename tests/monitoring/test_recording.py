"""A round of the DAG `mlops_monitor`: what it records, and whom it tells."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mlops_plugin.config.schema import NotifierConfig
from mlops_plugin.connections import airflow_port
from mlops_plugin.errors import NotifierUnusable, SinkError
from mlops_plugin.events import tables
from mlops_plugin.events.health.notices import Notices
from mlops_plugin.events.health.probes import ProbeHistory
from mlops_plugin.monitoring.recording import FindDags, Round, record_round
from mlops_plugin.orchestration.notification import check_notifiers, notify_all
from support.servers import free_port
from support.workshop import Workshop

NOTIFIER = "support.notifier_for_tests.FileNotifier"


def watch(workshop: Workshop, **monitor: Any) -> None:
    workshop.sections["monitor"] = {"timeout": "2m", **monitor}  # a busy machine takes a probe its time
    workshop.write()


def one_round(workshop: Workshop, find_dags: FindDags | None = None) -> Round:
    with workshop.deployment.event_store() as store:
        return record_round(workshop.loaded, store, workshop.home, find_dags)


def notifier(file: Path, text: str = "{{ target }} is {{ after }}") -> dict[str, Any]:
    return {"notifier": NOTIFIER, "arguments": {"file": str(file), "text": text}}


def fall(workshop: Workshop, *notifiers: dict[str, Any]) -> int:
    """A host that is down for the first time; returns its port."""
    port = free_port()
    host = {"name": "Feature service", "host": "127.0.0.1", "port": port}
    watch(workshop, hosts=[host], notify=list(notifiers), failure_threshold=1, success_threshold=1)
    one_round(workshop)
    return port


def tell_all(workshop: Workshop) -> list[str]:
    """Tell what waits, as the task does at the end of a round."""
    with workshop.deployment.event_store() as store:
        notifiers = workshop.loaded.config.monitor.notify
        return notify_all(Notices(store), notifiers, {}, lease=timedelta(minutes=5))


def dispatch(workshop: Workshop) -> None:
    """One dispatch, as from the terminal."""
    workshop.run(workshop.dispatch())


def test_a_round_records_hosts_databases_and_the_event_store(workshop: Workshop) -> None:
    port = free_port()
    watch(
        workshop,
        hosts=[{"host": "127.0.0.1", "port": port}],
        databases=[{"connection": "source", "table": "customers"}],
        failure_threshold=1,
        success_threshold=1,
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


def test_a_model_that_runs_whenever_a_round_looks_counts_as_its_last_dispatch_ended(
    workshop: Workshop,
) -> None:
    workshop.in_sink("CREATE TABLE churn_predictions (other INTEGER)")
    with pytest.raises(SinkError):
        dispatch(workshop)
    workshop.run_steps(workshop.dispatch(), "collect")

    done = one_round(workshop)
    assert [(change.target, change.after) for change in done.changes] == [("model churn", "down")]
    assert "churn_predictions" in str(done.changes[0].error)


def test_a_failed_dispatch_that_was_cleared_and_runs_again_is_no_recovery(workshop: Workshop) -> None:
    dispatch(workshop)
    workshop.in_sink("DROP VIEW churn_predictions", "CREATE TABLE churn_predictions (other INTEGER)")
    failing = workshop.dispatch()
    with pytest.raises(SinkError):
        workshop.run(failing)
    assert [change.after for change in one_round(workshop).changes] == ["down"]
    workshop.run_steps(failing, "collect")

    done = one_round(workshop)
    assert done.changes == ()
    assert [probe.target for probe in done.probes] == ["event store"]


def test_a_dry_run_that_succeeds_hides_no_failure(workshop: Workshop) -> None:
    workshop.in_sink("CREATE TABLE churn_predictions (other INTEGER)")
    with pytest.raises(SinkError):
        dispatch(workshop)
    one_round(workshop)
    workshop.run(workshop.dispatch(is_dry_run=True))

    done = one_round(workshop)
    assert done.changes == ()
    assert [probe.state for probe in done.probes if probe.target == "model churn"] == ["down"]


def test_a_host_that_is_named_with_airflows_port_and_without_is_watched_once(workshop: Workshop) -> None:
    port = airflow_port()
    watch(workshop, hosts=[{"host": "127.0.0.1"}, {"host": "127.0.0.1", "port": port}])
    for _ in range(2):
        done = one_round(workshop)
        assert [probe.target for probe in done.probes] == [f"host 127.0.0.1:{port}", "event store"]


@dataclass(frozen=True)
class Dag:
    """An hourly DAG whose next run is due at that moment."""

    due: datetime
    is_paused: bool = False
    is_stale: bool = False
    last_run_id: str | None = "r"
    last_run_state: str | None = "success"
    last_run_after: datetime | None = None
    last_run_start: datetime | None = None
    last_run_end: datetime | None = None
    resumed_at: datetime | None = None

    @property
    def next_data_interval_start(self) -> datetime:
        return self.due - timedelta(hours=1)

    next_data_interval_end = next_run_after = property(lambda dag: dag.due)


def found_dags(dags: dict[str, Dag], _last: object, _now: object) -> dict[str, Dag]:
    return dags


def test_a_model_that_is_late_or_missed_is_told_once_and_again_when_it_has_recovered(
    workshop: Workshop, tmp_path: Path
) -> None:
    text = "{{ target }} was {{ before }} and is {{ after }}{{ ': ' if error }}{{ error[:4] }}"
    watch(workshop, notify=[notifier(tmp_path / "told", text)])
    for minutes in (-1, 9, -1, 9, 10, 11, 70, 71, 72, -1, -1):
        dags = {"churn": Dag(datetime.now(UTC) - timedelta(minutes=minutes))}
        one_round(workshop, partial(found_dags, dags))
        assert tell_all(workshop) == []

    assert (tmp_path / "told").read_text().splitlines() == [
        "model churn was on time and is late: due ",
        "model churn was late and is missed: one ",
        "model churn was missed and is on time",
    ]


def test_a_target_that_leaves_the_configuration_ends_its_incidents_and_nobody_hears_that_it_is_well(
    workshop: Workshop, tmp_path: Path
) -> None:
    told = notifier(tmp_path / "told", "{{ target }} was {{ before }} and is {{ after }}")
    port = fall(workshop, told)
    workshop.add_model("away", source={"query": "SELECT id, a, b, c FROM nobody"})
    with pytest.raises(Exception, match="nobody"):
        workshop.run(workshop.dispatch("away"))
    late = {"away": Dag(datetime.now(UTC) - timedelta(minutes=9))}
    for _ in range(2):
        one_round(workshop, partial(found_dags, late))
    assert tell_all(workshop) == []
    del workshop.models["away"]
    workshop.sections["include"] = ["teams/*.yaml"]  # it may be in a file that is not there now
    workshop.write()
    assert one_round(workshop).changes == ()
    del workshop.sections["include"]
    watch(workshop, notify=[told])

    assert len(one_round(workshop).changes) == 3
    assert one_round(workshop).changes == ()
    assert tell_all(workshop) == []
    assert sorted((tmp_path / "told").read_text().splitlines()) == [
        "Feature service was down and is no longer watched",
        "Feature service was up and is down",
        "model away was down and is no longer watched",
        "model away was late and is no longer watched",
        "model away was on time and is late",
        "model away was up and is down",
    ]
    with workshop.deployment.event_store() as store:
        found = ProbeHistory(store).incidents(
            f"host 127.0.0.1:{port}",
            "model away",
            "timing away",
            since=datetime.now(UTC) - timedelta(hours=1),
        )
    assert [incident.ended_as for incident in found] == ["no longer watched"] * 3


def test_a_model_whose_configuration_breaks_is_still_watched(workshop: Workshop) -> None:
    late = {"churn": Dag(datetime.now(UTC) - timedelta(minutes=9))}
    rounds = [one_round(workshop, partial(found_dags, late)) for _ in range(2)]
    assert [len(one.changes) for one in rounds] == [0, 1]
    workshop.models["churn"]["model"] = 7
    workshop.write()
    assert "churn" in workshop.loaded.broken

    assert one_round(workshop).changes == ()


def test_hosts_and_databases_have_thresholds_of_their_own_or_the_monitors(workshop: Workshop) -> None:
    ports = [free_port(), free_port()]
    hosts = [{"host": "127.0.0.1", "port": port} for port in ports]
    watch(workshop, failure_threshold=3, hosts=[hosts[0], {**hosts[1], "failure_threshold": 1}])
    changed = [[change.target for change in one_round(workshop).changes] for _ in range(4)]

    first, second = (f"host 127.0.0.1:{port}" for port in ports)
    assert changed == [[second], [], [first], []]


def test_every_notifier_is_told_with_its_templates_filled_in(workshop: Workshop, tmp_path: Path) -> None:
    file = tmp_path / "told"
    text = "{{ target }} was {{ before }} and is {{ after }} since {{ since.year }}: {{ error }}"
    fall(workshop, notifier(file, text), notifier(file, text))

    assert tell_all(workshop) == []
    line = f"Feature service was up and is down since {datetime.now(UTC).year}: IPv4 127.0.0.1: refused\n"
    assert file.read_text() == line * 2
    assert tell_all(workshop) == []
    assert file.read_text() == line * 2


def test_a_notifier_that_fails_keeps_no_other_from_being_told_and_is_told_later(
    workshop: Workshop, tmp_path: Path
) -> None:
    (tmp_path / "late").mkdir()
    fall(workshop, notifier(tmp_path / "late"), notifier(tmp_path / "told"))

    (failure,) = tell_all(workshop)
    assert failure.startswith(f"monitor.notify[0] ({NOTIFIER}): IsADirectoryError")
    (tmp_path / "late").rmdir()
    assert tell_all(workshop) == []
    assert (tmp_path / "late").read_text() == (tmp_path / "told").read_text() == "Feature service is down\n"


def test_a_notifier_that_fails_hears_what_follows_in_order(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "told").mkdir()
    port = fall(workshop, notifier(tmp_path / "told"))
    with socket.create_server(("127.0.0.1", port)):
        one_round(workshop)
    assert len(tell_all(workshop)) == 1
    (tmp_path / "told").rmdir()

    assert tell_all(workshop) == []
    assert (tmp_path / "told").read_text() == "Feature service is down\nFeature service is up\n"


def test_a_task_that_dies_while_it_tells_leaves_the_rest_to_the_next_and_repeats_nothing(
    workshop: Workshop, tmp_path: Path
) -> None:
    deadly = {
        "notifier": "support.notifier_for_tests.Deadly",
        "arguments": {"alive": str(tmp_path / "alive")},
    }
    fall(workshop, notifier(tmp_path / "told"), deadly, notifier(tmp_path / "last"))
    with pytest.raises(KeyboardInterrupt):
        tell_all(workshop)
    assert not (tmp_path / "last").exists()
    (tmp_path / "alive").touch()

    assert tell_all(workshop) == []
    assert (tmp_path / "told").read_text() == (tmp_path / "last").read_text() == "Feature service is down\n"


def test_two_tasks_at_once_tell_a_change_once(workshop: Workshop, tmp_path: Path) -> None:
    fall(workshop, notifier(tmp_path / "told"))
    with workshop.deployment.event_store() as store:
        (notice,) = Notices(store).waiting()
        assert Notices(store).claim(notice, timedelta(minutes=5))
    assert tell_all(workshop) == []

    assert not (tmp_path / "told").exists()


def test_what_nobody_could_be_told_for_a_day_is_given_up_aloud(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "told").mkdir()
    fall(workshop, notifier(tmp_path / "told"))
    with workshop.deployment.event_store() as store:
        yesterday = sa.update(tables.notices).values(at=datetime.now(UTC) - timedelta(hours=25))
        store.write("ageing the notice", lambda connection: connection.execute(yesterday))

    assert any("more than a day old" in failure for failure in tell_all(workshop))
    assert tell_all(workshop) == []


@pytest.mark.parametrize(
    ("path", "arguments", "said"),
    [
        ("nowhere.at.All", {}, "cannot be imported"),
        ("support.notifier_for_tests.Nothing", {}, "cannot be imported"),
        ("pathlib.Path", {}, "is not an Airflow notifier"),
        (NOTIFIER, {"colour": "red"}, "does not take these arguments"),
    ],
)
def test_a_notifier_that_cannot_be_made_is_refused(path: str, arguments: dict[str, str], said: str) -> None:
    with pytest.raises(NotifierUnusable, match=said):
        check_notifiers([NotifierConfig(notifier=path, arguments=arguments)])
