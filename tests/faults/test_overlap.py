"""Steps that run at the same time leave what steps in turn leave, whichever fails, and wherever."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from mlops_plugin.errors import FeatureError, KeyColumnError, MlopsError, StepInterrupted
from mlops_plugin.events.marks import newest_mark
from mlops_plugin.events.records import EventRecord, LogEntry, Step
from mlops_plugin.pipeline import overlap
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.dispatch import STEPS, Dispatch
from mlops_plugin.pipeline.recording.step_record import Attempt
from mlops_plugin.pipeline.runner import run_dispatch, run_step
from mlops_plugin.pipeline.staging.shelf import OnRows, unheard
from mlops_plugin.wait_limits import Limits
from mlops_plugin.web.dispatches.story import FAILED, SUCCEEDED, list_tries
from support.servers import Server, ServerDatabase
from support.ways_in import INTO_MARIADB, WayIn, spec_of
from support.workshop import Workshop

BATCH, ROWS = 10, 50
SILENT_S = 3
FIRST, MIDDLE, LAST = 0, 2, 4  # batches
MODES = ("append", "upsert", "replace")
ENDED = "ended, because"
Watch = Callable[[Step], Any]

# What makes a step fail at a row: a key that is missing, a feature that the model refuses, a key that is
# there twice.
FAULTS: dict[Step, tuple[str, type[MlopsError]]] = {
    "collect": ("id = NULL", KeyColumnError),
    "infer": ("a = NULL", FeatureError),
    "persist": ("id = id - 2", KeyColumnError),
}
SOME = [("collect", FIRST, "append"), ("collect", MIDDLE, "upsert"), ("collect", LAST, "replace")]
SOME += [("infer", FIRST, "upsert"), ("infer", MIDDLE, "replace"), ("infer", LAST, "append")]
SOME += [("persist", FIRST, "replace"), ("persist", MIDDLE, "append"), ("persist", LAST, "upsert")]
OTHERS = sorted({*itertools.product(FAULTS, range(ROWS // BATCH), MODES)} - {*SOME})
CASES = [*SOME, *(pytest.param(*case, marks=pytest.mark.long) for case in OTHERS)]


@pytest.fixture
def rows(workshop: Workshop, mariadb: Server) -> ServerDatabase:
    """A source and a sink on one server, with an earlier dispatch's rows and the mark that it has left."""
    database = mariadb.new_database()
    workshop.connections |= dict.fromkeys(("source", "sink"), database.airflow_uri())
    database.execute(
        "CREATE TABLE customers (place INT PRIMARY KEY, id INT NULL, a DOUBLE NULL, b DOUBLE, c DOUBLE)"
    )
    add_rows(database)
    use_model(workshop)
    return database


def use_model(workshop: Workshop, mode: str = "upsert", **changes: Any) -> None:
    source: dict[str, Any] = {"query": "SELECT place, id, a, b, c FROM customers", "batch_rows": BATCH}
    if mode == "upsert":  # the others have to read all rows
        source["cursor"] = {"column": "place"}
    workshop.add_model(
        "churn", **{"sink": {"mode": mode}, "source": source, "execution": "together", **changes}
    )


def add_rows(database: ServerDatabase) -> None:
    """So many more, which no dispatch has seen."""
    ((last,),) = database.rows("SELECT COALESCE(MAX(place), 0) FROM customers")
    values = ", ".join(f"({n}, {2 * n}, {n % 7 - 3}, 0.5, -0.25)" for n in range(last + 1, last + 1 + ROWS))
    database.execute(f"INSERT INTO customers VALUES {values}")


@contextmanager
def unwatched(_step: Step) -> Iterator[OnRows]:
    yield unheard


def run(
    workshop: Workshop,
    dispatch: Dispatch,
    number: int = 1,
    *,
    watch: Watch = unwatched,
    deployment: Deployment | None = None,
) -> None:
    query = dispatch.model.source.query
    attempt = Attempt(number, is_final=True, task="dispatch")
    with workshop.entered():
        run_dispatch(dispatch, deployment or workshop.deployment, lambda: query, watch, attempt)


def run_in_turn(workshop: Workshop, dispatch: Dispatch) -> None:
    """As four tasks."""
    query = dispatch.model.source.query
    with workshop.entered():
        for step in STEPS:
            run_step(step, dispatch, workshop.deployment, query=lambda: query)


def hear(**on_rows: OnRows) -> Watch:
    """A watch of some steps."""

    @contextmanager
    def watch(step: Step) -> Iterator[OnRows]:
        yield on_rows.get(step, unheard)

    return watch


def stored(database: ServerDatabase) -> list[tuple[Any, ...]]:
    return sorted(database.rows("SELECT id, prediction, dispatch_id, predicted_at FROM churn_predictions"))


