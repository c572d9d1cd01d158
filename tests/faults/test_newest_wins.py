"""Whatever order dispatches end in, the sink keeps the prediction of the row that was read last.

Each test builds one order of events from real dispatches, step by step through the runner.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LinearRegression

from mlops_plugin.cli.dispatch import dispatch_in_terminal
from mlops_plugin.errors import MlopsError, ThresholdError
from mlops_plugin.events.details.milestones import FinalCounts
from mlops_plugin.events.details.step_reports import PersistReport
from mlops_plugin.events.migrating import upgrade
from mlops_plugin.events.records import Step
from mlops_plugin.orchestration.rendering import render
from mlops_plugin.pipeline.dispatch import STEPS, Dispatch
from mlops_plugin.pipeline.recording.step_record import Attempt
from mlops_plugin.pipeline.runner import run_step
from support.workshop import FEATURES, Workshop

READ: tuple[Step, ...] = ("collect", "log", "infer")
TABLE = "echo_predictions"
OF_DAY = "SELECT id, a, b, c FROM days WHERE day = '{{ data_interval_start.date() }}'"


@pytest.fixture
def echo(workshop: Workshop) -> Workshop:
    """A deployment with a model that predicts the value of column `a`: what was read shows in the sink."""
    rows = np.random.default_rng(3).normal(size=(30, len(FEATURES)))
    frame = workshop.frame(rows.tolist())
    skops.io.dump(LinearRegression().fit(frame, frame["a"]), workshop.folder / "echo.skops")
    workshop.add_model("echo", model={"format": "skops", "uri": "echo.skops"})
    put(workshop, 1)
    return workshop


def put(echo: Workshop, value: int, *ids: int) -> None:
    """Change rows of the source, all or some."""
    chosen = f" WHERE id IN ({', '.join(map(str, ids))})" if ids else ""
    echo.in_source(f"UPDATE customers SET a = {value}{chosen}")


def sink(echo: Workshop) -> dict[int, int]:
    """By id, the value that the row had when its prediction was made."""
    return {row["id"]: round(row["prediction"]) for row in echo.predictions(TABLE)}


def all_rows(value: int) -> dict[int, int]:
    return dict.fromkeys(range(1, 6), value)


def accounts(echo: Workshop, dispatch: Dispatch) -> tuple[str, int | None, int | None]:
    record = echo.record(dispatch.id)
    return record.state, record.rows_persisted, record.rows_superseded


def read(echo: Workshop, **changes: Any) -> Dispatch:
    """A dispatch that has predicted what it read, and has not persisted it yet."""
    dispatch = echo.dispatch("echo", **changes)
    echo.run_steps(dispatch, *READ)
    return dispatch


def persist(echo: Workshop, dispatch: Dispatch, **attempt: Any) -> None:
    run_step("persist", dispatch, echo.deployment, attempt=Attempt(**attempt))


def run_day(echo: Workshop, day: int) -> Dispatch:
    """A dispatch of one day of January, as a backfill's."""
    start = datetime(2026, 1, day, tzinfo=UTC)
    interval = (start, start + timedelta(days=1))
    dispatch = echo.dispatch("echo", origin="backfill", data_interval=interval)
    query = render(dispatch.model.source.query, dispatch.model, moment=start, interval=interval)
    for step in STEPS:
        run_step(step, dispatch, echo.deployment, query=lambda: query)
    return dispatch


@pytest.fixture
def days(echo: Workshop) -> Workshop:
    """The same model over a source that has a row per customer and day: `a` is the day."""
    echo.in_source("CREATE TABLE days (day TEXT, id INTEGER, a REAL, b REAL, c REAL)")
    for day in (1, 2, 3, 4):
        echo.in_source(f"INSERT INTO days SELECT '2026-01-0{day}', id, {day}, b, c FROM customers")
    echo.add_model("echo", model={"format": "skops", "uri": "echo.skops"}, source={"query": OF_DAY})
    return echo


@pytest.mark.parametrize("mode", ["upsert", "replace"])
def test_retry_of_persist_leaves_what_another_dispatch_predicted_meanwhile(echo: Workshop, mode: str) -> None:
    echo.add_model("echo", model={"format": "skops", "uri": "echo.skops"}, sink={"mode": mode})
    echo.run(echo.dispatch("echo"))
    put(echo, 2)
    scheduled = read(echo)
    echo.in_sink(f"ALTER TABLE {TABLE}_rows RENAME COLUMN prediction TO away")
    with pytest.raises(MlopsError):
        persist(echo, scheduled, number=1, is_final=False)
    echo.in_sink(f"ALTER TABLE {TABLE}_rows RENAME COLUMN away TO prediction")
    put(echo, 3)
    terminal = echo.dispatch("echo")
    echo.run(terminal)
    persist(echo, scheduled, number=2)
    assert sink(echo) == all_rows(3)
    assert accounts(echo, terminal) == ("succeeded", 5, 0)
    assert accounts(echo, scheduled) == ("succeeded", 0, 5)


