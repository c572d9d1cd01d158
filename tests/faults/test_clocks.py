"""Workers whose clocks are wrong: the event store's clock dates what happens, and decides what is old."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlops_plugin.events.health.incidents import Change
from mlops_plugin.events.health.notices import Notices, add_notices
from mlops_plugin.events.health.probes import ProbeHistory
from mlops_plugin.events.latest import latest_dispatches
from mlops_plugin.events.records import Step
from mlops_plugin.pipeline.dispatch import Dispatch
from support.event_tables import make_tables
from support.preloaded_python import preloaded_python
from support.servers import ServerDatabase
from support.workshop import Workshop

PythonAt = Callable[..., str]
RunAt = Callable[..., None]
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
_STEPS = """
import sys
from pathlib import Path
from support.workshop import Workshop
from mlops_plugin.pipeline.dispatch import Dispatch
workshop = Workshop.again(Path(sys.argv[1]))
dispatch = Dispatch(id=sys.argv[3], model=workshop.model(sys.argv[2]), origin="terminal")
workshop.run_steps(dispatch, *sys.argv[4:])
"""


_CLAIM = """
import sys
from datetime import timedelta
from pathlib import Path
from support.workshop import Workshop
from mlops_plugin.events.health.notices import Notices
with Workshop.again(Path(sys.argv[1])).deployment.event_store() as store:
    notices = Notices(store)
    (notice,) = notices.waiting()
    print(notices.claim(notice, timedelta(minutes=5)) is not None)
"""
_ROUND = """
import sys
from datetime import timedelta
from pathlib import Path
from support.workshop import Workshop
from mlops_plugin.monitoring.model_state import model_state
from mlops_plugin.monitoring.recording import record_round

class Dag:
    is_stale = is_paused = False
    last_run_state = last_run_id = last_run_after = last_run_start = last_run_end = None
    next_run_after = next_data_interval_start = next_data_interval_end = resumed_at = None

def find_dags(last, now):
    hour = timedelta(hours=1)
    print(model_state(Dag, last["churn"], now, late_after=hour, limit=hour / 2).word)
    return {}

workshop = Workshop.again(Path(sys.argv[1]))
with workshop.deployment.event_store() as store:
    record_round(workshop.loaded, store, workshop.home, find_dags)
"""


# With libfaketime `time.sleep` fails, and a thread that says so while Python ends would end it by a signal.
_END = """
import os, sys
sys.stdout.flush()
os._exit(0)
"""


@pytest.fixture(scope="module")
def python_at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PythonAt]:
    """The last line that code prints in a process whose clock is wrong by so much, as in "-1h"."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    assert library is not None, "apt-get install libfaketime"
    environment = {
        "LD_PRELOAD": str(library),
        "FAKETIME": "+0",
        "FAKETIME_NO_CACHE": "1",  # each look at the clock asks by how much it is wrong
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # else threads that wait for each other burn the processor
    }
    with preloaded_python(tmp_path_factory.mktemp("clocks"), **environment) as python:

        def run(offset: str, code: str, *arguments: str) -> str:
            changes = {**os.environ, "FAKETIME": offset}
            done = python.run(code + _END, *arguments, cwd=Path.cwd(), env=changes)
            assert done.returncode == 0, done.stderr
            return done.stdout.splitlines()[-1] if done.stdout else ""

        late = float(run("-1h", "import time; print(time.time())"))
        assert time.time() - late > 3590
        yield run


@pytest.fixture
def run_at(python_at: PythonAt) -> RunAt:
    """Run steps on a worker whose clock is wrong by so much."""

    def run(workshop: Workshop, offset: str, dispatch: Dispatch, *steps: Step) -> None:
        python_at(offset, _STEPS, str(workshop.folder), dispatch.model.name, dispatch.id, *steps)

    return run


@pytest.fixture
def shared(workshop: Workshop, mariadb_database: ServerDatabase, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A workshop whose event store is on a server, as it is if there are several workers."""
    monkeypatch.setenv("AIRFLOW_CONN_EVENTS", mariadb_database.airflow_uri())
    with workshop.deployment.event_store() as store:
        make_tables(store.address)
    return workshop


def test_dispatch_of_a_slow_worker_is_the_newest(shared: Workshop, run_at: RunAt) -> None:
    shared.run(shared.dispatch())
    newest = shared.dispatch()
    run_at(shared, "-1h", newest, "collect", "log", "infer", "persist")
    assert shared.records()[0].dispatch_id == newest.id
    with shared.deployment.event_store() as store:
        assert latest_dispatches(store, ["churn"])["churn"].dispatch_id == newest.id


def test_fast_worker_does_not_sweep_what_others_still_need(shared: Workshop, run_at: RunAt) -> None:
    shared.add_model("other")
    in_flight, other = shared.dispatch(), shared.dispatch("other")
    shared.run_steps(in_flight, "collect", "log", "infer")
    run_at(shared, "+8d", other, "collect", "log", "infer", "persist")
    shared.run_steps(in_flight, "persist")
    assert shared.record(in_flight.id).state == "succeeded"


def test_files_of_a_slow_worker_are_not_swept_while_its_dispatch_runs(
    shared: Workshop, run_at: RunAt
) -> None:
    shared.add_model("other")
    in_flight = shared.dispatch()
    run_at(shared, "-8d", in_flight, "collect", "log", "infer")
    shared.run(shared.dispatch("other"))
    shared.run_steps(in_flight, "persist")
    assert shared.record(in_flight.id).state == "succeeded"


@pytest.mark.parametrize("store", ["mariadb", "sqlite"])
def test_clock_that_is_set_back_ends_no_dispatch_before_it_began(
    store: str, request: pytest.FixtureRequest, run_at: RunAt
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


def test_fast_worker_sends_no_notice_that_another_one_has_claimed(
    shared: Workshop, python_at: PythonAt
) -> None:
    change = Change("host a:1", "up", "down", NOON, NOON, None)
    with shared.deployment.event_store() as store:
        store.write("a change", lambda connection: add_notices(connection, [change], {}))
        notices = Notices(store)
        (notice,) = notices.waiting()
        assert notices.claim(notice, timedelta(minutes=5))
        assert python_at("+1h", _CLAIM, str(shared.folder)) == "False"
        notices.release(notice)
        assert python_at("-1h", _CLAIM, str(shared.folder)) == "True"
        assert not notices.claim(notice, timedelta(minutes=5))


def test_fast_monitor_takes_no_running_dispatch_for_overrun(shared: Workshop, python_at: PythonAt) -> None:
    shared.run_steps(shared.dispatch(), "collect")
    assert python_at("+1h", _ROUND, str(shared.folder)) == "running"


def test_probes_of_a_slow_monitor_are_dated_by_the_store_and_kept(
    shared: Workshop, python_at: PythonAt
) -> None:
    shared.run_steps(shared.dispatch(), "collect")
    python_at("-8d", _ROUND, str(shared.folder))
    with shared.deployment.event_store() as store:
        (probe,) = ProbeHistory(store).probes("event store", since=store.now() - timedelta(minutes=5))
        assert probe.at <= store.now()
