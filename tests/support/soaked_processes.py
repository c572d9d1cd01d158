"""The processes of an Airflow that is soaked: finds, kills, stops and starts them again."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from local_stack import processes
from support.airflow_process import RunningAirflow

_PAUSES_S = (1.0, 25.0)  # Airflow takes a task for dead after 15 s
_TASK = re.compile(r"airflow worker -- [0-9a-f]{8}-")
_IDLE = re.compile(r"airflow worker -- LocalExecutor: <idle>")


@dataclass
class SoakedProcesses:
    """Tasks, their supervisors, and the components that `start` has started."""

    airflow: RunningAirflow
    components: Sequence[str]
    choose: random.Random
    paused: dict[int, float] = field(default_factory=dict)  # by process: when it may go on
    orphans: set[int] = field(default_factory=set)  # that `keep_alive` has ended

    def tasks(self) -> list[int]:
        """Processes in which a step runs."""
        return sorted(p.pid for p in self._found() if _TASK.match(title_of(p.pid)))

    def supervisors(self) -> list[int]:
        """What watches over a task: a process of the executor, if it was not killed before its task."""
        ours = {process.pid for process in self._found() if not process.is_leader}
        return sorted({_parent(task) for task in self.tasks()} & ours)

    def signal_one(self, pids: Sequence[int], number: int) -> bool:
        """Whether there was one."""
        if not pids:
            return False
        with suppress(ProcessLookupError):
            os.kill(self.choose.choice(pids), number)
        return True

    def pause_one(self, pids: Sequence[int], *, with_its_parent: bool = False) -> bool:
        """Stop one for a while, or with its parent, as if the machine was frozen; whether there was one."""
        if not pids:
            return False
        pid = self.choose.choice(pids)
        together = [pid] + [p for p in self.supervisors() if with_its_parent and p == _parent(pid)]
        until = time.monotonic() + self.choose.uniform(*_PAUSES_S)
        for each in together:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGSTOP)
                self.paused[each] = until
        return True

    def resume(self, *, all_of_them: bool = False) -> None:
        """Let paused processes go on whose time has come."""
        for pid, at in list(self.paused.items()):
            if all_of_them or at <= time.monotonic():
                del self.paused[pid]
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def kill_component(self, names: Sequence[str]) -> bool:
        """One of these; whether it lived."""
        leader = processes.components(self.airflow.workshop.folder).get(self.choose.choice(names))
        if leader is None:
            return False
        os.kill(leader.pid, signal.SIGKILL)
        return True

    def keep_alive(self) -> None:
        """Start what was killed, and end what it has left behind, as an init system does.

        The executor's processes of a killed scheduler have its connections to Airflow's database open: a
        transaction of it would keep its locks for ever. Those in which a task runs may finish it.
        """
        found = self._found()
        living = {process.component: process for process in found if process.is_leader}
        leaders = {process.pid for process in living.values()}
        for process in found:
            if _IDLE.match(title_of(process.pid)) and _parent(process.pid) not in leaders:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
                    self.orphans.add(process.pid)
        for component in self.components:
            if component not in living:
                self.airflow.start(component)

    def _found(self) -> list[processes.Process]:
        return processes.find(self.airflow.workshop.folder)


def title_of(pid: int) -> str:
    """What a process calls itself; empty if it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").rstrip("\0 ")
    return ""


def _parent(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0
