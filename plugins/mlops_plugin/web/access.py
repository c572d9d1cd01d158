"""Who may do what: every route of the views asks here, and nowhere else.

Airflow does not authenticate a plugin's app; it only offers the means. Reading a view and running a model are
permissions of the deployment's auth manager (Flask-AppBuilder: Security > List Roles). What concerns a model
also needs Airflow's permission on that model's DAG.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager, init_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import bearer_scheme, get_user, oauth2_scheme
from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials

from mlops_plugin.connections import airflow_base_url
from mlops_plugin.orchestration.dag_states import team_of
from mlops_plugin.orchestration.permissions import Resource
from mlops_plugin.web.languages.translation import gettext as _

_UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_NO_MODEL = "~"  # no DAG can have this id
TRUSTED_S = 1.0  # so long a token is not asked about again; a revoked one ends within it
_MOST_KNOWN = 10_000


@dataclass(frozen=True)
class Rights:
    """What the signed-in user may do to DAGs; each question is asked once per request.

    The auth manager is asked about each DAG by its id, so that a model that Airflow has not parsed yet, or no
    longer has, is judged by the same rules. Pausing, triggering and clearing go through Airflow's REST API,
    which asks again.
    """

    user: Any
    _answers: dict[tuple[str, str, bool], bool] = field(default_factory=dict)

    def may_read(self, dag_id: str) -> bool:
        return self._may("GET", dag_id)

    def may_pause(self, dag_id: str) -> bool:
        return self._may("PUT", dag_id)

    def may_trigger(self, dag_id: str) -> bool:
        return self._may("POST", dag_id, of_run=True)

    def may_clear(self, dag_id: str) -> bool:
        return self._may("PUT", dag_id, of_run=True)

    def may_read_all(self) -> bool:
        """Whether the user may read any DAG, even one that nobody has made yet."""
        return self.may_read(_NO_MODEL)

    def readable(self, dag_ids: Iterable[str]) -> list[str]:
        """Those that the user may read, in order."""
        return [dag_id for dag_id in dag_ids if self.may_read(dag_id)]

    def _may(self, method: Literal["GET", "PUT", "POST"], dag_id: str, *, of_run: bool = False) -> bool:
        question = (method, dag_id, of_run)
        if question not in self._answers:
            self._answers[question] = bool(
                get_auth_manager().is_authorized_dag(
                    method=method,
                    access_entity=DagAccessEntity.RUN if of_run else None,
                    details=DagDetails(id=dag_id, team_name=team_of(dag_id)),
                    user=self.user,
                )
            )
        return self._answers[question]


@dataclass
class KnownTokens:
    """Whose token was valid a moment ago.

    Airflow asks its database about each request's token, and its event loop waits for that: so does everybody
    else, the health check included. Programs and pages that ask often would have it wait most of the time.
    """

    _users: dict[bytes, tuple[float, Any]] = field(default_factory=dict)

    def get(self, token: bytes) -> Any | None:
        asked_at, user = self._users.get(token, (0.0, None))
        return user if time.monotonic() - asked_at < TRUSTED_S else None

    def add(self, token: bytes, user: Any, asked_at: float) -> None:
        if len(self._users) >= _MOST_KNOWN:
            self._users.clear()
        self._users[token] = asked_at, user


async def _user(
    request: Request,
    oauth_token: Annotated[str | None, Depends(oauth2_scheme)],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_scheme)],
) -> Any:
    """Who is signed in, as Airflow says. Airflow's middleware has asked about a cookie already."""
    if bearer is None or bearer.scheme.lower() != "bearer":
        return await get_user(request, oauth_token, bearer)
    known: KnownTokens = request.app.state.tokens
    token = hashlib.sha256(bearer.credentials.encode("utf-8", "replace")).digest()
    if (user := known.get(token)) is None:
        asked_at = time.monotonic()
        user = await get_user(request, oauth_token, bearer)
        known.add(token, user, asked_at)
    return user


UserDep = Annotated[Any, Depends(_user)]


async def signed_in(user: UserDep, request: Request) -> None:
    """Dependency of the whole app: a signed-in user, and no state-changing request from another origin."""
    request.state.user_name = str(user.get_name())
    request.state.rights = Rights(user)
    if request.method in _UNSAFE and not _is_same_origin(request):
        raise HTTPException(
            403, _("this request came from another site; open the page in Airflow and try again")
        )


async def current_user(request: Request) -> str:
    """The name of the signed-in user."""
    return str(request.state.user_name)


async def current_rights(request: Request) -> Rights:
    """What the signed-in user may do to DAGs."""
    rights: Rights = request.state.rights
    return rights


UserName = Annotated[str, Depends(current_user)]
RightsDep = Annotated[Rights, Depends(current_rights)]


def reads(resource: Resource) -> Any:
    """Dependency of a route that shows `resource`."""

    # In a thread: some auth managers ask a server.
    def check(user: UserDep) -> None:
        _require(may_see(user, resource), _("your role may not read %(resource)s", resource=resource))

    return Depends(check)


def creates(resource: Resource) -> Any:
    """Dependency of a route that makes something in `resource`."""

    def check(user: UserDep) -> None:
        _require(may_use(user, resource), _("your role may not use %(resource)s", resource=resource))

    return Depends(check)


def require_trigger(rights: Rights, model: str) -> None:
    """Raise 403 unless the user may trigger the model's DAG, which running it is."""
    _require(rights.may_trigger(model), _("your role may not trigger the DAG '%(dag)s'", dag=model))


def may_use(user: Any, resource: Resource) -> bool:
    """Whether the user may make something in `resource`, as `creates` asks."""
    return _may_view(user, "POST", resource)


def may_see(user: Any, resource: Resource) -> bool:
    """Whether the user may look at `resource`, as `reads` asks."""
    return _may_view(user, "GET", resource)


def _may_view(user: Any, method: Literal["GET", "POST"], resource: Resource) -> bool:
    manager = get_auth_manager()
    return bool(manager.is_authorized_custom_view(method=method, resource_name=resource, user=user))


def _require(is_allowed: bool, refusal: str) -> None:
    if not is_allowed:
        way = _("an administrator can grant it in Security > List Roles")
        raise HTTPException(403, f"{refusal}; {way}")


def _is_same_origin(request: Request) -> bool:
    # Another site's page cannot send a token in a header; it can send the cookie (same host, other port).
    if request.headers.get("authorization", "").lower().startswith("bearer "):
        return True
    fetch_site = request.headers.get("sec-fetch-site")
    if fetch_site is not None:
        return fetch_site == "same-origin"
    origin = request.headers.get("origin")
    return bool(origin) and _scheme_and_host(str(origin)) in _own_origins(request)


def _own_origins(request: Request) -> set[tuple[str, str]]:
    origins = {(request.scope["scheme"], request.headers.get("host", ""))}
    base_url = airflow_base_url()
    return origins | ({_scheme_and_host(base_url)} if base_url else set())


def _scheme_and_host(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
    except ValueError:  # not a URL; it may come from the request
        return "", ""
    return parts.scheme, parts.netloc


def start_auth_manager() -> None:
    """Make the auth manager in a process that is not Airflow's API server."""
    init_auth_manager()


async def user_of_token(token: str) -> Any:
    """The user whom a token of Airflow names; raises `jwt.InvalidTokenError`."""
    return await get_auth_manager().get_user_from_token(token)


def require_token_keys() -> None:
    """Raise `RuntimeError` if the keys that verify tokens could not be fetched."""
    get_auth_manager()._get_token_validator().status()  # type: ignore[no-untyped-call]
