"""Airflow's metadata database, made once in a test run and copied from then on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from support.servers import ServerDatabase

FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
# There is a user of each, whom other auth managers do not know: `support.airflow_process.running_airflow`.
ROLES = ("Admin", "Op", "User", "Viewer", "Public", "Only-churn", "Only-wine", "Sees-Showroom")

# One process, which imports Airflow once.
_MAKE = """
import sys
from airflow.__main__ import main

roles, sys.argv[1:] = sys.argv[1:], ["db", "migrate"]
main()

from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
from mlops_plugin.orchestration.roles import grant

def limited_to(dag, role, security):
    # A role that sees all our views, runs models, and may use the DAG of one model only.
    granted = [(action, f"DAG:{dag}") for action in ("can_read", "can_edit")]
    granted += [(f"can_{action}", "DAG Runs") for action in ("read", "create", "edit")]
    granted += [("can_read", view) for view in ("Showroom", "Dispatches", "Monitor", "Plugins", "Website")]
    granted += [("can_create", "Showroom")]
    found = security.add_role(role)
    for permission in granted:
        security.add_permission_to_role(found, security.create_permission(*permission))
    return found

def seeing(view, role, security):
    # A role that sees one of our views, and all DAGs.
    found = security.add_role(role)
    for permission in [("can_read", view), ("can_read", "DAGs"), ("can_read", "Website")]:
        security.add_permission_to_role(found, security.create_permission(*permission))
    return found

def special(role, security):
    kind, _, what = role.partition("-")
    return (limited_to if kind == "Only" else seeing)(what, role, security)

with get_application_builder() as builder:
    grant(builder.sm)
    for role in roles:
        name = role.lower()
        found = builder.sm.find_role(role) or special(role, builder.sm)
        assert builder.sm.add_user(name, name, name, name + "@localhost", found, password=name)
"""
_kept: dict[int, str] = {}  # the port of a server -> its database that is copied


def fill_metadata(database: ServerDatabase | None, environment: Mapping[str, str]) -> None:
    """Make Airflow's tables, and a user of each of `ROLES`; None is the SQLite file in Airflow's home."""
    home = Path(environment["AIRFLOW_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    if database is None:
        with _made_once(home, "metadata.db") as made:
            if not made.exists():
                _make(environment)
                (home / "airflow.db").rename(made)
        shutil.copyfile(made, home / "airflow.db")
        return
    name = database.database
    if kept := _kept.get(database.port):
        _administer(database, f"DROP DATABASE {name}", f"CREATE DATABASE {name} TEMPLATE {kept}")
        return
    with _made_once(home, "metadata.sql") as made:
        if made.exists():
            database.load(made)
        else:
            _make(environment)
            database.dump(part := made.with_suffix(".part"))
            part.rename(made)  # never half of it
    _kept[database.port] = f"{name}_kept"
    _administer(database, f"CREATE DATABASE {name}_kept TEMPLATE {name}")


@contextlib.contextmanager
def _made_once(home: Path, name: str) -> Iterator[Path]:
    """A file that all processes of a test run share; inside, no other process uses it."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    ours = (folder.parent for folder in home.parents if folder.name == f"popen-{worker}")
    made = next(ours, home.parent) / name
    with made.with_suffix(f"{made.suffix}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield made


def _administer(database: ServerDatabase, *statements: str) -> None:
    replace(database, database="postgres").execute(*statements)


def _make(environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MAKE, *ROLES],
        env={**environment, "AIRFLOW__CORE__AUTH_MANAGER": FAB},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