def mark(workshop: Workshop) -> str | None:
    with workshop.deployment.event_store() as store:
        newest = newest_mark(store, "churn")
    return newest.value if newest else None


def failures(events: list[EventRecord]) -> list[tuple[Step | None, str | None]]:
    """What has failed by itself."""
    failed = [(event.step, event.error) for event in events if event.kind == "failed"]
    return [(step, error) for step, error in failed if not (error or "").startswith(ENDED)]


def require_no_thread() -> None:
    """The threads of steps end, however long a busy machine takes for it."""
    for each in threading.enumerate():
        if each.name in STEPS:
            each.join(60)
            assert not each.is_alive(), each.name


def test_threads_take_turns_sooner_only_while_steps_run(workshop: Workshop, rows: ServerDatabase) -> None:
    before, seen = sys.getswitchinterval(), set[float]()
    heard = hear(collect=lambda _: seen.add(sys.getswitchinterval()))
    run(workshop, workshop.dispatch(), watch=heard)
    assert max(seen) < before == sys.getswitchinterval()
    assert len(stored(rows)) == ROWS


def test_a_dispatch_leaves_what_four_steps_in_turn_leave(workshop: Workshop, rows: ServerDatabase) -> None:
    use_model(workshop, "replace")
    kept = ["state", "rows_collected", "rows_predicted", "rows_rejected", "rows_persisted", "columns"]
    kept += ["first_key", "last_key", "artifact_sha256", "config_sha256", "query", "error"]
    left = []
    for dispatch_all in (run_in_turn, run):
        dispatch = workshop.dispatch()
        dispatch_all(workshop, dispatch)
        record = vars(workshop.record(dispatch.id))
        ended = [(e.step, e.row_count) for e in workshop.events(dispatch.id) if e.kind == "succeeded"]
        predictions = rows.rows("SELECT id, prediction, dispatch_id FROM churn_predictions ORDER BY id")
        assert {row[2] for row in predictions} == {dispatch.id}
        left.append(([record[name] for name in kept], ended, [row[:2] for row in predictions]))
    assert left[0] == left[1]
    assert len(left[0][2]) == ROWS
    require_no_thread()


def test_what_will_predict_is_logged_before_a_row_is_inferred_and_its_counts_later(
    workshop: Workshop, rows: ServerDatabase
) -> None:
    dispatch = workshop.dispatch()
    run(workshop, dispatch)
    events = workshop.events(dispatch.id)
    told = [(event.step, event.kind) for event in events]
    assert told == [
        (None, "started"),
        ("collect", "started"),
        ("log", "started"),
        ("log", "logged"),
        ("infer", "started"),
        ("persist", "started"),
        ("collect", "succeeded"),
        ("log", "logged"),
        ("log", "succeeded"),
        ("infer", "succeeded"),
        ("persist", "succeeded"),
        (None, "succeeded"),
    ]
    first, second = (event for event in events if event.kind == "logged")
    assert isinstance(first.details, LogEntry)
    assert isinstance(second.details, LogEntry)
    assert (first.row_count, first.details.rows, first.details.first_key) == (None, None, None)
    assert (second.row_count, second.details.rows, second.details.first_key) == (ROWS, ROWS, {"id": 2})
    assert first.details.query == second.details.query
    assert first.details.artifact_sha256 == second.details.artifact_sha256


@pytest.mark.parametrize(("step", "batch", "mode"), CASES)
def test_a_step_that_fails_at_a_batch_leaves_what_it_leaves_in_turn(
    step: Step, batch: int, mode: str, workshop: Workshop, rows: ServerDatabase
) -> None:
    use_model(workshop, mode)
    run(workshop, workshop.dispatch())
    before = stored(rows), mark(workshop)
    add_rows(rows)
    change, kind = FAULTS[step]
    # With a cursor the last row is read once more, the first of the first batch.
    begin, count = (ROWS, ROWS + 1) if mode == "upsert" else (0, 2 * ROWS)
    place = begin + batch * BATCH + 6
    ((key,),) = rows.rows(f"SELECT id FROM customers WHERE place = {place}")
    rows.execute(f"UPDATE customers SET {change} WHERE place = {place}")

    in_turn, overlapped = workshop.dispatch(), workshop.dispatch()
    with pytest.raises(kind) as first:
        run_in_turn(workshop, in_turn)
    with pytest.raises(kind) as second:
        run(workshop, overlapped)
    require_no_thread()
    assert str(first.value) == str(second.value)
    assert (stored(rows), mark(workshop)) == before
    one, other = (workshop.record(each.id) for each in (in_turn, overlapped))
    assert (one.state, one.error, one.rows_persisted) == (other.state, other.error, other.rows_persisted)
    events = workshop.events(overlapped.id)
    assert failures(events) == failures(workshop.events(in_turn.id))
    assert [found[0] for found in failures(events)] == [step, None]
    assert (events[-2].step, events[-1].kind) == (step, "failed")
    for each in list_tries(events):
        is_before = STEPS.index(each.step) < STEPS.index(step)
        is_ended = each.outcome == FAILED and (each.step == step or (each.error or "").startswith(ENDED))
        assert is_ended or (each.outcome == SUCCEEDED and is_before), each

    rows.execute(f"UPDATE customers SET id = {key}, a = 1 WHERE place = {place}")
    run(workshop, overlapped, 2)
    record = workshop.record(overlapped.id)
    counts = (record.state, record.rows_collected, record.rows_predicted, record.rows_persisted)
    assert counts == ("succeeded", count, count, count)
    assert len([row for row in stored(rows) if row[2] == overlapped.id]) == count
    assert mark(workshop) == (str(2 * ROWS) if mode == "upsert" else None)


