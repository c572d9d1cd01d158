"""The Monitor in a real browser, inside of Airflow's own page."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Frame, Page, expect

from support.airflow_process import RunningAirflow, running_airflow
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
    workshop = Workshop(tmp_path_factory.mktemp("monitor"))
    workshop.metadata = postgres.new_database()
    workshop.sections["monitor"] = {
        "refresh": "1s",
        "hosts": [{"name": "Feature service", "host": "127.0.0.1", "port": port}],
        "databases": [{"connection": "source", "table": "customers"}],
    }
    workshop.write()
    with workshop.ready(), running_airflow(workshop, roles=("Admin", "Viewer")) as airflow:
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
