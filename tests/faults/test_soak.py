"""The soak's oracle notices what is wrong; and some faults in a real Airflow (`make soak` has more)."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from faults.soak import Plan, soak
from local_stack import processes
from mlops_plugin.events.records import EventRecord, Kind, Step
from support.airflow_process import RunningAirflow
from support.event_tables import make_tables
from support.local_components import wait_until
from support.servers import ServerDatabase
from support.soak_oracle import End, Findings, Watch, by_design, look
from support.soaked_models import KEYS, MODELS, Customers, add_models, sink_of
from support.soaked_processes import SoakedProcesses, title_of
from support.workshop import Workshop


@pytest.fixture
def end(tmp_path: Path, mariadb_database: ServerDatabase, postgres_database: ServerDatabase) -> Iterator[End]:
    """Every model of a soak was dispatched twice, and nothing went wrong; key 7 is bad now, key 8 gone."""
    workshop = Workshop(tmp_path)
    rows, second = mariadb_database, postgres_database
    workshop.connections = {
        **dict.fromkeys(("source", "sink", "events"), rows.airflow_uri()),
        "by_odbc": rows.airflow_uri("odbc"),
        "second": second.airflow_uri(),
    }
    add_models(workshop)
    customers = Customers(rows)
    customers.create()
    with workshop.entered():
        with workshop.deployment.event_store() as store:
            make_tables(store.address)
        for is_last in (False, True):
            last = {}
            for name in MODELS:
                dispatch = workshop.dispatch(name)
                workshop.run(dispatch)
                last[name] = dispatch.id
            if not is_last:
                customers.change(7, is_bad=True)
                customers.delete(8)
                customers.change_some(random.Random(1))
        sinks = {"sink": rows, "by_odbc": rows, "second": second}
        yield End(workshop, customers, sinks, last, frozenset())


def found_in(end: End) -> Findings:
    found = Findings()
    look(end, found)
    return found


def test_oracle_finds_nothing_where_nothing_went_wrong_and_each_thing_that_did(end: End) -> None:
    assert found_in(end).all == []
    tables = {name: end.sinks[sink_of(name)["connection"]] for name in MODELS}
    good = [key for key, (_, is_bad) in sorted(end.customers.rows.items()) if not is_bad]
    for name, database in tables.items():
        rows = f"{name}_predictions_rows"
        database.execute(f"UPDATE {rows} SET prediction = prediction - 1 WHERE id = {good[0]}")
        database.execute(f"DELETE FROM {rows} WHERE id = {good[1]}")
    end.sinks["sink"].execute("DELETE FROM following_predictions_quarantine WHERE id = 7")
    end.sinks["sink"].execute("UPDATE mlops_dispatch SET state = 'running' WHERE model = 'divided'")
    found = found_in(end)
    stale = {line.split(":")[0] for line in found.stale if f": key {good[0]} " in line}
    assert stale == MODELS.keys() - {"skipping"}  # which keeps what was predicted once
    lost = {name for name in MODELS if f"{name}: key {good[1]}" in found.lost}
    assert lost == {*MODELS}
    assert "following: key 7 is bad, and not in quarantine" in found.lost
    assert sum(line.startswith("divided: ") for line in found.untrue) == 2
    assert {line.split(":")[0] for line in found.untrue} >= {"appending", "skipping"}  # they keep all rows


def test_watch_notices_a_prediction_that_goes_back_or_vanishes(mariadb_database: ServerDatabase) -> None:
    watch = watch_over(mariadb_database)
    for name in ("following", "elsewhere"):
        columns = "id INT, prediction DOUBLE, dispatch_id VARCHAR(36)"
        mariadb_database.execute(
            f"CREATE TABLE {name}_predictions ({columns})",
            f"INSERT INTO {name}_predictions VALUES (9, 5, 'one'), (10, 6, 'one')",
        )
    watch.look()
    mariadb_database.execute("UPDATE following_predictions SET prediction = 7 WHERE id = 10")
    watch.look()
    assert watch.found.all == []
    mariadb_database.execute("UPDATE following_predictions SET prediction = 4 WHERE id = 9")
    mariadb_database.execute("DELETE FROM elsewhere_predictions WHERE id = 9")
    watch.look()
    assert [line[:16] for line in watch.found.stale] == ["following: key 9"]
    assert [line[:16] for line in watch.found.lost] == ["elsewhere: key 9"]


def test_watch_notices_what_a_mark_has_passed_and_nobody_has(mariadb_database: ServerDatabase) -> None:
    watch = watch_over(mariadb_database)
    watch.customers.create()
    watch.customers.change(7, is_bad=True)  # version 41
    watch.customers.change(8, is_bad=False)
    predictions = ", ".join(f"({key}, {key + 1}, 'one')" for key in range(KEYS))
    mariadb_database.execute(
        "CREATE TABLE mlops_mark (model VARCHAR(40), number INT, value VARCHAR(40))",
        "INSERT INTO mlops_mark VALUES ('following', 1, '0'), ('following', 2, '40'), ('elsewhere', 1, '41')",
        "CREATE TABLE following_predictions_quarantine (id INT, released_by VARCHAR(36))",
        "INSERT INTO following_predictions_quarantine VALUES (6, NULL), (7, 'one')",
        *(
            f"CREATE TABLE {name}_predictions (id INT, prediction DOUBLE, dispatch_id VARCHAR(36))"
            for name in ("following", "elsewhere")
        ),
        *(f"INSERT INTO {name}_predictions VALUES {predictions}" for name in ("following", "elsewhere")),
    )
    watch.look()
    assert [line[:41] for line in watch.found.all] == ["elsewhere: the mark 41 has passed key 7, "]
    mariadb_database.execute("INSERT INTO mlops_mark VALUES ('following', 3, '42')")
    watch.look()
    watch.look()  # nothing is told twice
    told = ["following: key 7 is bad", "following: the mark 42 "]
    assert sorted(line[:23] for line in watch.found.lost[1:]) == told


def test_watch_notices_what_is_there_twice(mariadb_database: ServerDatabase) -> None:
    watch = watch_over(mariadb_database)
    for name in ("appending", "skipping", "divided"):
        mariadb_database.execute(
            f"CREATE TABLE {name}_predictions (id INT, prediction DOUBLE, dispatch_id VARCHAR(36))",
            f"INSERT INTO {name}_predictions VALUES (9, 5, 'one'), (9, 6, 'two'), (8, 1, 'one')",
        )
    watch.look()
    assert [line[:17] for line in watch.found.doubled] == ["divided: key 9 is", "skipping: key 9 i"]


def watch_over(database: ServerDatabase) -> Watch:
    sinks = dict.fromkeys(("sink", "by_odbc", "second"), database)
    return Watch(sinks, Findings(), database, Customers(database))


def happened(*what: tuple[Step, Kind]) -> list[EventRecord]:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        EventRecord(number, "d1", "following", step, kind, None, 1, at, None, None, None, None)
        for number, (step, kind) in enumerate(what)
    ]


def test_only_what_an_operator_did_explains_a_success_that_is_recorded_as_failed() -> None:
    persisted = happened(("collect", "succeeded"), ("persist", "started"), ("persist", "succeeded"))
    collected_again = [*persisted, *happened(("collect", "started"), ("collect", "succeeded"))]
    acts = ["'collect' was cleared alone"]
    assert by_design(persisted, "failed", acts) is None  # its rows are there
    assert by_design(collected_again, "failed", []) is None
    assert (by_design(collected_again, "failed", acts) or "").startswith(acts[0])


_SCHEDULER = """#!{python}
import os, time
from setproctitle import setproctitle
for title in ("LocalExecutor: <idle>", "LocalExecutor: 01a227d5", "01a227d5-6300"):
    if os.fork() == 0:
        setproctitle("airflow worker -- " + title)
        break
