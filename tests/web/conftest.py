"""A real API server with the views, one for each file of tests."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Route
from starlette.requests import Request

from mlops_plugin.web.pages import Pages
from support.airflow_process import REQUEST_TIMEOUT_S, RunningAirflow, running_airflow
from support.chromium import new_context, open_chromium
from support.servers import Server
from support.workshop import Workshop
from web.scene import Scene, Visit, running_scene, signed_in_session

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
    """Calls the views of a running Airflow, as a signed-in user or as nobody.

    A path is one of our own (`showroom`), or with a leading slash one of Airflow's (`/api/v2/dags`).
    """

    def __init__(self, airflow: RunningAirflow, token: str | None, *, by_cookie: bool = False) -> None:
        self.root = f"{airflow.api.url}/mlops/"
        self.token = token or ""
        self._who = {}
        if token and by_cookie:  # as a page of Airflow itself sends it
            self._who = {"cookie": f"_token={token}", "sec-fetch-site": "same-origin"}
        elif token:
            self._who = {"authorization": f"Bearer {token}"}

    def send(self, method: str, path: str, data: bytes | None, content_type: str, **headers: str) -> Answer:
        """Send a request; `headers` with underscores for hyphens, e.g. accept="text/html"; "" sends none."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        together = {"content-type": content_type, **self._who, **given}
        request = urllib.request.Request(  # noqa: S310 - the scheme is ours
            urljoin(self.root, path),
            method=method,
            data=data,
            headers={name: value for name, value in together.items() if value},
        )
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_S) as answer:  # noqa: S310
                return Answer(answer.status, answer.headers, answer.read().decode())
        except urllib.error.HTTPError as refused:
            return Answer(refused.code, refused.headers, refused.read().decode())

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """A request with a body of JSON, or none."""
        data = None if body is None else json.dumps(body).encode()
        return self.send(method, path, data, "application/json", **headers)

    def get(self, path: str, **headers: str) -> Answer:
        return self.call("GET", path, **headers)

    def page(self, path: str) -> Answer:
        """A page as a browser asks for it."""
        return self.get(path, accept="text/html")

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.call("POST", path, body, **headers)

    def submit(self, path: str, fields: Sequence[tuple[str, str]], accept: str = "text/html") -> Answer:
        """Send a form as a browser does."""
        data = urlencode(fields).encode()
        return self.send("POST", path, data, "application/x-www-form-urlencoded", accept=accept)


@pytest.fixture(scope="module")
def web_airflow(tmp_path_factory: pytest.TempPathFactory, postgres: Server) -> Iterator[RunningAirflow]:
    """Airflow's API server alone over a workshop with one model, `churn`, and a user of each role."""
    workshop = Workshop(tmp_path_factory.mktemp("web"))
    workshop.metadata = postgres.new_database()
    with workshop.ready():
        pass  # tests that look into it themselves enter it again
    with running_airflow(workshop, components=["api-server"], roles=ROLES) as airflow:
        yield airflow


@contextlib.contextmanager
def signed_in(airflow: RunningAirflow, browser: Browser, user: str, **settings: Any) -> Iterator[Page]:
    """A page of a user."""
    answer = airflow.api.call("POST", "/auth/token", {"username": user, "password": user})
    context = new_context(browser, base_url=airflow.api.url, **settings)
    context.add_cookies([{"name": "_token", "value": answer["access_token"], "url": airflow.api.url}])
    yield context.new_page()
    context.close()


def rendered(template: str, **values: Any) -> str:
    """A page of ours, made without a server, for `drawn_page`."""
    scope = {"type": "http", "path": "/page", "root_path": "", "headers": [], "query_string": b""}
    return bytes(Pages().render(Request(scope), template, **values).body).decode()


@contextlib.contextmanager
def drawn_page(browser: Browser, html: str, *, width: int = 1200, is_still: bool = False) -> Iterator[Page]:
    """A page that was drawn without a server, with its styles and scripts; its `shifts` are layout shifts.

    `is_still`: its clock is stopped from the beginning.
    """

    def answer(route: Route) -> None:
        path = urlsplit(route.request.url).path
        if route.request.resource_type == "document":
            route.fulfill(body=html, content_type="text/html; charset=utf-8")
        elif (name := path.removeprefix("/mlops/static/")) in Pages().assets:
            route.fulfill(path=Pages().assets[name])
        else:
            route.fulfill(status=404)

    context = new_context(browser, viewport={"width": width, "height": 800})
    page = context.new_page()
    page.add_init_script(
        "window.shifts = [];"
        "new PerformanceObserver((seen) => shifts.push(...seen.getEntries().map((entry) => entry.value)))"
        ".observe({ type: 'layout-shift', buffered: true });"
    )
    page.route("**/*", answer)
    if is_still:
        stop_clock(page)
    page.goto("http://pages.test/mlops/page")
    page.wait_for_load_state("networkidle")
    yield page
    context.close()


def stop_clock(page: Page) -> None:
    """From here on nothing comes that the page has put off until later, e.g. to take a word away again.

    `page.clock.run_for` lets time pass.
    """
    page.clock.install(time=0)
    page.clock.pause_at(1000)


@contextlib.contextmanager
def without_errors(page: Page) -> Iterator[Page]:
    """The page; an error of our scripts inside fails the test."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))

    def listen(said: ConsoleMessage) -> None:
        if said.type == "error" and "/mlops/" in str(said.location):
            errors.append(said.text)

    page.on("console", listen)
    yield page
    assert errors == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    with open_chromium() as browser:
        yield browser


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


def sign_in(airflow: RunningAirflow, name: str, *, by_cookie: bool = False) -> Client:
    """A client of the user whose password is its name."""
    answer = airflow.api.call("POST", "/auth/token", {"username": name, "password": name})
    return Client(airflow, str(answer["access_token"]), by_cookie=by_cookie)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, postgres: Server) -> Iterator[Scene]:
    """An Airflow whose views have something of everything to show."""
    with running_scene(tmp_path_factory.mktemp("pages"), postgres) as scene:
        yield scene


@pytest.fixture(scope="module")
def session(scene: Scene, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the browser keeps after a sign-in through Airflow's own form."""
    return signed_in_session(scene, browser, tmp_path_factory.mktemp("browser"))


@pytest.fixture
def visit(scene: Scene, browser: Browser, session: Path) -> Iterator[Visit]:
    """A signed-in person's browser; an error of our scripts or a request that fails, fails the test."""
    context = new_context(browser, base_url=scene.airflow.api.url, storage_state=session)
    visit = Visit(scene, context.new_page())
    yield visit
    context.close()
    assert visit.is_excused or visit.wrong == []