def test_rows_that_only_the_older_dispatch_read_are_written(echo: Workshop) -> None:
    older = read(echo)
    put(echo, 2)
    echo.in_source("DELETE FROM customers WHERE id > 3")
    echo.run(echo.dispatch("echo"))
    persist(echo, older)
    assert sink(echo) == {1: 2, 2: 2, 3: 2, 4: 1, 5: 1}
    assert accounts(echo, older) == ("succeeded", 2, 3)


def test_superseded_rows_are_counted_in_the_events(echo: Workshop) -> None:
    older = read(echo)
    echo.run(echo.dispatch("echo"))
    persist(echo, older)
    ended = [event for event in echo.events(older.id) if event.kind == "succeeded"]
    assert [event.row_count for event in ended if event.step == "persist"] == [0]
    assert isinstance(ended[-1].details, FinalCounts)
    assert ended[-1].details.rows_superseded == 5


def test_backfill_of_an_earlier_day_leaves_a_later_days_predictions(days: Workshop) -> None:
    run_day(days, 3)
    days.in_source("INSERT INTO days VALUES ('2026-01-02', 9, 2, 0, 0)")
    backfill = run_day(days, 2)
    assert sink(days) == {**all_rows(3), 9: 2}
    assert accounts(days, backfill) == ("succeeded", 1, 5)
    run_day(days, 4)
    assert sink(days) == {**all_rows(4), 9: 2}


def test_backfill_that_reads_everything_has_read_fresher_rows(echo: Workshop) -> None:
    third = datetime(2026, 1, 3, tzinfo=UTC)
    echo.run(echo.dispatch("echo", data_interval=(third, third + timedelta(days=1))))
    put(echo, 2)
    backfill = echo.dispatch("echo", origin="backfill", data_interval=(third - timedelta(days=1), third))
    echo.run(backfill)
    assert sink(echo) == all_rows(2)
    assert accounts(echo, backfill) == ("succeeded", 5, 0)


def test_persist_of_an_older_run_that_is_cleared_leaves_newer_predictions(echo: Workshop) -> None:
    older = read(echo)
    persist(echo, older)
    put(echo, 2)
    echo.run(echo.dispatch("echo"))
    with_error: MlopsError | None = None
    try:
        persist(echo, older, number=2)
    except MlopsError as error:  # its rows may be gone from staging
        with_error = error
    assert sink(echo) == all_rows(2), with_error


def test_older_run_that_is_cleared_from_collect_on_has_read_fresher_rows(echo: Workshop) -> None:
    older = echo.dispatch("echo")
    echo.run(older)
    put(echo, 2)
    echo.run(echo.dispatch("echo"))
    put(echo, 3)
    echo.run(older)
    assert sink(echo) == all_rows(3)
    assert accounts(echo, older) == ("succeeded", 5, 0)


def test_threshold_that_is_raised_later_lets_no_older_row_in(echo: Workshop) -> None:
    contract = {"columns": {"b": {"type": "number", "nullable": True, "min": -50, "max": 50}}}
    strict = {"input": contract, "error_threshold": 0, "model": {"format": "skops", "uri": "echo.skops"}}
    echo.add_model("echo", **strict)
    echo.in_source("UPDATE customers SET b = 99 WHERE id = 5")
    refused = read(echo)
    with pytest.raises(ThresholdError):
        persist(echo, refused)
    echo.in_source("UPDATE customers SET b = 0 WHERE id = 5")
    put(echo, 2)
    echo.run(echo.dispatch("echo"))
    echo.add_model("echo", **(strict | {"error_threshold": 1}))
    persist(echo, replace(refused, model=echo.model("echo")), number=2)
    assert sink(echo) == all_rows(2)
    assert accounts(echo, refused) == ("succeeded", 0, 4)


