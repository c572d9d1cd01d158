"""The environment that Airflow runs with: its settings, its secrets, and `.local/env`."""

from __future__ import annotations

import base64
import getpass
import json
import os
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path

from local_stack.layout import Layout, write_private
from local_stack.progress import LocalStackError

# A user's own connections and variables reach Airflow, and the switch of preload.py.
KEPT_VARIABLES = ("AIRFLOW_CONN_", "AIRFLOW_VAR_", "AIRFLOW__MLOPS__PRELOAD")
LOCAL_SETTINGS = Path(__file__).with_name("airflow_local_settings.py")


def read_or_make_secrets(layout: Layout) -> dict[str, str]:
    """Airflow's keys, made once and kept: stored connections cannot be read with another Fernet key."""
    if not layout.secrets.exists():
        made = {
            "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(48),
            "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(48),
        }
        write_private(layout.secrets, json.dumps(made, indent=2) + "\n")
    try:
        found = json.loads(layout.secrets.read_text())
        return {str(name): str(value) for name, value in found.items()}
    except (ValueError, AttributeError) as failure:
        raise LocalStackError(
            f"{layout.secrets} is damaged ({failure}); restore it, or start afresh: make down; rm -r .local"
        ) from failure


def read_or_make_password(layout: Layout) -> str:
    if not layout.admin_password.exists():
        write_private(layout.admin_password, secrets.token_urlsafe(15) + "\n")
    return layout.admin_password.read_text().strip()


def stack_environment(layout: Layout, host: str, port: int) -> dict[str, str]:
    """The variables that point Airflow at this checkout; `.local/env` holds the same."""
    return {
        "AIRFLOW_HOME": str(layout.airflow_home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(layout.checkout / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(layout.checkout / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
        # Without it a task looks for the API server on port 8080.
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://{reachable(host)}:{port}/execution/",
        # SQLite has one writer at a time; on a busy machine the others wait longer than its 5 seconds.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{layout.airflow_home / 'airflow.db'}?timeout=60",
        "AIRFLOW__API__HOST": host,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        "AIRFLOW__MLOPS__CONFIG_FILE": str(layout.checkout / "include" / "config.yaml"),
        "AIRFLOW_CONN_DEMO_SOURCE": sqlite_connection(layout.demo),
        "AIRFLOW_CONN_DEMO_SINK": sqlite_connection(layout.predictions),
        "AIRFLOW_CONN_MLOPS_EVENTS": sqlite_connection(layout.events),
        **read_or_make_secrets(layout),
    }


def own_variables(layout: Layout) -> dict[str, str]:
    """The user's own connections and Variables: those of the caller, and of an earlier `make up`."""
    remembered = _read_env_file(layout) if layout.env_file.exists() else {}
    given = {**remembered, **os.environ}
    return {name: value for name, value in given.items() if name.startswith(KEPT_VARIABLES)}


def _read_env_file(layout: Layout) -> dict[str, str]:
    words = shlex.split(layout.env_file.read_text(), comments=True)
    return dict(word.split("=", 1) for word in words if "=" in word)


def sqlite_connection(path: Path) -> str:
    """An Airflow connection in its JSON form, which allows a space in the path."""
    return json.dumps({"conn_type": "sqlite", "host": str(path)})


def reachable(host: str) -> str:
    """The name under which this machine reaches what listens on `host`."""
    return "127.0.0.1" if host in ("0.0.0.0", "::", "127.0.0.1", "localhost") else host  # noqa: S104 - compared


def process_environment(layout: Layout, stack: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment without another Airflow's or Python's settings, plus this stack's."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON"))
    }
    inherited.setdefault("PATH", os.defpath)
    environment = {**inherited, **own_variables(layout), **stack}
    environment["PATH"] = f"{layout.venv / 'bin'}{os.pathsep}{inherited['PATH']}"
    for name in ("no_proxy", "NO_PROXY"):  # tasks talk to the API server on this machine directly
        environment[name] = ",".join(filter(None, (inherited.get(name), "127.0.0.1", "localhost")))
    home = inherited.get("HOME")
    if not home or not os.access(home, os.W_OK):
        environment["HOME"] = str(layout.local)
    try:
        getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name; Airflow insists on one
        environment["USER"] = "airflow"
    return environment


def write_env_file(layout: Layout, stack: Mapping[str, str]) -> None:
    """`.local/env`, for `. .local/env` in a shell and for the `mlops` command.

    It remembers the user's own connections and Variables for the next `make up`.
    """
    lines = [
        "# Written by `make up`. Use it in a shell:  . .local/env",
        "# Your own AIRFLOW_CONN_... and AIRFLOW_VAR_... stay here until you remove their lines.",
    ]
    variables = {**own_variables(layout), **stack}
    lines += [f"export {name}={shlex.quote(value)}" for name, value in sorted(variables.items())]
    lines.append(f'export PATH={shlex.quote(str(layout.venv / "bin"))}:"$PATH"')
    write_private(layout.env_file, "\n".join(lines) + "\n")


def write_local_settings(layout: Layout) -> None:
    """Airflow's place for code of a deployment; a file of the user's own stays as it is."""
    ours, path = LOCAL_SETTINGS.read_text(), layout.airflow_home / "config" / LOCAL_SETTINGS.name
    first_line = ours.partition("\n")[0]
    if path.exists() and not path.read_text().startswith(first_line):
        return
    path.parent.mkdir(exist_ok=True)
    path.write_text(ours)
