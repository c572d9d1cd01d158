"""Dispatches in a real browser: inside of Airflow's own pages, and on its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from mlops_plugin.pipeline.dispatch import dispatch_id
from support.airflow_process import RunningAirflow, running_airflow
from support.chromium import new_context
from support.servers import Server
from support.workshop import Workshop
from web.conftest import signed_in, without_errors

pytestmark = [pytest.mark.airflow, pytest.mark.slow]


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, postgres: Server) -> Iterator[RunningAirflow]:
    workshop = Workshop(tmp_path_factory.mktemp("dispatches"))
    workshop.metadata = postgres.new_database()
    with workshop.ready(), running_airflow(workshop, roles=("Admin",)) as airflow:
        airflow.wait(lambda: "churn" in airflow.api.dag_ids(), "the DAG of the model")
        yield airflow


@pytest.fixture(scope="module")
def run_id(airflow: RunningAirflow) -> str:
    """A DAG run that has succeeded."""
    run_id = airflow.trigger("churn")
    assert airflow.wait_for_run("churn", run_id) == "success"
    return run_id


@pytest.fixture
def page(airflow: RunningAirflow, browser: Browser) -> Iterator[Page]:
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


def test_run_again_from_the_tab_of_a_run(airflow: RunningAirflow, page: Page, run_id: str) -> None:
    page.goto(f"/dags/churn/runs/{quote(run_id)}/plugin/mlops-dispatch-of-run")
    tab = page.frame_locator("iframe")
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


def test_links_open_in_airflow_itself(page: Page, run_id: str) -> None:
    page.goto("/dags/churn/plugin/mlops-dispatches-of-model")
    tab = page.frame_locator("iframe")
    expect(tab.get_by_role("heading", name="Dispatches of churn")).to_be_visible()
    tab.get_by_role("link", name="Run", exact=True).first.click()
    expect(page).to_have_url(re.compile(rf"/dags/churn/runs/{re.escape(quote(run_id, safe=''))}"))


def test_the_filter_takes_and_shows_the_users_own_time(page: Page, run_id: str) -> None:
    _open(page, "dispatches")
    expect(page.locator("label[for=since]")).to_have_text("From")
    page.fill("#since", "2026-01-01T09:00")
    page.select_option("#model", "churn")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**/dispatches?**")
    _wait_until_shown(page)
    assert "since=2026-01-01T00%3A00%3A00.000Z" in page.url
    assert "state=" not in page.url
    assert page.input_value("#since") == "2026-01-01T09:00"
    # as Airflow's own pages keep the choice in the menu of the user
    page.evaluate("""localStorage.setItem("timezone", '"America/New_York"')""")
    page.reload()
    _wait_until_shown(page)
    assert page.input_value("#since") == "2025-12-31T19:00"
    page.fill("#since", "2026-01-01T00:00")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**/dispatches?**since=2026-01-01T05%3A00%3A00.000Z**")


def test_pages_are_no_wider_than_a_phone(page: Page, run_id: str) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    for path in ("dispatches", "dispatches?model=churn", f"dispatches/{dispatch_id('churn', run_id)}"):
        _open(page, path)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path


def test_plots_have_another_colour_in_the_dark(page: Page, run_id: str) -> None:
    colours = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        _open(page, f"dispatches/{dispatch_id('churn', run_id)}")
        colours.append(
            page.locator(".chart rect.series-0").first.evaluate("bar => getComputedStyle(bar).fill")
        )
    assert colours[0] != colours[1]


def test_list_can_be_filtered_without_scripts(
    airflow: RunningAirflow, browser: Browser, page: Page, run_id: str
) -> None:
    context = new_context(browser, java_script_enabled=False, base_url=airflow.api.url)
    context.add_cookies(page.context.cookies())  # type: ignore[arg-type]
    plain = context.new_page()
    plain.goto("/mlops/dispatches")
    plain.select_option("#state", "failed")
    plain.get_by_role("button", name="Show").click()
    expect(plain.get_by_text("No dispatch matches the filter.")).to_be_visible()
    plain.get_by_role("link", name="Reset").click()
    expect(plain.locator("#list tbody tr").first).to_contain_text("churn")
    context.close()


def test_a_failed_run_goes_on_from_the_step_that_failed(
    airflow: RunningAirflow, page: Page, run_id: str
) -> None:
    closed = (
        "CREATE TRIGGER closed BEFORE INSERT ON churn_predictions_rows"
        " BEGIN SELECT RAISE(ABORT, 'closed'); END"
    )
    airflow.workshop.in_sink(closed)
    failed = airflow.trigger("churn")
    assert airflow.wait_for_run("churn", failed) == "failed"
    airflow.workshop.in_sink("DROP TRIGGER closed")
    _open(page, f"dispatches/{dispatch_id('churn', failed)}")
    page.get_by_role("button", name="Run again", exact=True).click()
    page.get_by_role("button", name="Only from persist on").click()
    expect(page.get_by_role("status")).to_contain_text("Airflow is running it again")
    assert airflow.wait_for_run("churn", failed) == "success"
    events = airflow.workshop.events(dispatch_id("churn", failed))
    started = [event.step for event in events if event.kind == "started" and event.step]
    assert started == ["collect", "log", "infer", "persist", "persist"]
