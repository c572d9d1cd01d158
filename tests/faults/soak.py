"""`make soak FAULTS=100 SEED=7`: a real Airflow under random faults, then every row counts.

Which faults are drawn follows from the seed; at which moment they meet the processes does not. A fault that
needs running tasks is drawn again if there are none. In the end nothing fails any more, operators clear what
has failed, and each model is dispatched once more.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from local_stack.progress import LocalStackError
from mlops_plugin.errors import MlopsError
from mlops_plugin.events.migrating import upgrade
from mlops_plugin.pipeline.dispatch import dispatch_id
from support.airflow_process import COMPONENTS, queued_again, running_airflow
from support.redis_broker import celery_settings
from support.soak_operator import Operator
from support.soak_oracle import End, Findings, Watch, keep_tables, look, records_of
from support.soaked_models import MODELS, Customers, add_models
from support.soaked_processes import SoakedProcesses
from support.soaked_servers import SoakedDisk, SoakedServers, soaked_disk, soaked_servers
from support.workshop import Workshop

_REST_S = 900.0  # so long everything may take to come to rest
_BETWEEN_S = (0.2, 2.0)
_STEPS_BETWEEN = 3  # that succeed between two faults, unless it takes too long
_LONGEST_BETWEEN_S = 15.0
_CELERY_WORKERS = ("worker-0", "worker-1")
_QUEUED_AGAIN_S = 120
# Tasks begin sooner, so more of them meet faults.
_PRELOAD = "from mlops_plugin.preload import preload\n\n__all__ = []\npreload()\n"
_ASKED_AGAIN = 10
_SHOWN = 50  # findings

T = TypeVar("T")


@dataclass
class Tally:
    """What was done, and what was found."""

    seed: int
    executor: str
    faults: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    steps: int = 0
    looks: int = 0
    hangs: list[str] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)

    @property
    def lines(self) -> list[str]:
        found = self.findings
        kinds = {
            "rows lost": found.lost,
            "rows doubled": found.doubled,
            "rows stale": found.stale,
            "states untrue": found.untrue,
            "hangs": self.hangs,
        }
        done = [f"{count:5} {name}" for name, count in self.faults.most_common()]
        wrong = [f"{len(found):5} {name}" for name, found in kinds.items()]
        total = (
            f"{self.executor}, seed {self.seed}: {self.faults.total()} faults, {self.runs} dispatches of "
            f"{len(MODELS)} models, {self.steps} steps succeeded, {self.looks} looks at a sink"
        )
        return [total, *done, "", *wrong, *(f"      {line}" for line in [*found.all, *self.hangs][:_SHOWN])]


@dataclass
class Fault:
    """`happen` tells whether it did; one that `needs_tasks` means nothing if no step runs."""

    happen: Callable[[], bool]
    weight: int = 1
    needs_tasks: bool = True


@dataclass
class Soak:
    """An Airflow, its servers, the people who use it, and the dice."""

    processes: SoakedProcesses
    servers: SoakedServers
    disk: SoakedDisk | None
    operator: Operator
    watch: Watch
    choose: random.Random
    tally: Tally

    def faults(self) -> dict[str, Fault]:
        """By name."""
        return self._faults_of_processes() | self._faults_around() | self._acts()

    def _faults_of_processes(self) -> dict[str, Fault]:
        these = self.processes
        kill = signal.SIGKILL
        return {
            "task killed": Fault(lambda: these.signal_one(these.tasks(), kill), 4),
            "task paused": Fault(lambda: these.pause_one(these.tasks()), 4),
            "supervisor killed": Fault(lambda: these.signal_one(these.supervisors(), kill), 3),
            "supervisor paused": Fault(lambda: these.pause_one(these.supervisors()), 2),
            "task and supervisor paused": Fault(
                lambda: these.pause_one(these.tasks(), with_its_parent=True), 4
            ),
            **{
                f"{kind} killed": Fault(lambda names=names: these.kill_component(names))  # type: ignore[misc]
                for kind, names in self._components().items()
            },
        }

    def _components(self) -> dict[str, list[str]]:
        """By kind; there may be several workers."""
        kinds = defaultdict(list)
        for name in self.processes.components:
            kinds["worker" if name in _CELERY_WORKERS else name].append(name)
        return kinds

    def _faults_around(self) -> dict[str, Fault]:
        servers, disk = self.servers, self.disk
        disks = {} if disk is None else {"disk full": Fault(disk.fill, 2)}
        if disk is not None:
            disks["disk read-only"] = Fault(disk.forbid_writing, 2)
        return {
            "MariaDB killed": Fault(lambda: servers.kill(servers.mariadb), 2),
            "PostgreSQL killed": Fault(lambda: servers.kill(servers.postgres)),
            "network hangs": Fault(lambda: servers.treat("hang"), 2),
            "network throttled": Fault(lambda: servers.treat("throttle")),
            "connections reset": Fault(servers.reset, 3),
            **disks,
        }

    def _acts(self) -> dict[str, Fault]:
        they = self.operator
        return {
            "task cleared": Fault(they.clear, 6, needs_tasks=False),
            "task marked success": Fault(they.mark_task, 1, needs_tasks=False),
            "run marked": Fault(they.mark_run, 1, needs_tasks=False),
            "run deleted": Fault(they.delete_run, 1, needs_tasks=False),
            "cursor set back": Fault(they.set_cursor_back, 1, needs_tasks=False),
            "terminal beside, any clock": Fault(they.dispatch_in_terminal, 2, needs_tasks=False),
            "terminal killed": Fault(lambda: they.dispatch_in_terminal(is_killed=True), 2, needs_tasks=False),
        }

    def inflict(self, count: int, until: float) -> None:
        """So many faults, with work in between; or as many as fit."""
        faults = self.faults()
        weights = [fault.weight for fault in faults.values()]
        while self.tally.faults.total() < count and time.monotonic() < until:
            self._go_on()
            self.operator.customers.change_some(self.choose)
            self.operator.trigger()
            (name,) = self.choose.choices([*faults], weights)
            fault = faults[name]
            if (self.processes.tasks() or not fault.needs_tasks) and fault.happen():
                self.tally.faults[name] += 1
                print(f"{self.tally.faults.total():5} {name}", file=sys.stderr, flush=True)
                self._let_steps_succeed()
            time.sleep(self.choose.uniform(*_BETWEEN_S))

    def _let_steps_succeed(self) -> None:
        """Faults that follow too fast let nothing end, and then nothing can go wrong."""
        enough, until = self.watch.count_steps() + _STEPS_BETWEEN, time.monotonic() + _LONGEST_BETWEEN_S
        while time.monotonic() < until and self.watch.count_steps() < enough:
            self._go_on()
            time.sleep(1)

    def _go_on(self) -> None:
        self.processes.keep_alive()
        self.processes.resume()
        self.operator.unfinished_terminals()
        known = len(self.tally.findings.all)
        self.watch.look()
        if len(self.tally.findings.all) > known:
            print("\n".join(self.tally.lines), file=sys.stderr, flush=True)

    def come_to_rest(self) -> bool:
        """Let everything end, and clear what has failed; False if it does not end."""
        self.processes.resume(all_of_them=True)
        deadline = time.monotonic() + _REST_S
        while time.monotonic() < deadline:
            self._go_on()
            with suppress(LocalStackError, MlopsError):
                unfinished = [f"terminal {each.pid}" for each in self.operator.unfinished_terminals()]
                unfinished += [run for model in MODELS for run in self._unfinished(model)]
                self.tally.hangs = unfinished
                if not unfinished:
                    return True
            time.sleep(3)
        return False

    def _unfinished(self, model: str) -> list[str]:
        """The runs that are not over; those that failed, also by their record, are cleared."""
        waiting = []
        runs = self.operator.runs(model)
        states = {record.dispatch_id: record.state for record in records_of(self._workshop, model)}
        for run_id, state in runs.items():
            dispatch = dispatch_id(model, run_id)
            recorded = states.get(dispatch, "nothing")
            if state in ("queued", "running"):
                waiting.append(f"{model} {run_id} {state}")
            elif state == "failed" or recorded != "succeeded":
                if state == "success" and dispatch not in self.operator.marked:
                    self.tally.findings.untrue.append(f"{model} {run_id}: success, recorded as {recorded}")
                self.operator.clear_run(model, run_id)
                waiting.append(f"{model} {run_id} cleared")
        return waiting

    @property
    def _workshop(self) -> Workshop:
        return self.processes.airflow.workshop

    def end(self) -> None:
        """Come to rest, dispatch each model once more, and look at everything."""
        if not self.come_to_rest():
            return
        airflow = self.processes.airflow
        last = {
            model: dispatch_id(model, patiently(lambda model=model: airflow.trigger(model)))  # type: ignore[misc]
            for model in MODELS
        }
        if not self.come_to_rest():
            return
        self.tally.runs = sum(len(records_of(self._workshop, model)) for model in MODELS)
        deleted = frozenset(self.operator.deleted)
        end = End(self._workshop, self.operator.customers, self.servers.sinks, last, deleted)
        look(end, self.tally.findings)


def patiently(ask: Callable[[], T]) -> T:
    """Ask Airflow again if it does not answer in time: the machine may be busy."""
    for _ in range(_ASKED_AGAIN):
        with suppress(LocalStackError):
            return ask()
        time.sleep(3)
    return ask()


def soak(
    folder: Path, faults: int, seed: int, *, executor: str = "LocalExecutor", longest_s: float = 86400
) -> Tally:
    """Inflict so many faults on a new Airflow, and tell what came of it."""
    tally, choose, workshop = Tally(seed, executor), random.Random(seed), Workshop(folder)
    with ExitStack() as stack:
        servers = stack.enter_context(soaked_servers(workshop, choose))
        disk = stack.enter_context(soaked_disk(workshop.home / "staging", choose))
        add_models(workshop)
        (workshop.home / "config").mkdir()
        (workshop.home / "config" / "airflow_local_settings.py").write_text(_PRELOAD)
        customers = Customers(servers.source)
        customers.create()
        stack.enter_context(workshop.entered())
        with workshop.deployment.event_store() as store:
            upgrade(store.address)
        workers = _CELERY_WORKERS if executor == "CeleryExecutor" else ()
        settings = queued_again(_QUEUED_AGAIN_S)
        if workers:
            settings |= stack.enter_context(celery_settings(workshop))
        airflow = stack.enter_context(running_airflow(workshop, settings, workers=len(workers)))
        airflow.wait(lambda: {*MODELS} <= patiently(airflow.api.dag_ids), "parsing")
        processes = SoakedProcesses(airflow, [*COMPONENTS, *workers], choose)
        operator = Operator(airflow, customers, choose)
        stack.callback(operator.stop)
        watch = Watch(servers.sinks, tally.findings, servers.source)
        soaked = Soak(processes, servers, disk, operator, watch, choose, tally)
        for model in MODELS:
            patiently(lambda model=model: airflow.trigger(model))  # type: ignore[misc]
        soaked.inflict(faults, time.monotonic() + longest_s)
        soaked.end()
        tally.looks, tally.steps = watch.looks, watch.count_steps()
        if tally.findings.all or tally.hangs:
            keep_tables(folder, servers.sinks)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--executor", choices=["LocalExecutor", "CeleryExecutor"], default="LocalExecutor")
    parser.add_argument("--minutes", type=float, default=24 * 60.0, help="stop inflicting faults then")
    asked = parser.parse_args()
    print(f"seed {asked.seed}", file=sys.stderr, flush=True)
    folder, longest_s = Path(tempfile.mkdtemp(prefix="soak-")), asked.minutes * 60
    tally = soak(folder, asked.faults, asked.seed, executor=asked.executor, longest_s=longest_s)
    print("\n".join(tally.lines))
    if tally.findings.all or tally.hangs:
        print(f"logs of tasks and components, and the tables: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
