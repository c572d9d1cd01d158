"""Databases that go silent while something waits for them: whatever waits ends, and says who was silent."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.airflow_process import running_airflow
from support.event_tables import make_tables
from support.preloaded_python import PreloadedPython
from support.servers import ServerDatabase
from support.silent_proxy import SilentProxy, silent_proxy
from support.ways_in import INTO_MARIADB
from support.workshop import Workshop

ROOT = Path(__file__).parents[2]
EndOf = Callable[..., tuple[list[str], str]]
OUTER_LIMIT_S = 150  # far more than the limits below add up to, far less than for ever
ON_SERVERS = ("odbc-mariadb", "mysql", "odbc-postgres", "postgres")
COMMANDS_ON = ("odbc-mariadb", "odbc-postgres", "postgres")
ENGINES = ("mariadb", "postgres")
# One object holds the limits of all, and these waits take minutes together: `make test` tries each way in,
# each thing that waits and each moment, and `make test-long` all of them with each other.
SOURCES = {
    ("odbc-mariadb", "dispatch", "statement"),
    ("mysql", "dispatch", "statement"),
    ("mysql", "cases", "statement"),
    ("odbc-postgres", "check", "greeting"),
    ("postgres", "dispatch", "statement"),
    ("postgres", "probe", "greeting"),
}
SINKS = {("mysql",), ("postgres",)}
STORES = {
    ("mariadb", "dispatch", "statement"),
    ("mariadb", "task", "commit"),
    ("mariadb", "pages", "greeting"),
    ("postgres", "dispatch", "commit"),
    ("postgres", "task", "greeting"),
    ("postgres", "task", "statement"),
    ("postgres", "pages", "statement"),
}
STORES_AT_THE_END = {("mariadb", "event store"), ("postgres", "event store and source")}


def tried(short: Set[tuple[str, ...]], *choices: Sequence[str]) -> list[Any]:
    """All combinations; those that are not in `short` in `make test-long` only."""
    return [
        pytest.param(*found, marks=() if found in short else pytest.mark.long)
        for found in itertools.product(*choices)
    ]


# Another process of the workshop's deployment, with limits of seconds; it prints how it ended.
PROCESS = """
import contextlib, json, sys, time
from dataclasses import replace
from pathlib import Path
from airflow.sdk.exceptions import AirflowTaskTimeout
from airflow.sdk.execution_time.timeout import timeout
from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.wait_limits import Limits, StoreLimits
from mlops_plugin.pipeline.runner import run_dispatch, run_step
from mlops_plugin.pipeline.staging.shelf import unheard
from support.workshop import Workshop

folder, doing = sys.argv[1:]
limits = Limits(
    connect_s=3, statement_s=3, commit_s=3, store=StoreLimits(connect_s=3, ping_s=2, answer_s=3, record_s=2)
)
workshop = Workshop.again(Path(folder))
deployment = replace(workshop.deployment, limits=limits)
model = workshop.model()

@contextlib.contextmanager
def unwatched(step):
    yield unheard

def task(step):
    # As Airflow ends a task: an exception in the main thread, once.
    dispatch = workshop.dispatch()
    with timeout(int(model.task_timeout.total_seconds())):
        run_step(step, dispatch, deployment, query=lambda: model.source.query)

def work():
    if doing == "dispatch":
        run_dispatch(workshop.dispatch(), deployment, lambda: model.source.query, unwatched)
    elif doing == "check":
        from mlops_plugin.cli.check import check_models
        check_models(workshop.loaded, [], deployment)
    elif doing == "cases":
        from mlops_plugin.serving.cases import CaseView, open_cases
        with open_cases(model, deployment) as cases:
            cases.page(CaseView())
    elif doing == "probe":
        from mlops_plugin.monitoring.database_probe import DatabaseProbe
        from mlops_plugin.monitoring.probe_result import Notes
        probe = DatabaseProbe(deployment.events, workshop.home, Notes(), timeout_s=3)
        probe.of_database("source", "customers")
    elif doing == "task":
        task("collect")
    elif doing == "pages":
        with deployment.event_store() as store:
            store.dispatches()

try:
    work()
except BaseException as error:
    notes = getattr(error, "__notes__", [])
    print("ENDED", json.dumps([type(error).__name__, str(error), *notes]), flush=True)
else:
    print("ENDED", json.dumps(["well"]))
