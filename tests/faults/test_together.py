"""`execution: together`: one task runs the four steps, and promises what four tasks promise."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlops_plugin.errors import MlopsError, TrySuperseded
from mlops_plugin.events.records import Step
from mlops_plugin.pipeline.dispatch import STEPS, Dispatch
from mlops_plugin.pipeline.recording.step_record import Attempt
from mlops_plugin.pipeline.runner import run_dispatch
from mlops_plugin.pipeline.staging.shelf import OnRows, unheard
from mlops_plugin.web.dispatches.story import LOST, SUCCEEDED, list_tries, summarise_steps
from support.paused_steps import Paused
from support.workshop import Workshop

TASK = "dispatch"
ONCE = [(step, 1, SUCCEEDED) for step in STEPS]
TWICE = [(step, 2, SUCCEEDED) for step in STEPS]
_KILLED_IN = """
import contextlib, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from support.workshop import Workshop
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.recording.step_record import Attempt
from mlops_plugin.pipeline.runner import run_dispatch


def die(rows=0):
    os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def watch(step):
    yield die if step == sys.argv[4] else lambda rows: None
    if step == sys.argv[4]:
        die()  # `log` handles no rows: it ends without what follows


workshop = Workshop.again(Path(sys.argv[2]))
model = workshop.model("churn")
dispatch = Dispatch(id=sys.argv[3], model=model, origin="terminal")
attempt = Attempt(1, is_final=False, task="dispatch")
run_dispatch(dispatch, workshop.deployment, lambda: model.source.query, watch, attempt)
"""


@contextmanager
def unwatched(_step: Step) -> Iterator[OnRows]:
    yield unheard


def run(workshop: Workshop, dispatch: Dispatch, number: int, *, is_final: bool = False) -> None:
    query = dispatch.model.source.query
    attempt = Attempt(number, is_final=is_final, task=TASK)
    run_dispatch(dispatch, workshop.deployment, lambda: query, unwatched, attempt)


def tries(workshop: Workshop, dispatch: Dispatch) -> list[tuple[Step, int, str]]:
    found = list_tries(workshop.events(dispatch.id))
    return [(each.step, each.number, each.outcome) for each in found]


def require_complete(workshop: Workshop, dispatch: Dispatch, rows: int = 5) -> None:
    (record,) = [one for one in workshop.records() if one.dispatch_id == dispatch.id]
    assert record.state == "succeeded"
    counts = (record.rows_collected, record.rows_predicted, record.rows_rejected, record.rows_persisted)
    assert counts == (rows, rows, 0, rows)
    stored = workshop.predictions()
    assert [row["id"] for row in stored] == list(range(1, rows + 1))
    assert {row["dispatch_id"] for row in stored} == {dispatch.id}


@pytest.fixture
def together(workshop: Workshop) -> Workshop:
    workshop.add_model("churn", execution="together", retries=2)
    return workshop


def test_each_step_is_recorded_with_the_task_that_ran_it(together: Workshop) -> None:
    dispatch = together.dispatch()
    run(together, dispatch, 1)
    require_complete(together, dispatch)
    assert tries(together, dispatch) == ONCE
    last = [step.last for step in summarise_steps(list_tries(together.events(dispatch.id)))]
    assert [each and each.task for each in last] == [TASK] * 4


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_killed_in_a_step_and_retried_it_begins_again_and_is_complete(
    step: Step, together: Workshop, tmp_path: Path
) -> None:
    dispatch = together.dispatch()
    tests = str(Path(__file__).resolve().parents[1])
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED_IN, tests, str(together.folder), dispatch.id, step],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    before = tries(together, dispatch)
    assert [each[0] for each in before] == list(STEPS[: STEPS.index(step) + 1])
    run(together, dispatch, 2)
    require_complete(together, dispatch)
    # What has ended stays; of a killed step nobody could record the end.
    ended = [(each, number, LOST if outcome == "running" else outcome) for each, number, outcome in before]
    assert tries(together, dispatch) == ended + TWICE


def test_a_failed_step_is_recorded_as_its_own_and_the_retry_begins_with_collect(together: Workshop) -> None:
    artifact = together.folder / "churn.skops"
    hidden = artifact.rename(together.folder / "hidden")
    dispatch = together.dispatch()
    with pytest.raises(MlopsError):
        run(together, dispatch, 1)
    assert [each[::2] for each in tries(together, dispatch)] == [("collect", "succeeded"), ("log", "failed")]
    hidden.rename(artifact)
    together.add_rows(2)
    run(together, dispatch, 2)
    require_complete(together, dispatch, rows=7)


def test_cleared_it_is_the_same_dispatch_with_the_rows_of_now(together: Workshop) -> None:
    dispatch = together.dispatch()
    run(together, dispatch, 1, is_final=True)
    together.add_rows(3)
    run(together, dispatch, 2, is_final=True)
    require_complete(together, dispatch, rows=8)
    assert tries(together, dispatch) == ONCE + TWICE
    assert len(together.records()) == 1


@pytest.mark.parametrize("paused_in", ["collect", "infer", "persist"])
def test_a_suspended_try_changes_nothing_once_another_has_begun(paused_in: Step, together: Workshop) -> None:
    dispatch = together.dispatch()

    def work(pause: OnRows) -> None:
        @contextmanager
        def watch(step: Step) -> Iterator[OnRows]:
            yield pause if step == paused_in else unheard

        query, attempt = dispatch.model.source.query, Attempt(1, is_final=False, task=TASK)
        run_dispatch(dispatch, together.deployment, lambda: query, watch, attempt)

    older = Paused(work)
    if paused_in != "persist":  # its transaction holds the table
        together.add_rows(1)
        run(together, dispatch, 2)
        assert isinstance(older.resume(), TrySuperseded)
        require_complete(together, dispatch, rows=6)
        return
    assert older.resume() is None
    require_complete(together, dispatch)


def test_a_try_that_is_suspended_between_two_steps_starts_no_other(together: Workshop) -> None:
    """The next step of the older try has no newer one yet: the first step tells that it is over."""
    dispatch = together.dispatch()
    query = dispatch.model.source.query

    def work(pause: OnRows) -> None:
        @contextmanager
        def watch(step: Step) -> Iterator[OnRows]:
            if step == "log":
                pause(0)
            yield unheard

        run_dispatch(
            dispatch, together.deployment, lambda: query, watch, Attempt(1, is_final=False, task=TASK)
        )

    older = Paused(work)

    class Stopped(Exception):
        pass

    @contextmanager
    def only_collect(step: Step) -> Iterator[OnRows]:
        if step != "collect":
            raise Stopped
        yield unheard

    newer = Attempt(2, is_final=False, task=TASK)
    with pytest.raises(Stopped):
        run_dispatch(dispatch, together.deployment, lambda: query, only_collect, newer)
    assert isinstance(older.resume(), TrySuperseded)
    assert [each[:2] for each in tries(together, dispatch)] == [("collect", 1), ("collect", 2)]
