"""Who may do what: every route of the views asks here, and nowhere else.

Airflow does not authenticate a plugin's app; it only offers the means. Reading and creating are permissions
of the deployment's auth manager (Flask-AppBuilder: Security > List Roles).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool

from mlops_plugin.orchestration.permissions import Resource

_UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})


# Dependencies that only compute are coroutines: a function of the plain kind costs each request a thread.


async def signed_in(user: GetUserDep, request: Request) -> None:
    """Dependency of the whole app: a signed-in user, and no state-changing request from another origin."""
    request.state.user_name = str(user.get_name())
    if request.method in _UNSAFE and not _is_same_origin(request):
        raise HTTPException(
            403, "this request comes from another site; open the page in Airflow and try again"
        )


async def current_user(request: Request) -> str:
    """The name of the signed-in user."""
    return str(request.state.user_name)


UserName = Annotated[str, Depends(current_user)]


def reads(resource: Resource) -> Any:
    """Dependency of a route that shows `resource`."""

    async def check(user: GetUserDep) -> None:
        _require(await _may(user, "GET", resource), f"read {resource}")

    return Depends(check)


def creates(resource: Resource) -> Any:
    """Dependency of a route that makes something in `resource`."""

    async def check(user: GetUserDep) -> None:
        _require(await _may(user, "POST", resource), f"use {resource}")

    return Depends(check)


def may(user: Any, method: Literal["GET", "POST"], resource: Resource) -> bool:
    """Whether the user has that permission."""
    manager = get_auth_manager()
    allowed = bool(manager.is_authorized_custom_view(method=method, resource_name=resource, user=user))
    if allowed and method == "POST" and not _grades_custom_views(manager):
        # Whoever may not trigger DAG runs may not make anything here either.
        from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity

        allowed = bool(manager.is_authorized_dag(method="POST", access_entity=DagAccessEntity.RUN, user=user))
    return allowed


async def _may(user: Any, method: Literal["GET", "POST"], resource: Resource) -> bool:
    # These two decide by what they know of the user; another manager may ask a server.
    if type(get_auth_manager()).__name__ in ("FabAuthManager", "SimpleAuthManager"):
        return may(user, method, resource)
    return await run_in_threadpool(may, user, method, resource)


@dataclass(frozen=True)
class DagRights:
    """What a user may do to a DAG through Airflow's REST API, which asks for it again."""

    may_pause: bool
    may_trigger: bool
    may_clear: bool


RightsOf = Callable[[str], DagRights]


def rights_of(user: GetUserDep) -> RightsOf:
    """Dependency: tells the signed-in user's rights on a DAG by its id."""
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails

    may = partial(get_auth_manager().is_authorized_dag, user=user)

    def rights(dag_id: str) -> DagRights:
        dag, run = DagDetails(id=dag_id), DagAccessEntity.RUN
        return DagRights(
            may_pause=may(method="PUT", details=dag),
            may_trigger=may(method="POST", access_entity=run, details=dag),
            may_clear=may(method="PUT", access_entity=run, details=dag),
        )

    return rights


RightsDep = Annotated[RightsOf, Depends(rights_of)]


def _grades_custom_views(manager: Any) -> bool:
    """SimpleAuthManager allows custom views to everyone who may sign in; Flask-AppBuilder grades them."""
    return type(manager).__name__ != "SimpleAuthManager"


def _require(is_allowed: bool, what: str) -> None:
    if not is_allowed:
        raise HTTPException(
            403, f"your role may not {what}; an administrator can grant it in Security > List Roles"
        )


def _is_same_origin(request: Request) -> bool:
    # Another site's page cannot send a token in a header; it can send the cookie (same host, other port).
    if request.headers.get("authorization", "").lower().startswith("bearer "):
        return True
    fetch_site = request.headers.get("sec-fetch-site")
    if fetch_site is not None:
        return fetch_site == "same-origin"
    origin = request.headers.get("origin")
    return origin is not None and _place(origin) in _own_places(request)


def _own_places(request: Request) -> set[tuple[str, str]]:
    from airflow.configuration import conf

    places = {(request.url.scheme, request.headers.get("host", ""))}
    base_url = conf.get("api", "base_url", fallback="")
    return places | ({_place(base_url)} if base_url else set())


def _place(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc
