"""The Monitor over HTTP, on a real API server."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mlops_plugin.events.health.incidents import Thresholds
from mlops_plugin.events.health.probes import Findings, ProbeHistory, ProbeRecord
from support.airflow_process import RunningAirflow
from support.listeners import deaf_listener
from support.servers import free_port
from web.conftest import Client

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

SOON_S = 240.0


@pytest.fixture
def watching(web_airflow: RunningAirflow) -> Iterator[Callable[..., None]]:
    """Says what the Monitor watches, until the test is over."""
    workshop = web_airflow.workshop

    def watch(**monitor: Any) -> None:
        workshop.sections["monitor"] = monitor
        workshop.write()

    yield watch
    workshop.sections.pop("monitor", None)
    workshop.write()


def test_a_host_turns_red_when_its_listener_is_closed_and_green_when_it_is_back(
    client: Client, watching: Callable[..., None]
) -> None:
    port = free_port()
    watching(refresh="1s", hosts=[{"name": "<b>Feature service</b>", "host": "127.0.0.1", "port": port}])
    assert state_becomes(client, "down")["steps"][0]["outcome"] == "refused"
    page = client.page("monitor").text
    assert "refused" in page
    assert "&lt;b&gt;Feature service&lt;/b&gt;" in page
    with socket.create_server(("127.0.0.1", port)):
        assert state_becomes(client, "up")["steps"][0]["outcome"] == "ok"
    assert state_becomes(client, "down")["at"]


def state_becomes(client: Client, state: str) -> dict[str, Any]:
    deadline = time.monotonic() + SOON_S
    while True:
        (host,) = client.get("api/v1/monitor").json["hosts"]
        if host["state"] == state:
            return dict(host)
        assert time.monotonic() < deadline, host
        time.sleep(0.2)


def test_databases_and_the_event_store_are_shown_with_their_stages(
    client: Client, watching: Callable[..., None]
) -> None:
    watching(
        timeout="2m",
        databases=[
            {"connection": "source", "table": "customers"},
            {"connection": "source", "table": "nobody"},
            {"connection": "absent"},
        ],
    )
    deadline = time.monotonic() + SOON_S
    while "unknown" in (states := [found["state"] for found in databases(client)]):
        assert time.monotonic() < deadline
        time.sleep(0.3)

    assert states == ["up", "up", "down", "down"]
    store, good, bad, absent = databases(client)
    assert store["name"] == "Event store"
    assert [step["outcome"] for step in good["steps"]] == ["ok", "ok", "ok"]
    assert bad["steps"][-1]["outcome"] == "failed"
    assert "nobody" in bad["steps"][-1]["said"]
    assert "absent" in absent["steps"][0]["said"]


def databases(client: Client) -> list[dict[str, Any]]:
    return list(client.get("api/v1/monitor").json["databases"])


def test_a_dead_host_does_not_hold_up_the_page(client: Client, watching: Callable[..., None]) -> None:
    with deaf_listener() as port:
        watching(timeout="10s", hosts=[{"host": f"127.0.0.{n}", "port": port} for n in range(1, 101)])
        page = client.page("monitor")
        assert page.text.count("data-pending") >= 100
        deadline = time.monotonic() + SOON_S
        hosts: list[dict[str, Any]] = [{"state": "unknown"}]
        while {host["state"] for host in hosts} != {"down"}:
            assert time.monotonic() < deadline
            time.sleep(0.3)
            hosts = client.get("api/v1/monitor").json["hosts"]

    assert len(hosts) == 100
    assert {host["steps"][0]["outcome"] for host in hosts} == {"timed out"}


def test_models_are_shown_with_schedule_and_state(client: Client, web_airflow: RunningAirflow) -> None:
    workshop = web_airflow.workshop
    workshop.models["broken one"] = {"key": ["id"]}
    workshop.write()
    try:
        models = {model["name"]: model for model in client.get("api/v1/monitor").json["models"]}
        page = client.page("monitor").text
    finally:
        del workshop.models["broken one"]
        workshop.write()

    # Nothing here reads DAG files: Airflow does not know the model.
    assert models["churn"]["state"] == "not in Airflow"
    assert models["churn"]["schedule"] == "manual only"
    assert models["broken one"]["state"] == "broken configuration"
    assert "config.yaml:" in models["broken one"]["why"]
    assert "broken one" in page


def test_the_fragment_is_the_part_of_the_page_that_refreshes(client: Client) -> None:
    fragment = client.page("monitor-status").text

    assert "<html" not in fragment
    assert 'id="as-of"' in fragment


def test_history_shows_availability_latency_and_incidents(
    client: Client,
    web_airflow: RunningAirflow,
    watching: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in web_airflow.workshop.environment.items():
        monkeypatch.setenv(name, value)
    watching(hosts=[{"name": "Feature <service>", "host": "a.example", "port": 443}])
    target, now = "host a.example:443", datetime.now(UTC)
    with web_airflow.workshop.deployment.event_store() as store:
        for minutes, state, error in ((50, "up", None), (40, "down", "<i>refused</i>"), (30, "up", None)):
            found = ProbeRecord(target, now - timedelta(minutes=minutes), state, 0.002, error)  # type: ignore[arg-type]
            ProbeHistory(store).record(
                Findings([found]), keep_probes=timedelta(days=2), keep=timedelta(days=9), now=now
            )

    answer = client.get("api/v1/monitor/history?target=host%20a.example%3A443").json
    assert [window["window"] for window in answer["windows"]] == ["24 hours", "7 days", "30 days"]
    assert [len(window["spans"]) for window in answer["windows"]] == [48, 84, 60]
    for window in answer["windows"]:
        assert window["availability"] == pytest.approx(2 / 3)
        assert sum(span["down"] for span in window["spans"]) == 1
    (incident,) = answer["incidents"]
    assert incident["error"] == "<i>refused</i>"
    assert incident["ended_at"] > incident["began_at"]
    assert (answer["is_watched"], incident["ended_as"]) == (True, "up")

    page = client.page("monitor/history?target=host%20a.example%3A443").text
    assert "Feature &lt;service&gt;" in page
    assert "&lt;i&gt;refused&lt;/i&gt;" in page
    title, _others, rest = page.partition(">Availability, last 7 days</title>")
    assert title != page
    assert rest.partition("</desc>")[0].endswith(">66.6 % of 3 probes")
    assert "10 min" in page
    assert "removed from the configuration" not in page
    until_read(client, "66.6 % of probes succeeded in 24 hours")
    assert client.get("api/v1/monitor/history?target=host%20other%3A1").status == 404


def test_a_failed_probe_that_makes_no_incident_is_found_with_its_error(
    client: Client, web_airflow: RunningAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in web_airflow.workshop.environment.items():
        monkeypatch.setenv(name, value)
    target, now = "host flaky.example:443", datetime.now(UTC)
    with web_airflow.workshop.deployment.event_store() as store:
        for minutes, state, error in ((9, "up", None), (6, "down", "<i>lost</i>"), (3, "up", None)):
            probe = ProbeRecord(target, now - timedelta(minutes=minutes), state, 0.002, error)  # type: ignore[arg-type]
            found = Findings([probe], thresholds={target: Thresholds(failure=2, success=2)})
            ProbeHistory(store).record(found, keep_probes=timedelta(days=2), keep=timedelta(days=9), now=now)

    answer = client.get("api/v1/monitor/history?target=host%20flaky.example%3A443").json
    assert answer["incidents"] == []
    assert [(probe["state"], probe["error"]) for probe in answer["failed_probes"]] == [
        ("down", "<i>lost</i>")
    ]
    page = client.page("monitor/history?target=host%20flaky.example%3A443").text
    assert "No incidents" in page
    assert "&lt;i&gt;lost&lt;/i&gt;" in page
    assert "Failed probes" not in client.page("monitor/history?target=model%20churn").text


def test_what_is_asked_of_the_monitor_is_shown_and_what_is_no_state_is_refused(client: Client) -> None:
    assert client.page("monitor?search=no+such+model").text.count("data-dag") == 0
    assert "No model matches." in client.page("monitor-status?search=no+such+model").text
    assert "No model matches." not in client.page("monitor-status?search=chu&state=&group=&sort=").text
    assert client.page("monitor?state=odd").status == 422


def test_the_history_of_a_host_that_was_removed_says_so(
    client: Client, web_airflow: RunningAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in web_airflow.workshop.environment.items():
        monkeypatch.setenv(name, value)
    target, now = "host removed.example:443", datetime.now(UTC)
    down = ProbeRecord(target, now - timedelta(minutes=5), "down", None, "refused")
    with web_airflow.workshop.deployment.event_store() as store:
        for found in (Findings([down]), Findings([], watched=())):
            ProbeHistory(store).record(found, keep_probes=timedelta(days=2), keep=timedelta(days=9), now=now)

    answer = client.get("api/v1/monitor/history?target=host%20removed.example%3A443").json
    assert (answer["name"], answer["is_watched"]) == (target, False)
    (incident,) = answer["incidents"]
    assert (incident["state"], incident["ended_as"]) == ("down", "no longer watched")
    page = client.page("monitor/history?target=host%20removed.example%3A443").text
    assert 'data-label="Next state">no longer watched</td>' in page
    assert "removed from the configuration" in page
    assert "0.0 % of 1 probe<" in page


def test_the_history_of_a_model_speaks_of_no_latency(client: Client) -> None:
    page = client.page("monitor/history?target=model%20churn").text
    assert "A model is up if its last dispatch succeeded" in page
    assert "Availability" in page
    assert "atency" not in page


def until_read(client: Client, text: str) -> str:
    """The page, once the event store was read for it."""
    deadline = time.monotonic() + SOON_S
    while text not in (page := client.page("monitor").text):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return page
