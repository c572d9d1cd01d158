"""Orders of events that operators and paused processes make: what was logged is what is persisted."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace

import pytest

from mlops_plugin.errors import SinkError, TrySuperseded
from mlops_plugin.events.marks import newest_mark
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.recording.step_record import Attempt
from mlops_plugin.pipeline.runner import run_step
from mlops_plugin.pipeline.staging.shelf import OnRows
from support.order_tables import copy_file
from support.paused_steps import Paused, step
from support.workshop import Workshop

QUERY = "SELECT id, a, b, c FROM customers"


def partitioned(workshop: Workshop, rows: int) -> Dispatch:
    workshop.add_rows(rows - 5)
    partitions = {"column": "id", "count": 4}
    workshop.add_model("churn", source={"query": QUERY, "partitions": partitions})
    return workshop.dispatch()


def collect_and_infer(workshop: Workshop, dispatch: Dispatch) -> None:
    step(workshop, dispatch, "plan")
    for partition in range(4):
        step(workshop, dispatch, "collect", partition=partition)
    step(workshop, dispatch, "log")
    for partition in range(4):
        step(workshop, dispatch, "infer", partition=partition)


def accounts(workshop: Workshop, dispatch: Dispatch) -> tuple[str, int | None, int | None, int]:
    record = workshop.record(dispatch.id)
    return record.state, record.rows_collected, record.rows_persisted, len(workshop.predictions())


def test_plan_cleared_alone_after_the_source_shrank_loses_no_row(workshop: Workshop) -> None:
    dispatch = partitioned(workshop, 40)
    collect_and_infer(workshop, dispatch)
    away = replace(dispatch, model=dispatch.model.model_copy(update={"sink": _without_table(dispatch)}))
    with pytest.raises(SinkError):
        step(workshop, away, "persist")
    workshop.in_source("DELETE FROM customers WHERE id > 7")
    step(workshop, dispatch, "plan", 2)
    step(workshop, dispatch, "persist", 2)
    assert accounts(workshop, dispatch) == ("succeeded", 40, 40, 40)


def _without_table(dispatch: Dispatch) -> object:
    return dispatch.model.sink.model_copy(update={"create": False})


def test_a_plan_that_comes_back_late_changes_nothing(workshop: Workshop) -> None:
    dispatch = partitioned(workshop, 40)
    started = threading.Event()
    go_on = threading.Event()

    def late_query() -> str:
        started.set()
        go_on.wait(60)
        return QUERY + " WHERE id <= 4"

    errors: list[BaseException] = []

    def late_plan() -> None:
        try:
            run_step("plan", dispatch, workshop.deployment, query=late_query)
        except TrySuperseded as error:
            errors.append(error)

    thread = threading.Thread(target=late_plan)
    thread.start()
    assert started.wait(60)
    collect_and_infer(workshop, dispatch)
    go_on.set()
    thread.join(60)
    assert len(errors) == 1
    step(workshop, dispatch, "persist")
    assert accounts(workshop, dispatch) == ("succeeded", 40, 40, 40)


def test_a_persist_that_was_paused_does_not_overwrite_the_newer_one(workshop: Workshop) -> None:
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log", "infer")
    paused = Paused(lambda on_rows: step(workshop, dispatch, "persist", on_rows=on_rows))
    # The paused one holds the table's lock: SQLite makes the newer one wait, so it only registers here.
    with workshop.deployment.event_store() as store:
        store.start_step(dispatch.identity, "collect", 2)
    assert isinstance(paused.resume(), TrySuperseded)
    assert workshop.in_sink("SELECT count(*) FROM churn_predictions") == [(0,)]
    assert workshop.record(dispatch.id).state == "running"
    workshop.run_steps(dispatch, "log")
    step(workshop, dispatch, "infer", 2)
    step(workshop, dispatch, "persist", 2)
    assert workshop.record(dispatch.id).state == "succeeded"


def test_a_try_that_a_restored_event_store_has_forgotten_changes_nothing(workshop: Workshop) -> None:
    dispatch, file, saved = workshop.dispatch(), workshop.folder / "events.db", workshop.folder / "saved.db"
    copy_file(file, saved)
    workshop.run_steps(dispatch, "collect", "log", "infer")
    paused = Paused(lambda on_rows: step(workshop, dispatch, "persist", on_rows=on_rows))
    copy_file(saved, file)
    with workshop.deployment.event_store() as store:
        newer = store.start_step(dispatch.identity, "collect", 2)  # by a number that was given before
    assert isinstance(paused.resume(), TrySuperseded)
    assert workshop.in_sink("SELECT count(*) FROM churn_predictions") == [(0,)]
    assert [event.id for event in workshop.events(dispatch.id)][-1] == newer.event_id
    workshop.run_steps(dispatch, "log")
    step(workshop, dispatch, "infer", 2)
    step(workshop, dispatch, "persist", 2)
    assert accounts(workshop, dispatch) == ("succeeded", 5, 5, 5)


def test_a_late_end_of_an_older_try_turns_no_success_into_a_failure(workshop: Workshop) -> None:
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log")

    def fail(on_rows: OnRows) -> None:
        def pause_and_fail(rows: int) -> None:
            on_rows(rows)
            raise RuntimeError("the paused process fails when it wakes up")

        run_step("infer", dispatch, workshop.deployment, on_rows=pause_and_fail)

    paused = Paused(fail)
    step(workshop, dispatch, "infer", 2)
    step(workshop, dispatch, "persist")
    before = workshop.record(dispatch.id)
    assert isinstance(paused.resume(), RuntimeError)
    assert workshop.record(dispatch.id) == before
    assert before.state == "succeeded"


def test_a_late_start_of_an_older_try_does_not_reopen_a_closed_dispatch(workshop: Workshop) -> None:
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log", "infer")
    step(workshop, dispatch, "persist", 2)
    before = workshop.record(dispatch.id)
    with pytest.raises(TrySuperseded):
        step(workshop, dispatch, "persist", 1)
    assert workshop.record(dispatch.id) == before


def test_a_run_that_was_deleted_and_made_again_starts_at_its_first_try(workshop: Workshop) -> None:
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log", "infer")
    for number, made in ((3, "0198-old"), (1, "0199-new")):
        run_step("persist", dispatch, workshop.deployment, attempt=Attempt(number, id=made))
    assert workshop.record(dispatch.id).state == "succeeded"


def test_a_collect_that_ends_late_moves_the_mark_past_no_row(workshop: Workshop) -> None:
    workshop.add_model("churn", source={"query": QUERY, "cursor": {"column": "id"}})
    dispatch = workshop.dispatch()
    paused = Paused(lambda on_rows: step(workshop, dispatch, "collect", on_rows=on_rows))
    workshop.in_source("DELETE FROM customers WHERE id > 3")
    step(workshop, dispatch, "collect", 2)
    workshop.run_steps(dispatch, "log", "infer")
    assert isinstance(paused.resume(), TrySuperseded)
    workshop.run_steps(dispatch, "persist")
    with workshop.deployment.event_store() as store:
        mark = newest_mark(store, "churn")
    assert mark is not None
    assert mark.value == "3"
    assert [row["id"] for row in workshop.predictions()] == [1, 2, 3]


def test_persist_cleared_after_its_rows_were_deleted_does_not_repeat_its_count(workshop: Workshop) -> None:
    workshop.add_model("churn", sink={"mode": "append"})
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    workshop.in_sink("DELETE FROM churn_predictions_rows")
    with contextlib.suppress(Exception):
        workshop.run_steps(dispatch, "persist")
    record = workshop.record(dispatch.id)
    assert (record.state, record.rows_persisted) == ("failed", None)
    workshop.run(dispatch)
    assert accounts(workshop, dispatch) == ("succeeded", 5, 5, 5)


def test_rows_deleted_between_two_tries_are_written_again(workshop: Workshop) -> None:
    workshop.add_model("churn", sink={"mode": "append"})
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log", "infer")
    rows = {path: path.read_bytes() for path in workshop.home.glob("staging/churn/*/*.arrow")}
    workshop.run_steps(dispatch, "persist")
    for path, content in rows.items():  # as if it had died before it removed them
        path.write_bytes(content)
    workshop.in_sink("DELETE FROM churn_predictions_rows WHERE id > 2")
    workshop.run_steps(dispatch, "persist")
    assert accounts(workshop, dispatch) == ("succeeded", 5, 5, 5)


def test_infer_cleared_after_a_newer_run_leaves_one_row_for_each_key(workshop: Workshop) -> None:
    workshop.connections["source"] = workshop.connections["sink"]
    workshop.add_model(
        "churn",
        source={"connection": "sink", "query": QUERY, "skip_predicted": True},
        sink={"mode": "append"},
    )
    statement = "CREATE TABLE customers (id INTEGER PRIMARY KEY, a REAL, b REAL, c REAL)"
    workshop.in_sink(statement, "INSERT INTO customers VALUES (1, 0.1, 0.2, 0.3), (2, 0.3, 0.2, 0.1)")
    failed, newer = workshop.dispatch(), workshop.dispatch()
    workshop.run_steps(failed, "collect", "log")
    workshop.run(newer)
    workshop.run_steps(failed, "infer", "persist")
    found = workshop.in_sink("SELECT id, dispatch_id FROM churn_predictions ORDER BY id")
    assert found == [(1, newer.id), (2, newer.id)]
    record = workshop.record(failed.id)
    assert (record.state, record.rows_predicted, record.rows_persisted, record.rows_superseded) == (
        "succeeded",
        2,
        0,
        2,
    )
