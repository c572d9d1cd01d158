"""The views' permissions and who has them; `mlops roles sync` creates them, `web.access` asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Resource = Literal["Showroom", "Dispatches", "Monitor"]
Permission = tuple[str, str]  # (action, resource), as Flask-AppBuilder calls them

_SEE: tuple[Permission, ...] = (
    ("can_read", "Showroom"),
    ("can_read", "Dispatches"),
    ("can_read", "Monitor"),
    ("can_read", "Plugins"),  # Airflow's own: without it a role is shown no plugin's page at all
)
_RUN: tuple[Permission, ...] = (("can_create", "Showroom"),)

# Pausing, resuming and triggering are Airflow's own DAG permissions, which User, Op and Admin have.
GRANTS: Mapping[str, tuple[Permission, ...]] = {
    "Viewer": _SEE,
    "User": (*_SEE, *_RUN),
    "Op": (*_SEE, *_RUN),
    "Admin": (*_SEE, *_RUN),
}
