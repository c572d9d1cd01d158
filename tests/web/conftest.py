"""A real API server with the views, one for each file of tests."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from typing import Any

import pytest

from airflow_process import RunningAirflow, running_airflow
from mlops_plugin.events.migrating import upgrade
from workshop import Workshop

ROLES = ("Admin", "Op", "User", "Viewer", "Public")


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    status: int
    headers: Message
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Client:
    """Calls the views of a running Airflow, as a signed-in user or as nobody."""

    def __init__(self, airflow: RunningAirflow, token: str | None) -> None:
        self._root = f"{airflow.api.url}/mlops/"
        self._token = token

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send a request; `headers` with underscores for hyphens, e.g. accept="text/html"."""
        request = urllib.request.Request(  # noqa: S310 - the scheme is ours
            self._root + path, method=method, data=None if body is None else json.dumps(body).encode()
        )
        request.add_header("Content-Type", "application/json")
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return Answer(answer.status, answer.headers, answer.read().decode())
        except urllib.error.HTTPError as refused:
            return Answer(refused.code, refused.headers, refused.read().decode())

    def get(self, path: str, **headers: str) -> Answer:
        return self.call("GET", path, **headers)

    def page(self, path: str) -> Answer:
        """A page as a browser asks for it."""
        return self.get(path, accept="text/html")

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.call("POST", path, body, **headers)


@pytest.fixture(scope="module")
def web_airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAirflow]:
    """Airflow's API server alone over a workshop with one model, `churn`, and a user of each role."""
    workshop = Workshop(tmp_path_factory.mktemp("web"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in workshop.environment.items():
            patch.setenv(name, value)
        with workshop.deployment.event_store() as store:
            upgrade(store.address)
    with running_airflow(workshop, components=["api-server"], roles=ROLES) as airflow:
        yield airflow


@pytest.fixture(scope="module")
def clients(web_airflow: RunningAirflow) -> dict[str, Client]:
    """A signed-in user of each role, by role."""
    return {role: sign_in(web_airflow, role.lower()) for role in ROLES}


@pytest.fixture(scope="module")
def client(clients: dict[str, Client]) -> Client:
    """A signed-in administrator."""
    return clients["Admin"]


@pytest.fixture(scope="module")
def nobody(web_airflow: RunningAirflow) -> Client:
    """A caller who is not signed in."""
    return Client(web_airflow, None)


def sign_in(airflow: RunningAirflow, name: str) -> Client:
    """A client of the user whose password is its name."""
    answer = airflow.api.call("POST", "/auth/token", {"username": name, "password": name})
    return Client(airflow, str(answer["access_token"]))
