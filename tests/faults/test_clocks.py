"""Workers whose clocks are wrong: the event store's clock dates what happens, and decides what is old."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_plugin.events.latest import latest_dispatches
from mlops_plugin.events.migrating import upgrade
from mlops_plugin.events.records import Step
from mlops_plugin.pipeline.dispatch import Dispatch
from support.servers import ServerDatabase
from support.workshop import Workshop

_STEPS = """
import sys
from pathlib import Path
from support.workshop import Workshop
from mlops_plugin.pipeline.dispatch import Dispatch
workshop = Workshop.again(Path(sys.argv[1]))
dispatch = Dispatch(id=sys.argv[3], model=workshop.model(sys.argv[2]), origin="terminal")
workshop.run_steps(dispatch, *sys.argv[4:])
"""


def run_at(workshop: Workshop, offset: str, dispatch: Dispatch, *steps: Step) -> None:
    """Steps on a worker whose clock is wrong by `offset`, as in "-1h"."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    assert library is not None, "apt-get install libfaketime"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(["plugins", "tests"]),
        "LD_PRELOAD": str(library),
        "FAKETIME": offset,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    arguments = [str(workshop.folder), dispatch.model.name, dispatch.id, *steps]
    subprocess.run([sys.executable, "-c", _STEPS, *arguments], env=environment, check=True)


@pytest.fixture
def shared(workshop: Workshop, mariadb_database: ServerDatabase, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A workshop whose event store is on a server, as it is if there are several workers."""
    monkeypatch.setenv("AIRFLOW_CONN_EVENTS", mariadb_database.airflow_uri())
    with workshop.deployment.event_store() as store:
        upgrade(store.address)
    return workshop


def test_dispatch_of_a_slow_worker_is_the_newest(shared: Workshop) -> None:
    shared.run(shared.dispatch())
    newest = shared.dispatch()
    run_at(shared, "-1h", newest, "collect", "log", "infer", "persist")
    assert shared.records()[0].dispatch_id == newest.id
    with shared.deployment.event_store() as store:
        assert latest_dispatches(store, ["churn"])["churn"].dispatch_id == newest.id


def test_fast_worker_does_not_sweep_what_others_still_need(shared: Workshop) -> None:
    shared.add_model("other")
    in_flight, other = shared.dispatch(), shared.dispatch("other")
    shared.run_steps(in_flight, "collect", "log", "infer")
    run_at(shared, "+8d", other, "collect", "log", "infer", "persist")
    shared.run_steps(in_flight, "persist")
    assert shared.record(in_flight.id).state == "succeeded"


def test_files_of_a_slow_worker_are_not_swept_while_its_dispatch_runs(shared: Workshop) -> None:
    shared.add_model("other")
    in_flight = shared.dispatch()
    run_at(shared, "-8d", in_flight, "collect", "log", "infer")
    shared.run(shared.dispatch("other"))
    shared.run_steps(in_flight, "persist")
    assert shared.record(in_flight.id).state == "succeeded"


@pytest.mark.parametrize("store", ["mariadb", "sqlite"])
def test_clock_that_is_set_back_ends_no_dispatch_before_it_began(
    store: str, request: pytest.FixtureRequest
) -> None:
    workshop: Workshop = request.getfixturevalue("shared" if store == "mariadb" else "workshop")
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log")
    run_at(workshop, "-1h", dispatch, "infer", "persist")
    record = workshop.record(dispatch.id)
    assert record.state == "succeeded"
    assert record.finished_at is not None
    assert record.created_at <= record.finished_at
    times = [event.at for event in workshop.events(dispatch.id)]
    assert times == sorted(times)
