"""Parts of a page that refresh themselves: what was pressed is done, and the past is not shown."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from web.conftest import drawn_page, without_errors
from web.monitor.test_monitor_page import drawn, host, model

FRAGMENT = re.compile(r'<div id="monitor"[^>]*>(.*)</div>\s*</main>', re.DOTALL)


def _fragment(*, is_paused: bool, is_probing: bool = False) -> str:
    hosts = [host("a", "unknown").model_copy(update={"is_probing": True})] if is_probing else []
    found = FRAGMENT.search(drawn([model("churn", is_paused=is_paused)], hosts))
    assert found is not None
    return found[1]


class Server:
    """Holds each question for the model's state until a test lets it be answered."""

    def __init__(self) -> None:
        self.questions: list[Route] = []
        self.changes: list[str] = []

    def hear(self, route: Route) -> None:
        if "monitor-status" in route.request.url:
            self.questions.append(route)
        else:
            self.changes.append(str(route.request.post_data))
            route.fulfill(json={})

    def answer(self, number: int, **state: bool) -> None:
        self.questions[number].fulfill(body=_fragment(**state), content_type="text/html")


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """The Monitor with a model that is active; time stands still."""
    with drawn_page(browser, drawn([model("churn")]), is_still=True) as page:
        page.route(re.compile("monitor-status|/api/v2/"), server.hear)
        with without_errors(page):
            yield page
        page.unroute_all(behavior="ignoreErrors")


def _ask(page: Page, server: Server) -> None:
    """As somebody who presses R."""
    asked = len(server.questions)
    with page.expect_request("**/monitor-status*"):
        page.keyboard.press("r")
    while len(server.questions) == asked:
        page.evaluate("0")


def _tell(page: Page, server: Server, number: int, **state: bool) -> None:
    """Answer a question, and go on when the page has had time to show it."""
    with page.expect_response("**/monitor-status*") as answered:
        server.answer(number, **state)
    answered.value.finished()
    page.evaluate("fetch('static/page.js').then((answer) => answer.text())")


def test_a_click_counts_though_an_answer_comes_before_the_button_is_up(page: Page, server: Server) -> None:
    switch = page.get_by_role("switch", name="churn is active")
    _ask(page, server)
    switch.hover()
    page.mouse.down()
    _tell(page, server, 0, is_paused=False)
    page.mouse.up()
    expect(page.get_by_text("churn is paused.")).to_be_visible()
    assert server.changes == ['{"is_paused":true}']


def test_a_key_counts_though_an_answer_comes_before_it_is_up(page: Page, server: Server) -> None:
    _ask(page, server)
    page.get_by_role("switch", name="churn is active").focus()
    page.keyboard.down("Space")
    _tell(page, server, 0, is_paused=False)
    page.keyboard.up("Space")
    expect(page.get_by_text("churn is paused.")).to_be_visible()
    assert server.changes == ['{"is_paused":true}']


def test_an_answer_that_was_overtaken_is_not_shown(page: Page, server: Server) -> None:
    switch = page.get_by_role("switch", name="churn is active")
    for _ in range(2):
        _ask(page, server)
    server.answer(1, is_paused=True)
    expect(switch).to_have_attribute("aria-checked", "false")
    _tell(page, server, 0, is_paused=False)
    assert switch.get_attribute("aria-checked") == "false"
    _ask(page, server)
    server.answer(2, is_paused=False)
    expect(switch).to_have_attribute("aria-checked", "true")


def test_nothing_is_asked_while_the_tab_is_hidden(page: Page, server: Server) -> None:
    _ask(page, server)
    page.evaluate("Object.defineProperty(document, 'hidden', { configurable: true, get: () => true })")
    _tell(page, server, 0, is_paused=True, is_probing=True)  # its first result is looked for a second later
    expect(page.locator("[data-pending]")).to_have_count(1)
    page.clock.run_for(60_000)
    assert len(server.questions) == 1
    with page.expect_request("**/monitor-status*"):
        page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
