"""An Airflow whose views have something of everything to show, and a person who visits them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Error, Frame, Page, Request, Response, expect

from mlops_plugin.errors import MlopsError
from mlops_plugin.events.health.probes import Findings, ProbeHistory, ProbeRecord, ProbeState
from mlops_plugin.events.migrating import upgrade
from mlops_plugin.pipeline.dispatch import dispatch_id
from support.airflow_process import SAME_DAGS, RunningAirflow, running_airflow
from support.chromium import new_context
from support.event_stories import new_identity
from support.servers import Server, free_port
from support.workshop import Workshop

RUN = "manual__2026-01-01T00:00:00+00:00"


# What has moved since the page began to load, without what somebody did, as web.dev/cls counts it.
MOVED = """() => new Promise((done) => {
  new PerformanceObserver((seen) => done(seen.getEntries()
    .filter((entry) => !entry.hadRecentInput).reduce((sum, { value }) => sum + value, 0)
  )).observe({ type: "layout-shift", buffered: true });
  setTimeout(() => done(0), 30);
})"""


@dataclass(frozen=True)
class Scene:
    """An Airflow whose views have something of everything to show."""

    airflow: RunningAirflow
    failed: str
    succeeded: str


@contextlib.contextmanager
def running_scene(folder: Path, postgres: Server) -> Iterator[Scene]:
    """The Airflow, as long as it is needed."""
    workshop = Workshop(folder)
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
        retries=2,
        source={"query": "SELECT id, a, b, c, 'stays' AS truth FROM customers ORDER BY id"},
        showroom={"title": "Churn", "truth": "truth", "image": {"width": 3, "height": 1}},
    )
    with workshop.entered():
        failed, succeeded = _past(workshop)
        with running_airflow(
            workshop, SAME_DAGS, components=["api-server", "dag-processor"], roles=("Admin", "Viewer")
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
        store.step_failed(running.dispatch_id, "collect", 1, error="no route to host", is_final=False)
        store.step_started(running.dispatch_id, "collect", 2)
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
    moved: float = 0.0  # how much the page shifted while it was loaded
    is_excused: bool = False

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

    def excuse(self) -> None:
        """What went wrong was the point; a page that refreshes goes on with it until it is closed."""
        self.is_excused = True

    def go(self, path: str) -> Page:
        """One of our pages on its own."""
        self.page.goto(f"/mlops/{path}")
        self.page.wait_for_load_state("networkidle")
        self.moved = self.page.evaluate(MOVED)
        return self.page

    def inside(self, path: str, text: str) -> Frame:
        """One of our pages in its place in Airflow's; shown once it says `text`."""
        self.page.goto(path)
        place = self.page.wait_for_selector("iframe")
        frame = place.content_frame() if place else None
        assert frame is not None
        expect(frame.get_by_role("heading", name=text).first).to_be_visible()
        return frame


def fill_in(page: Page | Frame) -> None:
    """Sign in by Airflow's own form."""
    page.wait_for_url("**/auth/login/**")
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", "admin")
    page.locator("input[type=submit]").click()


def signed_in_session(scene: Scene, browser: Browser, folder: Path) -> Path:
    """What the browser keeps after a sign-in through Airflow's own form."""
    context = new_context(browser, base_url=scene.airflow.api.url)
    page = context.new_page()
    page.goto("/")
    fill_in(page)
    expect(page.get_by_role("link", name="Dags").first).to_be_visible()
    kept = folder / "session.json"
    context.storage_state(path=kept)
    context.close()
    return kept


def violations(page: Page | Frame) -> list[str]:
    """What axe-core finds on a page: rule, place, and why."""
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:200]}: {node['failureSummary']}"
        for rule in found
        for node in rule["nodes"]
    ]
