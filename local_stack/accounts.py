"""Roles and the user `admin` in Airflow's database, for `make up` and docker-compose.yaml."""

from __future__ import annotations

import os
import sys
from typing import Any

from mlops_plugin.orchestration.roles import grant

NAME = "admin"
PASSWORD = "MLOPS_ADMIN_PASSWORD"  # noqa: S105 - the variable that holds it


def main() -> None:
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    password = os.environ.get(PASSWORD)
    if not password:
        sys.exit(f"{PASSWORD} is not set: it holds the password of Airflow's user '{NAME}'")
    with get_application_builder() as builder:
        grant(builder.sm)
        ensure_admin(builder.sm, password)


def ensure_admin(security: Any, password: str) -> None:
    """Create the user, or change its password to this one."""
    from werkzeug.security import check_password_hash

    user = security.find_user(username=NAME)
    if user is None:
        role = security.find_role("Admin")
        if not security.add_user(NAME, "The", "Administrator", "admin@localhost", role, password=password):
            sys.exit("Airflow did not create the user 'admin'; see its message above")
    elif not check_password_hash(user.password, password):
        security.reset_password(user.id, password)


if __name__ == "__main__":
    main()
