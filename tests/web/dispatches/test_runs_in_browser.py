"""The Monitor and Dispatches in a real browser, of an Airflow that runs its models."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Frame, Page, expect

from mlops_plugin.pipeline.dispatch import dispatch_id
from support.airflow_process import SAME_DAGS, RunningAirflow, running_airflow
from support.chromium import new_context
from support.servers import Server, free_port
from support.workshop import Workshop
from web.conftest import signed_in, without_errors

pytestmark = [pytest.mark.airflow, pytest.mark.slow]


@pytest.fixture(scope="module")
def port() -> int:
    """Where the watched host may listen."""
    return free_port()


@pytest.fixture(scope="module")
def airflow(
    tmp_path_factory: pytest.TempPathFactory, postgres: Server, port: int
) -> Iterator[RunningAirflow]:
    workshop = Workshop(tmp_path_factory.mktemp("runs"))
    workshop.metadata = postgres.new_database()
    workshop.sections["monitor"] = {
        "refresh": "1s",
        "hosts": [{"name": "Feature service", "host": "127.0.0.1", "port": port}],
        "databases": [{"connection": "source", "table": "customers"}],
    }
    workshop.write()
    with workshop.ready(), running_airflow(workshop, SAME_DAGS, roles=("Admin", "Viewer")) as airflow:
        airflow.wait(lambda: "churn" in airflow.api.dag_ids(), "the DAG of the model")
        yield airflow


@pytest.fixture
def page(airflow: RunningAirflow, browser: Browser) -> Iterator[Page]:
    """A page of an administrator."""
    with signed_in(airflow, browser, "admin") as page, without_errors(page):
        yield page


def inside(page: Page) -> Frame:
    """The Monitor in its place in Airflow."""
    page.goto("/plugin/mlops-monitor")
    place = page.wait_for_selector("iframe")
    assert place is not None
    frame = place.content_frame()
    assert frame is not None
    frame.wait_for_selector("#as-of")
    return frame


def test_a_host_turns_red_and_green_on_its_own_while_focus_stays(page: Page, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        monitor = inside(page)
        row = monitor.get_by_role("row", name=re.compile("Feature service"))
        expect(row.locator(".badge")).to_have_text("up")
        monitor.get_by_role("switch", name="churn is active").focus()
    expect(row.locator(".badge")).to_have_text("down")
    expect(row.get_by_text("refused")).to_be_visible()
    with socket.create_server(("127.0.0.1", port)):
        expect(row.locator(".badge")).to_have_text("up")
    expect(monitor.get_by_role("switch", name="churn is active")).to_be_focused()
    expect(row.locator(".age")).to_have_text(re.compile(r"^\d+ s ago$"))


def test_a_model_is_resumed_dispatched_and_paused(page: Page, airflow: RunningAirflow) -> None:
    airflow.call("PATCH", "/dags/churn", {"is_paused": True})  # whatever tests before it have done
    monitor = inside(page)
    switch = monitor.get_by_role("switch", name="churn is active")
    expect(switch).to_have_attribute("aria-checked", "false")
    switch.click()
    expect(monitor.get_by_text("churn is active again.")).to_be_visible()  # for ten seconds
    expect(switch).to_have_attribute("aria-checked", "true")
    assert airflow.call("GET", "/dags/churn")["is_paused"] is False
    monitor.get_by_role("button", name="Dispatch churn now").click()
    expect(monitor.get_by_text("churn is being dispatched.")).to_be_visible()
    row = monitor.get_by_role("row", name=re.compile("churn"))
    expect(row.get_by_text("succeeded", exact=True)).to_be_visible()
    expect(monitor.get_by_text("churn is being dispatched.")).to_be_hidden()
    switch.press("Space")
    expect(switch).to_have_attribute("aria-checked", "false")
    assert airflow.call("GET", "/dags/churn")["is_paused"] is True


def test_search_as_you_type_keeps_focus_and_stands_in_the_address(
    page: Page, airflow: RunningAirflow
) -> None:
    page.goto(f"{airflow.api.url}/mlops/monitor")
    page.get_by_label("Search models").press_sequentially("nothing")
    expect(page.get_by_text("No model matches.")).to_be_visible()
    expect(page.get_by_label("Search models")).to_be_focused()
    expect(page).to_have_url(re.compile(r"/mlops/monitor\?search=nothing$"))
    page.get_by_label("Search models").fill("CHU")
    expect(page.get_by_role("switch", name="churn is active")).to_be_visible()


def test_what_is_not_for_a_viewer_is_disabled_and_says_why(airflow: RunningAirflow, browser: Browser) -> None:
    with signed_in(airflow, browser, "viewer") as page:
        monitor = inside(page)
        for control in (
            monitor.get_by_role("switch", name="churn is active"),
            monitor.get_by_role("button", name="Dispatch churn now"),
        ):
            expect(control).to_be_disabled()
            expect(control).to_have_accessible_description(re.compile("Your role"))


def test_a_lost_session_is_said(airflow: RunningAirflow, browser: Browser) -> None:
    with signed_in(airflow, browser, "admin") as page:
        monitor = inside(page)
        page.context.clear_cookies()
        expect(monitor.locator("#lost")).to_have_text(re.compile("session has ended"))


def test_a_lost_server_is_said_until_it_is_back(airflow: RunningAirflow, browser: Browser) -> None:
    with signed_in(airflow, browser, "admin") as page:
        monitor = inside(page)
        page.context.set_offline(True)
        expect(monitor.locator("#lost")).to_have_text(re.compile("cannot be reached"))
        page.context.set_offline(False)
        expect(monitor.locator("#lost")).to_be_hidden()


def test_a_narrow_page_does_not_scroll_sideways(airflow: RunningAirflow, page: Page) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    for path in ("monitor", "monitor/history?target=event%20store"):
        page.goto(f"{airflow.api.url}/mlops/{path}")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 400, path


def test_links_lead_to_the_history_and_to_airflow(page: Page) -> None:
    monitor = inside(page)
    monitor.get_by_role("link", name="History of Event store").click()
    monitor.wait_for_selector("h1:has-text('Event store')")
    expect(monitor.get_by_role("heading", name="Last 30 days")).to_be_visible()
    monitor.get_by_role("link", name="Monitor").click()
    monitor.get_by_role("link", name="churn", exact=True).click()
    page.wait_for_url(re.compile(r"/dags/churn"))


@pytest.fixture(scope="module")
def run_id(airflow: RunningAirflow) -> str:
    """A DAG run that has succeeded."""
    run_id = airflow.trigger("churn")
    assert airflow.wait_for_run("churn", run_id) == "success"
    return run_id


@pytest.fixture
def in_tokyo(airflow: RunningAirflow, browser: Browser) -> Iterator[Page]:
    """A page of an administrator in Tokyo."""
    with signed_in(airflow, browser, "admin", timezone_id="Asia/Tokyo") as page, without_errors(page):
        yield page


def _open(page: Page, path: str) -> None:
    """A page of ours, with its scripts at work; the first one in a zone is loaded twice, hidden at first."""
    page.goto(f"/mlops/{path}")
    _wait_until_shown(page)


def _wait_until_shown(page: Page) -> None:
    page.wait_for_function(
        "document.readyState === 'complete' && document.documentElement.style.visibility !== 'hidden'"
    )


def test_run_again_from_the_tab_of_a_run(airflow: RunningAirflow, in_tokyo: Page, run_id: str) -> None:
    in_tokyo.goto(f"/dags/churn/runs/{quote(run_id)}/plugin/mlops-dispatch-of-run")
    tab = in_tokyo.frame_locator("iframe")
    expect(tab.locator("#story .badge").first).to_have_text("succeeded")
    expect(tab.get_by_text("5 of its 5 rows in churn_predictions")).to_be_visible()

    tab.get_by_role("button", name="Run again", exact=True).click()
    tab.get_by_role("button", name="Cancel").click()
    assert len(airflow.workshop.events(dispatch_id("churn", run_id))) == 11
    tab.get_by_role("button", name="Run again", exact=True).click()
    tab.get_by_role("button", name="Yes, run again").click()
    expect(tab.get_by_role("status")).to_contain_text("Airflow is running it again")

    expect(tab.get_by_text("All 8 tries")).to_be_visible()  # without a reload
    expect(tab.locator("#story .badge").first).to_have_text("succeeded")


def test_links_open_in_airflow_itself(in_tokyo: Page, run_id: str) -> None:
    in_tokyo.goto("/dags/churn/plugin/mlops-dispatches-of-model")
    tab = in_tokyo.frame_locator("iframe")
    expect(tab.get_by_role("heading", name="Dispatches of churn")).to_be_visible()
    tab.get_by_role("link", name="Run", exact=True).first.click()
    expect(in_tokyo).to_have_url(re.compile(rf"/dags/churn/runs/{re.escape(quote(run_id, safe=''))}"))


def test_the_filter_takes_and_shows_the_users_own_time(in_tokyo: Page, run_id: str) -> None:
    _open(in_tokyo, "dispatches")
    expect(in_tokyo.locator("label[for=since]")).to_have_text("From")
    in_tokyo.fill("#since", "2026-01-01T09:00")
    in_tokyo.select_option("#model", "churn")
    in_tokyo.get_by_role("button", name="Show").click()
    in_tokyo.wait_for_url("**/dispatches?**")
    _wait_until_shown(in_tokyo)
    assert "since=2026-01-01T00%3A00%3A00.000Z" in in_tokyo.url
    assert "state=" not in in_tokyo.url
    assert in_tokyo.input_value("#since") == "2026-01-01T09:00"
    # as Airflow's own pages keep the choice in the menu of the user
    in_tokyo.evaluate("""localStorage.setItem("timezone", '"America/New_York"')""")
    in_tokyo.reload()
    _wait_until_shown(in_tokyo)
    assert in_tokyo.input_value("#since") == "2025-12-31T19:00"
    in_tokyo.fill("#since", "2026-01-01T00:00")
    in_tokyo.get_by_role("button", name="Show").click()
    in_tokyo.wait_for_url("**/dispatches?**since=2026-01-01T05%3A00%3A00.000Z**")


def test_pages_are_no_wider_than_a_phone(in_tokyo: Page, run_id: str) -> None:
    in_tokyo.set_viewport_size({"width": 400, "height": 800})
    for path in ("dispatches", "dispatches?model=churn", f"dispatches/{dispatch_id('churn', run_id)}"):
        _open(in_tokyo, path)
        in_tokyo.wait_for_load_state("networkidle")
        assert in_tokyo.evaluate("document.documentElement.scrollWidth <= innerWidth"), path


def test_plots_have_another_colour_in_the_dark(in_tokyo: Page, run_id: str) -> None:
    colours = []
    for scheme in ("light", "dark"):
        in_tokyo.emulate_media(color_scheme=scheme)
        _open(in_tokyo, f"dispatches/{dispatch_id('churn', run_id)}")
        colours.append(
            in_tokyo.locator(".chart rect.series-0").first.evaluate("bar => getComputedStyle(bar).fill")
        )
    assert colours[0] != colours[1]


def test_list_can_be_filtered_without_scripts(
    airflow: RunningAirflow, browser: Browser, in_tokyo: Page, run_id: str
) -> None:
    context = new_context(browser, java_script_enabled=False, base_url=airflow.api.url)
    context.add_cookies(in_tokyo.context.cookies())  # type: ignore[arg-type]
    plain = context.new_page()
    plain.goto("/mlops/dispatches")
    plain.select_option("#state", "failed")
    plain.get_by_role("button", name="Show").click()
    expect(plain.get_by_text("No dispatch matches the filter.")).to_be_visible()
    plain.get_by_role("link", name="Reset").click()
    expect(plain.locator("#list tbody tr").first).to_contain_text("churn")
    context.close()


def test_a_failed_run_goes_on_from_the_step_that_failed(
    airflow: RunningAirflow, in_tokyo: Page, run_id: str
) -> None:
    closed = (
        "CREATE TRIGGER closed BEFORE INSERT ON churn_predictions_rows"
        " BEGIN SELECT RAISE(ABORT, 'closed'); END"
    )
    airflow.workshop.in_sink(closed)
    failed = airflow.trigger("churn")
    assert airflow.wait_for_run("churn", failed) == "failed"
    airflow.workshop.in_sink("DROP TRIGGER closed")
    _open(in_tokyo, f"dispatches/{dispatch_id('churn', failed)}")
    in_tokyo.get_by_role("button", name="Run again", exact=True).click()
    in_tokyo.get_by_role("button", name="Only from persist on").click()
    expect(in_tokyo.get_by_role("status")).to_contain_text("Airflow is running it again")
    assert airflow.wait_for_run("churn", failed) == "success"
    events = airflow.workshop.events(dispatch_id("churn", failed))
    started = [event.step for event in events if event.kind == "started" and event.step]
    assert started == ["collect", "log", "infer", "persist", "persist"]
