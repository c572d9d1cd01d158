"""A real Airflow of a test's own: API server, scheduler (LocalExecutor), DAG processor."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import quote

from local_stack import processes
from local_stack.airflow_api import AirflowApi
from local_stack.progress import LocalStackError
from mlops_plugin.events.records import DispatchRecord
from support.kinds import refuse_in_fast
from support.metadata_database import FAB, ROLES, fill_metadata
from support.servers import free_port
from support.workshop import Workshop

REPOSITORY = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 600.0
RUN_TIMEOUT_S = 600.0
REQUEST_TIMEOUT_S = 120.0
# Tasks import nothing twice: most of what a task costs otherwise.
_PRELOAD = """
from mlops_plugin.preload import preload

__all__ = []
preload()
"""
COMPONENTS = ("api-server", "scheduler", "dag-processor")
# Logs are read as files, and the log servers of all tests would share one port.
_OPTIONS = {"scheduler": ["--skip-serve-logs"]}


def queued_again(after_s: int) -> dict[str, str]:
    """Settings for killed workers that had taken a task and not begun it: else it waits ten minutes."""
    return {
        "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": str(after_s),
        "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "3",
    }


# How often the scheduler looks for tasks that are silent: else every ten seconds.
LOOK_FOR_LOST_TASKS = {"AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3"}


def lost_task_fails(after_s: int) -> dict[str, str]:
    """Settings for killed workers: else their tasks fail five minutes after the last heartbeat.

    On a busy machine, a task that is alive can be silent for a quarter of a minute.
    """
    return {"AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(after_s), **LOOK_FOR_LOST_TASKS}


# For DAGs that stay as they are: else each file is read again every five seconds.
SAME_DAGS = {"AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60"}


class RunningAirflow:
    """Airflow over a workshop; every caller of its API is an administrator."""

    def __init__(
        self, workshop: Workshop, port: int, environment: Mapping[str, str], python: str = sys.executable
    ) -> None:
        self.workshop = workshop
        self._python = python
        self.api = AirflowApi("127.0.0.1", port, timeout_s=REQUEST_TIMEOUT_S)
        self.environment = environment
        self.started: list[subprocess.Popen[bytes]] = []
        self._arguments: dict[str, Sequence[str]] = {}

    def start(self, component: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a component, or a killed one again as it was; `arguments` follow `airflow`: else its name."""
        usual = (component, *_OPTIONS.get(component, []))
        words = self._arguments.setdefault(component, arguments or usual)
        command = [self._python, "-m", "airflow", *words]
        folder = self.workshop.folder
        log = folder / f"{component}.log"
        process = processes.start(component, command, log, env=self.environment, checkout=folder)
        self.started.append(process)
        return process

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        return self.api.call(method, f"/api/v2{path}", body)

    def trigger(self, dag_id: str, **body: Any) -> str:
        """Start a run as a person would; returns its id."""
        self.api.unpause(dag_id)
        return str(self.call("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": None, **body})["dag_run_id"])

    def pause(self, dag_id: str) -> None:
        """Pause a DAG: its schedule starts no run until it is resumed."""
        self.call("PATCH", f"/dags/{dag_id}?update_mask=is_paused", {"is_paused": True})

    def run_state(self, dag_id: str, run_id: str) -> str:
        return str(self.call("GET", f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}")["state"])

    def wait_for_run(self, dag_id: str, run_id: str) -> str:
        """Wait until a run is over; returns its state."""
        ended: str = self.wait(
            lambda: (state := self.run_state(dag_id, run_id)) in ("success", "failed") and state,
            f"run {run_id} of {dag_id}",
        )
        return ended

    def backfill(self, dag_id: str, first: str, last: str) -> list[DispatchRecord]:
        """Dispatch the intervals that begin on these days, one after the other; returns those of the DAG."""
        days = (date.fromisoformat(last) - date.fromisoformat(first)).days + 1
        made = self.call(
            "POST",
            "/backfills",
            {
                "dag_id": dag_id,
                "from_date": f"{first}T00:00:00Z",
                "to_date": f"{last}T00:00:00Z",
                "max_active_runs": 1,
                "run_backwards": False,
                "dag_run_conf": {},
            },
        )

        def dispatched() -> list[DispatchRecord]:
            return [record for record in self.workshop.records(dag_id) if record.origin == "backfill"]

        def succeeded() -> bool:
            return [record.state for record in dispatched()] == ["succeeded"] * days

        self.wait(succeeded, f"{days} dispatches of backfill {made['id']}")
        return dispatched()

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str]:
        tasks = self.call("GET", f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances")[
            "task_instances"
        ]
        return {task["task_id"]: task["state"] for task in tasks}

    def task(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        return self.call("GET", f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task_id}")

    def wait(self, look: Callable[[], Any], what: str, timeout_s: float = RUN_TIMEOUT_S) -> Any:
        """Wait until `look` returns something true."""
        deadline = time.monotonic() + timeout_s
        while not (found := look()):
            assert time.monotonic() < deadline, f"{what} did not happen in {timeout_s:.0f} s\n{self.logs()}"
            time.sleep(0.3)
        return found

    def logs(self) -> str:
        """The end of every component's log, for a failing test."""
        return "\n".join(
            f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-25:])
            for log in sorted(self.workshop.folder.glob("*.log"))
        )


