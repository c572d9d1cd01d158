"""Who may do what: the table of docs/access.md, every cell of it asked for over HTTP."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from mlops_plugin.events.health.probes import Findings, ProbeHistory, ProbeRecord
from mlops_plugin.events.store import EventStore
from support.airflow_process import REPOSITORY, SAME_DAGS, RunningAirflow, running_airflow
from support.event_stories import new_identity
from support.servers import Server
from support.workshop import Workshop
from web.conftest import ROLES, Answer, Client, sign_in

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

# As the columns of the table; `no grant` is a signed-in user whose role has none of our permissions.
WHO = ("anonymous", "no grant", "Viewer", "User", "Op", "Admin")
_ROLE_OF = {"no grant": "Public"}
ONE_DAG = "Only-wine"  # a role that may use the DAG of `wine`, and no other
ONE_VIEW = "Sees-Showroom"  # a role that may read the Showroom and all DAGs, and no other view of ours
SIGNED_IN, SEES, ACTS = WHO[1:], WHO[2:], WHO[3:]
RUN = "asked-for"


@dataclass(frozen=True)
class Action:
    """A line of the table. `path` fills in `request`, and `{dispatch}` and `{why}` with ids."""

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

    def asked_by(self, client: Client, dispatch: str, why: str = "") -> Answer:
        method, path = self.request.split()[0], self.path.format(dispatch=dispatch, why=why or dispatch)
        if self.form:
            return client.submit(path, self.form)
        return client.call(method, path, self.body, accept="text/html")


_MODEL = "api/v1/showroom/models/churn"
_DAG = "/api/v2/dags/churn"
ACTIONS = (
    Action("Showroom: its models", "GET /showroom", SEES, "showroom"),
    Action("a model and its cases", "GET /showroom/{name}", SEES, "showroom/churn"),
    Action("how many there are", "GET /showroom/{name}/count", SEES, "showroom/churn/count"),
    Action(
        "their last predictions",
        "GET /showroom/{name}/last-predictions",
        SEES,
        "showroom/churn/last-predictions",
    ),
    Action("how right it is", "GET /showroom/{name}/accuracy", SEES, "showroom/churn/accuracy"),
    Action("whether it is in memory", "GET /showroom/{name}/state", SEES, "showroom/churn/state"),
    Action(
        "run it on cases", "POST /showroom/{name}/run", ACTS, "showroom/churn/run", form=(("key", "[1]"),)
    ),
    Action("back from a run to the cases", "GET /showroom/{name}/run", SEES, "showroom/churn/run"),
    Action("what if", "GET /showroom/{name}/what-if", ACTS, "showroom/churn/what-if?key=[1]"),
    Action("why", "POST /showroom/{name}/why", ACTS, "showroom/churn/why", form=(("key", "[1]"),)),
    Action(
        "an explanation by its link",
        "GET /showroom/{name}/why/{dispatch_id}",
        SEES,
        "showroom/churn/why/{why}",
    ),
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
    whys: Mapping[str, str]  # an explained case of a model, by model
    others: Mapping[str, str]  # a dispatch of each other model, by model
    one_dag: Client | None  # a user of the role ONE_DAG, if the auth manager has roles of that kind
    one_view: Client | None  # of the role ONE_VIEW
    new_viewer: Callable[[], Client]  # signs in again


@pytest.fixture(
    scope="module", params=["FabAuthManager", pytest.param("SimpleAuthManager", marks=pytest.mark.long)]
)
def door(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres: Server
) -> Iterator[Door]:
    workshop = Workshop(tmp_path_factory.mktemp("access"))
    workshop.metadata = postgres.new_database()
    with workshop.ready():
        for name in ("wine", "gone"):
            workshop.add_model(name)
        made = {name: workshop.dispatch(name) for name in ("churn", "wine", "gone")}
        for dispatch in made.values():
            workshop.run(dispatch)
        with workshop.deployment.event_store() as store:
            _record_probes(store)
            store.begin(new_identity("churn"))  # is running
    del workshop.models["gone"]  # its dispatches stay
    workshop.add_model("broken", sink={"mode": "nonsense"})
    workshop.write()
    is_fab = request.param == "FabAuthManager"
    with running_airflow(
        workshop,
        {**SAME_DAGS, **({} if is_fab else _simple_users(workshop.folder))},
        components=["api-server", "dag-processor"],
        roles=(*ROLES, ONE_DAG, ONE_VIEW) if is_fab else (),
    ) as airflow:
        airflow.api.sign_in("admin")
        airflow.wait(lambda: {"churn", "wine"} <= set(airflow.api.dag_ids()), "the DAGs of the models")
        airflow.trigger("churn", dag_run_id=RUN)
        yield Door(
            _clients(airflow, WHO[1:] if is_fab else WHO[2:]),
            made["churn"].id,
            {name: _explained(airflow, name) for name in ("churn", "wine")},
            {name: made[name].id for name in ("wine", "gone")},
            sign_in(airflow, ONE_DAG.lower()) if is_fab else None,
            sign_in(airflow, ONE_VIEW.lower()) if is_fab else None,
            lambda: sign_in(airflow, "viewer"),
        )


def _explained(airflow: RunningAirflow, name: str) -> str:
    """A dispatch that explains a case of the model."""
    page = sign_in(airflow, "admin").submit(f"showroom/{name}/why", [("key", "[1]")]).text
    return str(re.findall(r"dispatches/([0-9a-f-]{36})", page)[0])


def _record_probes(store: EventStore) -> None:
    """What the Monitor's DAG records of models: each was up a moment ago."""
    now = datetime.now(UTC)
    probes = [ProbeRecord(f"model {name}", now, "up", None, None) for name in ("churn", "wine", "gone")]
    month = timedelta(days=30)
    ProbeHistory(store).record(Findings(probes), keep_probes=month, keep=month, now=now)


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
        answer = action.asked_by(client, door.dispatch, door.whys["churn"])
        refused = 401 if who == "anonymous" else 403
        expected = 200 if who in action.may else refused
        assert answer.status == expected, (who, answer.text[-500:])


