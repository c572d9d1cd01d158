"""What people do to the runs of a soak, in Airflow and in the terminal."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from local_stack.progress import LocalStackError
from mlops_plugin.errors import MlopsError
from mlops_plugin.events.marks import newest_mark
from mlops_plugin.pipeline.dispatch import dispatch_id
from mlops_plugin.pipeline.reading.mark_keeping import set_by_hand
from support.airflow_process import RunningAirflow
from support.soaked_models import MODELS, Customers, source_of

STEPS = ("collect", "log", "infer", "persist")
_WAITING_RUNS = 2  # of a model; more are not begun
_RECENT_RUNS = 4
_CLOCKS = ("-8d", "-1h", "+0", "+1h", "+8d")
_TERMINALS = 2  # at once
# Under libfaketime with an earlier time, Python's own sleep fails: it asks the real clock for a faked moment.
_TERMINAL = """
import select, sys, time
time.sleep = lambda seconds: select.select([], [], [], seconds)
from mlops_plugin.cli import main
sys.exit(main())
"""
_KILLED_AFTER_S = (1.0, 12.0)


@dataclass
class Operator:
    """Uses Airflow's API and the terminal; remembers which runs may end in a way of their own."""

    airflow: RunningAirflow
    customers: Customers
    choose: random.Random
    models: Sequence[str] = tuple(sorted(MODELS))
    # By dispatch: what may let its run end with success although nothing was persisted.
    by_hand: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    deleted: set[str] = field(default_factory=set)  # whose runs were deleted
    terminals: list[subprocess.Popen[bytes]] = field(default_factory=list)
    doomed: dict[int, float] = field(default_factory=dict)  # terminal: when it is killed

    def trigger(self) -> None:
        """Begin a run of some model, if not many wait already."""
        model = self.choose.choice(self.models)
        with suppress(LocalStackError):
            waiting = [state for state in self.runs(model).values() if state in ("queued", "running")]
            if len(waiting) < _WAITING_RUNS:
                self.airflow.trigger(model)

    def runs(self, model: str) -> dict[str, str]:
        """State by run id, newest first."""
        path = f"/dags/{model}/dagRuns?limit=1000&order_by=-run_after"
        found = self.airflow.call("GET", path)["dag_runs"]
        return {str(run["dag_run_id"]): str(run["state"]) for run in found}

    def clear_run(self, model: str, run_id: str, **body: Any) -> None:
        asked = {"dag_run_id": run_id, "only_failed": False, "dry_run": False, **body}
        self.airflow.call("POST", f"/dags/{model}/clearTaskInstances", asked)

    def clear(self) -> bool:
        """Any one task, with what follows it or without."""
        steps = [self.choose.choice(STEPS)]
        downstream = self.choose.random() < 0.5
        if (found := self._any_run()) is None:
            return False
        if not downstream:
            self.by_hand[dispatch_id(*found)].append(f"'{steps[0]}' was cleared alone")
        with suppress(LocalStackError):
            self.clear_run(*found, task_ids=steps, include_downstream=downstream)
            return True
        return False

    def mark_task(self) -> bool:
        step = self.choose.choice(STEPS)
        path, body = f"/taskInstances/{step}", {"new_state": "success"}
        return self._change("PATCH", path, body, f"'{step}' was marked as a success")

    def mark_run(self) -> bool:
        state = self.choose.choice(["failed", "success"])
        return self._change("PATCH", "", {"state": state}, f"the run was marked as {state}")

    def delete_run(self) -> bool:
        if (found := self._any_run()) is None:
            return False
        self.deleted.add(dispatch_id(*found))
        return self._ask("DELETE", *found)

    def _change(self, method: str, path: str, body: object, act: str) -> bool:
        if (found := self._any_run()) is None:
            return False
        self.by_hand[dispatch_id(*found)].append(act)
        return self._ask(method, *found, path, body)

    def _ask(self, method: str, model: str, run_id: str, path: str = "", body: object = None) -> bool:
        """Whether Airflow did it, or said so in time."""
        with suppress(LocalStackError):
            self.airflow.call(method, f"/dags/{model}/dagRuns/{quote(run_id, safe='')}{path}", body)
            return True
        return False

    def _any_run(self) -> tuple[str, str] | None:
        """Mostly one of the last."""
        model, among_all = self.choose.choice(self.models), self.choose.random() < 0.25
        with suppress(LocalStackError):
            runs = [*self.runs(model)]
            if runs:
                return model, self.choose.choice(runs if among_all else runs[:_RECENT_RUNS])
        return None

    def set_cursor_back(self) -> bool:
        """To any earlier version than that up to which the model has read."""
        name = self.choose.choice([name for name in self.models if "cursor" in source_of(name)])
        workshop = self.airflow.workshop
        with suppress(MlopsError):
            with workshop.deployment.event_store() as store:
                mark = newest_mark(store, name)
            value = str(self.choose.randint(0, int(mark.value or 0) if mark else 0))
            model = workshop.model(name)
            set_by_hand(model, workshop.deployment, value, render=lambda m: m.source.query, user="soak")
            return True
        return False

    def dispatch_in_terminal(self, *, is_killed: bool = False) -> bool:
        """Another process beside the runs, by a clock that may be wrong."""
        if len(self.unfinished_terminals()) >= _TERMINALS:
            return False
        command = [sys.executable, "-c", _TERMINAL, "dispatch", self.choose.choice(self.models)]
        environment = {**self.airflow.environment, **_wrong_clock(self.choose.choice(_CLOCKS))}
        log = self.airflow.workshop.folder / f"terminal-{len(self.terminals)}.log"
        with log.open("wb") as output:
            started = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        self.terminals.append(started)
        if is_killed:
            self.doomed[started.pid] = time.monotonic() + self.choose.uniform(*_KILLED_AFTER_S)
        return True

    def stop(self) -> None:
        """Leave no process behind."""
        for terminal in self.terminals:
            terminal.kill()
            terminal.wait()

    def unfinished_terminals(self) -> list[subprocess.Popen[bytes]]:
        """Also kills those whose time has come."""
        living = [terminal for terminal in self.terminals if terminal.poll() is None]
        for terminal in living:
            if self.doomed.get(terminal.pid, float("inf")) <= time.monotonic():
                terminal.kill()
        return living


def _wrong_clock(offset: str) -> dict[str, str]:
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    assert library is not None, "apt-get install libfaketime"
    return {
        "LD_PRELOAD": os.pathsep.join(filter(None, [str(library), os.environ.get("LD_PRELOAD")])),
        "FAKETIME": offset,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # else threads that wait for each other burn the processor
    }
