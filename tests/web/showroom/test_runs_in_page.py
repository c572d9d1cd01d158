"""What if in a browser without Airflow: what comes while a run is under way is not lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from mlops_plugin.events.details.explanations import ReferenceSource
from mlops_plugin.serving.references import Usual
from mlops_plugin.web.showroom.steps import step_words
from mlops_plugin.web.showroom.what_if_fields import field_of
from web.conftest import drawn_page, rendered, without_errors


def _html() -> str:
    values: dict[str, Any] = {
        "model": SimpleNamespace(name="churn", key=["id"]),
        "title": "Churn",
        "key": "[3]",
        "key_text": "3",
        "fields": [field_of("a", 8.0, Usual(0.0, 0.0, 16.0))],
        "source": ReferenceSource(5),
        "picture": None,
        "drawing": None,
        "steps": list(step_words().items()),
    }
    return rendered("showroom/what_if.html", **values)


class Server:
    """Holds each run until a test lets it be answered."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._held: list[Route] = []
        self._seen = 0

    def hear(self, route: Route) -> None:
        self._held.append(route)

    def next_value(self) -> str:
        """What the next run is asked about; waits for it."""
        while len(self._held) == self._seen:
            self._page.clock.run_for(300)
        self._seen += 1
        return parse_qs(self._held[-1].request.post_data or "")["set.a"][0]

    def answer(self) -> None:
        """Answer the last one with its value."""
        value = parse_qs(self._held[-1].request.post_data or "")["set.a"][0]
        html = f'<h2 data-dispatch="d1">Result</h2><p class="prediction">{value}</p>'
        lines = [{"step": "collect", "state": "succeeded", "text": ""}, {"html": html}]
        self._held[-1].fulfill(body="".join(json.dumps(line) + "\n" for line in lines))

    @property
    def has_more(self) -> bool:
        self._page.clock.run_for(1000)
        return len(self._held) > self._seen


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with drawn_page(browser, _html(), is_still=True) as page, without_errors(page):
        yield page


@pytest.fixture
def server(page: Page) -> Server:
    server = Server(page)
    page.route("**/showroom/churn/run", server.hear)
    return server


def test_a_change_during_a_run_that_was_asked_for_is_run_after_it(page: Page, server: Server) -> None:
    field = page.get_by_label("a", exact=True)
    page.get_by_role("button", name="Run", exact=True).click()
    assert server.next_value() == "8.0"
    field.fill("9")
    assert not server.has_more  # one at a time
    server.answer()
    assert server.next_value() == "9"
    server.answer()
    expect(page.locator("#result .prediction")).to_have_text("9")


def test_a_click_during_a_run_that_follows_a_change_shows_its_steps(page: Page, server: Server) -> None:
    page.get_by_label("a", exact=True).fill("9")
    assert server.next_value() == "9"
    page.get_by_role("button", name="Run", exact=True).click()
    server.answer()
    assert server.next_value() == "9"
    expect(page.locator("#steps")).to_be_visible()
    server.answer()
    expect(page.locator("#steps li[data-state=succeeded]")).to_have_count(1)
    expect(page.locator("#result .prediction")).to_have_text("9")


def test_a_click_right_after_a_change_runs_once(page: Page, server: Server) -> None:
    page.get_by_label("a", exact=True).fill("9")
    page.get_by_role("button", name="Run", exact=True).click()
    assert server.next_value() == "9"
    server.answer()
    expect(page.locator("#result .prediction")).to_have_text("9")
    assert not server.has_more
