"""Every page of the views in a real browser: accessible, on a phone, and after the session has ended."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import jwt
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Error, Frame, Page, Request, Response, expect

from mlops_plugin.errors import MlopsError
from mlops_plugin.events.health.probes import Findings, ProbeHistory, ProbeRecord, ProbeState
from mlops_plugin.events.migrating import upgrade
from mlops_plugin.pipeline.dispatch import dispatch_id
from support.airflow_process import RunningAirflow, airflow_environment, running_airflow
from support.event_stories import new_identity
from support.servers import Server, free_port
from support.workshop import Workshop
from web.languages.raw_texts import of_page

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

SOON_MS = 120_000
RUN = "manual__2026-01-01T00:00:00+00:00"
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@dataclass(frozen=True)
class Scene:
    """An Airflow whose views have something of everything to show."""

    airflow: RunningAirflow
    failed: str
    succeeded: str


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, postgres: Server) -> Iterator[Scene]:
    workshop = Workshop(tmp_path_factory.mktemp("pages"))
    workshop.metadata = postgres.new_database()
    workshop.sections["monitor"] = {
        "schedule": None,
        "hosts": [
            {"name": "Nobody there", "host": "127.0.0.1", "port": free_port()},
            {"name": "No such name", "host": "nowhere.invalid", "port": 1},
        ],
        "databases": [{"connection": "source", "table": "customers"}, {"connection": "absent"}],
    }
    workshop.models["broken"] = {"key": ["id"]}
    workshop.add_model(
        "churn",
        description="Who leaves, who stays?",
        tags=["demo"],
        source={"query": "SELECT id, a, b, c, 'stays' AS truth FROM customers ORDER BY id"},
        showroom={"title": "Churn", "truth": "truth", "image": {"width": 3, "height": 1}},
    )
    with workshop.entered():
        failed, succeeded = _past(workshop)
        with running_airflow(
            workshop, components=["api-server", "dag-processor"], roles=("Admin", "Viewer")
        ) as airflow:
            airflow.wait(lambda: "churn" in airflow.api.dag_ids(), "the DAG of the model")
            airflow.trigger("churn", dag_run_id=RUN)
            yield Scene(airflow, failed, succeeded)


def _past(workshop: Workshop) -> tuple[str, str]:
    """Dispatches of every state, and probes; returns one that failed and one that succeeded."""
    with workshop.deployment.event_store() as store:
        upgrade(store.address)
        workshop.run(workshop.dispatch())
        source = workshop.models["churn"]["source"]
        workshop.add_model("churn", **{**workshop.models["churn"], "source": {"query": "SELECT * FROM none"}})
        failed = workshop.dispatch()
        with contextlib.suppress(MlopsError):
            workshop.run(failed)
        workshop.add_model("churn", **{**workshop.models["churn"], "source": source})
        succeeded = workshop.dispatch()
        workshop.run(succeeded)
        running = new_identity("churn", dag_id="churn", run_id=RUN)
        running = type(running)(**{**vars(running), "dispatch_id": dispatch_id("churn", RUN)})
        store.begin(running)
        store.step_started(running.dispatch_id, "collect", 1)
        probes = ProbeHistory(store)
        now = datetime.now(UTC)
        rounds: tuple[tuple[int, ProbeState], ...] = ((90, "up"), (60, "down"), (30, "up"))
        for minutes, state in rounds:
            at = now - timedelta(minutes=minutes)
            seen = ProbeRecord("event store", at, state, 0.01, None if state == "up" else "refused")
            probes.record(Findings([seen]), keep_probes=timedelta(days=2), keep=timedelta(days=90), now=at)
    return failed.id, succeeded.id


@dataclass
class Visit:
    """A browser's page with whatever went wrong on it."""

    scene: Scene
    page: Page
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("pageerror", self._stumble)
        self.page.on("console", self._hear)
        self.page.on("requestfailed", self._lose)
        self.page.on("response", self._see)

    def _stumble(self, error: Error) -> None:
        if "/mlops/" in (error.stack or ""):
            self.wrong.append(f"error: {error}")

    def _hear(self, said: ConsoleMessage) -> None:
        if said.type == "error" and "/mlops/" in str(said.location):
            self.wrong.append(f"said: {said.text}")

    def _lose(self, request: Request) -> None:
        # A page that is left ends what it was asking for.
        if "/mlops/" in request.url and request.failure != "net::ERR_ABORTED":
            self.wrong.append(f"failed: {request.url} {request.failure}")

    def _see(self, response: Response) -> None:
        if "/mlops/" in response.url and response.status >= 400:
            self.wrong.append(f"{response.status}: {response.url}")

    def go(self, path: str) -> Page:
        """One of our pages on its own."""
        self.page.goto(f"/mlops/{path}")
        self.page.wait_for_load_state("networkidle")
        return self.page

    def inside(self, path: str, text: str) -> Frame:
        """One of our pages in its place in Airflow's; shown once it says `text`."""
        self.page.goto(path)
        place = self.page.wait_for_selector("iframe", timeout=SOON_MS)
        frame = place.content_frame() if place else None
        assert frame is not None
        expect(frame.get_by_role("heading", name=text).first).to_be_visible(timeout=SOON_MS)
        return frame


