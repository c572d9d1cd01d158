"""Whatever the order of arrival and failure, each row is predicted, and once: hypothesis looks for a way out.

Failures are real: a trigger in the event store refuses what a step wants to record, a source table is away.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import MlopsError
from mlops_plugin.events.marks import newest_mark, set_mark
from mlops_plugin.events.migrating import upgrade
from mlops_plugin.events.records import Step
from mlops_plugin.pipeline.dispatch import STEPS, Dispatch
from mlops_plugin.pipeline.runner import run_step
from support.random_examples import examples
from support.workshop import Workshop

LAG = 10
# The greatest first: whoever takes the first rows for all of them is found out.
QUERY = "SELECT id, a, b, c, changed FROM arrivals ORDER BY changed DESC"
# Where a try can end: at the start of a step, at its end when the work is done, or between the two acts of
# persist (the predictions are in the sink, the mark is where it was).
REFUSED = {
    "start": "mlops_event WHEN NEW.step = '{step}' AND NEW.kind = 'started'",
    "end": "mlops_event WHEN NEW.step = '{step}' AND NEW.kind = 'succeeded'",
    "mark": "mlops_mark WHEN '{step}' = 'persist'",
}


class IncrementalDispatches(RuleBasedStateMachine):
    """Rows arrive, up to three dispatches are under way, each step may fail, people want rows again."""

    template: ClassVar[Path]
    model: ClassVar[ModelConfig]

    @initialize()
    def unpack(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=self.template.parent))
        for name in ("source.db", "sink.db", "events.db"):
            if (self.template / name).exists():
                shutil.copy(self.template / name, self.folder / name)
        self.workshop = Workshop.again(self.template)
        self.patch = pytest.MonkeyPatch()
        for name in ("source", "sink", "events"):
            self.patch.setenv(f"AIRFLOW_CONN_{name.upper()}", f"sqlite:///{self.folder / name}.db")
        self.deployment = self.workshop.deployment
        self.under_way: list[tuple[Dispatch, int]] = []
        self.rows = 0
        self.greatest = 0  # of all that has arrived

    def teardown(self) -> None:
        if not hasattr(self, "folder"):
            return
        # Those under way are abandoned, as if their workers had died.
        last = self.workshop.dispatch("incremental")
        for step in STEPS:
            self.run(last, step)
        try:
            assert self.predicted() == list(range(1, self.rows + 1))
        finally:
            self.patch.undo()
            shutil.rmtree(self.folder)

    @rule(steps=st.lists(st.integers(-LAG, 15), min_size=1, max_size=4))
    def rows_arrive(self, steps: list[int]) -> None:
        """Each is at most `LAG` behind the greatest that was there before it."""
        with contextlib.closing(sqlite3.connect(self.folder / "source.db")) as source, source:
            for step in steps:
                self.rows += 1
                changed = self.greatest + step
                source.execute("INSERT INTO arrivals VALUES (?, 1, 2, 3, ?)", (self.rows, changed))
                self.greatest = max(self.greatest, changed)

    @precondition(lambda self: len(self.under_way) < 3)
    @rule(row_limit=st.sampled_from([None, None, None, 2]), is_dry_run=st.sampled_from([False, False, True]))
    def a_dispatch_begins(self, row_limit: int | None, is_dry_run: bool) -> None:
        dispatch = self.workshop.dispatch("incremental", row_limit=row_limit, is_dry_run=is_dry_run)
        self.under_way.append((dispatch, 0))

    @rule(row_limit=st.sampled_from([None, 2]), is_dry_run=st.booleans())
    def a_dispatch_runs(self, row_limit: int | None, is_dry_run: bool) -> None:
        dispatch = self.workshop.dispatch("incremental", row_limit=row_limit, is_dry_run=is_dry_run)
        self.go_on(dispatch, 0)

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 2), steps=st.integers(1, 4))
    def one_goes_on(self, which: int, steps: int) -> None:
        dispatch, done = self.under_way.pop(which % len(self.under_way))
        for step in STEPS[done : done + steps]:
            self.run(dispatch, step)
            done += 1
        if done < len(STEPS):
            self.under_way.append((dispatch, done))

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 2), place=st.sampled_from(list(REFUSED)), is_tried_again=st.booleans())
    def one_fails(self, which: int, place: str, is_tried_again: bool) -> None:
        """Given up, or tried again later from that step on."""
        dispatch, done = self.under_way.pop(which % len(self.under_way))
        with self.refused(place, STEPS[done]):
            try:
                self.run(dispatch, STEPS[done])
            except MlopsError:
                pass
            else:
                done += 1  # the mark had no reason to move
        if is_tried_again and done < len(STEPS):
            self.under_way.append((dispatch, done))

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 2))
    def one_is_cleared(self, which: int) -> None:
        """All of its steps run again."""
        dispatch, _ = self.under_way.pop(which % len(self.under_way))
        self.under_way.append((dispatch, 0))

    @rule(back=st.integers(0, 40))
    def somebody_wants_rows_again(self, back: int) -> None:
        """Their predictions are deleted and the mark is set back, also while dispatches are under way."""
        with self.deployment.event_store() as store:
            mark = newest_mark(store, "incremental")
            value = None if mark is None or mark.value is None else str(int(mark.value) - back)
            set_mark(store, "incremental", "changed", value, value and "integer", "ann")
        with contextlib.closing(sqlite3.connect(self.folder / "source.db")) as source:
            first = -(2**63) if value is None else int(value)
            ids = source.execute("SELECT id FROM arrivals WHERE changed >= ?", (first,)).fetchall()
        with contextlib.closing(sqlite3.connect(self.folder / "sink.db")) as sink, sink:
            if sink.execute("SELECT 1 FROM sqlite_master WHERE name = 'predicted_rows'").fetchone():
                sink.executemany("DELETE FROM predicted_rows WHERE id = ?", ids)

    @rule(back=st.integers(0, 40))
    def somebody_wants_rows_again_of_which_a_dispatch_knows_nothing(self, back: int) -> None:
        dispatch = self.workshop.dispatch("incremental")
        for step in STEPS[:3]:
            self.run(dispatch, step)
        self.somebody_wants_rows_again(back)
        self.run(dispatch, "persist")

    @invariant()
    def nothing_is_in_the_sink_twice(self) -> None:
        if hasattr(self, "folder"):
            found = self.predicted()
            assert len(found) == len(set(found))

    def run(self, dispatch: Dispatch, step: Step) -> None:
        run_step(step, dispatch, self.deployment, query=lambda: QUERY)

    def go_on(self, dispatch: Dispatch, done: int) -> None:
        for step in STEPS[done:]:
            self.run(dispatch, step)

    @contextlib.contextmanager
    def refused(self, place: str, step: Step) -> Iterator[None]:
        self._in_store(
            f"CREATE TRIGGER refusal BEFORE INSERT ON {REFUSED[place].format(step=step)} "
            "BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
        yield
        self._in_store("DROP TRIGGER refusal")

    def _in_store(self, statement: str) -> None:
        with contextlib.closing(sqlite3.connect(self.folder / "events.db")) as events, events:
            events.execute(statement)

    def predicted(self) -> list[int]:
        with contextlib.closing(sqlite3.connect(self.folder / "sink.db")) as sink:
            exists = sink.execute("SELECT 1 FROM sqlite_master WHERE name = 'predicted_rows'").fetchone()
            rows = sink.execute("SELECT id FROM predicted ORDER BY id").fetchall() if exists else []
        return [row[0] for row in rows]


@pytest.mark.long  # tests/faults/test_any_order.py drives cursors, too, with everything else
def test_each_row_is_predicted_once_whatever_happens(workshop: Workshop) -> None:
    workshop.add_model(
        "incremental",
        source={"query": QUERY, "cursor": {"column": "changed", "lag": LAG}},
        sink={"table": "predicted"},
    )
    with contextlib.closing(sqlite3.connect(workshop.folder / "source.db")) as source, source:
        source.execute("CREATE TABLE arrivals (id INTEGER, a REAL, b REAL, c REAL, changed INTEGER)")
    with workshop.deployment.event_store() as store:
        upgrade(store.address)
    IncrementalDispatches.template = workshop.folder

    tried = settings(
        max_examples=examples(10),
        stateful_step_count=20,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(IncrementalDispatches, settings=tried)
