"""Starts and stops Airflow of this checkout and reports on it: `make up`, `make down` and `make status`."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from local_stack import locks, processes
from local_stack.airflow_api import COMPONENTS, AirflowApi, Unreachable
from local_stack.environment import (
    own_variables,
    process_environment,
    reachable,
    read_or_make_password,
    stack_environment,
    write_env_file,
    write_local_settings,
)
from local_stack.layout import Layout, write_private
from local_stack.progress import LocalStackError, run, step
from local_stack.serve import SERVE, serve_health, serve_port
from local_stack.supervision import COMMANDS, Supervisor, state_of

HEALTHY_WITHIN_S = 240.0
UP_ENDS_WITHIN_S = 60.0


def up(layout: Layout, host: str, port: int) -> None:
    """Start Airflow with the demo unless it is running, and wait for its first dispatches."""
    layout.create()
    with locks.exclusive(_lock(layout), "make up"):
        running = processes.components(layout.checkout)
        if set(running) == set(COMMANDS):
            host, port = _address(running["api-server"])
            print(f"  Airflow is already running on port {port}", flush=True)
            _tell_unknown_variables(layout, running["api-server"])
        else:
            if processes.find(layout.checkout):
                with step("stopping the rest of an earlier start") as tick:
                    processes.stop(layout.checkout, tick)
            processes.check_port(host, port)
            processes.check_port(host, serve_port(port))
        stack = stack_environment(layout, host, port)
        environment = process_environment(layout, stack)
        api = AirflowApi(reachable(host), port)
        supervisor = Supervisor(layout, environment)
        if set(running) == set(COMMANDS):
            _wait_until_healthy(api, layout, supervisor)
        else:
            write_env_file(layout, stack)
            _prepare(layout, environment)
            _start(api, layout, supervisor)
        _show(api, layout, environment, supervisor)


def down(layout: Layout) -> None:
    """Stop every process of this checkout's Airflow, and a `make up` that is still running."""
    if (pid := locks.holder(_lock(layout))) is not None:
        with step(f"interrupting make up (process {pid})") as tick:
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + UP_ENDS_WITHIN_S
            while locks.holder(_lock(layout)) == pid:
                if time.monotonic() > deadline:
                    raise LocalStackError(f"make up (process {pid}) does not stop; kill it: kill -9 {pid}")
                tick("waiting")
                time.sleep(0.2)
    if not processes.find(layout.checkout):
        print("  Airflow is not running here", flush=True)
        return
    with step("stopping Airflow") as tick:
        processes.stop(layout.checkout, tick)


def status(layout: Layout) -> bool:
    """Print what runs; returns whether all of it does and is healthy."""
    running = processes.components(layout.checkout)
    if not running:
        print("  Airflow is not running here; start it: make up")
        return False
    host, port = _address(next(iter(running.values())))
    api = AirflowApi(reachable(host), port)
    try:
        health = api.health()
    except LocalStackError as failure:
        health = dict.fromkeys(COMPONENTS, f"not known: {failure}")
    health[SERVE] = serve_health(reachable(host), serve_port(port))
    for component in COMMANDS:
        state = state_of(layout, component, running.get(component), health[component])
        print(f"  {component:<14} {state}")
    if set(running) != set(COMMANDS):
        print("  not everything is running; start it again: make up")
    print(f"  http://localhost:{port}, user admin, password in .local/admin-password")
    return set(running) == set(COMMANDS) and set(health.values()) == {"healthy"}


def _lock(layout: Layout) -> Path:
    return layout.local / "up.lock"


def _tell_unknown_variables(layout: Layout, running: processes.Process) -> None:
    own = own_variables(layout)
    unknown = sorted(name for name, value in own.items() if running.environment.get(name) != value)
    if unknown:
        names = ", ".join(unknown)
        print(f"  it was started without this {names}: make down, then make up again", flush=True)


def _address(process: processes.Process) -> tuple[str, int]:
    environment = process.environment
    return environment["AIRFLOW__API__HOST"], int(environment["AIRFLOW__API__PORT"])


def _prepare(layout: Layout, environment: Mapping[str, str]) -> None:
    """Databases, demo and user, each made once; the event store's migration is quick and always asked for."""
    write_local_settings(layout)
    checkout, logs = layout.checkout, layout.logs
    made = layout.airflow_home / "prepared"
    password = read_or_make_password(layout)
    lock = (checkout / "requirements.txt").read_bytes()
    wanted = hashlib.sha256(lock + password.encode()).hexdigest()
    database = layout.airflow_home / "airflow.db"
    if not (made.exists() and database.exists() and made.read_text() == wanted):
        migrate = [layout.program("airflow"), "db", "migrate"]
        accounts = [layout.program("python"), "-m", "local_stack.accounts"]
        with_password = {**environment, "MLOPS_ADMIN_PASSWORD": password}
        run("making Airflow's database", migrate, logs / "migrate.log", env=environment, cwd=checkout)
        run("making the user admin", accounts, logs / "accounts.log", env=with_password, cwd=checkout)
        write_private(made, wanted)
    upgrade = [layout.program("mlops"), "db", "upgrade"]
    run("making the event store", upgrade, logs / "events.log", env=environment, cwd=checkout)
    if not layout.demo.exists():
        unfinished = layout.demo.with_suffix(".unfinished.db")
        unfinished.unlink(missing_ok=True)
        demo = [layout.program("python"), "include/make_demo.py", "--sqlite", str(unfinished)]
        run("making the demo's models and rows", demo, logs / "demo.log", env=environment, cwd=checkout)
        unfinished.replace(layout.demo)


def _start(api: AirflowApi, layout: Layout, supervisor: Supervisor) -> None:
    """Start the components and wait until they are healthy; on any failure, nothing is left running."""
    try:
        supervisor.start_first()
        _wait_until_healthy(api, layout, supervisor)
    except BaseException:
        with step("stopping Airflow") as tick:
            processes.stop(layout.checkout, tick)
        raise


def _wait_until_healthy(api: AirflowApi, layout: Layout, supervisor: Supervisor) -> None:
    deadline = time.monotonic() + HEALTHY_WITHIN_S
    with step("waiting until Airflow is healthy") as tick:
        while True:
            supervisor.check()
            try:
                health = {**api.health(), SERVE: serve_health(api.host, serve_port(api.port))}
                supervisor.start_rest()
                unhealthy = [f"{name} {state}" for name, state in health.items() if state != "healthy"]
            except Unreachable:
                unhealthy = ["the api-server does not answer yet"]
            if not unhealthy:
                return
            if time.monotonic() > deadline:
                raise LocalStackError(
                    f"not healthy after {HEALTHY_WITHIN_S:.0f} s: {', '.join(unhealthy)}\n"
                    f"The logs: {layout.logs}"
                )
            tick(", ".join(unhealthy))
            time.sleep(0.5)


def _show(api: AirflowApi, layout: Layout, environment: Mapping[str, str], supervisor: Supervisor) -> None:
    from local_stack.demo import show_demo

    api.sign_in(read_or_make_password(layout))
    os.environ.clear()
    os.environ.update(environment)
    try:
        show_demo(api, layout, supervisor)
    finally:
        url = api.url.replace("127.0.0.1", "localhost")
        print(f"\n  Airflow: {url}   user: admin   password: in .local/admin-password")
        print(f"  Programs ask http://localhost:{serve_port(api.port)}/v2/models/NAME/infer: docs/serving.md")
        print("  Look: make status   Stop: make down   In a shell: . .local/env", flush=True)