@pytest.fixture(scope="module")
def session(scene: Scene, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the browser keeps after a sign-in through Airflow's own form."""
    context = browser.new_context(base_url=scene.airflow.api.url)
    page = context.new_page()
    page.goto("/")
    _fill_in(page)
    expect(page.get_by_role("link", name="Dags").first).to_be_visible(timeout=SOON_MS)
    kept = tmp_path_factory.mktemp("browser") / "session.json"
    context.storage_state(path=kept)
    context.close()
    return kept


def _fill_in(page: Page | Frame) -> None:
    page.wait_for_url("**/auth/login/**", timeout=SOON_MS)
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", "admin")
    page.locator("input[type=submit]").click()


@pytest.fixture
def visit(scene: Scene, browser: Browser, session: Path) -> Iterator[Visit]:
    """A signed-in person's browser; an error of our scripts or a request that fails, fails the test."""
    context = browser.new_context(base_url=scene.airflow.api.url, storage_state=session)
    context.set_default_timeout(SOON_MS)
    visit = Visit(scene, context.new_page())
    yield visit
    context.close()
    assert visit.wrong == []


def _run_a_case(visit: Visit) -> Page:
    page = visit.go("showroom/churn")
    page.get_by_role("checkbox", name="Choose case 2").check()
    page.get_by_role("checkbox", name="Choose case 3").check()
    page.get_by_role("button", name="Run the chosen cases").click()
    expect(page.locator("#result article")).to_have_count(2, timeout=SOON_MS)
    return _unfold(page)


def _ask_what_if(visit: Visit) -> Page:
    page = visit.go("showroom/churn/what-if?key=[3]")
    page.get_by_label("a", exact=True).fill("60")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#result .changes")).to_contain_text("60", timeout=SOON_MS)
    return page


def _ask_why(visit: Visit) -> Page:
    page = _run_a_case(visit)
    page.get_by_role("button", name="Why?").first.click()
    expect(page.get_by_role("heading", name="Why? id")).to_be_visible(timeout=SOON_MS)
    return page


def _fail_to_run(visit: Visit) -> Page:
    page = visit.go("showroom/churn")
    page.get_by_role("button", name="Run the chosen cases").click()
    expect(page.get_by_role("alert").filter(has_text="Choose at least one case")).to_be_visible()
    return page


def _watch(visit: Visit) -> Page:
    page = visit.go("monitor")
    expect(page.get_by_text("refused").first).to_be_visible(timeout=SOON_MS)
    expect(page.locator("[data-pending]")).to_have_count(0, timeout=SOON_MS)
    return page


def _show_shortcuts(visit: Visit) -> Page:
    page = visit.go("monitor")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    return page


def _open(path: str) -> Callable[[Visit], Page]:
    return lambda visit: _unfold(visit.go(path))


def _unfold(page: Page) -> Page:
    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    return page


PAGES: dict[str, Callable[[Visit], Page]] = {
    "showroom": _open("showroom"),
    "showroom, nothing found": _open("showroom?search=nothing like it"),
    "cases": _open("showroom/churn"),
    "cases, none found": _open("showroom/churn?search=77777"),
    "no case chosen": _fail_to_run,
    "results": _run_a_case,
    "what if": _ask_what_if,
    "why": _ask_why,
    "dispatches": _open("dispatches"),
    "dispatches, none": _open("dispatches?model=churn&state=succeeded&origin=backfill"),
    "dispatches, pages": _open("dispatches?limit=2"),
    "dispatches, sorted": _open("dispatches?sort=duration&descending=true&origin=all"),
    "dispatches of a model": _open("dispatches?model=churn"),
    "history": _open("dispatches?model=churn&tab=dag"),
    "dispatch that succeeded": lambda visit: _unfold(visit.go(f"dispatches/{visit.scene.succeeded}")),
    "dispatch that failed": lambda visit: _unfold(visit.go(f"dispatches/{visit.scene.failed}")),
    "dispatch that runs": _open(f"dispatches/of-run?dag_id=churn&run_id={quote(RUN)}"),
    "no dispatch yet": _open("dispatches/of-run?dag_id=churn&run_id=later"),
    "monitor": _watch,
    "monitor, grouped": _open("monitor?group=tag&sort=state"),
    "shortcuts": _show_shortcuts,
    "monitor, none found": _open("monitor?search=nothing like it"),
    "history of a target": _open("monitor/history?target=event store"),
    "history of a model": _open("monitor/history?target=model churn"),
}

# As Airflow shows them: path, and the heading that tells that it is there.
IN_AIRFLOW = {
    "showroom": ("/plugin/mlops-showroom", "Showroom"),
    "dispatches": ("/plugin/mlops-dispatches", "Dispatches"),
    "monitor": ("/plugin/mlops-monitor", "Monitor"),
    "tab of a DAG": ("/dags/churn/plugin/mlops-dispatches-of-model", "Dispatches of churn"),
    "tab of a run": (f"/dags/churn/runs/{quote(RUN)}/plugin/mlops-dispatch-of-run", "churn, "),
}


def violations(page: Page | Frame) -> list[str]:
    """What axe-core finds on a page: rule, place, and why."""
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:200]}: {node['failureSummary']}"
        for rule in found
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("name", PAGES)
def test_page_is_accessible_in_light_and_dark_and_fits_a_phone(visit: Visit, name: str) -> None:
    page = PAGES[name](visit)
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(
            "dark => document.documentElement.matches('.dark') === dark", arg=scheme == "dark"
        )
        assert violations(page) == [], scheme
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


