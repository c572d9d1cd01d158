"""Whatever happens in whatever order, sink, quarantine, marks and records end as an oracle says.

A story is a list of acts over one model with some of all features: rows change and go, dispatches begin,
their processes are killed, fail, or stand still and come back, operators clear tasks, artifact and threshold
change. Its steps are the product's own. `test_any_order_for_long` is the same, for hours.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from support.event_tables import make_tables
from support.order_features import Features
from support.order_oracle import Mode
from support.order_watching import STEPS
from support.order_world import MANY, MODEL, SHIFT, Run, World
from support.servers import Server, ServerDatabase
from support.stopping import How
from support.workshop import Workshop

KEYS = 4
RUNS = 3
ARTIFACTS = 3
POINTS = 45  # more than a step has: then it ends by itself
Act = tuple[str, int, int, int]

MODES: tuple[Mode, ...] = ("append", "upsert", "replace")
FEATURES = [
    features
    for mode, chosen in itertools.product(MODES, itertools.product((False, True), repeat=7))
    if (features := Features(mode, *chosen)).are_allowed
]
IN_MEMORY = [features for features in FEATURES if not features.has_pages]
IN_PAGES = [features for features in FEATURES if features.has_pages]
# Those on a server take twice as long.
ANY_FEATURES = st.one_of(*[st.sampled_from(IN_MEMORY)] * 4, st.sampled_from(IN_PAGES))
# Acts that are listed more often happen more often.
ACTS = [
    *["change"] * 4,
    *["break"] * 2,
    "delete",
    "erase",
    *["run"] * 2,
    "run quarantined",
    "run limited",
    *["step"] * 10,
    *["finish"] * 4,
    *["terminal"] * 2,
    *["terminal quarantined"] * 2,
    "overwrite",
    *["clear"] * 2,
    *["clear some"] * 2,
    "clear downstream",
    *["resume"] * 4,
    "retrain",
    "threshold",
    "set back",
    "mode",
    "save events",
    *["restore events"] * 2,
    "give up",
    "make again",
    "twin",
]
NEEDED = {"change", "run", "finish"}
CHANGES = {
    *("change", "break", "delete", "erase", "retrain", "threshold", "mode"),
    *("set back", "save events", "restore events"),
}


@st.composite
def stories(draw: st.DrawFn) -> list[Act]:
    """Each story does without some acts, so that the others meet more often."""
    left_out = draw(st.sets(st.sampled_from(sorted({*ACTS} - NEEDED)), max_size=16))
    acts = st.sampled_from([act for act in ACTS if act not in left_out])
    numbers = st.integers(0, 11), st.integers(0, POINTS), st.integers(0, 2)
    return draw(st.lists(st.tuples(acts, *numbers), min_size=12, max_size=40))


# Stories that once ended badly, or that end badly without one of the product's precautions.
TO_PERSIST: list[Act] = [("step", 0, POINTS, 0)] * 3
REREAD_IN_BETWEEN: list[Act] = [
    ("run", 0, 0, 0), *TO_PERSIST, ("change", 1, 0, 0), ("clear some", 0, 0b0011, 0), ("finish", 0, 0, 0)
]  # fmt: skip
PAUSED_AND_OVERTAKEN: list[Act] = [
    ("run", 0, 0, 0), *TO_PERSIST, ("step", 0, 8, 0), ("change", 1, 0, 0), ("clear downstream", 0, 0, 0),
    ("finish", 0, 0, 0), ("resume", 0, POINTS, 0),
]  # fmt: skip
EMPTY_AND_NEWER: list[Act] = [
    ("run", 0, 0, 0), *TO_PERSIST, *[("delete", key, 0, 0) for key in range(KEYS)],
    ("terminal", 0, 0, 0), ("finish", 0, 0, 0),
]  # fmt: skip
REJECTED_LATER: list[Act] = [
    ("break", 1, 0, 0), ("terminal", 0, 0, 0), ("change", 1, 0, 0), ("run quarantined", 0, 0, 0), *TO_PERSIST,
    ("break", 1, 0, 0), ("terminal", 0, 0, 0), ("finish", 0, 0, 0),
]  # fmt: skip
LATE: list[Act] = [
    ("run", 0, 0, 0), *TO_PERSIST, ("change", 1, 0, 0), ("terminal", 0, 0, 0), ("finish", 0, 0, 0)
]  # fmt: skip

# `collect` has read one page; another dispatch reads and persists what has changed meanwhile.
CHANGED_BETWEEN_PAGES: list[Act] = [
    ("run", 0, 0, 0), ("step", 0, 10, 0), ("change", 3, 0, 0), ("change", 0, 0, 0), ("terminal", 0, 0, 0),
    ("set back", 5, 0, 0), ("resume", 0, POINTS, 0), ("finish", 0, 0, 0),
]  # fmt: skip

# The event store forgets two rounds of tries, and gives their numbers again.
RESTORED: list[Act] = [
    ("save events", 0, 0, 0), ("run", 0, 0, 0), *TO_PERSIST, ("clear downstream", 0, 0, 0), *TO_PERSIST,
    ("step", 0, 9, 0), ("restore events", 0, 0, 0), ("change", 1, 0, 0), ("clear downstream", 0, 0, 0),
    ("finish", 0, 0, 0), ("change", 2, 0, 0), ("resume", 0, POINTS, 0),
]  # fmt: skip
# `collect` has its number and no row yet; the store forgets it, and another dispatch has read and persisted.
RESTORED_BEFORE_THE_FIRST_ROW: list[Act] = [
    ("run", 0, 0, 0), ("step", 0, 3, 0), ("save events", 0, 0, 0), ("resume", 0, 4, 0), ("terminal", 0, 0, 0),
    ("restore events", 0, 0, 0), ("change", 1, 0, 0), ("resume", 0, POINTS, 0), ("finish", 0, 0, 0),
]  # fmt: skip
# A dispatch was logged to replace the table; when it persists, the configuration says to add to it.
MODE_CHANGED: list[Act] = [
    ("run", 0, 0, 0), *TO_PERSIST, ("mode", 0, 0, 0), ("delete", 1, 0, 0), ("terminal", 0, 0, 0),
    ("finish", 0, 0, 0), ("run", 0, 0, 0), ("step", 1, POINTS, 0), ("mode", 0, 0, 0), ("change", 2, 0, 0),
    ("terminal", 0, 0, 0), ("finish", 1, 0, 0),
]  # fmt: skip
# Two workers run the same try, and the first one wakes up last.
TWICE_AT_ONCE: list[Act] = [
    ("run", 0, 0, 0), ("step", 0, 9, 0), ("change", 1, 0, 0), ("twin", 0, POINTS, 0),
    ("resume", 0, POINTS, 0), ("finish", 0, 0, 0),
]  # fmt: skip
# A dispatch that was logged before somebody set the cursor back must not move it.
SET_BACK_IN_BETWEEN: list[Act] = [
    ("terminal", 0, 0, 0), ("change", 1, 0, 0), ("run", 0, 0, 0), *TO_PERSIST, ("set back", 2, 0, 0),
    ("finish", 0, 0, 0), ("change", 2, 0, 0), ("terminal", 0, 0, 0),
]  # fmt: skip
# It has written its predictions, and not released their keys, when its run is cleared.
CLEARED_BEFORE_THE_RELEASE: list[Act] = [
    ("break", 1, 0, 0), ("terminal", 0, 0, 0), ("change", 1, 0, 0), ("run quarantined", 0, 0, 0), *TO_PERSIST,
    ("step", 0, 10, 0), ("break", 1, 0, 0), ("clear downstream", 0, 0, 0), ("finish", 0, 0, 0),
    ("resume", 0, POINTS, 0),
]  # fmt: skip


class Stage:
    """What all stories share: artifacts, and an event store without a dispatch."""

    def __init__(self, workshop: Workshop, paged: ServerDatabase) -> None:
        self.workshop = workshop
        self.paged = paged
        self.empty = workshop.folder / "empty.db"
        shutil.copy(workshop.folder / "events.db", self.empty)
        self.artifacts = [workshop.folder / f"echo-{number}.skops" for number in range(ARTIFACTS)]
        values = np.arange(50.0)
        frame = pd.DataFrame({"a": values})
        for number, path in enumerate(self.artifacts):
            skops.io.dump(LinearRegression().fit(frame, values + SHIFT * number), path)

    def world(self, features: Features) -> World:
        """An empty deployment of one model."""
        folder = self.workshop.folder
        shutil.rmtree(folder / "airflow", ignore_errors=True)
        for path in folder.glob("*.db*"):
            if path != self.empty:
                path.unlink()
        shutil.copy(self.empty, folder / "events.db")
        shutil.copy(self.artifacts[0], folder / "echo.skops")

        def model(entry: Any) -> Any:
            self.workshop.add_model(MODEL, **entry)
            return self.workshop.model(MODEL)

        return World(folder, features, model, self.workshop.deployment, self.artifacts, self.paged)


@pytest.fixture(scope="module")
def stage(postgres: Server) -> Iterator[Stage]:
    in_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    paged = postgres.new_database()
    with (
        tempfile.TemporaryDirectory(dir=in_memory) as folder,
        pytest.MonkeyPatch.context() as environment,
    ):
        workshop = Workshop(Path(folder))
        workshop.connections["paged"] = paged.airflow_uri()
        for name, value in workshop.environment.items():
            environment.setenv(name, value)
        with workshop.deployment.event_store() as store:
            make_tables(store.address)
        yield Stage(workshop, paged)


def play(world: World, act: Act) -> None:
    """One act; what it needs may not be there, then nothing happens."""
    name, which, points, manner = act
    how: How = ("pause", "kill", "fail")[manner]
    if name in CHANGES:
        change(world, name, which, manner)
    elif name.startswith("run"):
        if len(world.runs) < RUNS:
            world.add_run(**asked(world, name, which))
    elif name.startswith("terminal") or name == "overwrite":
        process = world.start_terminal(**asked(world, name, which))
        process.advance(points * len(STEPS) or None, how)
        world.settle(process)
    elif name == "resume":
        if world.processes:
            process = world.processes[which % len(world.processes)]
            process.advance(points, how)
            world.settle(process)
    elif world.runs:
        handle(world, world.runs[which % len(world.runs)], name, points, how)


def change(world: World, name: str, which: int, manner: int) -> None:
    """Rows, artifact, configuration, mark and event store change."""
    key = which % KEYS
    match name:
        case "change":
            world.change(key)
        case "break":
            world.change(key, is_bad=True)
        case "delete":
            world.delete(key)
        case "erase":
            world.erase(key)
        case "retrain" if world.artifact + 1 < ARTIFACTS:
            world.use_artifact(world.artifact + 1)
        case "threshold":
            world.configure(which % 3 if manner else MANY, world.mode)
        case "mode" if world.features.changes_mode:
            world.configure(world.threshold, "replace" if world.mode == "upsert" else "upsert")
        case "set back":
            world.set_back(which)
        case "save events":
            world.save_events()
        case "restore events":
            world.restore_events()


def asked(world: World, name: str, which: int) -> dict[str, Any]:
    """How a dispatch differs from an ordinary one; what the product refuses is left out."""
    wanted: dict[str, Any] = {"day": which % 3}
    if "quarantined" in name and world.features.has_contract and world.mode != "replace":
        wanted["is_quarantined"] = True
    if "limited" in name and world.mode != "replace":
        wanted["row_limit"] = 2
    if name == "overwrite":
        wanted["overwrites_newer"] = True
    return wanted


def handle(world: World, run: Run, name: str, points: int, how: How) -> None:
    """What Airflow and operators do with a run."""
    tasks = world.tasks(run)
    match name:
        case "step":
            if ready := world.runnable(run):
                world.try_task(run, ready[0], points, how)
        case "finish":
            for _ in tasks:
                ready = world.runnable(run)
                if not ready or world.try_task(run, ready[0]) is not None:
                    break
        case "clear some":
            for number, task in enumerate(tasks):
                if points >> number & 1:
                    world.clear(run, task, downstream=False)
        case "give up":
            world.give_up(run)
        case "make again":
            world.make_again(run)
        case "twin":
            if running := [task for task in tasks if run.states.get(task) == "running"]:
                world.try_task(run, running[0], points, how, is_twin=True)
        case "clear" | "clear downstream":
            world.clear(run, tasks[points % len(tasks)], downstream=name == "clear downstream")


def tell(stage: Stage, features: Features, acts: list[Act]) -> None:
    """A story, and what must be true after each act and at its end."""
    world = stage.world(features)
    try:
        for key in range(KEYS):
            world.change(key)
        for act in acts:
            world.told.append(str(act))
            play(world, act)
            world.compare()
        world.come_to_rest()
        world.dispatch_once_more()
    except BaseException:
        note(f"{features}\n" + "\n".join(world.told))
        raise
    finally:
        world.close()


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(features=ANY_FEATURES, acts=stories())
@example(Features("append"), REREAD_IN_BETWEEN)
@example(Features("upsert"), PAUSED_AND_OVERTAKEN)
@example(Features("replace"), EMPTY_AND_NEWER)
@example(Features("upsert", has_contract=True), REJECTED_LATER)
@example(Features("upsert"), LATE)
@example(Features("upsert", has_own_table=True), LATE)
@example(Features("append", has_own_table=True), REREAD_IN_BETWEEN)
@example(Features("upsert", has_cursor=True), RESTORED)
@example(Features("upsert"), RESTORED_BEFORE_THE_FIRST_ROW)
@example(Features("replace"), MODE_CHANGED)
@example(Features("append"), TWICE_AT_ONCE)
@example(Features("upsert", has_cursor=True), SET_BACK_IN_BETWEEN)
@example(Features("upsert", has_contract=True), CLEARED_BEFORE_THE_RELEASE)
@example(Features("upsert", has_cursor=True, has_contract=True, has_pages=True), CHANGED_BETWEEN_PAGES)
def test_any_order_of_events_ends_as_the_oracle_says(
    stage: Stage, features: Features, acts: list[Act]
) -> None:
    tell(stage, features, acts)


@pytest.mark.long
@settings(max_examples=5_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(features=ANY_FEATURES, acts=stories())
def test_any_order_for_long(stage: Stage, features: Features, acts: list[Act]) -> None:
    tell(stage, features, acts)