@contextmanager
def running_airflow(
    workshop: Workshop,
    settings: Mapping[str, str] | None = None,
    components: Sequence[str] = COMPONENTS,
    roles: Sequence[str] = (),
    workers: int = 0,
) -> Iterator[RunningAirflow]:
    """Start Airflow over a workshop and end every process of it afterwards.

    Every caller is an administrator; with `roles`, which are some of `ROLES`, Flask-AppBuilder asks for a
    name and a password instead. There is one user of each role, called like it in lower case, with that name
    as the password. `Only-wine` may use all views, but only the DAG `wine`; `Sees-Showroom` may read that
    view of ours alone.
    `workers` are Celery's, for settings that name a broker.
    """
    refuse_in_fast("Airflow")
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        **airflow_environment(workshop, port),
        **({"AIRFLOW__CORE__AUTH_MANAGER": FAB} if roles else {}),
        **(settings or {}),
    }
    runs_tasks = "scheduler" in components or workers > 0
    if runs_tasks:
        local_settings = workshop.home / "config" / "airflow_local_settings.py"
        local_settings.parent.mkdir(parents=True, exist_ok=True)
        local_settings.write_text(_PRELOAD)
    assert set(roles) <= set(ROLES), f"no user of {roles}: support/metadata_database.py"
    fill_metadata(workshop.metadata, environment)
    running = RunningAirflow(workshop, port, environment)
    try:
        for component in components:
            is_without_tasks = component == "api-server" and not runs_tasks
            # The API that only tasks ask takes a second to make.
            running.start(component, *(["api-server", "--apps", "core"] if is_without_tasks else []))
        for number in range(workers):
            name = f"worker-{number}"
            arguments = ["celery", "worker", "--celery-hostname", f"{name}@%h", "--concurrency", "2"]
            arguments += ["--skip-serve-logs", "--pid", str(workshop.folder / f"{name}.pid")]
            running.start(name, *arguments)
        running.wait(lambda: _is_healthy(running.api, components), "a healthy Airflow", START_TIMEOUT_S)
        if roles:
            running.api.sign_in("admin")
        yield running
    finally:
        # Nothing of it is kept, and an executor takes ten seconds to end in order.
        for found in processes.find(workshop.folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.pid, signal.SIGKILL)
        processes.stop(workshop.folder, logging.getLogger(__name__).debug)
        for process in running.started:
            process.wait()


def airflow_environment(workshop: Workshop, port: int) -> dict[str, str]:
    """The settings of an Airflow over a workshop."""
    return {
        **workshop.environment,
        "PYTHONPATH": str(REPOSITORY / "plugins"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "3",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__API_AUTH__JWT_SECRET": "of a test, and long enough for a key of sixty-four bytes, that is",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "5",
    }


def _is_healthy(api: AirflowApi, components: Sequence[str]) -> bool:
    try:
        health = api.health()
    except LocalStackError:
        return False
    return all(health[component] == "healthy" for component in components)
