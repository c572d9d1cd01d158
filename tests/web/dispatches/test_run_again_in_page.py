"""A dispatch that is run again, in a browser without Airflow: the page follows however long Airflow waits."""

from __future__ import annotations

from playwright.sync_api import Browser, Route, expect

from web.conftest import drawn_page, without_errors

RUN = "/api/v2/dags/churn/dagRuns/one"
PAGE = """<!doctype html><html lang="en" data-zone="UTC">
<script src="/mlops/static/page.js" defer></script>
<script src="/mlops/static/dispatches/dispatches.js" defer></script>
<body data-root="/mlops/" data-airflow="/" data-words="{}"><div id="lost" hidden></div>
<div id="again" data-dag="churn" data-run="one" hidden>
<button data-ask aria-expanded="false">Run again</button>
<span id="sure" hidden><button data-yes>Yes</button><button data-resume><span data-step></span></button>
<button data-no>Cancel</button></span></div>
<div id="again-notice" role="status"></div>
<section id="story" data-refresh="/mlops/story" data-every="0"><p data-busy="no">first</p></section>"""


def test_the_steps_are_followed_until_the_run_that_began_late_is_over(browser: Browser) -> None:
    story, state = '<p data-busy="no">first</p>', "queued"
    asked: list[str] = []

    def answer(route: Route) -> None:
        path = route.request.url.removeprefix("http://pages.test")
        asked.append(path)
        if path == "/mlops/story":
            route.fulfill(body=story, content_type="text/html")
        else:
            route.fulfill(json={"state": state})

    def wait(seconds: int) -> None:
        """What the page does in this time; its requests are answered meanwhile."""
        for _ in range(seconds // 3):
            page.clock.run_for(3000)
            page.evaluate("fetch('static/page.js').then((answer) => answer.text())")

    with drawn_page(browser, PAGE, is_still=True) as page, without_errors(page):
        page.route("**/mlops/story", answer)
        page.route(f"**{RUN}*", answer)
        page.route(f"**{RUN}/clear", answer)
        page.get_by_role("button", name="Run again").click()
        page.get_by_role("button", name="Yes").click()
        expect(page.get_by_role("status").first).to_contain_text("Airflow is running it again")
        assert asked == [f"{RUN}/clear"]
        wait(75)  # in the queue
        assert page.locator("#story").inner_text() == "first"
        story = '<p data-busy="no">second</p>'
        state = "success"  # it was over before anybody saw it run
        wait(6)
        expect(page.locator("#story")).to_have_text("second")
        asked.clear()
        wait(15)
        assert asked == []