@pytest.mark.parametrize("name", INTO_MARIADB)
def test_rows_are_written_while_others_are_still_read(
    name: str, workshop: Workshop, rows: ServerDatabase
) -> None:
    way = WayIn(name, spec_of(rows, "odbc" if name == "odbc-mariadb" else None), rows)
    workshop.connections |= dict.fromkeys(("source", "sink"), way.airflow_connection)
    is_written, heard = threading.Event(), []

    def collected(count: int) -> None:
        heard.append(count)
        if len(heard) == 3:
            assert is_written.wait(60)

    run(workshop, workshop.dispatch(), watch=hear(collect=collected, persist=lambda _: is_written.set()))
    assert heard == [BATCH] * (ROWS // BATCH)
    assert len(stored(rows)) == ROWS


def test_rows_that_come_too_slowly_are_written_when_all_are_there(
    workshop: Workshop, rows: ServerDatabase
) -> None:
    """The sink's transaction does not stay open in silence: it is rolled back, and begun again."""
    is_written, heard, written = threading.Event(), [], []

    def collected(count: int) -> None:
        heard.append(count)
        if len(heard) == 3:
            assert is_written.wait(60)
            threading.Event().wait(SILENT_S)

    def persisted(count: int) -> None:
        written.append(count)
        is_written.set()

    dispatch = workshop.dispatch()
    deployment = replace(workshop.deployment, limits=Limits(idle_s=SILENT_S))
    run(workshop, dispatch, watch=hear(collect=collected, persist=persisted), deployment=deployment)
    assert sum(written) > ROWS
    assert len(stored(rows)) == ROWS
    assert workshop.record(dispatch.id).rows_persisted == ROWS


def test_an_interruption_ends_all_steps_and_is_recorded_as_one_of_them(
    workshop: Workshop, rows: ServerDatabase
) -> None:
    goes_on = threading.Event()
    ending = threading.Timer(2, goes_on.set)

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise StepInterrupted("killed")

    def collected(_count: int) -> None:
        if goes_on.is_set():
            return
        while "persist" not in {thread.name for thread in threading.enumerate()}:
            time.sleep(0.01)  # until then, the thread that is interrupted works on other steps
        ending.start()
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        goes_on.wait(60)

    dispatch = workshop.dispatch()
    handler = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(StepInterrupted, match="killed"):
            run(workshop, dispatch, watch=hear(collect=collected))
    finally:
        signal.signal(signal.SIGALRM, handler)
        ending.join()
    require_no_thread()
    assert failures(workshop.events(dispatch.id)) == [("collect", "killed"), (None, "killed")]
    assert {each.outcome for each in list_tries(workshop.events(dispatch.id))} == {FAILED}
    assert rows.rows("SHOW TABLES LIKE 'churn_predictions'") == [] or stored(rows) == []


@pytest.mark.parametrize("interrupted", ["log", "infer", "persist"])
def test_an_interruption_while_a_step_begins_is_recorded_too(
    workshop: Workshop, rows: ServerDatabase, interrupted: Step
) -> None:
    @contextmanager
    def watch(step: Step) -> Iterator[OnRows]:
        if step == interrupted:
            raise StepInterrupted("killed")
        yield unheard

    dispatch = workshop.dispatch()
    with pytest.raises(StepInterrupted, match="killed"):
        run(workshop, dispatch, watch=watch)
    require_no_thread()
    assert failures(workshop.events(dispatch.id)) == [("collect", "killed"), (None, "killed")]
    assert workshop.record(dispatch.id).state == "failed"
    assert rows.rows("SHOW TABLES LIKE 'churn_predictions'") == [] or stored(rows) == []


@pytest.mark.parametrize("interruption", [StepInterrupted("killed"), KeyboardInterrupt()])
def test_a_step_that_has_failed_before_an_interruption_is_recorded_with_its_own_error(
    interruption: BaseException, workshop: Workshop, rows: ServerDatabase
) -> None:
    rows.execute("UPDATE customers SET a = NULL WHERE place = 1")

    @contextmanager
    def watch(step: Step) -> Iterator[OnRows]:
        if step == "persist":
            for thread in threading.enumerate():
                if thread.name == "infer":
                    thread.join(60)
            raise interruption
        yield unheard

    dispatch = workshop.dispatch()
    raised = FeatureError if isinstance(interruption, Exception) else type(interruption)
    with pytest.raises(raised):
        run(workshop, dispatch, watch=watch)
    require_no_thread()
    (step, error), whole = failures(workshop.events(dispatch.id))
    assert (step, whole) == ("infer", (None, error))
    assert "'a'" in (error or "")


def test_an_interruption_before_the_success_of_a_step_is_recorded_is_its_failure(
    workshop: Workshop, rows: ServerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(ExitStack):
        def close(self) -> None:
            monkeypatch.undo()
            raise StepInterrupted("killed")

    monkeypatch.setattr(overlap, "ExitStack", Interrupted)
    dispatch = workshop.dispatch()
    with pytest.raises(StepInterrupted, match="killed"):
        run(workshop, dispatch)
    require_no_thread()
    assert failures(workshop.events(dispatch.id)) == [("collect", "killed"), (None, "killed")]
    assert {each.outcome for each in list_tries(workshop.events(dispatch.id))} == {FAILED}
    assert rows.rows("SHOW TABLES LIKE 'churn_predictions'") == [] or stored(rows) == []


def order_of_persist(workshop: Workshop, dispatch: Dispatch) -> tuple[bool, bool]:
    """Whether `infer` began before `collect` had ended, and `persist` before `infer` had."""
    places = {(event.step, event.kind): place for place, event in enumerate(workshop.events(dispatch.id))}
    return (
        places["infer", "started"] < places["collect", "succeeded"],
        places["persist", "started"] < places["infer", "succeeded"],
    )


def test_where_rows_may_be_rejected_nothing_is_written_before_all_are_judged(
    workshop: Workshop, rows: ServerDatabase
) -> None:
    contract = {"columns": {"a": {"min": -2}}}
    use_model(workshop, input=contract, error_threshold="50%")
    dispatch = workshop.dispatch()
    run(workshop, dispatch)
    assert order_of_persist(workshop, dispatch) == (True, False)
    record = workshop.record(dispatch.id)
    assert record.rows_rejected
    assert len(stored(rows)) == record.rows_persisted == ROWS - record.rows_rejected


def test_a_source_that_may_see_what_is_being_written_is_read_before(
    workshop: Workshop, rows: ServerDatabase, mariadb: Server
) -> None:
    dispatch = workshop.dispatch()
    mariadb.administration.execute("SET GLOBAL TRANSACTION ISOLATION LEVEL READ UNCOMMITTED")
    try:
        run(workshop, dispatch)
    finally:
        mariadb.administration.execute("SET GLOBAL TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    assert order_of_persist(workshop, dispatch) == (False, False)
    assert len(stored(rows)) == ROWS
    beside = workshop.dispatch()
    run(workshop, beside)
    assert order_of_persist(workshop, beside) == (True, True)


_KILLED = """
import contextlib, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from support.workshop import Workshop
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.recording.step_record import Attempt
from mlops_plugin.pipeline.runner import run_dispatch


@contextlib.contextmanager
def watch(step):
    yield (lambda rows: os.kill(os.getpid(), signal.SIGKILL)) if step == sys.argv[4] else lambda rows: None


workshop = Workshop.again(Path(sys.argv[2]))
model = workshop.model("churn")
dispatch = Dispatch(id=sys.argv[3], model=model, origin="terminal")
attempt = Attempt(1, is_final=False, task="dispatch")
run_dispatch(dispatch, workshop.deployment, lambda: model.source.query, watch, attempt)
"""


@pytest.mark.slow
@pytest.mark.parametrize("step", [pytest.param("infer", marks=pytest.mark.long), "persist"])
def test_killed_in_the_middle_it_has_written_nothing_and_a_retry_is_complete(
    step: Step, workshop: Workshop, rows: ServerDatabase
) -> None:
    run(workshop, workshop.dispatch())
    before = stored(rows)
    add_rows(rows)
    dispatch = workshop.dispatch()
    killed = subprocess.run(
        [
            sys.executable,
            "-c",
            _KILLED,
            str(Path(__file__).resolve().parents[1]),
            str(workshop.folder),
            dispatch.id,
            step,
        ],
        env={**os.environ, **workshop.environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    assert stored(rows) == before
    assert mark(workshop) == str(ROWS)
    run(workshop, dispatch, 2)
    record = workshop.record(dispatch.id)
    assert (record.state, record.rows_persisted) == ("succeeded", ROWS + 1)
    assert len([row for row in stored(rows) if row[2] == dispatch.id]) == ROWS + 1
