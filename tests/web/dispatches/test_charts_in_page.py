"""The charts of Dispatches in a browser, on a page that was drawn without Airflow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from mlops_plugin.config.schema import EventsConfig
from mlops_plugin.events.address import StoreAddress
from mlops_plugin.events.migrating import upgrade
from mlops_plugin.events.store import EventStore
from mlops_plugin.web.charts import Point, Shares, line_chart, share_chart
from web.conftest import drawn_page, without_errors
from web.dispatches.test_list_page import whole_page
from web.scene import violations

START = datetime(2026, 1, 1, tzinfo=UTC)
COUNT = 11  # an hour apart


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with a chart of lines and one of shares."""
    times = [START + timedelta(hours=n) for n in range(COUNT)]
    rows = [Point(at, 100.0 + n, "succeeded", f"dispatches/d{n}") for n, at in enumerate(times)]
    shares = [Shares(at, {"stays": 0.75, "leaves": 0.25}, f"dispatches/d{n}") for n, at in enumerate(times)]
    charts = [line_chart("rows", "Rows", rows), share_chart("shares", "Share of each class", shares)]
    address = StoreAddress.of(EventsConfig(), None, tmp_path_factory.mktemp("charts"))
    upgrade(address)
    with EventStore(address) as store:
        return whole_page(store, charts)


def _chart(page: Page, name: str) -> Locator:
    return page.get_by_role("group", name=name)


def _tip(page: Page, name: str) -> Locator:
    return page.locator(".chart-frame", has=_chart(page, name)).get_by_role("status", include_hidden=True)


def _place(chart: Locator, share: float) -> dict[str, float]:
    """A place in the plotted part of a chart, by the share of its time."""
    box = chart.bounding_box()
    assert box is not None
    first, last = (float(chart.get_attribute(name) or "") for name in ("data-left", "data-right"))
    return {"x": (first + share * (last - first)) / 640 * box["width"], "y": box["height"] / 2}


def _point_at(page: Page, name: str, share: float) -> None:
    _chart(page, name).hover(position=_place(_chart(page, name), share))  # type: ignore[arg-type]


def test_a_crosshair_shows_the_exact_values_of_the_nearest_dispatch(browser: Browser, html: str) -> None:
    with drawn_page(browser, html) as page, without_errors(page):
        _point_at(page, "Rows", 0.32)
        expect(_tip(page, "Rows")).to_have_text("2026-01-01 03:00 UTC: 103, succeeded")
        _point_at(page, "Share of each class", 1.0)
        lines = _tip(page, "Share of each class").locator("span")
        expect(lines).to_have_text(
            ["2026-01-01 10:00 UTC: stays 75.0%", "2026-01-01 10:00 UTC: leaves 25.0%"]
        )
        expect(_tip(page, "Rows")).to_be_hidden()
        assert page.evaluate("shifts") == []
        for width in (700, 400):
            page.set_viewport_size({"width": width, "height": 800})
            _point_at(page, "Rows", 1.0)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert violations(page) == []


def test_a_click_opens_the_dispatch(browser: Browser, html: str) -> None:
    with drawn_page(browser, html) as page:
        place = _place(_chart(page, "Rows"), 0.58)
        _chart(page, "Rows").click(position=place)  # type: ignore[arg-type]
        page.wait_for_url("**/mlops/dispatches/d6")


def test_dragging_zooms_into_the_times_between(browser: Browser, html: str) -> None:
    with drawn_page(browser, html) as page, without_errors(page):
        chart = _chart(page, "Share of each class")
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + _place(chart, 0.25)["x"], box["y"] + 50)
        page.mouse.down()
        page.mouse.move(box["x"] + _place(chart, 0.4)["x"], box["y"] + 50)
        expect(chart.locator(".range")).to_be_visible()
        page.mouse.move(box["x"] + _place(chart, 0.45)["x"], box["y"] + 50)
        page.mouse.up()
        page.wait_for_url("**/mlops/page?*")
        asked = parse_qs(urlsplit(page.url).query)
        since, until = (datetime.fromisoformat(asked[name][0]) for name in ("since", "until"))
        assert abs(since - (START + timedelta(hours=2.5))) < timedelta(minutes=3)
        assert abs(until - (START + timedelta(hours=4.5))) < timedelta(minutes=3)
        assert (since.second, until.second) == (0, 0)


def test_the_keyboard_does_the_same(browser: Browser, html: str) -> None:
    with drawn_page(browser, html) as page:
        page.keyboard.press("?")
        shortcuts = page.get_by_role("dialog", name="Keyboard shortcuts")
        expect(shortcuts).to_contain_text("Read a chart that has the focus, open the dispatch")
        page.keyboard.press("Escape")
        expect(shortcuts).to_be_hidden()
        _chart(page, "Rows").focus()
        page.keyboard.press("Home")
        expect(_tip(page, "Rows")).to_contain_text("00:00 UTC: 100")
        for key in ("ArrowLeft", "ArrowRight", "ArrowRight"):
            page.keyboard.press(key)
        expect(_tip(page, "Rows")).to_contain_text("02:00 UTC: 102")
        page.keyboard.press("Escape")
        expect(_tip(page, "Rows")).to_be_hidden()
        page.keyboard.press("Home")
        for _ in range(3):
            page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("Enter")
        page.wait_for_url("**/mlops/page?*")
        asked = parse_qs(urlsplit(page.url).query)
        assert asked["since"] == ["2026-01-01T00:00:00.000Z"]
        assert asked["until"] == ["2026-01-01T03:01:00.000Z"]
        page.wait_for_load_state("networkidle")
        _chart(page, "Rows").focus()
        page.keyboard.press("End")
        page.keyboard.press("Enter")
        page.wait_for_url("**/mlops/dispatches/d10")
