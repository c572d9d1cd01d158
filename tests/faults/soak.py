"""`make soak FAULTS=100 SEED=7`: a real Airflow under random faults, then every row counts.

Which faults are drawn follows from the seed; at which moment they meet the processes does not. Up to eight
come close together, while others last. Then some steps must succeed. A fault that needs running tasks is
drawn again if none begins. Now and then, and in the end, nothing fails any more, operators clear what has
failed, and each model is dispatched once more. SIGTERM and SIGINT end the faults early, not the comparison.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from local_stack.progress import LocalStackError
from mlops_plugin.errors import MlopsError
from mlops_plugin.events.migrating import upgrade
from mlops_plugin.pipeline.dispatch import dispatch_id
from support.airflow_process import COMPONENTS, lost_task_fails, queued_again, running_airflow
from support.redis_broker import celery_settings
from support.soak_operator import Operator
from support.soak_oracle import End, Watch, by_design, events_of, keep_tables, look, records_of
from support.soak_tally import Tally
from support.soaked_models import MODELS, Customers, add_models
from support.soaked_processes import SoakedProcesses
from support.soaked_servers import SoakedDisk, SoakedServers, soaked_disk, soaked_servers
from support.workshop import Workshop

_REST_S = 900.0  # so long everything may take to come to rest
_FAULTS_UNTIL_REST = 500
_AT_ONCE = 8  # faults that come close together, at most
_BETWEEN_S = (0.1, 0.8)
_STEPS_BETWEEN = 3  # that succeed before further faults, unless it takes too long
_LONGEST_BETWEEN_S = 10.0
_TASK_BEGINS_S = 4.0
_TALLY_EVERY = 25  # faults
_SETTINGS = {
    "AIRFLOW__CORE__PARALLELISM": "5",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",  # nobody changes the configuration
}
_CELERY_WORKERS = ("worker-0", "worker-1")
_QUEUED_AGAIN_S = 120
_LOST_AFTER_S = 15
# Tasks begin sooner, so more of them meet faults.
_PRELOAD = "from mlops_plugin.preload import preload\n\n__all__ = []\npreload()\n"
_ASKED_AGAIN = 10

T = TypeVar("T")


@dataclass
class Fault:
    """`happen` tells whether it did; one that `needs_tasks` means nothing if no step runs."""

    happen: Callable[[], bool]
    weight: int = 1
    needs_tasks: bool = True


@dataclass(frozen=True)
class Plan:
    """How many faults, of which models, and for how long they may come.

    `kinds` are inflicted in this order, and then faults are drawn.
    """

    faults: int
    seed: int
    executor: str = "LocalExecutor"
    longest_s: float = 86400
    models: Sequence[str] = tuple(sorted(MODELS))
    kinds: Sequence[str] = ()


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
    kinds: Sequence[str] = ()  # that come first
    is_stopped: bool = False  # by a signal

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """A signal ends the faults; what has happened is compared all the same."""

        def stop(number: int, frame: object) -> None:
            del number, frame
            self.is_stopped = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

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
        """As many faults as there shall be in all, or as many as fit, with work in between."""
        while self.tally.faults.total() < count and not self.is_over(until):
            together = self.choose.randint(1, _AT_ONCE)
            self.operator.trigger()
            for _ in range(min(together, count - self.tally.faults.total())):
                self._let_one_happen()
                time.sleep(self.choose.uniform(*_BETWEEN_S))
            self._let_steps_succeed()

    def is_over(self, until: float) -> bool:
        return self.is_stopped or time.monotonic() >= until

    def _let_one_happen(self) -> None:
        faults = self.faults()
        self._go_on()
        self.operator.customers.change_some(self.choose)
        if (done := self.tally.faults.total()) < len(self.kinds):
            name = self.kinds[done]
        else:
            (name,) = self.choose.choices([*faults], [fault.weight for fault in faults.values()])
        fault = faults[name]
        if fault.needs_tasks and not self._wait_for_a_task():
            return
        if fault.happen():
            self.tally.faults[name] += 1
            print(f"{self.tally.faults.total():5} {name}", file=sys.stderr, flush=True)
            if self.tally.faults.total() % _TALLY_EVERY == 0:
                self._tell()

    def _wait_for_a_task(self) -> bool:
        until = time.monotonic() + _TASK_BEGINS_S
        while not (tasks := self.processes.tasks()) and time.monotonic() < until:
            time.sleep(0.3)
        return bool(tasks)

    def _let_steps_succeed(self) -> None:
        """Faults that follow too fast let nothing end, and then nothing can go wrong."""
        enough, until = self.watch.count_steps() + _STEPS_BETWEEN, time.monotonic() + _LONGEST_BETWEEN_S
        while time.monotonic() < until and self.watch.count_steps() < enough:
            self._go_on()
            time.sleep(1)

    def _go_on(self) -> None:
        self.processes.keep_alive()
        self.processes.resume()
        self.servers.lasting.end()
        self.operator.unfinished_terminals()
        known = len(self.tally.findings.all)
        self.watch.look()
        if len(self.tally.findings.all) > known:
            self._tell()

    def _tell(self) -> None:
        """The counts until now, for whoever ends us before the end."""
        self.tally.looks, self.tally.steps = self.watch.looks, self.watch.count_steps()
        self.tally.orphans = len(self.processes.orphans)
        print(f"{datetime.now(UTC):%H:%M:%S}", *self.tally.lines, sep="\n", file=sys.stderr, flush=True)

    def come_to_rest(self) -> bool:
        """Let everything end, and clear what has failed; False if it does not end."""
        self.processes.resume(all_of_them=True)
        self.servers.lasting.end(all_of_them=True)
        deadline, unfinished = time.monotonic() + _REST_S, ["Airflow does not answer"]
        while time.monotonic() < deadline:
            self._go_on()
            with suppress(LocalStackError, MlopsError):
                unfinished = [f"terminal {each.pid}" for each in self.operator.unfinished_terminals()]
                unfinished += [run for model in self.operator.models for run in self._unfinished(model)]
                if not unfinished:
                    return True
            time.sleep(3)
        self.tally.hangs = unfinished
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
                if state == "success":
                    self._explain(model, run_id, recorded)
                self.operator.clear_run(model, run_id)
                waiting.append(f"{model} {run_id} cleared")
        return waiting

    def _explain(self, model: str, run_id: str, recorded: str) -> None:
        """A success of Airflow's that is recorded as something else: by design, or untrue."""
        dispatch = dispatch_id(model, run_id)
        acts = self.operator.by_hand.get(dispatch, [])
        why = by_design(events_of(self._workshop, dispatch), recorded, acts)
        if why is None:
            self.tally.findings.untrue.append(f"{model} {run_id}: success, recorded as {recorded}")
        else:
            self.tally.by_hand[f"{model} {run_id}"] = why

    @property
    def _workshop(self) -> Workshop:
        return self.processes.airflow.workshop

    def end(self) -> None:
        """Come to rest, dispatch each model once more, and compare everything."""
        if not self.come_to_rest():
            return
        airflow = self.processes.airflow
        last = {
            model: dispatch_id(model, patiently(lambda model=model: airflow.trigger(model)))  # type: ignore[misc]
            for model in self.operator.models
        }
        if not self.come_to_rest():
            return
        self.tally.runs = sum(len(records_of(self._workshop, model)) for model in self.operator.models)
        deleted = frozenset(self.operator.deleted)
        end = End(self._workshop, self.operator.customers, self.servers.sinks, last, deleted)
        look(end, self.tally.findings)
        self.tally.rests += 1
        self._tell()