def test_who_may_not_run_a_model_is_told_beside_its_button(door: Door) -> None:
    for who in SEES:
        page = door.clients["token"][who].page("showroom/churn").text
        assert ('id="may-not-run"' in page) is (who not in ACTS), who


def test_who_may_read_the_showroom_alone_sees_cases_and_nothing_of_dispatches(door: Door) -> None:
    if door.one_view is None:
        return
    page, everything = (
        client.page("showroom/churn").text for client in (door.one_view, door.clients["token"]["Viewer"])
    )
    for text in ("last prediction", "last-predictions"):
        assert (text in page, text in everything) == (False, True)
    assert "5 cases" in page
    assert door.one_view.get("showroom/churn/count").text == "5 cases"
    assert door.one_view.get("showroom/churn/last-predictions").status == 403
    assert door.one_view.page(f"dispatches/{door.dispatch}").status == 403
    assert door.dispatch not in door.one_view.page("showroom").text


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
    assert "from another site" in answer.text


@pytest.mark.parametrize("action", OURS, ids=lambda action: action.request)
def test_every_answer_carries_the_security_headers(door: Door, action: Action) -> None:
    for who in ("anonymous", "Viewer", "Admin"):
        headers = action.asked_by(door.clients["cookie"][who], door.dispatch, door.whys["churn"]).headers
        policy = headers["Content-Security-Policy"].split("; ")
        assert {"default-src 'self'", "frame-ancestors 'self'", "form-action 'self'"} <= set(policy)
        assert not any("unsafe" in rule for rule in policy)
        assert headers["X-Frame-Options"] == "SAMEORIGIN"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cache-Control"].split(",")[0] in ("no-store", "private")


# More doors that could lead to a model: {name} is one, {dispatch} its dispatch.
MORE = (
    Action("", "GET /dispatches", SEES, "dispatches"),
    Action("", "GET /dispatches", SEES, "dispatches?part=list"),
    Action("", "GET /dispatches", SEES, "dispatches?model=churn&part=list&state=succeeded"),
    Action("", "GET /dispatches", SEES, "dispatches?model=churn&tab=dag&after=2020-01-01T00:00:00%2B00:00~x"),
    Action("", "GET /dispatches/{dispatch_id}", SEES, "dispatches/{dispatch}?part=story"),
    Action("", "GET /dispatches/{dispatch_id}", SEES, "dispatches/{dispatch}?part=predictions"),
    Action("", "GET /dispatches/{dispatch_id}", SEES, "dispatches/{dispatch}?part=rejected"),
    Action("", "GET /api/v1/dispatches", SEES, "api/v1/dispatches?model=churn"),
    Action("", "GET /api/v1/dispatches", SEES, "api/v1/dispatches?model=churn&origin=terminal&limit=1"),
    Action("", "GET /api/v1/dispatches.csv", SEES, "api/v1/dispatches.csv?model=churn"),
    Action("", "GET /monitor/history", SEES, "monitor/history?target=model%20churn"),
    Action("", "GET /monitor/history", SEES, "monitor/history?target=timing%20churn"),
    Action("", "GET /api/v1/monitor/history", SEES, "api/v1/monitor/history?target=model%20churn"),
    Action("", "GET /showroom", SEES, "showroom?search=churn"),
    Action("", "GET /showroom/{name}", SEES, "showroom/churn?search=x&sort=a&after=[false,1]"),
)
_UNKNOWN = {"dispatch": "00000000-0000-0000-0000-000000000000", "name": "nosuch"}


