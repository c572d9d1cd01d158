"""Who may do what: the table of docs/access.md, every cell of it asked for over HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlops_plugin.events.migrating import upgrade
from support.airflow_process import REPOSITORY, RunningAirflow, airflow_environment, running_airflow
from support.servers import Server
from support.workshop import Workshop
from web.conftest import ROLES, Answer, Client, sign_in

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

# As the columns of the table; `no grant` is a signed-in user whose role has none of our permissions.
WHO = ("anonymous", "no grant", "Viewer", "User", "Op", "Admin")
_ROLE_OF = {"no grant": "Public"}
SIGNED_IN, SEES, ACTS = WHO[1:], WHO[2:], WHO[3:]
RUN = "asked-for"


@dataclass(frozen=True)
class Action:
    """A line of the table. `path` fills in `request`, and `{dispatch}` with a dispatch's id."""

    said: str
    request: str
    may: tuple[str, ...]
    path: str
    body: Any = None
    form: tuple[tuple[str, str], ...] = ()

    @property
    def is_airflows(self) -> bool:
        return "/api/v2/" in self.request

    @property
    def line(self) -> str:
        cells = ("yes" if who in self.may else "no" for who in WHO)
        return f"| {self.said} | `{self.request}` | {' | '.join(cells)} |"

    def asked_by(self, client: Client, dispatch: str) -> Answer:
        method, path = self.request.split()[0], self.path.replace("{dispatch}", dispatch)
        if self.form:
            return client.submit(path, self.form)
        return client.call(method, path, self.body, accept="text/html")


_MODEL = "api/v1/showroom/models/churn"
_DAG = "/api/v2/dags/churn"
ACTIONS = (
    Action("Showroom: its models", "GET /showroom", SEES, "showroom"),
    Action("a model and its cases", "GET /showroom/{name}", SEES, "showroom/churn"),
    Action("whether it is in memory", "GET /showroom/{name}/state", SEES, "showroom/churn/state"),
    Action(
        "run it on cases", "POST /showroom/{name}/run", ACTS, "showroom/churn/run", form=(("key", "[1]"),)
    ),
    Action("back from a run to the cases", "GET /showroom/{name}/run", SEES, "showroom/churn/run"),
    Action("what if", "GET /showroom/{name}/what-if", ACTS, "showroom/churn/what-if?key=[1]"),
    Action("why", "POST /showroom/{name}/why", ACTS, "showroom/churn/why", form=(("key", "[1]"),)),
    Action("back from why to the cases", "GET /showroom/{name}/why", SEES, "showroom/churn/why"),
    Action("models as JSON", "GET /api/v1/showroom/models", SEES, "api/v1/showroom/models"),
    Action("cases as JSON", "GET /api/v1/showroom/models/{name}/cases", SEES, f"{_MODEL}/cases"),
    Action(
        "run a model", "POST /api/v1/showroom/models/{name}/runs", ACTS, f"{_MODEL}/runs", {"keys": [[1]]}
    ),
    Action("Dispatches: the list", "GET /dispatches", SEES, "dispatches?model=churn"),
    Action("one dispatch", "GET /dispatches/{dispatch_id}", SEES, "dispatches/{dispatch}"),
    Action(
        "the dispatch of a DAG run", "GET /dispatches/of-run", SEES, "dispatches/of-run?dag_id=churn&run_id=x"
    ),
    Action("the list as JSON", "GET /api/v1/dispatches", SEES, "api/v1/dispatches"),
    Action("the list as CSV", "GET /api/v1/dispatches.csv", SEES, "api/v1/dispatches.csv"),
    Action("one as JSON", "GET /api/v1/dispatches/{dispatch_id}", SEES, "api/v1/dispatches/{dispatch}"),
    Action(
        "its first predictions",
        "GET /api/v1/dispatches/{dispatch_id}/predictions",
        SEES,
        "api/v1/dispatches/{dispatch}/predictions",
    ),
    Action("a model's history", "GET /api/v1/models/{model}/history", SEES, "api/v1/models/churn/history"),
    Action("Monitor", "GET /monitor", SEES, "monitor"),
    Action("its part that refreshes", "GET /monitor-status", SEES, "monitor-status"),
    Action("history of a target", "GET /monitor/history", SEES, "monitor/history?target=event%20store"),
    Action("the Monitor as JSON", "GET /api/v1/monitor", SEES, "api/v1/monitor"),
    Action(
        "the history as JSON",
        "GET /api/v1/monitor/history",
        SEES,
        "api/v1/monitor/history?target=event%20store",
    ),
    Action("styles and scripts", "GET /static/{name:path}", SIGNED_IN, "static/mlops.css"),
    Action("description of the API", "GET /api/v1/openapi.json", SIGNED_IN, "api/v1/openapi.json"),
    Action(
        "pause or resume a model",
        "PATCH /api/v2/dags/{dag_id}",
        ACTS,
        f"{_DAG}?update_mask=is_paused",
        {"is_paused": False},
    ),
    Action(
        "dispatch it now",
        "POST /api/v2/dags/{dag_id}/dagRuns",
        ACTS,
        f"{_DAG}/dagRuns",
        {"logical_date": None},
    ),
    Action(
        "run a dispatch again",
        "POST /api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/clear",
        ACTS,
        f"{_DAG}/dagRuns/{RUN}/clear",
        {"dry_run": False, "only_failed": False},
    ),
)
OURS = [action for action in ACTIONS if not action.is_airflows]
CHANGES_STATE = [action for action in OURS if not action.request.startswith("GET")]