@pytest.mark.parametrize("name", IN_AIRFLOW)
def test_view_in_airflow_is_accessible_in_light_and_dark(visit: Visit, name: str) -> None:
    frame = visit.inside(*IN_AIRFLOW[name])
    for scheme in SCHEMES:
        visit.page.emulate_media(color_scheme=scheme)
        frame.wait_for_function(
            "dark => document.documentElement.matches('.dark') === dark", arg=scheme == "dark"
        )
        assert violations(frame) == [], scheme


@pytest.mark.parametrize("path", ["showroom/nothing", "dispatches/gone", "monitor/history?target=nothing"])
def test_error_is_accessible(visit: Visit, path: str) -> None:
    page = visit.go(path)
    expect(page.get_by_role("heading", name="Something went wrong")).to_be_visible()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]  # type: ignore[index]
    assert len(visit.wrong) == 2  # the answer itself is one, as the browser sees it
    visit.wrong.clear()
    view = path.partition("/")[0].capitalize()
    page.get_by_role("link", name=view, exact=True).click()
    expect(page.get_by_role("heading", level=1, name=view)).to_be_visible()


End = Callable[[Visit], None]


def _sign_out(visit: Visit) -> None:
    visit.page.context.clear_cookies()


def _expire(visit: Visit) -> None:
    context = visit.page.context
    (cookie,) = (dict(cookie) for cookie in context.cookies() if cookie["name"] == "_token")
    current = str(cookie["value"])
    header = jwt.get_unverified_header(current)
    old = jwt.decode(current, options={"verify_signature": False})
    secret = airflow_environment(visit.scene.airflow.workshop, 1)["AIRFLOW__API_AUTH__JWT_SECRET"]
    token = jwt.encode({**old, "exp": 1}, secret, algorithm=header["alg"], headers=header)
    context.add_cookies([{"name": "_token", "value": token, "url": visit.scene.airflow.api.url}])


def test_run_after_the_session_says_so_and_leads_to_the_login_and_back(visit: Visit) -> None:
    page = visit.go("showroom/churn")
    page.get_by_role("checkbox", name="Choose case 2").check()
    _sign_out(visit)
    page.get_by_role("button", name="Run the chosen cases").click()
    said = page.locator("#result [role=alert]")
    expect(said).to_contain_text("Your session has ended", timeout=SOON_MS)
    expect(page.get_by_role("button", name="Run the chosen cases")).to_be_enabled()
    assert violations(page) == []
    said.get_by_role("button", name="Sign in").click()
    _fill_in(page)
    page.wait_for_url("**/mlops/showroom/churn", timeout=SOON_MS)
    expect(page.get_by_role("heading", name="Churn")).to_be_visible()
    visit.wrong.clear()  # the refusals were the point


