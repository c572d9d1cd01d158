"""The Showroom in a real browser, inside of Airflow's own page."""

from __future__ import annotations

import csv
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, FrameLocator, Page, expect

from support.airflow_process import RunningAirflow
from web.conftest import signed_in, without_errors

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

UNTIL_COPIED = """async (text) => {
  const pause = () => new Promise((resume) => { setTimeout(resume, 50); });
  while (await navigator.clipboard.readText() !== text) await pause();
}"""


@pytest.fixture
def page(web_airflow: RunningAirflow, browser: Browser) -> Iterator[Page]:
    """A page of a user who may run the Showroom."""
    with signed_in(web_airflow, browser, "user") as page, without_errors(page):
        yield page


def _showroom(page: Page) -> FrameLocator:
    """The page of the model inside of Airflow; a form is sent as it is before its scripts are at work."""
    page.goto("/plugin/mlops-showroom")
    frame = page.frame_locator("iframe")
    frame.get_by_role("link", name="churn", exact=True).click()
    expect(frame.locator("#chosen")).to_have_text("choose one or more cases")
    return frame


def _wait_for_scripts(frame: FrameLocator) -> None:
    """Of the page that is in the frame now."""
    frame.owner.element_handle().content_frame().wait_for_load_state("domcontentloaded")  # type: ignore[union-attr]


def test_a_run_shows_its_steps_and_its_result(page: Page) -> None:
    frame = _showroom(page)
    frame.get_by_role("checkbox", name="Choose case 2").check()
    frame.get_by_role("checkbox", name="Choose case 4").check()
    expect(frame.locator("#chosen")).to_have_text("2 chosen")
    frame.get_by_role("button", name="Run the chosen cases").click()
    expect(frame.locator("#result article")).to_have_count(2)
    expect(frame.locator("#steps li[data-state=succeeded]")).to_have_count(4)
    expect(frame.locator("#state")).to_contain_text("model ready")
    with page.expect_download() as download:
        frame.get_by_role("link", name="Download CSV").click()
    with download.value.path().open(encoding="utf-8") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["2", "4"]


def test_cases_are_chosen_by_row_by_range_and_all_at_once(page: Page) -> None:
    page.goto("/mlops/showroom/churn")
    chosen, case = page.locator("#chosen"), page.get_by_role("checkbox", name="Choose case")
    page.get_by_role("cell", name="2", exact=True).first.click()
    expect(case.nth(1)).to_be_checked()
    page.get_by_role("row").nth(4).click(modifiers=["Shift"])
    expect(chosen).to_have_text("3 chosen")
    case.nth(2).uncheck()
    expect(chosen).to_have_text("2 chosen")
    page.get_by_role("checkbox", name="Choose all cases of this page").check()
    expect(chosen).to_have_text("5 chosen")
    page.set_viewport_size({"width": 700, "height": 320})
    expect(page.get_by_role("button", name="Run the chosen cases")).to_be_in_viewport()


def test_from_a_result_to_why_and_to_what_if(page: Page) -> None:
    frame = _showroom(page)
    frame.get_by_role("checkbox", name="Choose case 3").check()
    frame.get_by_role("button", name="Run the chosen cases").click()
    frame.get_by_role("button", name="Why?").click()
    expect(frame.get_by_role("heading", name="Why? id 3")).to_be_visible()
    expect(frame.locator("tbody tr")).to_have_count(3)
    link = frame.locator("#why-link").text_content()
    assert link
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    _wait_for_scripts(frame)
    frame.get_by_role("button", name="Copy the link to this page").click()
    page.evaluate(UNTIL_COPIED, link)
    page.go_back()
    # The result is there again.
    frame.get_by_role("link", name="What if").click()
    field, slider = frame.get_by_label("a", exact=True), frame.get_by_label("a, slider")
    as_it_is = field.input_value()
    _wait_for_scripts(frame)
    slider.press("End")
    expect(field).not_to_have_value(as_it_is)
    assert float(field.input_value()) > float(as_it_is)
    assert field.input_value() == slider.input_value()
    expect(frame.locator("#result .curve")).to_contain_text("over a")
    dispatch = frame.locator("#result [data-dispatch]").get_attribute("data-dispatch")
    field.fill("1e9")
    expect(frame.get_by_text("outside of the known range")).to_be_visible()
    frame.get_by_role("button", name="Reset").click()
    expect(field).to_have_value(as_it_is)
    field.fill("60")
    expect(frame.locator("#result .changes")).to_contain_text("60")
    expect(frame.locator("#result .prediction")).to_have_text("stays")
    frame.get_by_role("button", name="Run", exact=True).click()
    expect(frame.locator("#steps li[data-state=succeeded]")).to_have_count(4)
    # Changes that follow each other are one dispatch.
    assert frame.locator("#result [data-dispatch]").get_attribute("data-dispatch") == dispatch


def test_an_error_stands_on_the_page_and_the_next_run_works(page: Page) -> None:
    frame = _showroom(page)
    frame.get_by_role("button", name="Run the chosen cases").click()
    expect(frame.locator("#result [role=alert]")).to_contain_text("Choose at least one case")
    frame.get_by_role("checkbox", name="Choose case 1").check()
    frame.get_by_role("button", name="Run the chosen cases").click()
    expect(frame.locator("#result article")).to_have_count(1)


def test_a_narrow_page_scrolls_down_only(page: Page) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    for path in (
        "showroom",
        "showroom/churn",
        "showroom/churn/what-if?key=[1]",
    ):
        page.goto(f"/mlops/{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, path


def test_the_page_follows_the_dark_theme(page: Page) -> None:
    page.emulate_media(color_scheme="dark")
    page.goto("/mlops/showroom/churn")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(0, 0, 0)"
