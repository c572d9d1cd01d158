"""Airflow's components while somebody waits for them: one that stops is restarted once."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from local_stack import processes
from local_stack.layout import Layout
from local_stack.progress import LocalStackError, cause, step
from local_stack.serve import SERVE, serve_options

# Logs are files that every component of this machine reads: no log server, and so no further port.
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "api-server": ("airflow", "api-server"),
    "scheduler": ("airflow", "scheduler", "--skip-serve-logs"),
    "dag-processor": ("airflow", "dag-processor"),
    "triggerer": ("airflow", "triggerer", "--skip-serve-logs"),
    SERVE: ("mlops", "serve", "--workers", "1"),  # each process has models of its own
}
_LATER = "scheduler"  # tasks that it starts before the API server answers fail


class Supervisor:
    """Watches the components that one `make up` needs; nobody watches once it is over."""

    def __init__(self, layout: Layout, environment: Mapping[str, str]) -> None:
        self._layout = layout
        self._environment = environment
        self._restarted: set[str] = set()
        self._is_later = False
        self.started: dict[str, subprocess.Popen[bytes]] = {}

    def start_first(self) -> None:
        """Start all but the scheduler."""
        self._is_later = True
        for component in COMMANDS:
            if component != _LATER:
                self._start(component)

    def start_rest(self) -> None:
        """Start what `start_first` has left out, once the API server answers."""
        if self._is_later:
            self._is_later = False
            self._start(_LATER)

    def check(self) -> None:
        """Restart what has stopped; raises `LocalStackError` for what stopped twice."""
        running = processes.components(self._layout.checkout)
        for component in COMMANDS:
            waits = self._is_later and component == _LATER
            if component not in running and not waits and not self._is_alive(component):
                self._restart(component)

    def _is_alive(self, component: str) -> bool:
        """Whether it was started here and is alive. While its program is loaded, /proc has no mark of it."""
        process = self.started.get(component)
        return process is not None and process.poll() is None

    def _restart(self, component: str) -> None:
        log = log_of(self._layout, component)
        reason = cause(log)
        if component in self._restarted:
            raise LocalStackError(
                f"the {component} stopped, was restarted, and stopped again: {reason}\nThe whole log: {log}\n"
                f"The log of the first time: {processes.previous(log)}"
            )
        self._restarted.add(component)
        print(f"\n  the {component} stopped: {reason}\n  Its log: {processes.previous(log)}", flush=True)
        with step(f"starting the {component} again") as tick:
            # A dead scheduler's tasks end by themselves; a dead API server's children hold its port.
            if component != "scheduler":
                processes.stop(self._layout.checkout, tick, component)
            self._start(component)

    def _start(self, component: str) -> None:
        program, *arguments = COMMANDS[component]
        command = [self._layout.program(program), *arguments]
        if component == SERVE:
            command += serve_options(self._environment)
        log = log_of(self._layout, component)
        self.started[component] = processes.start(
            component, command, log, env=self._environment, checkout=self._layout.checkout
        )


def log_of(layout: Layout, component: str) -> Path:
    return layout.logs / f"{component}.log"


def state_of(layout: Layout, component: str, process: processes.Process | None, health: str) -> str:
    """How a component is, in the words of `make status`."""
    if process is not None:
        return f"process {process.pid}, {health}"
    log = log_of(layout, component)
    return f"stopped: {cause(log)}; its log: {log}" if log.exists() else "does not run"
