"""Airflow's metadata database, made once for each PostgreSQL server of the tests and copied from then on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from support.servers import ServerDatabase

_MAKE_USERS = """
import sys
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
    for role in sys.argv[1:]:
        name = role.lower()
        found = builder.sm.find_role(role) or special(role, builder.sm)
        assert builder.sm.add_user(name, name, name, name + "@localhost", found, password=name)
"""
_kept: dict[tuple[int, str | None, tuple[str, ...]], str] = {}  # server, auth manager, roles -> database


def fill_metadata(
    database: ServerDatabase | None, roles: Sequence[str], environment: Mapping[str, str]
) -> None:
    """Make Airflow's tables, and a user of each role; None is the SQLite file that `environment` names."""
    if database is None:
        _migrate(environment)
        if roles:
            _make_users(roles, environment)
        return
    # Auth managers have tables of their own.
    server = (database.port, environment.get("AIRFLOW__CORE__AUTH_MANAGER"))
    bare, wanted = (*server, ()), (*server, tuple(roles))
    if found := _kept.get(wanted) or _kept.get(bare):
        name = database.database
        _administer(database, f"DROP DATABASE {name}", f"CREATE DATABASE {name} TEMPLATE {found}")
    else:
        _migrate(environment)
        _keep(database, bare)
    if wanted not in _kept:
        _make_users(roles, environment)
        _keep(database, wanted)


def _keep(database: ServerDatabase, key: tuple[int, str | None, tuple[str, ...]]) -> None:
    name = database.database
    _kept[key] = f"{name}_of_{len(_kept)}"
    _administer(database, f"CREATE DATABASE {_kept[key]} TEMPLATE {name}")


def _administer(database: ServerDatabase, *statements: str) -> None:
    replace(database, database="postgres").execute(*statements)


def _migrate(environment: Mapping[str, str]) -> None:
    _run(environment, "-m", "airflow", "db", "migrate")


def _make_users(roles: Sequence[str], environment: Mapping[str, str]) -> None:
    _run(environment, "-c", _MAKE_USERS, *roles)


def _run(environment: Mapping[str, str], *arguments: str) -> None:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