def _of(action: Action, name: str) -> Action:
    """The same of another model."""
    return replace(action, path=action.path.replace("churn", name))


def _without_ages(page: str) -> str:
    """The page without "2 min ago" and how long it took, which a second changes."""
    page = re.sub(r"<time.*?</time>", "", page, flags=re.DOTALL)
    return re.sub(r'(data-label="Duration"[^>]*>).*?(</td>)', r"\1\2", page, flags=re.DOTALL)


@pytest.mark.parametrize("action", [*OURS, *MORE], ids=lambda action: action.path)
def test_a_model_whose_dag_one_may_not_read_looks_like_one_that_is_not_there(
    door: Door, action: Action
) -> None:
    if door.one_dag is None:
        return  # this auth manager has no rights on single DAGs
    unknown = _of(action, _UNKNOWN["name"]).asked_by(door.one_dag, _UNKNOWN["dispatch"])
    for name, dispatch in (("churn", door.dispatch), ("gone", door.others["gone"])):
        hidden = _of(action, name).asked_by(door.one_dag, dispatch, door.whys.get(name, ""))
        text = hidden.text.replace(dispatch, _UNKNOWN["dispatch"])
        assert hidden.status == unknown.status
        if action.path not in _CHANGING:
            assert _without_ages(text.replace(name, _UNKNOWN["name"])) == _without_ages(unknown.text)
        if "churn" not in action.path:  # else the answer repeats what was asked
            assert name not in hidden.text
    if "/{" in action.request and "/back" not in action.said and "{name:path}" not in action.request:
        is_empty_list = unknown.status == 200 and unknown.text == "[]"
        assert unknown.status in (303, 404) or is_empty_list, unknown.text[-300:]


# Their answers tell the time.
_CHANGING = ("monitor", "monitor-status", "api/v1/monitor", "api/v1/openapi.json")


@pytest.mark.parametrize("action", OURS, ids=lambda action: action.request)
def test_a_user_of_one_dag_may_do_with_it_what_the_table_says(door: Door, action: Action) -> None:
    if door.one_dag is None:
        return
    answer = _of(action, "wine").asked_by(door.one_dag, door.others["wine"], door.whys["wine"])
    assert answer.status == 200, answer.text[-500:]


@pytest.mark.parametrize(
    "path",
    ["showroom", "dispatches", "monitor", "api/v1/dispatches", "api/v1/dispatches.csv", "api/v1/monitor"],
)
def test_lists_show_the_models_whose_dags_one_may_read(door: Door, path: str) -> None:
    everyone = door.clients["token"]["Viewer"].page(path).text
    assert "churn" in everyone
    assert "wine" in everyone
    if door.one_dag is not None:
        theirs = door.one_dag.page(path).text
        assert "wine" in theirs
        for hidden in ("churn", "gone", "broken"):
            assert hidden not in theirs.replace("broken configuration", "")


_ELSEWHERE = (
    "api/v1/dispatches?model=wine&model=gone",
    "api/v1/dispatches?model=gone&model=wine",
    "api/v1/dispatches?model=GONE",
    "api/v1/dispatches?model=gone%20",
    "api/v1/dispatches?model=gon%25",
    "api/v1/dispatches.csv?model=gone&model=wine",
    "api/v1/dispatches?before={at}~{dispatch}",
    "dispatches?before={at}~{dispatch}",
    "dispatches?after={at}~{dispatch}&part=list",
    "dispatches/{dispatch}%20",
    "dispatches/{wine}?part=predictions&dispatch_id={dispatch}",
    "api/v1/dispatches/{wine}/predictions?model=gone",
    "api/v1/models/wine/history?model=gone",
    "dispatches/of-run?dag_id=gone&dag_id=wine&run_id=x",
    "monitor/history?target=MODEL%20gone",
    "api/v1/monitor/history?target=model%20wine&target=model%20gone",
    "api/v1/monitor/history?target=model%20gone%20",
    "showroom/wine/../gone",
    "showroom/wine%2f..%2fgone",
    "showroom/%2e%2e/gone",
    "showroom/wine?model=gone",
    "showroom?search=gon",
    "api/v1/dispatches?origin=terminal&limit=1000",
    "api/v1/dispatches.csv?origin=all&until=9999-01-01",
    "dispatches?sort=model&origin=all",
    "dispatches?sort=duration&descending=true&origin=all&skip=1&part=list",
    "dispatches?origin=all&tab=dag",
)


