"""A deployment in which every process can be stopped anywhere, beside an oracle of what must come of it.

The steps are the product's own, on SQLite; source, sink, shelf and event store are watched from the outside.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import MlopsError
from mlops_plugin.events.details.step_reports import PlanReport
from mlops_plugin.events.marks import newest_mark
from mlops_plugin.events.records import Step
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.dispatch import Dispatch, dispatch_id, new_dispatch_id
from mlops_plugin.pipeline.reading.mark_keeping import set_by_hand
from mlops_plugin.pipeline.recording.reconciliation import close_failed_run
from mlops_plugin.pipeline.recording.step_record import Attempt
from mlops_plugin.pipeline.runner import ArtifactFiles, ConfiguredSource
from mlops_plugin.pipeline.staging.shelf import Shelf
from mlops_plugin.pipeline.step_runner import StepRunner
from support.order_features import Features
from support.order_oracle import Mode, Oracle, Row, Story
from support.order_tables import OrderTables, copy_file
from support.order_watching import (
    FIRST_DAY,
    STEPS,
    Try,
    WatchedShelf,
    WatchedSink,
    WatchedSource,
    WatchedStore,
)
from support.servers import ServerDatabase
from support.stopping import Broken, How, Killed, Process, current, point

MODEL = "echo"
MANY = 100  # rejected rows, which a dispatch tolerates
SHIFT = 1000  # by so much the predictions of one artifact differ from those of the artifact before it
Task = tuple[Step, int | None]


@dataclass
class Run:
    """A DAG run, as Airflow has it: the state of each task and the number of its last try."""

    id: str
    asked: Mapping[str, Any]
    states: dict[Task, str] = field(default_factory=dict)
    tries: dict[Task, int] = field(default_factory=dict)
    ids: dict[Task, str] = field(default_factory=dict)  # Airflow's, of the last tries
    parts: int = 2


class World:
    """One story. `artifacts` are files, each a model of its own; the event store has no dispatch yet.

    `paged` holds the source of a model that reads in pages.
    """

    def __init__(
        self,
        folder: Path,
        features: Features,
        model: Callable[[Mapping[str, Any]], ModelConfig],
        deployment: Deployment,
        artifacts: Sequence[Path],
        paged: ServerDatabase,
    ) -> None:
        self.folder, self.features = folder, features
        self._model_of = model
        self.deployment = deployment
        self._artifacts = artifacts
        self.hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in artifacts]
        self.oracle = Oracle(features.has_contract, features.skips_predicted, features.has_own_table)
        self.source: dict[int, Row] = {}
        self.version = 0
        self.clock = 0
        self.set_back_at = 0
        self.artifact = 0
        self.threshold = MANY
        self.mode = features.mode
        self.saved: int | None = None  # when the cursor had been set back, in the saved event store
        self.runs: list[Run] = []
        self.processes: list[Process] = []  # those that stand still
        self.tries: list[Try] = []  # that have registered
        self.told: list[str] = []
        self.why: BaseException | None = None
        self.use_artifact(0)
        self.configure(MANY, features.mode)
        self.tables = OrderTables(folder, features, paged)
        with deployment.event_store() as store:
            self.store = WatchedStore(store.address)

    def close(self) -> None:
        """End every process, and close what is open."""
        for process in self.processes:
            process.kill()
        self.store.close()
        self.tables.close()

    # What people and other programs do

    def change(self, key: int, *, is_bad: bool = False) -> None:
        self.version += 1
        self.source[key] = Row(self.version, is_bad)
        b = "NULL" if is_bad else "1.0"
        self.tables.in_source(
            f"INSERT INTO customers VALUES ({key}, {self.version}, {b}, {self.version}) ON CONFLICT (id)"
            " DO UPDATE SET a = excluded.a, b = excluded.b, version = excluded.version"
        )

    def delete(self, key: int) -> None:
        self.source.pop(key, None)
        self.tables.in_source(f"DELETE FROM customers WHERE id = {key}")

    def erase(self, key: int) -> None:
        """Somebody deletes the predictions of a key."""
        if self.tables.has("echo_predictions"):
            rows = "echo_predictions" if self.features.has_own_table else "echo_predictions_rows"
            self.tables.in_sink(f"DELETE FROM {rows} WHERE id = {key}")
        self.oracle.sink = [cell for cell in self.oracle.sink if cell.key != key]

    def use_artifact(self, number: int) -> None:
        self.artifact = number
        shutil.copy(self._artifacts[number], self.folder / "echo.skops")

    def configure(self, threshold: int, mode: Mode) -> None:
        """Threshold and mode of the sink change; what is under way may have been logged with others."""
        self.threshold, self.mode = threshold, mode
        self.model = self._model_of(self.features.entry(threshold, mode))

    def set_back(self, value: int) -> None:
        """Somebody sets the cursor back, at most to the beginning."""
        if self.features.has_cursor:
            text = str(value % (self.mark() + 1))
            set_by_hand(self.model, self.deployment, text, render=lambda model: model.source.query, user="me")
            self.clock += 1
            self.set_back_at = self.clock

    def save_events(self) -> None:
        """Somebody makes a backup of the event store."""
        self.store.close()
        copy_file(self.folder / "events.db", self.folder / "saved.db")
        self.saved = self.set_back_at

    def restore_events(self) -> None:
        """Somebody restores it, whatever has been recorded since, and while dispatches are under way."""
        if self.saved is not None:
            self.store.close()
            copy_file(self.folder / "saved.db", self.folder / "events.db")
            self.set_back_at = self.saved

    def give_up(self, run: Run) -> None:
        """Airflow declares a run failed, and says so at any time: also while a try of it is under way."""
        close_failed_run(self.model, run.id, "task_failure", self.deployment)

    # Dispatches

    def add_run(self, **asked: Any) -> Run:
        run = Run(f"manual__{len(self.runs)}", asked)
        self.runs.append(run)
        for task in self.tasks(run):
            run.states[task] = "none"
        return run

    def tasks(self, run: Run) -> list[Task]:
        if not self.features.has_partitions:
            return [(step, None) for step in STEPS[1:]]
        tasks: list[Task] = [("plan", None)]
        for step in STEPS[1:]:
            is_mapped = step in ("collect", "infer")
            tasks += [(step, part) for part in range(run.parts)] if is_mapped else [(step, None)]
        return tasks

    def runnable(self, run: Run) -> list[Task]:
        """The tasks that Airflow would start: those before them have succeeded."""
        tasks = self.tasks(run)
        steps = [step for step in STEPS if any(task[0] == step for task in tasks)]

        def is_ready(task: Task) -> bool:
            place = steps.index(task[0])
            before = [other for other in tasks if place and other[0] == steps[place - 1]]
            return all(run.states.get(other) == "success" for other in before)

        return [task for task in tasks if run.states.get(task, "none") == "none" and is_ready(task)]

    def clear(self, run: Run, task: Task, *, downstream: bool) -> None:
        for other in self.tasks(run):
            if other == task or (downstream and STEPS.index(other[0]) > STEPS.index(task[0])):
                run.states[other] = "none"

    def make_again(self, run: Run) -> None:
        """Somebody deletes a run, and makes one of the same id: its tries are counted from the first."""
        run.states = dict.fromkeys(self.tasks(run), "none")
        run.tries, run.ids = {}, {}

    def start_task(self, run: Run, task: Task, *, is_twin: bool = False) -> Process:
        """A worker begins a try of a task, or begins the last one a second time: its message came twice."""
        if not is_twin:
            run.tries[task] = run.tries.get(task, 0) + 1
            self.clock += 1
            run.ids[task] = f"{self.clock:09}"
        number, made = run.tries[task], run.ids[task]
        run.states[task] = "running"
        step, part = task
        attempt = Attempt(number, is_final=number % 3 == 0, partition=part, id=made)
        dispatch = self._dispatch(dispatch_id(MODEL, run.id), "manual", run.asked, run.id)

        def work() -> None:
            report = self._run_step(step, dispatch, attempt)
            if run.ids.get(task) != made:
                return
            if isinstance(report, PlanReport):
                run.parts = len(report.partitions)
            if run.states[task] == "running":
                run.states[task] = "success"

        return Process(f"{run.id} {step} {part} try {number}", work)

    def try_task(
        self, run: Run, task: Task, points: int | None = None, how: How = "pause", *, is_twin: bool = False
    ) -> BaseException | None:
        """One try of a task, up to some point; returns the error that ended it."""
        process = self.start_task(run, task, is_twin=is_twin)
        process.advance(points, how)
        self.settle(process, run, task)
        return process.error

    def settle(self, process: Process, run: Run | None = None, task: Task | None = None) -> None:
        """After a process was let run: it stands still, or is over and said why."""
        self.told.append(f"   {process.name}: {process.error!r}"[:300] if process.is_over else "   paused")
        if not process.is_over:
            if process not in self.processes:
                self.processes.append(process)
            return
        if process in self.processes:
            self.processes.remove(process)
        if run is not None and task is not None and run.states[task] == "running":
            run.states[task] = "none"  # Airflow tries again
        error = process.error
        if not (error is None or isinstance(error, MlopsError | Killed | Broken)):
            raise error

    def start_terminal(self, **asked: Any) -> Process:
        """`mlops dispatch`: all steps in one process."""
        dispatch = self._dispatch(new_dispatch_id(), "terminal", asked, None)
        self.oracle.stories[dispatch.id] = Story(dispatch.id, is_forced=bool(asked.get("overwrites_newer")))

        def work() -> None:
            parts: list[int | None] = [None]
            if self.features.has_partitions:
                planned = self._run_step("plan", dispatch, Attempt())
                assert isinstance(planned, PlanReport)
                parts = [*range(len(planned.partitions))]
            for step in STEPS[1:]:
                for part in parts if step in ("collect", "infer") else [None]:
                    self._run_step(step, dispatch, Attempt(partition=part))

        return Process(f"terminal {dispatch.id[:8]}", work)

    def _dispatch(self, id: str, origin: Any, asked: Mapping[str, Any], run_id: str | None) -> Dispatch:
        asked = dict(asked)
        day = FIRST_DAY + timedelta(days=asked.pop("day", 0))
        interval = (day, day + timedelta(days=1))
        dag_id = run_id and MODEL
        self.oracle.stories.setdefault(id, Story(id))
        return Dispatch(
            id=id,
            model=self.model,
            origin=origin,
            dag_id=dag_id,
            run_id=run_id,
            data_interval=interval,
            **asked,
        )

    def _run_step(self, step: Step, dispatch: Dispatch, attempt: Attempt) -> Any:
        point()
        seen = Try(self, self.oracle.stories[dispatch.id], step, attempt.partition, dispatch)
        process = current()
        assert process is not None
        process.doing = seen
        base = self.deployment.staging.shelf(MODEL, dispatch.id)
        shelf: Shelf = WatchedShelf(**vars(base), seen=seen)
        if attempt.partition is not None:
            shelf = shelf.of_partition(attempt.partition)
        models = ArtifactFiles(self.deployment)
        source = ConfiguredSource(
            dispatch, self.deployment, self.store, models, lambda: dispatch.model.source.query
        )
        runner = StepRunner(
            dispatch,
            self.store,
            shelf,
            WatchedSource(source, seen),
            models,
            lambda check: WatchedSink(dispatch, self.deployment, check, seen),
        )
        report = runner.run(step, attempt)
        if step == "persist":
            self._compare_record(dispatch)
        point()
        return report

    def _compare_record(self, dispatch: Dispatch) -> None:
        record, expected = self.store.get(dispatch.id), self.oracle.stories[dispatch.id].accounts
        assert record is not None
        assert expected is not None
        found = (
            record.rows_collected,
            record.rows_predicted,
            record.rows_rejected,
            record.rows_persisted,
            record.rows_superseded,
        )
        assert found == tuple(vars(expected).values()), f"record {found}, but {expected}"
        assert record.state == "succeeded"

    # What must be true at any moment

    def compare(self) -> None:
        """Sink, quarantine and mark are what the oracle says."""
        found = set()
        if self.tables.has("echo_predictions"):
            for key, prediction, owner, sha256 in self.tables.in_sink(
                "SELECT id, prediction, dispatch_id, artifact_sha256 FROM echo_predictions"
            ):
                artifact, version = divmod(round(prediction), SHIFT)
                assert self.hashes[artifact] == sha256
                found.add((key, version, artifact, owner))
        wanted = {(cell.key, cell.version, cell.artifact, cell.owner) for cell in self.oracle.sink}
        assert found == wanted, f"sink: {sorted(found - wanted)} in place of {sorted(wanted - found)}"
        rejected = set()
        if self.tables.has("echo_predictions_quarantine"):
            rejected = set(
                self.tables.in_sink("SELECT id, dispatch_id, released_by FROM echo_predictions_quarantine")
            )
        records = {(record.key, record.owner, record.released_by) for record in self.oracle.quarantine}
        assert rejected == records, f"quarantine: {rejected - records} in place of {records - rejected}"
        self._compare_mark()

    def _compare_mark(self) -> None:
        newest, mark = newest_mark(self.store, MODEL), self.mark()
        if newest is not None and newest.dispatch_id is not None:
            read_at = self.oracle.stories[newest.dispatch_id].place.number
            assert read_at > self.set_back_at, f"mark {mark} of a dispatch that read before it was set back"
        passed = {(key, row.version) for key, row in self.source.items() if row.version <= mark}
        assert passed <= self.oracle.handled, f"mark {mark} passes {passed - self.oracle.handled}"

    def mark(self) -> int:
        mark = newest_mark(self.store, MODEL)
        return 0 if mark is None or mark.value is None else int(mark.value)

    # The end

    def come_to_rest(self) -> None:
        """Nothing fails any more: every run is tried, and cleared as its errors ask, until it succeeds."""
        for process in list(self.processes):
            process.kill()
            self.processes.remove(process)
        is_limited = any(run.asked.get("row_limit") or run.asked.get("is_quarantined") for run in self.runs)
        self.configure(MANY, "upsert" if is_limited and self.mode == "replace" else self.mode)
        for run in self.runs:
            run.states = {task: "none" if state == "running" else state for task, state in run.states.items()}
            if not self._finish(run):
                self.told.append(f"clear {run.id}")
                self.clear(run, self.tasks(run)[0], downstream=True)
                if not self._finish(run):
                    raise AssertionError(f"{run.id} never succeeds") from self.why
        self.compare()

    def _finish(self, run: Run) -> bool:
        for _ in range(30):
            tasks = self.runnable(run)
            if not tasks:
                break
            self.why = self.try_task(run, tasks[0])
            if self.why is not None:
                return False
        record = self.store.get(dispatch_id(MODEL, run.id))
        return record is not None and record.state == "succeeded"

    def dispatch_once_more(self) -> None:
        """One more ordinary dispatch succeeds, and leaves what it must."""
        process = self.start_terminal(day=9)
        process.advance()
        self.settle(process)
        if process.error is not None:
            raise AssertionError("an ordinary dispatch fails") from process.error
        self.compare()
