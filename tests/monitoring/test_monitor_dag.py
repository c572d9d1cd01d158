"""The DAG `mlops_monitor`: as Airflow parses it, and as Airflow runs it."""

from __future__ import annotations

import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from local_stack import processes
from mlops_plugin.config.loader import load_config, load_settings
from mlops_plugin.errors import ConfigError
from mlops_plugin.events.health.probes import ProbeHistory
from mlops_plugin.orchestration.monitor_dag import build_monitor_dags
from support.airflow_process import RunningAirflow, running_airflow
from support.servers import Server, free_port
from support.workshop import Workshop

TESTS = Path(__file__).parents[1]


def test_the_dag_has_the_configured_schedule_and_is_active_from_the_start(workshop: Workshop) -> None:
    workshop.sections["monitor"] = {"schedule": "90s"}
    workshop.write()
    dag = build_monitor_dags(workshop.config_file)["mlops_monitor"]

    assert dag.schedule == timedelta(seconds=90)
    assert dag.is_paused_upon_creation is False
    assert dag.task_ids == ["probe"]


def test_without_a_schedule_there_is_no_dag(workshop: Workshop) -> None:
    workshop.sections["monitor"] = {"schedule": None}
    workshop.write()

    assert build_monitor_dags(workshop.config_file) == {}


def test_the_settings_are_the_same_read_alone_and_with_the_models(workshop: Workshop) -> None:
    workshop.sections["monitor"] = {"refresh": "3s", "hosts": [{"host": "::1", "port": 1}]}
    workshop.add_model("other")
    whole = load_config(workshop.config_file).config

    assert load_settings(workshop.config_file) == whole.model_copy(update={"models": {}})


def test_a_broken_model_does_not_take_the_monitor_along(workshop: Workshop) -> None:
    workshop.sections["monitor"] = {}
    workshop.write()
    text = workshop.config_file.read_text()
    workshop.config_file.write_text(text + "  broken:\n    key: [\n")

    assert "mlops_monitor" in build_monitor_dags(workshop.config_file)


@pytest.mark.parametrize(
    ("monitor", "said"),
    [
        ({"hosts": [{"host": "http://a.example", "port": 80}]}, "is not a host"),
        ({"hosts": [{"host": "a.example:80", "port": 80}]}, "is not a host"),
        ({"hosts": [{"host": "a", "port": 0}]}, "at least 1"),
        ({"hosts": [{"host": "a", "port": 1}, {"host": "a", "port": 1}]}, "listed twice"),
        ({"hosts": {"host": "a", "port": 1}}, "expected a list"),
        ({"databases": [{"connection": "a"}, {"connection": "a"}]}, "listed twice"),
        ({"schedule": ["churn.predictions"]}, "must recur with time"),
        ({"failure_threshold": 0}, "at least 1"),
        ({"hosts": [{"host": "a", "success_threshold": 101}]}, "at most 100"),
        ({"schedule": "@once"}, "must recur with time"),
        ({"notify": [{"notifier": "smtp"}]}, "not the import path of a class"),
        ({"refrehs": "1s"}, "did you mean 'refresh'"),
    ],
)
def test_a_mistake_is_named(workshop: Workshop, monitor: object, said: str) -> None:
    workshop.config_file.write_text(yaml.safe_dump({"monitor": monitor, "models": workshop.models}))
    with pytest.raises(ConfigError, match=said):
        load_settings(workshop.config_file)


def test_a_model_cannot_have_the_name_of_the_monitors_dag(workshop: Workshop) -> None:
    workshop.add_model("mlops_monitor")

    [complaint] = workshop.loaded.broken["mlops_monitor"]
    assert "Monitor" in str(complaint)


def test_parsing_the_file_imports_nothing_heavy(workshop: Workshop) -> None:
    script = (
        "import sys, airflow.sdk; before = set(sys.modules); import mlops_plugin.orchestration.monitor_dag; "
        "print(*(set(sys.modules) - before))"
    )
    environment = {**workshop.environment, "PYTHONPATH": str(TESTS.parent / "plugins")}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    added = {name.partition(".")[0] for name in done.stdout.split()}

    assert not added & {"sqlalchemy", "pyarrow", "pandas", "numpy", "fastapi", "jinja2", "alembic"}