"""


def failed_steps(workshop: Workshop) -> list[str | None]:
    """Of the newest dispatch."""
    events = workshop.events(workshop.records()[0].dispatch_id)
    return [event.step for event in events if event.kind == "failed" and event.step]


class Behind:
    """A workshop whose connections of some names lead through a proxy to a server."""

    def __init__(
        self, workshop: Workshop, database: ServerDatabase, kind: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.workshop, self.database = workshop, database
        self._kind, self._monkeypatch = kind, monkeypatch

    def connect(self, name: str, proxy: SilentProxy | None = None) -> None:
        there = self.database if proxy is None else replace(self.database, port=proxy.port)
        kind = None if name == "events" else self._kind
        self._monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", there.airflow_uri(kind))

    def make_customers(self, rows: int = 5) -> None:
        self.database.execute(
            "CREATE TABLE customers (id INTEGER PRIMARY KEY, a DOUBLE PRECISION, b DOUBLE PRECISION, "
            "c DOUBLE PRECISION)"
        )
        values = ", ".join(f"({number}, 0.5, 0.25, 1.5)" for number in range(1, rows + 1))
        self.database.execute(f"INSERT INTO customers VALUES {values}")


@pytest.fixture
def end_of(preloaded: PreloadedPython) -> EndOf:
    """How a process of a workshop ended (the error's type, its words, its notes), and what it printed before.

    `tell` is called with its process id as soon as it has one.
    """

    def end(
        workshop: Workshop, doing: str, tell: Callable[[int], None] | None = None
    ) -> tuple[list[str], str]:
        words = (str(workshop.folder), doing)
        done = preloaded.run(PROCESS, *words, cwd=ROOT, env=os.environ, timeout_s=OUTER_LIMIT_S, tell=tell)
        assert done.returncode == 0, done.stderr
        printed, _, ended = done.stdout.rpartition("ENDED ")
        found: list[str] = json.loads(ended)
        return found, printed

    return end


@pytest.fixture
def behind(request: pytest.FixtureRequest, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Behind:
    engine = "mariadb" if request.param in INTO_MARIADB else "postgres"
    database: ServerDatabase = request.getfixturevalue(f"{engine}_database")
    workshop.add_model("churn", task_timeout="4s")
    kind = "odbc" if request.param.startswith("odbc") else None
    found = Behind(workshop, database, kind, monkeypatch)
    found.make_customers()
    found.connect("source")
    return found


@pytest.fixture
def store_behind(
    request: pytest.FixtureRequest, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> Behind:
    """With an event store on a server, whose tables exist."""
    database: ServerDatabase = request.getfixturevalue(f"{request.param}_database")
    workshop.add_model("churn", task_timeout="4s")
    found = Behind(workshop, database, None, monkeypatch)
    found.make_customers()
    found.connect("events")
    with workshop.deployment.event_store() as store:
        make_tables(store.address)
    return found


@pytest.mark.parametrize(
    ("behind", "doing", "moment"),
    tried(SOURCES, ON_SERVERS, ("dispatch", "check", "cases", "probe"), ("greeting", "statement")),
    indirect=["behind"],
)
def test_silent_source_ends_whatever_waits_for_it(
    behind: Behind, end_of: EndOf, doing: str, moment: str
) -> None:
    with silent_proxy(behind.database.host, behind.database.port) as proxy:
        behind.connect("source", proxy)
        proxy.is_silent = moment == "greeting"
        proxy.at = re.compile(b"customers")
        ended, printed = end_of(behind.workshop, doing)
        assert proxy.is_silent
    words = printed if doing == "check" else ended[1]
    assert ended[0] == (
        "well" if doing == "check" else "DatabaseError" if moment == "greeting" else "ServerSilent"
    )
    assert "connection 'source'" in words
    if moment == "statement":
        assert f"127.0.0.1:{proxy.port}" in words
    if doing == "dispatch":
        (record,) = behind.workshop.records()
        assert (record.state, failed_steps(behind.workshop)) == ("failed", ["collect"])


@pytest.mark.parametrize("behind", tried(SINKS, ON_SERVERS), indirect=True)
def test_sink_that_goes_silent_at_commit_ends_the_dispatch(behind: Behind, end_of: EndOf) -> None:
    with silent_proxy(behind.database.host, behind.database.port) as proxy:
        behind.connect("sink", proxy)
        behind.workshop.add_model("churn", task_timeout="20s")
        # A COPY of a query in brackets reads.
        writes = rb"(INSERT|COPY(?! *\()|MERGE)[^;]*churn_predictions"
        proxy.armed_by = re.compile(writes, re.IGNORECASE | re.DOTALL)
        proxy.at = re.compile(b"COMMIT", re.IGNORECASE)
        ended, _ = end_of(behind.workshop, "dispatch")
        assert proxy.is_silent
    assert ended[0] == "CommitUncertain"
    assert "committing" in ended[1]
    (record,) = behind.workshop.records()
    assert (record.state, failed_steps(behind.workshop)) == ("failed", ["persist"])
    assert behind.database.rows("SELECT count(*) FROM churn_predictions") == [(0,)]


@pytest.mark.parametrize(
    "name", ["mysql", *(pytest.param(name, marks=pytest.mark.long) for name in COMMANDS_ON)]
)
@pytest.mark.parametrize("words", [("dispatch", "churn"), ("check", "--connect")], ids=" ".join)
def test_command_in_the_terminal_fails_by_its_limits(
    name: str,
    words: tuple[str, ...],
    request: pytest.FixtureRequest,
    workshop: Workshop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database: ServerDatabase = request.getfixturevalue(
        f"{'mariadb' if name in INTO_MARIADB else 'postgres'}_database"
    )
    workshop.add_model("churn", task_timeout="4s")
    behind = Behind(workshop, database, "odbc" if name.startswith("odbc") else None, monkeypatch)
    behind.make_customers()
    with silent_proxy(database.host, database.port) as proxy:
        behind.connect("source", proxy)
        proxy.is_silent = words[0] == "check"  # its limit for connecting is the shortest
        proxy.at = re.compile(b"customers")
        done = subprocess.run(
            [sys.executable, "-m", "mlops_plugin.cli", *words],
            check=False,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": "plugins"},
            timeout=OUTER_LIMIT_S,
        )
        assert proxy.is_silent
    said = done.stdout if words[0] == "check" else done.stderr
    assert done.returncode == 1
    assert "connection 'source'" in said
    assert "Traceback" not in done.stdout + done.stderr
    if words[0] == "dispatch":
        (record,) = workshop.records()
        assert (record.state, failed_steps(workshop)) == ("failed", ["collect"])


@pytest.mark.airflow
@pytest.mark.long
def test_task_of_a_real_airflow_fails_by_its_limits(
    workshop: Workshop, postgres_database: ServerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.add_model("churn", task_timeout="10s")
    behind = Behind(workshop, postgres_database, None, monkeypatch)
    behind.make_customers()
    with silent_proxy(postgres_database.host, postgres_database.port) as proxy:
        behind.connect("source", proxy)
        workshop.connections["source"] = os.environ["AIRFLOW_CONN_SOURCE"]
        proxy.at = re.compile(b"customers")
        with running_airflow(workshop) as airflow:
            airflow.wait(lambda: "churn" in airflow.api.dag_ids(), "parsing")
            run = airflow.trigger("churn")
            assert airflow.wait_for_run("churn", run) == "failed"
            assert airflow.task_states("churn", run)["collect"] == "failed"
        assert proxy.is_silent
    (record,) = workshop.records()
    assert (record.state, failed_steps(workshop)) == ("failed", ["collect"])
    assert "AirflowTaskTimeout" in (record.error or "")
    assert "(connection 'source')" in (record.error or "")


@pytest.mark.parametrize(
    ("store_behind", "doing", "moment"),
    [
        *tried(STORES, ENGINES, ("dispatch", "task"), ("greeting", "statement", "commit")),
        *tried(STORES, ENGINES, ("pages",), ("greeting", "statement")),  # they commit nothing
    ],
    indirect=["store_behind"],
)
def test_silent_event_store_ends_whatever_waits_for_it(
    store_behind: Behind, end_of: EndOf, doing: str, moment: str
) -> None:
    store_behind.workshop.add_model("churn", task_timeout="60s")  # so that it is not what ends the wait
    with silent_proxy(store_behind.database.host, store_behind.database.port) as proxy:
        store_behind.connect("events", proxy)
        proxy.is_silent = moment == "greeting"
        if moment == "commit":
            proxy.armed_by = re.compile(b"INSERT INTO mlops_event")
        proxy.at = re.compile(b"mlops_dispatch" if moment == "statement" else rb"COMMIT\b")
        ended, _ = end_of(store_behind.workshop, doing)
        assert proxy.is_silent
    assert ended[0] == "EventStoreError"
    assert "event store (connection 'events')" in ended[1]


@pytest.mark.parametrize(
    ("store_behind", "silent"),
    tried(STORES_AT_THE_END, ENGINES, ("event store", "event store and source")),
    indirect=["store_behind"],
)
def test_task_ends_by_its_timeout_although_its_failure_cannot_be_recorded(
    store_behind: Behind, end_of: EndOf, silent: str
) -> None:
    there = (store_behind.database.host, store_behind.database.port)
    asleep = "SLEEP(60) = 0" if store_behind.database.engine == "mysql" else "pg_sleep(60) IS NOT NULL"
    query = f"SELECT id, a, b, c FROM customers WHERE {asleep}"
    store_behind.workshop.add_model("churn", task_timeout="60s", source={"query": query})
    tasks: list[int] = []
    with silent_proxy(*there) as events, silent_proxy(*there) as source:
        store_behind.connect("events", events)
        store_behind.connect("source", source)

        def time_is_over() -> None:
            events.fall_silent()
            if tasks:
                os.kill(tasks.pop(), signal.SIGALRM)  # as Airflow's own clock

        # Once the try has registered and the source is asked, the event store is heard of no more.
        source.at = re.compile(b"customers")
        source.on_match = time_is_over
        source.stays_open = silent == "event store"
        ended, _ = end_of(store_behind.workshop, "task", tasks.append)
        assert events.is_silent
    assert ended[0] == "AirflowTaskTimeout"
    assert "(connection 'source')" in ended[2]
    assert "this failure was not recorded" in ended[-1]
