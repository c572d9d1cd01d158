"""The views' permissions in Flask-AppBuilder: `mlops roles sync`, part of `make up` and Compose's init."""

from __future__ import annotations

from typing import Any

from mlops_plugin.errors import MlopsError
from mlops_plugin.orchestration.permissions import GRANTS


def sync_roles() -> list[str]:
    """Create the permissions and grant them to Airflow's roles; harmless when repeated. Returns the roles.

    Raises `MlopsError` if Airflow's auth manager keeps no roles, as all but Flask-AppBuilder's do.
    """
    from airflow.configuration import conf

    manager = conf.getimport("core", "auth_manager")
    if not hasattr(manager, "security_manager"):
        raise MlopsError(
            f"[core] auth_manager is {conf.get('core', 'auth_manager')}: it has no roles to grant "
            "permissions to; use airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
        )
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    with get_application_builder() as builder:
        return grant(builder.sm)


def grant(security: Any) -> list[str]:
    """`sync_roles` for a security manager that is open already."""
    granted = []
    for name, permissions in GRANTS.items():
        role = security.find_role(name)
        if role is None:  # a deployment may have removed it
            continue
        for action, resource in permissions:
            security.add_permission_to_role(role, security.create_permission(action, resource))
        granted.append(name)
    return granted