@pytest.mark.parametrize("end", [_sign_out, _expire])
@pytest.mark.parametrize("path", ["showroom/churn", "dispatches?model=churn&state=running", "monitor"])
def test_page_that_refreshes_says_that_the_session_has_ended(visit: Visit, path: str, end: End) -> None:
    page = visit.go(path)
    end(visit)
    lost = page.locator("#lost")
    expect(lost).to_contain_text("Your session has ended", timeout=SOON_MS)
    expect(lost.get_by_role("button", name="Sign in")).to_be_visible()
    assert violations(page) == []
    visit.wrong.clear()


def test_dispatch_that_is_run_again_after_the_session_says_so(visit: Visit) -> None:
    page = visit.go(f"dispatches/of-run?dag_id=churn&run_id={quote(RUN)}")
    page.get_by_role("button", name="Run again", exact=True).click()
    _sign_out(visit)
    page.get_by_role("button", name="Yes, run again").click()
    said = page.locator("#again-notice")
    expect(said).to_contain_text("Your session has ended", timeout=SOON_MS)
    expect(said.get_by_role("button", name="Sign in")).to_be_visible()
    visit.wrong.clear()


def test_signed_out_page_is_accessible_and_leads_to_the_login_and_back(visit: Visit) -> None:
    _sign_out(visit)
    page = visit.go("dispatches?model=churn")
    assert violations(page) == []
    visit.wrong.clear()  # only that it is a 401
    page.get_by_role("link", name="Sign in").click()
    _fill_in(page)
    page.wait_for_url(re.compile(r"/mlops/dispatches\?model=churn$"), timeout=SOON_MS)
    expect(page.get_by_role("heading", name="Dispatches of churn")).to_be_visible()


def _airflow_notices_nothing(page: Page) -> None:
    """Airflow's own page would notice as well, some time, and lead to the login by itself."""
    page.route(re.compile(r"/ui/|/api/v2/(?!auth/)"), lambda route: route.abort())


def test_run_inside_of_airflow_after_the_session_leads_to_the_login_and_back(visit: Visit) -> None:
    frame = visit.inside("/plugin/mlops-showroom", "Showroom")
    frame.get_by_role("link", name="Churn", exact=True).click()
    frame.get_by_role("checkbox", name="Choose case 2").check()
    _airflow_notices_nothing(visit.page)
    _sign_out(visit)
    frame.get_by_role("button", name="Run the chosen cases").click()
    said = frame.locator("#result [role=alert]")
    expect(said).to_contain_text("Your session has ended", timeout=SOON_MS)
    said.get_by_role("button", name="Sign in").click()
    visit.page.unroute_all(behavior="ignoreErrors")
    _fill_in(visit.page)
    visit.page.wait_for_url("**/plugin/mlops-showroom**", timeout=SOON_MS)
    again = visit.page.frame_locator("iframe").get_by_role("heading", name="Churn")
    expect(again).to_be_visible(timeout=SOON_MS)
    visit.wrong.clear()  # the refusals were the point


def test_page_that_is_opened_inside_of_airflow_after_the_session_leads_to_the_login_and_back(
    visit: Visit,
) -> None:
    frame = visit.inside("/plugin/mlops-showroom", "Showroom")
    _airflow_notices_nothing(visit.page)
    _sign_out(visit)
    frame.get_by_role("link", name="Churn", exact=True).click()
    frame.get_by_role("link", name="Sign in").click()
    visit.page.unroute_all(behavior="ignoreErrors")
    _fill_in(frame)
    expect(frame.get_by_role("heading", name="Churn")).to_be_visible(timeout=SOON_MS)
    visit.wrong.clear()


CHOSEN = "i18nextLng"  # where Airflow's pages keep the language, in the browser's localStorage


def _choose(page: Page, language: str) -> None:
    page.evaluate(f"localStorage.setItem('{CHOSEN}', '{language}')")


def test_page_is_in_the_language_that_airflow_has_chosen_and_loaded_twice_only_once(visit: Visit) -> None:
    page = visit.go("monitor")
    loaded: list[str] = []
    page.on("request", lambda request: loaded.extend([request.url] * request.is_navigation_request()))
    for chosen, tag, count in (
        ("pt", "pt-BR", 2),
        ("pt", "pt-BR", 1),
        ("de", "en", 2),
        ("pt-BR", "pt-BR", 2),
    ):
        _choose(page, chosen)
        loaded.clear()
        visit.go("monitor")
        expect(page.locator("html")).to_have_attribute("lang", tag)
        assert len(loaded) == count
    assert violations(page) == []