time.sleep(60)
"""


def test_only_idle_processes_of_a_killed_scheduler_are_ended(tmp_path: Path) -> None:
    scheduler = tmp_path / "scheduler"
    scheduler.write_text(_SCHEDULER.format(python=sys.executable))
    scheduler.chmod(0o700)
    airflow = RunningAirflow(Workshop(tmp_path), 1, dict(os.environ), python=str(scheduler))
    soaked = SoakedProcesses(airflow, ["scheduler"], random.Random(1))

    def workers() -> dict[str, int]:
        found = {title_of(process.pid): process.pid for process in processes.find(tmp_path)}
        return {title: pid for title, pid in found.items() if title.startswith("airflow worker")}

    try:
        started = airflow.start("scheduler")
        wait_until(lambda: len(workers()) == 3)
        before = workers()
        soaked.keep_alive()
        assert soaked.orphans == set()
        started.kill()
        started.wait()
        soaked.keep_alive()
        idle = before.pop("airflow worker -- LocalExecutor: <idle>")
        assert soaked.orphans == {idle}
        assert {*before.values()} <= {process.pid for process in processes.find(tmp_path)}
        assert "scheduler" in processes.components(tmp_path)
    finally:
        for process in processes.find(tmp_path):
            os.kill(process.pid, signal.SIGKILL)
        for component in airflow.started:
            component.wait()


# One of each kind that costs little.
SHORT = (
    *("task killed", "connections reset", "MariaDB killed", "task cleared"),
    *("task and supervisor paused", "terminal killed"),
)


@pytest.mark.airflow
@pytest.mark.slow
@pytest.mark.server
def test_nothing_is_lost_doubled_or_stale_after_one_fault_of_many_kinds(tmp_path: Path) -> None:
    tally = soak(tmp_path, Plan(len(SHORT), seed=3, models=("following",), kinds=SHORT))
    assert sorted(tally.faults.elements()) == sorted(SHORT)
    assert (tally.hangs, tally.findings.all) == ([], []), "\n".join(tally.lines)
    assert tally.rests == 1


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.airflow
@pytest.mark.server
@pytest.mark.parametrize("executor", ["LocalExecutor", "CeleryExecutor"])
def test_nothing_is_lost_doubled_or_stale_after_some_faults(tmp_path: Path, executor: str) -> None:
    tally = soak(tmp_path, Plan(faults=30, seed=3, executor=executor))
    assert tally.faults.total() == 30
    assert (tally.hangs, tally.findings.all) == ([], []), "\n".join(tally.lines)