@pytest.mark.airflow
@pytest.mark.slow
def test_airflow_runs_it_by_itself_and_a_notifier_hears_of_changes(
    workshop: Workshop, postgres: Server
) -> None:
    """Of a host, of a model that overruns, its tasks waiting for a pool, and of one that is late, its run
    waiting for another. With the scheduler gone, the page says that dispatches are missed.
    """
    workshop.metadata = postgres.new_database()
    workshop.add_model("churn", **{**workshop.models["churn"], "schedule": "15s", "pool": "nowhere"})
    workshop.add_model("in_line", pool="nowhere_ever")
    port, told = free_port(), workshop.folder / "told"
    workshop.sections["monitor"] = {
        "schedule": "5s",
        "timeout": "2m",
        "hosts": [{"name": "Feature service", "host": "127.0.0.1", "port": port}],
        "databases": [{"connection": "source", "table": "customers"}],
        "notify": [
            {
                "notifier": "support.notifier_for_tests.FileNotifier",
                "arguments": {"file": str(told), "text": "{{ target }} is {{ after }} ({{ dag.dag_id }})"},
            }
        ],
    }
    workshop.write()
    forgotten = workshop.dispatch(origin="showroom")  # its API server was killed an hour ago
    with workshop.deployment.event_store() as store:
        store.begin(forgotten.identity)
    workshop.age(forgotten.id, timedelta(hours=1))
    plugins = str(TESTS.parent / "plugins")
    with running_airflow(workshop, {"PYTHONPATH": f"{plugins}:{TESTS}"}) as airflow:

        def heard(news: str) -> bool:
            return told.exists() and f"{news} (mlops_monitor)\n" in told.read_text()

        airflow.wait(lambda: heard("Feature service is down"), "the news that the host is down")
        with socket.create_server(("127.0.0.1", port)):
            airflow.wait(lambda: heard("Feature service is up"), "the news that the host is up")
        airflow.api.unpause("churn")
        airflow.wait(lambda: heard("model churn is overrun"), "the news that the model overruns")
        first = airflow.trigger("in_line", logical_date=hours_ago(2))
        airflow.wait(
            lambda: airflow.run_state("in_line", first) == "running", "a run that waits for its pool"
        )
        airflow.trigger("in_line", logical_date=hours_ago(1), run_after=hours_ago(1))
        airflow.wait(lambda: heard("model in_line is late"), "the news that the second run is late")
        airflow.call("POST", "/pools", {"name": "nowhere", "slots": 2})
        airflow.wait(lambda: heard("model churn is on time"), "the news that it is on time again")
        lose_the_scheduler(airflow)
        missed = airflow.wait(lambda: on_the_page(airflow, "churn", "missed"), "the page's word for it")
        # The DAG processor lives, and moves what is due on to the newest time.
        later = airflow.wait(
            lambda: (seen := on_the_page(airflow, "churn"))["next_at"] != missed["next_at"] and seen,
            "another time that is due",
        )
    assert later["state"] == "missed"
    # That was due before the model was resumed, if nothing has begun after it.
    assert later["why"].startswith(("the last run was due ", "the last run started "))

    assert workshop.record(forgotten.id).state == "failed"
    said = [line.removesuffix(" (mlops_monitor)") for line in told.read_text().splitlines()]
    of_the_host = [line for line in said if line.startswith("Feature service ")]
    assert of_the_host[:2] == ["Feature service is down", "Feature service is up"]
    of_the_model = [line for line in said if line in ("model churn is overrun", "model churn is on time")]
    assert of_the_model[:2] == ["model churn is overrun", "model churn is on time"]
    since = datetime.now(UTC) - timedelta(hours=1)
    with workshop.deployment.event_store() as store:
        rows = ProbeHistory(store).probes("database source customers", since=since)
    assert {row.state for row in rows} == {"up"}


def hours_ago(hours: int) -> str:
    return (datetime.now(UTC) - timedelta(hours=hours)).isoformat()


def lose_the_scheduler(airflow: RunningAirflow) -> None:
    """End it and what was under way; from now on nothing begins, and a second's patience is enough."""
    processes.stop(airflow.workshop.folder, lambda _said: None, "scheduler")
    for run in airflow.api.runs("churn"):
        if run["state"] in ("queued", "running"):
            path = f"/dags/churn/dagRuns/{quote(run['dag_run_id'], safe='')}?update_mask=state"
            airflow.call("PATCH", path, {"state": "failed"})
    airflow.workshop.sections["monitor"]["late_after"] = "1s"
    airflow.workshop.write()


def on_the_page(airflow: RunningAirflow, model: str, state: str | None = None) -> dict[str, Any]:
    """What the Monitor says of a model; nothing where it is in another state than that."""
    answer = airflow.api.call("GET", "/mlops/api/v1/monitor")
    (seen,) = (seen for seen in answer["models"] if seen["name"] == model)
    return seen if state in (None, seen["state"]) else {}