def test_page_whose_cookie_is_taken_away_is_still_shown(visit: Visit) -> None:
    page = visit.go("monitor")
    _choose(page, "pt")
    page.add_init_script("Object.defineProperty(Document.prototype, 'cookie', { get: () => '', set() {} })")
    visit.go("monitor")
    expect(page.get_by_role("heading", name="Monitor")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_view_follows_when_another_language_is_chosen_in_airflow(visit: Visit) -> None:
    _choose(visit.go("monitor"), "pt")
    frame = visit.inside("/plugin/mlops-dispatches", "Despachos")
    expect(visit.page.locator("html")).to_have_attribute("lang", "pt")
    _choose(visit.page, "en")
    shown = visit.page.frame_locator("iframe")
    expect(shown.get_by_role("heading", name="Dispatches", exact=True)).to_be_visible(timeout=SOON_MS)
    assert frame.url.endswith("/mlops/dispatches")


def test_scripts_speak_the_language_of_the_page(visit: Visit) -> None:
    _choose(visit.go("monitor"), "pt")
    page = visit.go("showroom/churn")
    expect(page.locator("#chosen")).to_have_text("escolha um ou mais casos")
    page.get_by_role("checkbox", name="Escolher o caso 2").check()
    page.get_by_role("checkbox", name="Escolher o caso 3").check()
    expect(page.locator("#chosen")).to_have_text("2 escolhidos")
    page.get_by_role("button", name="Executar os casos escolhidos").click()
    expect(page.locator("#result article")).to_have_count(2, timeout=SOON_MS)
    expect(page.get_by_role("link", name="E se…").first).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Atalhos de teclado")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role(
        "button", name="Por quê?"
    ).first.click()  # a page that was posted, and is not loaded again
    expect(page.locator("html")).to_have_attribute("lang", "pt-BR")
    _choose(page, "en")
    visit.go("showroom")
    expect(page.get_by_role("button", name="Keyboard shortcuts")).to_be_visible()


# What the scene's pages say in both languages: names, states that are the same word, and texts of the log.
IN_BOTH = {
    *("Churn", "Churn · Showroom", "Event store", "Event store – Monitor", "Hosts", "IPv4:", "IPv6:", "Logs"),  # noqa: RUF001
    *("Monitor", "No such name", "Nobody there", "Who leaves, who stays?", "absent", "asset", "backfill"),
    *("broken", "churn", "churn,", "collect", "connection absent", "connection events", "demo", "· demo"),
    *("connection source, table customers", "event store", "id", "id 3", "infer", "leaves", "log", "manual"),
    *("nowhere.invalid:1", "ok", "persist", "predicted_at", "prediction", "probability_leaves", "truth"),
    *("probability_stays", "refused", "showroom", "source", "stays", "terminal"),
}
OF_THE_LOG = re.compile(
    r"^(config\.yaml:|connection '|there is no Airflow connection|/|curl |SELECT |Python 3\.|\{)"
    r"|^[0-9a-f-]{8,}$|service not known|name resolution$"
)


def test_no_page_in_portuguese_keeps_an_english_text(visit: Visit) -> None:
    root, calls = visit.scene.airflow.api.url, visit.page.context.request
    paths = [
        *("showroom", "showroom?search=nothing", "showroom/churn", "showroom/churn?search=77777"),
        *("showroom/churn/what-if?key=[3]", "showroom/none", "dispatches", "dispatches?limit=2"),
        *("dispatches?model=churn", "dispatches?model=churn&origin=backfill", "dispatches?model=none"),
        *("dispatches?sort=duration", "dispatches/none", "dispatches/of-run?dag_id=churn&run_id=later"),
        f"dispatches/{visit.scene.failed}",
        *(
            f"dispatches/{visit.scene.succeeded}{part}"
            for part in ("", "?part=predictions", "?part=rejected")
        ),
        *("monitor", "monitor?group=tag", "monitor?search=nothing", "monitor/history?target=none"),
        *("monitor/history?target=event store", "monitor/history?target=model churn"),
    ]
    forms: list[tuple[str, dict[str, str | float | bool]]] = [
        ("run", {"key": "[3]"}),
        ("run", {"key": "[3]", "was.a": "1", "set.a": "60"}),
        ("why", {"key": "[3]"}),
    ]
    said: dict[str, set[str]] = {}
    for language in ("en", "pt"):
        headers = {"Accept": "text/html", "Accept-Language": language, "Origin": root}
        answers = [calls.get(f"/mlops/{path}", headers=headers) for path in paths]
        answers += [
            calls.post(f"/mlops/showroom/churn/{name}", form=form, headers=headers) for name, form in forms
        ]
        said[language] = set().union(*(of_page(answer.text()) for answer in answers))
    kept = {text for text in said["en"] & said["pt"] - IN_BOTH if not OF_THE_LOG.search(text)}
    assert kept == set()
    assert len(said["pt"]) > 200