def test_appended_predictions_stay_beside_each_other(echo: Workshop) -> None:
    echo.add_model("echo", model={"format": "skops", "uri": "echo.skops"}, sink={"mode": "append"})
    older = read(echo)
    put(echo, 2)
    newer = echo.dispatch("echo")
    echo.run(newer)
    persist(echo, older)
    values = [(row["id"], round(row["prediction"])) for row in echo.predictions(TABLE)]
    assert sorted(values) == [(number, value) for number in range(1, 6) for value in (1, 2)]
    assert accounts(echo, older) == ("succeeded", 5, 0)


def test_predictions_of_a_version_without_the_table_of_dispatches_are_older(echo: Workshop) -> None:
    echo.run(echo.dispatch("echo"))
    echo.in_sink("DROP TABLE mlops_dispatches")
    put(echo, 2)
    echo.run(echo.dispatch("echo"))
    assert sink(echo) == all_rows(2)


def test_new_event_store_does_not_make_new_dispatches_older(echo: Workshop) -> None:
    older = read(echo)
    put(echo, 2)
    echo.run(echo.dispatch("echo"))
    (echo.folder / "events.db").unlink()
    with echo.deployment.event_store() as store:
        upgrade(store.address)
    persist(echo, older)
    assert sink(echo) == all_rows(2)
    put(echo, 3)
    echo.run(echo.dispatch("echo"))
    assert sink(echo) == all_rows(3)


def test_forced_dispatch_replaces_newer_predictions_and_says_so(days: Workshop) -> None:
    run_day(days, 3)
    start = datetime(2026, 1, 2, tzinfo=UTC)
    interval = (start, start + timedelta(days=1))
    dispatch_in_terminal(days.model("echo"), days.deployment, interval=interval, overwrites_newer=True)
    assert sink(days) == all_rows(2)
    forced = days.records("echo")[0]
    assert (forced.rows_persisted, forced.rows_superseded) == (5, 0)
    ended = [event.details for event in days.events(forced.dispatch_id) if event.step == "persist"]
    assert isinstance(ended[-1], PersistReport)
    assert ended[-1].place.overwrites_newer
    marked = days.in_sink("SELECT dispatch_id FROM mlops_dispatches WHERE is_forced = 1")
    assert marked == [(forced.dispatch_id,)]


def test_terminal_tells_what_was_superseded(days: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    run_day(days, 3)
    start = datetime(2026, 1, 2, tzinfo=UTC)
    dispatch_in_terminal(days.model("echo"), days.deployment, interval=(start, start + timedelta(days=1)))
    assert "superseded 5" in capsys.readouterr().out


# Another process: its deployment stops it where it opens the sink, as a machine does that is suspended.
PAUSED = """
import pickle, signal, sys, threading
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.runner import run_step
from mlops_plugin.pipeline.recording.step_record import Attempt

class Paused(Deployment):
    def database(self, conn_id, **settings):
        if conn_id == "sink":
            # To this thread: one to the process stops first whichever thread takes it.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        return super().database(conn_id, **settings)

dispatch, deployment = pickle.load(sys.stdin.buffer)
run_step("persist", dispatch, Paused(**vars(deployment)), attempt=Attempt(1, is_final=False))
"""


def paused_persist(echo: Workshop, dispatch: Dispatch) -> subprocess.Popen[bytes]:
    """A process that has begun to persist and stands still."""
    process = subprocess.Popen(
        [sys.executable, "-c", PAUSED],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )
    assert process.stdin
    process.stdin.write(pickle.dumps((dispatch, echo.deployment)))
    process.stdin.close()
    process.stdin = None
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    return process


def go_on(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    process.send_signal(signal.SIGCONT)
    errors = process.communicate(timeout=120)[1].decode()
    return process.returncode, errors


def test_process_that_was_thought_dead_writes_nothing(echo: Workshop) -> None:
    dispatch = read(echo)
    process = paused_persist(echo, dispatch)
    put(echo, 2)
    echo.run_steps(dispatch, *READ)
    persist(echo, dispatch, number=2)
    status, errors = go_on(process)
    assert status == 1
    assert "Traceback" in errors
    assert sink(echo) == all_rows(2)
    assert accounts(echo, dispatch) == ("succeeded", 5, 0)


def test_dispatch_that_was_suspended_leaves_what_others_predicted(echo: Workshop) -> None:
    older = read(echo)
    process = paused_persist(echo, older)
    put(echo, 2)
    newer = echo.dispatch("echo")
    echo.run(newer)
    assert go_on(process) == (0, "")
    assert sink(echo) == all_rows(2)
    assert accounts(echo, older) == ("succeeded", 0, 5)
