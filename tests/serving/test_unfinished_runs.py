"""A Showroom run that lasts is on record while it does, and closed where its server was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mlops_plugin.config.schema import ServingConfig
from mlops_plugin.errors import ServingError
from mlops_plugin.events.records import DispatchRecord, summarise
from mlops_plugin.pipeline.recording.reconciliation import close_abandoned
from mlops_plugin.serving.run import Showroom
from mlops_plugin.serving.wanted import Wanted
from mlops_plugin.workers.patience import longest_silence
from mlops_plugin.workers.pool import ModelPool
from support import hostile_models as hostile
from support.workshop import FEATURES, Workshop

_SERVER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from mlops_plugin.config.schema import ServingConfig
from mlops_plugin.workers import pool as pools
from mlops_plugin.workers.pool import ModelPool
from mlops_plugin.serving.run import Showroom
from mlops_plugin.serving.wanted import Wanted
from support.workshop import Workshop
pools._QUEUE_S = 600.0
workshop, pool = Workshop.again(Path(sys.argv[1])), ModelPool(ServingConfig())
with workshop.deployment.event_store() as store, ThreadPoolExecutor(1) as threads:
    with pool.runtime(workshop.model()):  # for whom the run waits
        showroom = Showroom(workshop.deployment, store, pool)
        threads.submit(showroom.run, workshop.model(), Wanted(keys=[(2,)]), "ada").result()
"""


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run waits for its model until the test has seen it do so, also on a busy machine."""
    monkeypatch.setattr("mlops_plugin.workers.pool._QUEUE_S", 600.0)


@pytest.mark.usefixtures("_patient")
def test_a_run_that_waits_for_its_model_is_on_record_while_it_does(
    showroom: Showroom, workshop: Workshop, pool: ModelPool
) -> None:
    with ThreadPoolExecutor(1) as threads:
        with pool.runtime(workshop.model()):  # another's
            waits = threads.submit(showroom.run, workshop.model(), Wanted(keys=[(2,)]), "ada")
            record = _wait_for_running_record(workshop)
            assert (record.rows_collected, record.requested_by) == (1, "ada")
            assert record.artifact_sha256 is not None
        shown = waits.result()
    assert shown.dispatch_id == record.dispatch_id
    assert workshop.record(record.dispatch_id).state == "succeeded"
    kinds = [(event.step, event.kind) for event in workshop.events(record.dispatch_id)]
    assert len(kinds) == len(set(kinds)) == 11


def test_a_run_of_a_slow_model_is_on_record_before_it_answers(workshop: Workshop) -> None:
    artifact = hostile.save(hostile.Hostile(), workshop.folder / "hostile.pickle")
    workshop.add_model("hostile", model=artifact, features=list(FEATURES))
    patient = ServingConfig.model_validate({"timeout": "10m"})
    model, pool = workshop.model("hostile"), ModelPool(patient)
    with workshop.deployment.event_store() as store, ThreadPoolExecutor(1) as threads:
        showroom = Showroom(workshop.deployment, store, pool)
        rows: dict[str, Any] = {"b": 0.5, "c": 0.25}
        try:
            showroom.run(model, Wanted(rows=[{"a": 1.0, **rows}]), "ada")  # loads it
            hangs = threads.submit(showroom.run, model, Wanted(rows=[{"a": 100.0, **rows}]), "ada")
            record = _wait_for_running_record(workshop, "hostile")
            assert record.rows_collected == 1
        finally:
            pool.close()
        with pytest.raises(ServingError):
            hangs.result()
    assert workshop.record(record.dispatch_id).state == "failed"


@pytest.mark.slow
def test_a_run_whose_server_was_killed_is_closed_once_no_living_one_could_be_silent_so_long(
    workshop: Workshop,
) -> None:
    command = [sys.executable, "-c", _SERVER, str(workshop.folder)]
    paths = os.pathsep.join(["plugins", "tests"])
    server = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths})
    try:
        record = _wait_for_running_record(workshop)
    finally:
        server.kill()
        server.wait()
    longest = longest_silence(ServingConfig())
    with workshop.deployment.event_store() as store:
        assert close_abandoned(store, longest) == 0  # it might live
        assert workshop.record(record.dispatch_id).state == "running"
        workshop.age(record.dispatch_id, longest)
        assert close_abandoned(store, longest) == 1
    closed = workshop.record(record.dispatch_id)
    assert closed.state == "failed"
    assert "15m30s" in (closed.error or "")


@pytest.mark.usefixtures("_patient")
def test_a_run_that_was_taken_for_dead_is_in_the_end_what_it_came_to(
    showroom: Showroom, workshop: Workshop, pool: ModelPool
) -> None:
    with ThreadPoolExecutor(1) as threads:
        with pool.runtime(workshop.model()):  # another's
            waits = threads.submit(showroom.run, workshop.model(), Wanted(keys=[(2,)]), "ada")
            record = _wait_for_running_record(workshop)
            assert showroom.store.reconcile(record.dispatch_id, "failed", "nothing was heard of it")
        waits.result()
    ended = workshop.record(record.dispatch_id)
    assert (ended.state, ended.error, ended.rows_predicted) == ("succeeded", None, 1)
    folded: DispatchRecord | None = None
    for event in workshop.events(record.dispatch_id):
        folded = summarise(folded, event)
    assert ended == folded


def _wait_for_running_record(workshop: Workshop, model: str = "churn") -> DispatchRecord:
    deadline = time.monotonic() + 60
    while not (records := [one for one in workshop.records(model) if one.state == "running"]):
        assert time.monotonic() < deadline, "the run did not come on record"
        time.sleep(0.02)
    return records[0]
