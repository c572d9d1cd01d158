"""Dispatches that nobody closed end as their runs ended; those that are alive stay."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mlops_plugin.events.records import Step
from mlops_plugin.pipeline.dispatch import Dispatch, dispatch_id
from mlops_plugin.pipeline.recording.reconciliation import close_abandoned, close_failed_run, close_forgotten
from mlops_plugin.pipeline.recording.step_record import Attempt
from mlops_plugin.pipeline.runner import run_step
from support.workshop import Workshop


def begin(
    workshop: Workshop, model: str = "churn", run_id: str | None = "manual__1", hours_ago: int = 0
) -> str:
    """A dispatch whose `collect` began and never ended."""
    identity = dispatch_id(model, run_id) if run_id else f"without-run-{model}"
    dag_id = model if run_id else None
    dispatch = Dispatch(identity, workshop.model(model), "manual", dag_id=dag_id, run_id=run_id)
    with workshop.deployment.event_store() as store:
        store.begin(dispatch.identity)
        store.step_started(identity, "collect", 1)
    workshop.age(identity, timedelta(hours=hours_ago))
    return identity


def close(
    workshop: Workshop, states: dict[str, str], model: str = "churn", current: str = "manual__now"
) -> int:
    """`close_forgotten` with an Airflow that knows these runs."""
    return close_forgotten(
        model, current, workshop.deployment, lambda _dag, run, wanted: states.get(run) in wanted
    )


def test_run_that_is_alive_keeps_its_dispatch_running(workshop: Workshop) -> None:
    begun = begin(workshop)
    assert close(workshop, {"manual__1": "running"}) == 0
    assert workshop.record(begun).state == "running"


def test_run_that_failed_or_is_gone_fails_its_dispatch(workshop: Workshop) -> None:
    failed, gone = begin(workshop, run_id="a"), begin(workshop, run_id="b")
    assert close(workshop, {"a": "failed"}) == 2
    assert workshop.record(failed).state == workshop.record(gone).state == "failed"


def test_run_that_was_marked_as_success_before_anything_was_persisted_fails_its_dispatch(
    workshop: Workshop,
) -> None:
    begun = begin(workshop)
    assert close(workshop, {"manual__1": "success"}) == 1
    record = workshop.record(begun)
    assert (record.state, record.rows_persisted) == ("failed", None)
    assert "'persist' has not succeeded" in (record.error or "")


@pytest.mark.parametrize(
    ("cleared", "state", "persisted"), [("log", "succeeded", 5), ("infer", "failed", None)]
)
def test_step_that_is_cleared_alone_after_a_success(
    workshop: Workshop, cleared: Step, state: str, persisted: int | None
) -> None:
    """What `persist` wrote still counts if `log` was repeated, and no longer if `infer` was."""
    identity = dispatch_id("churn", "manual__1")
    dispatch = Dispatch(identity, workshop.model(), "manual", dag_id="churn", run_id="manual__1")
    workshop.run_steps(dispatch, "collect", "log", "infer", "persist")
    with workshop.deployment.event_store() as store:
        store.step_started(identity, cleared, 2)
    assert close(workshop, {"manual__1": "success"}) == 1
    record = workshop.record(identity)
    assert (record.state, record.rows_persisted) == (state, persisted)


def test_current_run_is_left_alone(workshop: Workshop) -> None:
    begin(workshop, run_id="manual__now")
    assert close(workshop, {}) == 0


def test_silent_dispatch_of_another_model_is_closed_and_a_fresh_one_is_not(workshop: Workshop) -> None:
    workshop.add_model("removed")
    silent = begin(workshop, model="removed", run_id="a", hours_ago=1)
    fresh = begin(workshop, model="removed", run_id="b")
    assert close(workshop, {}) == 1
    assert workshop.record(silent).state == "failed"
    assert workshop.record(fresh).state == "running"


def test_dispatch_without_a_run_is_closed_after_a_day(workshop: Workshop) -> None:
    begun = begin(workshop, run_id=None, hours_ago=23)
    assert abandoned(workshop) == close(workshop, {}) == 0
    begin(workshop, run_id=None, hours_ago=25)
    assert abandoned(workshop, timedelta(days=2)) == 1
    assert workshop.record(begun).state == "failed"
    assert "for 1d" in (workshop.record(begun).error or "")


def abandoned(workshop: Workshop, *showroom_after: timedelta) -> int:
    with workshop.deployment.event_store() as store:
        return close_abandoned(store, *showroom_after)


def test_failed_run_whose_collect_never_began_is_recorded_as_failed(workshop: Workshop) -> None:
    close_failed_run(workshop.model(), "scheduled__x", "task_failure", workshop.deployment)
    record = workshop.record(dispatch_id("churn", "scheduled__x"))
    assert (record.state, record.origin) == ("failed", "scheduled")
    assert "task_failure" in (record.error or "")


def test_failure_that_airflow_tells_late_closes_no_try_that_began_after_a_clear(workshop: Workshop) -> None:
    dispatch = workshop.dispatch()
    run = Dispatch(dispatch_id("churn", "r"), dispatch.model, "manual", dag_id="churn", run_id="r")
    run_step(
        "collect",
        run,
        workshop.deployment,
        query=lambda: run.model.source.query,
        attempt=Attempt(2, clears=1),
    )
    close_failed_run(workshop.model(), "r", "of before the clear", workshop.deployment, 0)
    assert workshop.record(run.id).state == "running"
    close_failed_run(workshop.model(), "r", "of after it", workshop.deployment, 1)
    assert workshop.record(run.id).state == "failed"


def test_nothing_is_closed_because_of_what_was_true_before_the_last_event(workshop: Workshop) -> None:
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect")
    seen, newest = (event.id for event in workshop.events(dispatch.id)[-2:])
    with workshop.deployment.event_store() as store:
        assert not store.reconcile(dispatch.id, "failed", "it is silent", last_event=seen)
        assert store.reconcile(dispatch.id, "failed", "it is silent", last_event=newest)


def test_run_that_goes_on_while_airflow_is_asked_keeps_its_dispatch_running(workshop: Workshop) -> None:
    begun = begin(workshop, run_id="a")

    def has_run(_dag: str, _run: str, _states: list[str]) -> bool:
        with workshop.deployment.event_store() as store:
            store.step_started(begun, "collect", 2)  # of a clear just after the answer
        return False

    assert close_forgotten("churn", "manual__now", workshop.deployment, has_run) == 0
    assert workshop.record(begun).state == "running"


def test_failed_run_whose_dispatch_is_closed_changes_nothing(workshop: Workshop) -> None:
    dispatch = workshop.dispatch()
    done = Dispatch(dispatch_id("churn", "r"), dispatch.model, "manual", dag_id="churn", run_id="r")
    workshop.run(done)
    close_failed_run(workshop.model(), "r", "later", workshop.deployment)
    assert workshop.record(done.id).state == "succeeded"
