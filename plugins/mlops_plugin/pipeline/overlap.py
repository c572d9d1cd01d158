"""Runs the steps of one dispatch at the same time, each in a thread, for a process that runs them all.

`collect` reads; once its first rows are there, `log` records what will predict them; then `infer` follows
the file that `collect` writes, and `persist` that of `infer`. The thread that runs `Overlap` does no such
work: it records, and waits in a way that a signal interrupts. Every guarantee of steps in turn holds, since

- rows are inferred only when query, artifact, snapshot and token are logged; `log` adds their counts later;
- the stream of predictions ends for the sink only when the success of `infer` and of all steps before it is
  recorded, and its transaction commits after that;
- the first failure ends all steps. It is recorded as that of its step, the others as ended because of it.

`may_overlap`, `Begun.reads_beside_writes` and `writes_meanwhile` say which dispatches run in turn.
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from datetime import datetime

from mlops_plugin.events.details.step_reports import StepReport
from mlops_plugin.events.records import Step
from mlops_plugin.interruptible import abandon
from mlops_plugin.pipeline.dispatch import STEPS, Dispatch
from mlops_plugin.pipeline.meanwhile import GrowingPredictions
from mlops_plugin.pipeline.recording.step_record import Attempt
from mlops_plugin.pipeline.staging.notes import LoggedRows, logged_rows
from mlops_plugin.pipeline.staging.records import Collected, Judge
from mlops_plugin.pipeline.staging.relay import Handed, Relay
from mlops_plugin.pipeline.staging.shelf import OnRows, Staged
from mlops_plugin.pipeline.step_runner import Begun, RunningStep, StepRunner
from mlops_plugin.pipeline.steps import order_of

# Once a step has failed, the threads of the others have so long to end.
_ENDING_S = 5.0
# A thread whose server has answered waits so long for the one that runs: meanwhile the server does nothing.
_SWITCH_S = 0.0005

Watch = Callable[[Step], AbstractContextManager[OnRows]]


def may_overlap(dispatch: Dispatch, *, is_local: bool) -> bool:
    """Whether the steps of a dispatch may run at the same time.

    Partitions bound memory by being worked on one after the other. A file in an object store (`is_local` is
    False) cannot be read before it is complete.
    """
    return dispatch.model.source.partitions is None and is_local


def writes_meanwhile(dispatch: Dispatch) -> bool:
    """Whether `persist` may begin before all rows are judged.

    Not where rows may be rejected: the quarantine is written first, and `error_threshold` is decided before
    anything is in the sink. A dry run writes nothing.
    """
    return not (dispatch.is_dry_run or dispatch.is_quarantined or dispatch.model.may_reject)


@dataclass
class _Stage:
    """A step that has begun; `stack` records its end."""

    running: RunningStep
    stack: ExitStack
    report: StepReport | None = None


@dataclass
class Overlap:
    """One dispatch. `runner_of` makes the runner of a step from who hears of its rows, and the relay.

    `kill_models` ends models in processes of their own, whatever they are doing. `patience_s` is how long the
    sink's transaction may wait for rows.
    """

    dispatch: Dispatch
    runner_of: Callable[[OnRows, Relay], StepRunner]
    watch: Watch
    attempt: Attempt
    kill_models: Callable[[], None]
    patience_s: float
    _relay: Relay = field(default_factory=Relay)
    _open: dict[Step, _Stage] = field(default_factory=dict)  # in the order in which they began
    _threads: list[threading.Thread] = field(default_factory=list)
    _done: dict[Step, StepReport] = field(default_factory=dict)

    def run(self) -> dict[Step, StepReport]:
        """Run the steps; returns their reports. Raises what the first that failed has raised, or what has
        interrupted them.

        Ends after `collect` if the source may not be read while others write: the caller goes on in turn.
        """
        cause: BaseException | None = None
        try:
            with _switching(_SWITCH_S):
                self._run()
        except BaseException as error:  # noqa: BLE001 -- raised below, without this one as its context
            cause = self._end(error)
        if cause is not None:
            raise cause
        return {step: self._done[step] for step in STEPS if step in self._done}

    def _run(self) -> None:
        first = Handed[Begun](self._relay)
        self._start("collect", lambda running: running.collect(first.give))
        begun = first.take()
        if not begun.reads_beside_writes:
            self._finish("collect")
            return
        judge = self._log_begun(begun)
        counted, inferred = Handed[None](self._relay), Handed[None](self._relay)
        growing = Handed[GrowingPredictions](self._relay)

        def infer(running: RunningStep) -> StepReport:
            def complete() -> Collected:
                counted.take()
                return logged_rows(self.dispatch.model, running.shelf).part

            logged = LoggedRows(judge, judge.artifact_sha256, begun.collected, begun.staged, complete)
            return running.infer(logged, begin)

        def begin(at: datetime, staged: Staged) -> None:
            sha256, order = judge.artifact_sha256, order_of(begun.collected)
            signed = judge.input_sha256
            growing.give(GrowingPredictions(staged, at, sha256, signed, order, inferred, self.patience_s))

        self._start("infer", infer)
        is_meanwhile = writes_meanwhile(self.dispatch)
        if is_meanwhile:
            self._start("persist", lambda running: running.persist(growing.take()))
        self._finish("collect")
        self._log(judge)
        counted.give(None)
        self._finish("infer")
        inferred.give(None)
        if not is_meanwhile:
            self._start("persist", lambda running: running.persist())
        self._finish("persist")

    def _log_begun(self, begun: Begun) -> Judge:
        running = self._begin("log")
        with self._at("log"):
            judge = running.runner.execute(running.judge)
            running.runner.execute(lambda: running.log_begun(begun, judge))
        return judge

    def _log(self, judge: Judge) -> None:
        stage = self._open["log"]
        with self._at("log"):
            stage.report = stage.running.runner.execute(lambda: stage.running.log(judge))
        self._finish("log")

    @contextlib.contextmanager
    def _at(self, step: Step) -> Iterator[None]:
        """What fails inside, in this thread, is a failure of this step."""
        try:
            yield
        except BaseException as error:
            self._relay.fail(step, error)
            raise

    def _begin(self, step: Step) -> RunningStep:
        """Record that a step begins."""
        with self._at(step), ExitStack() as stack:
            on_rows = stack.enter_context(self.watch(step))
            running = stack.enter_context(self.runner_of(on_rows, self._relay).begin(step, self.attempt))
            self._open[step] = _Stage(running, stack.pop_all())
        return running

    def _start(self, step: Step, work: Callable[[RunningStep], StepReport]) -> None:
        """Begin a step whose work is done in a thread of its own."""
        running = self._begin(step)
        stage = self._open[step]

        def run() -> None:
            try:
                report = work(running)
            except BaseException as error:  # noqa: BLE001 -- handed to the waiting thread, which raises it
                self._relay.fail(step, error)
                return
            with self._relay.changed:
                stage.report = report
                self._relay.changed.notify_all()

        copied = contextvars.copy_context()
        thread = threading.Thread(target=copied.run, args=(run,), daemon=True, name=step)
        self._threads.append(thread)
        thread.start()

    def _finish(self, step: Step) -> None:
        """Wait until a step has done its work, and record its success."""
        stage = self._open[step]
        self._relay.wait(lambda: stage.report is not None)
        assert stage.report is not None  # noqa: S101 -- it was waited for
        stage.running.record.report = self._done[step] = stage.report
        with self._at(step):
            stage.stack.close()
        del self._open[step]

    def _end(self, error: BaseException) -> BaseException:
        """End all steps, and record how each has ended; returns what to raise.

        `error` is what this thread has met; a step may have failed before it.
        """
        is_open = {step: stage for step, stage in self._open.items() if not stage.running.record.is_over}
        # An interruption is one of the step that was waited for.
        first = next(iter(is_open), STEPS[0])
        self._relay.fail(first, error)
        step, cause = self._relay.failed or (first, error)
        if step not in is_open:  # it failed while it began or ended, which has recorded nothing
            step = first
        with contextlib.suppress(Exception):  # why they end is known
            self.kill_models()
        # The failure itself comes last: its error is the one that the dispatch shows.
        for each in sorted(is_open, key=lambda one: (one == step, -STEPS.index(one))):
            ended = cause if each == step else self._relay.ending()
            is_open[each].stack.__exit__(type(ended), ended, ended.__traceback__)
        self._leave()
        return cause if isinstance(error, Exception) else error

    def _leave(self) -> None:
        """Wait a moment for the threads, which end after the batch that they are at."""
        until = time.monotonic() + _ENDING_S
        for thread in self._threads:
            if thread.is_alive():  # else it may not have begun, and could not be waited for
                thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():  # in a driver that waits for its server
                abandon(thread)


@contextlib.contextmanager
def _switching(interval_s: float) -> Iterator[None]:
    """Python's threads take turns that often inside."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(interval_s)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
