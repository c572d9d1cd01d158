"""The first rows of a dispatch come after its page: what stands below them does not move for them."""

from __future__ import annotations

from playwright.sync_api import Browser

from web.conftest import drawn_page, without_errors

PAGE = """<!doctype html><link rel="stylesheet" href="/mlops/static/dispatches/dispatches.css">
<div id="rows" data-load="" aria-busy="true"><p>Reading rows…</p></div>
<h2 id="rejected">Rejected rows</h2>
<div data-load=""><p>First records in the quarantine</p></div>"""
COME = """async () => {
  const frame = () => new Promise((drawn) => { requestAnimationFrame(() => requestAnimationFrame(drawn)); });
  const rows = document.getElementById("rows");
  rows.innerHTML = "<p style='height: 400px'>Rows</p>";
  await frame();
  rows.removeAttribute("aria-busy");
  await frame();
}"""


def test_rejected_rows_appear_below_the_predictions_and_do_not_move(browser: Browser) -> None:
    with drawn_page(browser, PAGE) as page, without_errors(page):
        page.evaluate(COME)
        page.wait_for_timeout(200)  # the browser tells of what has moved a moment later
        assert page.locator("#rejected").is_visible()
        assert page.evaluate("shifts") == []