@pytest.mark.parametrize("path", _ELSEWHERE)
def test_no_way_around_shows_what_stands_in_another_teams_records(door: Door, path: str) -> None:
    if door.one_dag is None:
        return
    hidden = door.others["gone"]
    record = door.clients["token"]["Admin"].get(f"api/v1/dispatches/{hidden}").json
    at = quote(record["created_at"], safe="")
    for accept in ("text/html", "application/json"):
        answer = door.one_dag.get(
            path.format(at=at, dispatch=hidden, wine=door.others["wine"]), accept=accept
        )
        assert answer.status in (200, 404, 422)
        assert "gone_predictions" not in answer.text
        assert hidden in path.format(at=at, dispatch=hidden, wine="") or hidden not in answer.text
        if answer.headers["content-type"] == "application/json" and "api/v1/dispatches?" in path:
            assert {line["model"] for line in answer.json.get("dispatches", ())} <= {"wine"}


def test_counts_are_of_what_one_may_see(door: Door) -> None:
    if door.one_dag is None:
        return
    path = "api/v1/dispatches?origin=terminal"
    assert door.clients["token"]["Viewer"].get(path).json["count"] == 3
    assert door.one_dag.get(path).json["count"] == 1
    assert "1 running" in door.clients["token"]["Viewer"].page("dispatches?state=").text
    theirs = door.one_dag.page("dispatches").text
    assert ", 0 running, 0 failed" in theirs
    everyones, cards = (who.page("showroom").text for who in (door.clients["token"]["Viewer"], door.one_dag))
    assert (everyones.count('class="card"'), cards.count('class="card"')) == (2, 1)
    assert "the last 2 dispatches: 1 succeeded, running" in everyones  # of churn
    assert re.findall(r"the last [^;<\"]*dispatch[^;<\"]*", cards)[0] == "the last dispatch: 1 succeeded"
    assert "the last 2 dispatches" not in cards


def test_who_may_read_a_dag_but_not_trigger_it_may_not_run_its_model(door: Door) -> None:
    # Viewer reads all DAGs. What is refused is refused by a reason, since the model is no secret.
    answer = door.clients["token"]["Viewer"].post(f"{_MODEL}/runs", {"keys": [[1]]})
    assert answer.status == 403


def test_a_revoked_token_ends_within_a_second(door: Door) -> None:
    client, other = door.new_viewer(), door.new_viewer()
    assert client.get("api/v1/dispatches").status == 200
    client.get("/api/v2/auth/logout", accept="text/html")
    time.sleep(1)  # what docs/access.md promises
    assert client.get("api/v1/dispatches").status in (401, 403)
    assert other.get("api/v1/dispatches").status == 200


def test_the_table_has_every_route_of_the_app() -> None:
    # tests/docs/test_reference.py compares these lines with the app itself.
    reference = (REPOSITORY / "docs" / "reference.md").read_text()
    _, _, ours = reference.partition("\nBelow `/mlops` of Airflow's API server")
    ours, _, _ = ours.partition("\nOf `mlops serve`")
    registered = re.findall(r"^\| `([A-Z]+ /[^`]*)` \|", ours, re.MULTILINE)
    assert sorted(registered) == sorted(action.request for action in OURS)


def test_the_documented_table_is_the_one_that_is_tested() -> None:
    documented = (REPOSITORY / "docs" / "access.md").read_text().splitlines()
    lines = [line for line in documented if line.startswith("| ") and line.count("|") == len(WHO) + 3]
    head = [f"| Action | Request | {' | '.join(WHO)} |", f"| --- | --- |{' :---: |' * len(WHO)}"]
    assert lines == [*head, *(action.line for action in ACTIONS)]
