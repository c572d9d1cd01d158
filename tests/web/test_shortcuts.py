"""Keyboard shortcuts, on a page that was drawn without a server."""

from __future__ import annotations

from playwright.sync_api import Browser, expect

from web.conftest import drawn_page, stop_clock
from web.monitor.test_monitor_page import drawn


def test_a_question_mark_shows_what_can_be_done_here(browser: Browser) -> None:
    with drawn_page(browser, drawn()) as page:
        page.keyboard.press("?")
        dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
        expect(dialog).to_contain_text("Go to Dispatches")
        expect(dialog).not_to_contain_text("Next page")  # there are no pages
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        page.get_by_role("button", name="Keyboard shortcuts").click()
        expect(dialog).to_be_visible()


def test_keys_act_outside_of_fields_only_and_can_be_switched_off(browser: Browser) -> None:
    with drawn_page(browser, drawn()) as page:
        page.keyboard.press("/")
        search = page.get_by_label("Search models")
        expect(search).to_be_focused()
        page.keyboard.type("g d?")
        expect(search).to_have_value("g d?")
        search.blur()
        stop_clock(page)  # the second key comes in time
        page.keyboard.type("gd")
        page.wait_for_url("**/mlops/dispatches")
        page.keyboard.press("?")
        page.get_by_label("Use single keys on all pages").uncheck()
        page.keyboard.press("Escape")
        page.keyboard.press("/")
        expect(page.get_by_label("Search models")).not_to_be_focused()
