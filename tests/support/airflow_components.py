"""Airflow with its components imported, in the Python that forks them: `support.airflow_process`.

Importing Airflow costs an API server ten seconds of a processor, and its application two more. What it reads
of its settings only while it is imported is noted here: a component with another value there begins as it
does without us, in a Python of its own.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import setproctitle
from airflow._shared.configuration.parser import AirflowConfigParser as ReadByAirflow
from airflow.sdk import configuration as of_sdk
from airflow.sdk._shared.configuration.parser import AirflowConfigParser as ReadByTasks

from airflow import configuration, settings

CHECKOUT = Path(__file__).resolve().parents[2]
PLUGINS = str(CHECKOUT / "plugins")
MODULES = (
    "airflow.api_fastapi.core_api.app",
    "airflow.api_fastapi.core_api.routes.public",
    "airflow.api_fastapi.core_api.routes.ui",
    "airflow.api_fastapi.execution_api.app",
    "airflow.api_fastapi.execution_api.routes",
    "airflow.api_fastapi.auth.managers.simple.simple_auth_manager",
    "airflow.api_fastapi.auth.middlewares.refresh_token",
    "airflow.dag_processing.manager",
    "airflow.dag_processing.processor",
    "airflow.executors.local_executor",
    "airflow.jobs.dag_processor_job_runner",
    "airflow.jobs.scheduler_job_runner",
    "airflow.models.renderedtifields",
    "airflow.providers.fab.auth_manager.api.auth.backend.session",
    "airflow.providers.fab.auth_manager.api_fastapi.routes.login",
    "airflow.providers.fab.auth_manager.api_fastapi.routes.roles",
    "airflow.providers.fab.auth_manager.api_fastapi.routes.users",
    "airflow.providers.fab.auth_manager.fab_auth_manager",
    "airflow.providers.fab.auth_manager.security_manager.override",
    "airflow.providers.fab.www.app",
    "airflow.sdk.definitions.asset",
    "airflow.sdk.execution_time.task_runner",
    "dagfactory.plugin",
    "psycopg2",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
    "mlops_plugin.orchestration.dag_factory",
    "mlops_plugin.orchestration.monitor_dag",
    "mlops_plugin.plugin",
    "mlops_plugin.web.app",
    "mlops_plugin.web.routers",
)
# The settings that Airflow has read by the time that one can listen.
_READ_BEFORE = (
    ("core", "dags_folder"),
    ("core", "daemon_umask"),
    ("core", "lazy_discover_providers"),
    ("core", "lazy_load_plugins"),
    ("logging", "simple_log_format"),
)
_PORT = ("api", "port")  # the API server's, which is told by an argument here
_DATABASE = ("database", "SQL_ALCHEMY_CONN")  # which a module of the SDK keeps
_ENVIRONMENT_FIELDS = (47, 48)  # after the name: where it begins and ends, as proc(5) counts 50 and 51
# A configuration, how it was asked, and its answer.
_read: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []


def run(environment: Mapping[str, str], words: Sequence[str]) -> None:
    """Become `airflow` with these words: in a forked process, whose environment this is."""
    _show(environment)
    os.umask(0o077)
    path = environment["PYTHONPATH"].split(os.pathsep)
    others = _settings_read_in_vain()
    if path[0] != PLUGINS or others:
        print("Airflow is imported again, because of", path[0], others, file=sys.stderr)
        command = [sys.executable, "-m", "airflow", *words]
        os.execve(sys.executable, command, dict(environment))  # noqa: S606 - a shell would be one more
    of_tests = [str(CHECKOUT / each) for each in ("", "plugins", "tests")]
    sys.path[:] = [str(Path.cwd()), *path, *(each for each in sys.path if each not in of_tests)]
    settings.initialize()  # type: ignore[no-untyped-call]
    if words[0] == "api-server":
        words = [*words, "--port", str(configuration.conf.get(*_PORT))]
    sys.argv = ["airflow", *words]
    importlib.import_module("airflow.__main__").main()


def _show(environment: Mapping[str, str]) -> None:
    """Let /proc say that this is the environment: it shows the place where the first Python's was."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = (int(fields[number]) for number in _ENVIRONMENT_FIELDS)
    shown = b"".join(f"{name}={value}\0".encode() for name, value in environment.items())
    assert len(shown) <= end - start, "the environment has no room"
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, shown, len(shown))


def _settings_read_in_vain() -> list[tuple[Any, ...]]:
    """Read the settings of this process; returns those that were others when something was imported."""
    was = configuration.AIRFLOW_HOME
    home = configuration.get_airflow_home()
    for module in list(sys.modules.values()):
        if vars(module).get("AIRFLOW_HOME") == was:
            vars(module)["AIRFLOW_HOME"] = home
    configuration.AIRFLOW_CONFIG = configuration.get_airflow_config(home)
    configuration.conf.__init__()  # type: ignore[misc]  # others have it, too, and see what it becomes
    configuration.load_standard_airflow_configuration(configuration.conf)
    configuration.conf.validate()
    database = configuration.conf.get(*_DATABASE)
    vars(sys.modules["airflow.sdk.definitions.asset"])["SQL_ALCHEMY_CONN"] = database
    if (of_tasks := vars(of_sdk).get("conf")) is not None:
        of_tasks.__init__()
    return [
        asked
        for conf, asked, how, value in _read
        if asked not in (_PORT, _DATABASE) and conf.get(*asked, **how) != value
    ]


def _noting(get: Any) -> Any:
    def noting(conf: Any, *asked: Any, **how: Any) -> Any:
        value = get(conf, *asked, **how)
        _read.append((conf, asked, how, value))
        return value

    return noting


def _import_all() -> None:
    """Import the components, and note which settings are read meanwhile."""
    kinds: list[Any] = [ReadByAirflow, ReadByTasks]
    gets = [kind.get for kind in kinds]
    for kind in kinds:
        kind.get = _noting(kind.get)
    for name in _READ_BEFORE:
        configuration.conf.get(*name)
    for module in MODULES:
        importlib.import_module(module)
    for kind, get in zip(kinds, gets, strict=True):
        kind.get = get
    setproctitle.getproctitle()  # it looks for the title's place while the environment is where it was
    del os.environ["_AIRFLOW__AS_LIBRARY"]


_import_all()