@dataclass(frozen=True)
class Door:
    """An API server that knows the DAG of the model, and who comes to it, by the way they are recognised."""

    clients: Mapping[str, Mapping[str, Client]]
    dispatch: str


@pytest.fixture(scope="module", params=["FabAuthManager", "SimpleAuthManager"])
def door(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres: Server
) -> Iterator[Door]:
    workshop = Workshop(tmp_path_factory.mktemp("access"))
    workshop.metadata = postgres.new_database()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in workshop.environment.items():
            patch.setenv(name, value)
        with workshop.deployment.event_store() as store:
            upgrade(store.address)
        dispatch = workshop.dispatch()
        workshop.run(dispatch)
    is_fab = request.param == "FabAuthManager"
    with running_airflow(
        workshop,
        {} if is_fab else _simple_users(workshop.folder),
        components=["api-server", "dag-processor"],
        roles=ROLES if is_fab else (),
    ) as airflow:
        airflow.api.sign_in("admin")
        airflow.wait(lambda: "churn" in airflow.api.dag_ids(), "the DAG of the model")
        airflow.trigger("churn", dag_run_id=RUN)
        yield Door(_clients(airflow, WHO[1:] if is_fab else WHO[2:]), dispatch.id)


def _simple_users(folder: Path) -> dict[str, str]:
    names = [who.lower() for who in WHO[2:]]
    passwords = folder / "passwords.json"
    passwords.write_text(json.dumps({name: name for name in names}))
    prefix = "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER"
    return {
        f"{prefix}_ALL_ADMINS": "False",
        f"{prefix}_USERS": ",".join(f"{name}:{name}" for name in names),
        f"{prefix}_PASSWORDS_FILE": str(passwords),
    }


def _clients(airflow: RunningAirflow, signed_in: tuple[str, ...]) -> dict[str, dict[str, Client]]:
    clients = {
        way: {who: sign_in(airflow, _ROLE_OF.get(who, who).lower(), by_cookie=by_cookie) for who in signed_in}
        for way, by_cookie in (("token", False), ("cookie", True))
    }
    return {way: {"anonymous": Client(airflow, None), **found} for way, found in clients.items()}


@pytest.mark.parametrize("way", ["token", "cookie"])
@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.request)
def test_each_role_may_do_what_the_table_says(door: Door, action: Action, way: str) -> None:
    for who, client in door.clients[way].items():
        answer = action.asked_by(client, door.dispatch)
        refused = 401 if who == "anonymous" else 403
        expected = 200 if who in action.may else refused
        assert answer.status == expected, (who, answer.text[-500:])


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},  # another port of the same host
        {"sec_fetch_site": "none"},
        {"sec_fetch_site": "", "origin": "http://elsewhere.example"},
        {"sec_fetch_site": "", "origin": "http://127.0.0.1:1"},
        {"sec_fetch_site": "", "origin": "null"},
        {"sec_fetch_site": ""},
    ],
    ids=str,
)
@pytest.mark.parametrize("action", CHANGES_STATE, ids=lambda action: action.request)
def test_what_changes_state_is_refused_to_other_origins(
    door: Door, action: Action, headers: dict[str, str]
) -> None:
    answer = door.clients["cookie"]["Admin"].call("POST", action.path, action.body, **headers)
    assert answer.status == 403
    assert "comes from another site" in answer.text


@pytest.mark.parametrize("action", OURS, ids=lambda action: action.request)
def test_every_answer_carries_the_security_headers(door: Door, action: Action) -> None:
    for who in ("anonymous", "Viewer", "Admin"):
        headers = action.asked_by(door.clients["cookie"][who], door.dispatch).headers
        policy = headers["Content-Security-Policy"].split("; ")
        assert {"default-src 'self'", "frame-ancestors 'self'", "form-action 'self'"} <= set(policy)
        assert not any("unsafe" in rule for rule in policy)
        assert headers["X-Frame-Options"] == "SAMEORIGIN"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cache-Control"].split(",")[0] in ("no-store", "private")


_ROUTES = """
import json
from pathlib import Path
from mlops_plugin.web.app import create_app
from mlops_plugin.web.routers import all_views
from mlops_plugin.web.site import Site
app = create_app(Site(Path("unread.yaml")), all_views())
print(json.dumps([f"{method} {route.path}" for route in app.routes for method in route.methods]))
"""


def test_the_table_has_every_route_of_the_app(workshop: Workshop) -> None:
    environment = {**os.environ, **airflow_environment(workshop, 1)}
    done = subprocess.run(
        [sys.executable, "-c", _ROUTES], env=environment, capture_output=True, text=True, check=True
    )
    registered = json.loads(done.stdout.splitlines()[-1])  # Airflow may log before it
    assert sorted(registered) == sorted(action.request for action in OURS)


def test_the_documented_table_is_the_one_that_is_tested() -> None:
    documented = (REPOSITORY / "docs" / "access.md").read_text().splitlines()
    lines = [line for line in documented if line.startswith("| ") and line.count("|") == len(WHO) + 3]
    head = [f"| Action | Request | {' | '.join(WHO)} |", f"| --- | --- |{' :---: |' * len(WHO)}"]
    assert lines == [*head, *(action.line for action in ACTIONS)]