def patiently(ask: Callable[[], T]) -> T:
    """Ask Airflow again if it does not answer in time: the machine may be busy."""
    for _ in range(_ASKED_AGAIN):
        with suppress(LocalStackError):
            return ask()
        time.sleep(3)
    return ask()


def soak(folder: Path, plan: Plan) -> Tally:
    """Inflict the faults of a plan on a new Airflow with its models, and tell what came of it."""
    models, choose, workshop = plan.models, random.Random(plan.seed), Workshop(folder)
    tally = Tally(plan.seed, plan.executor, len(models))
    with ExitStack() as stack:
        servers = stack.enter_context(soaked_servers(workshop, choose))
        disk = stack.enter_context(soaked_disk(workshop.home / "staging", servers.lasting))
        add_models(workshop, models)
        (workshop.home / "config").mkdir()
        (workshop.home / "config" / "airflow_local_settings.py").write_text(_PRELOAD)
        customers = Customers(servers.source)
        customers.create()
        stack.enter_context(workshop.entered())
        with workshop.deployment.event_store() as store:
            upgrade(store.address)
        workers = _CELERY_WORKERS if plan.executor == "CeleryExecutor" else ()
        settings = queued_again(_QUEUED_AGAIN_S) | lost_task_fails(_LOST_AFTER_S) | _SETTINGS
        if workers:
            settings |= stack.enter_context(celery_settings(workshop))
        airflow = stack.enter_context(running_airflow(workshop, settings, workers=len(workers)))
        airflow.wait(lambda: {*models} <= patiently(airflow.api.dag_ids), "parsing")
        processes = SoakedProcesses(airflow, [*COMPONENTS, *workers], choose)
        operator = Operator(airflow, customers, choose, models)
        stack.callback(operator.stop)
        watch = Watch(servers.sinks, tally.findings, servers.source, customers)
        soaked = Soak(processes, servers, disk, operator, watch, choose, tally, plan.kinds)
        for model in models:
            patiently(lambda model=model: airflow.trigger(model))  # type: ignore[misc]
        with soaked.stoppable():
            until = time.monotonic() + plan.longest_s
            while tally.is_clean and tally.faults.total() < plan.faults and not soaked.is_over(until):
                soaked.inflict(min(plan.faults, tally.faults.total() + _FAULTS_UNTIL_REST), until)
                soaked.end()
        if not tally.is_clean:
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
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    tally = soak(folder, Plan(asked.faults, asked.seed, asked.executor, asked.minutes * 60))
    print("\n".join(tally.lines))
    if not tally.is_clean:
        print(f"logs of tasks and components, and the tables: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
