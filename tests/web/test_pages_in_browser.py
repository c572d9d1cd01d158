"""Every page of the views in a real browser: accessible, on a phone, and after the session has ended."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import quote

import jwt
import pytest
from playwright.sync_api import Page, expect

from support.airflow_process import airflow_environment
from web.conftest import stop_clock
from web.languages.raw_texts import of_page
from web.scene import RUN, Visit, fill_in, violations

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

MAY_MOVE = 0.01  # while a page loads
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


def _see_models(visit: Visit) -> Page:
    page = visit.go("showroom")
    expect(page.locator(".accuracy")).to_have_text(re.compile(r"Accuracy: \d of 5 correct"))
    expect(page.locator(".spark")).to_be_visible()
    return page


def _run_a_case(visit: Visit) -> Page:
    page = visit.go("showroom/churn")
    page.get_by_role("checkbox", name="Choose case 2").check()
    page.get_by_role("checkbox", name="Choose case 3").check()
    page.get_by_role("button", name="Run the chosen cases").click()
    expect(page.locator("#result article")).to_have_count(2)
    return _unfold(page)


def _ask_what_if(visit: Visit) -> Page:
    page = _unfold(visit.go("showroom/churn/what-if?key=[3]"))
    page.get_by_label("a", exact=True).fill("60")
    expect(page.locator("#result .curve")).to_be_visible()
    _unfold(page)
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#result .changes")).to_contain_text("60")
    return page


def _ask_why(visit: Visit) -> Page:
    page = _run_a_case(visit)
    page.get_by_role("button", name="Why?").first.click()
    expect(page.get_by_role("heading", name="Why? id")).to_be_visible()
    return page


def _fail_to_run(visit: Visit) -> Page:
    page = visit.go("showroom/churn")
    page.get_by_role("button", name="Run the chosen cases").click()
    expect(page.get_by_role("alert").filter(has_text="Choose at least one case")).to_be_visible()
    return page


def _watch(visit: Visit) -> Page:
    page = visit.go("monitor")
    expect(page.get_by_text("refused").first).to_be_visible()
    expect(page.get_by_text("try 2 of 3 of collect, after: no route to host")).to_be_visible()
    expect(page.locator("[data-pending]")).to_have_count(0)
    return page


def _show_shortcuts(visit: Visit) -> Page:
    page = visit.go("monitor")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    return page


def _open(path: str) -> Callable[[Visit], Page]:
    return lambda visit: _unfold(visit.go(path))


def _unfold(page: Page) -> Page:
    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    return page


PAGES: dict[str, Callable[[Visit], Page]] = {
    "showroom": _see_models,
    "showroom, nothing found": _open("showroom?search=nothing like it"),
    "cases": _open("showroom/churn"),
    "cases, none found": _open("showroom/churn?search=77777"),
    "no case chosen": _fail_to_run,
    "results": _run_a_case,
    "what if": _ask_what_if,
    "why": _ask_why,
    "dispatches": _open("dispatches"),
    "dispatches, none": _open("dispatches?model=churn&state=succeeded&origin=backfill"),
    "dispatches, pages": _open("dispatches?limit=2"),
    "dispatches, sorted": _open("dispatches?sort=duration&descending=true&origin=all"),
    "dispatches of a model": _open("dispatches?model=churn"),
    "history": _open("dispatches?model=churn&tab=dag"),
    "dispatch that succeeded": lambda visit: _unfold(visit.go(f"dispatches/{visit.scene.succeeded}")),
    "dispatch that failed": lambda visit: _unfold(visit.go(f"dispatches/{visit.scene.failed}")),
    "dispatch that runs": _open(f"dispatches/of-run?dag_id=churn&run_id={quote(RUN)}"),
    "no dispatch yet": _open("dispatches/of-run?dag_id=churn&run_id=later"),
    "monitor": _watch,
    "monitor, grouped": _open("monitor?group=tag&sort=state"),
    "shortcuts": _show_shortcuts,
    "monitor, none found": _open("monitor?search=nothing like it"),
    "history of a target": _open("monitor/history?target=event store"),
    "history of a model": _open("monitor/history?target=model churn"),
}

# As Airflow shows them: path, and the heading that tells that it is there.
IN_AIRFLOW = {
    "showroom": ("/plugin/mlops-showroom", "Showroom"),
    "dispatches": ("/plugin/mlops-dispatches", "Dispatches"),
    "monitor": ("/plugin/mlops-monitor", "Monitor"),
    "tab of a DAG": ("/dags/churn/plugin/mlops-dispatches-of-model", "Dispatches of churn"),
    "tab of a run": (f"/dags/churn/runs/{quote(RUN)}/plugin/mlops-dispatch-of-run", "churn, "),
}


@pytest.mark.parametrize("name", PAGES)
def test_page_is_accessible_in_light_and_dark_and_fits_a_phone(visit: Visit, name: str) -> None:
    page = PAGES[name](visit)
    assert visit.moved < MAY_MOVE
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(
            "dark => document.documentElement.matches('.dark') === dark", arg=scheme == "dark"
        )
        assert violations(page) == [], scheme
    for width in (700, 400):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", IN_AIRFLOW)
def test_view_in_airflow_is_accessible_in_light_and_dark(visit: Visit, name: str) -> None:
    frame = visit.inside(*IN_AIRFLOW[name])
    for scheme in SCHEMES:
        visit.page.emulate_media(color_scheme=scheme)
        frame.wait_for_function(
            "dark => document.documentElement.matches('.dark') === dark", arg=scheme == "dark"
        )
        assert violations(frame) == [], scheme


def test_each_view_has_an_entry_of_its_own_in_the_navigation_with_an_icon_of_its_own(visit: Visit) -> None:
    pictures: dict[str, list[str]] = {"Showroom": [], "Dispatches": [], "Monitor": []}
    for scheme in SCHEMES:
        visit.page.emulate_media(color_scheme=scheme)
        visit.page.goto("/")
        for view, found in pictures.items():
            entry = visit.page.get_by_role("link", name=view, exact=True)
            expect(entry).to_be_visible()
            icon = entry.locator("img")
            if found:  # Airflow may show the other one until it knows the scheme
                expect(icon).not_to_have_attribute("src", found[0])
            visit.page.wait_for_function(
                "image => image.complete && image.naturalWidth > 0", arg=icon.element_handle()
            )
            found.append(str(icon.get_attribute("src")))
            assert entry.get_attribute("href") == f"/plugin/mlops-{view.lower()}"
    assert len({source for found in pictures.values() for source in found}) == 6


@pytest.mark.parametrize("path", ["showroom/nothing", "dispatches/gone", "monitor/history?target=nothing"])
def test_error_is_accessible(visit: Visit, path: str) -> None:
    page = visit.go(path)
    expect(page.get_by_role("heading", name="Something went wrong")).to_be_visible()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]  # type: ignore[index]
    assert len(visit.wrong) == 2  # the answer itself is one, as the browser sees it
    visit.wrong.clear()
    view = path.partition("/")[0].capitalize()
    page.get_by_role("link", name=view, exact=True).click()
    expect(page.get_by_role("heading", level=1, name=view)).to_be_visible()


def test_what_a_button_copies_is_what_stands_beside_it(visit: Visit) -> None:
    visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = visit.go(f"dispatches/{visit.scene.succeeded}")
    buttons = page.locator("button[data-copy]")
    stop_clock(page)
    assert buttons.count() >= 6  # ids, hashes, the query
    for button in buttons.all():
        shown = page.locator(f"#{button.get_attribute('data-copy')}").inner_text().strip()
        button.click()
        expect(button).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == shown != ""


End = Callable[[Visit], None]


def _sign_out(visit: Visit) -> None:
    visit.page.context.clear_cookies()


def _expire(visit: Visit) -> None:
    context = visit.page.context
    (cookie,) = (dict(cookie) for cookie in context.cookies() if cookie["name"] == "_token")
    current = str(cookie["value"])
    header = jwt.get_unverified_header(current)
    old = jwt.decode(current, options={"verify_signature": False})
    secret = airflow_environment(visit.scene.airflow.workshop, 1)["AIRFLOW__API_AUTH__JWT_SECRET"]
    token = jwt.encode({**old, "exp": 1}, secret, algorithm=header["alg"], headers=header)
    context.add_cookies([{"name": "_token", "value": token, "url": visit.scene.airflow.api.url}])


def test_run_after_the_session_says_so_and_leads_to_the_login_and_back(visit: Visit) -> None:
    page = visit.go("showroom/churn")
    page.get_by_role("checkbox", name="Choose case 2").check()
    _sign_out(visit)
    page.get_by_role("button", name="Run the chosen cases").click()
    said = page.locator("#result [role=alert]")
    expect(said).to_contain_text("Your session has ended")
    expect(page.get_by_role("button", name="Run the chosen cases")).to_be_enabled()
    assert violations(page) == []
    said.get_by_role("button", name="Sign in").click()
    fill_in(page)
    page.wait_for_url("**/mlops/showroom/churn")
    expect(page.get_by_role("heading", name="Churn")).to_be_visible()
    visit.excuse()  # the refusals were the point


@pytest.mark.parametrize("end", [_sign_out, _expire])
@pytest.mark.parametrize("path", ["showroom/churn", "dispatches?model=churn&state=running", "monitor"])
def test_page_that_refreshes_says_that_the_session_has_ended(visit: Visit, path: str, end: End) -> None:
    page = visit.go(path)
    end(visit)
    lost = page.locator("#lost")
    expect(lost).to_contain_text("Your session has ended")
    expect(lost.get_by_role("button", name="Sign in")).to_be_visible()
    assert violations(page) == []
    visit.excuse()


def test_dispatch_that_is_run_again_after_the_session_says_so(visit: Visit) -> None:
    page = visit.go(f"dispatches/of-run?dag_id=churn&run_id={quote(RUN)}")
    page.get_by_role("button", name="Run again", exact=True).click()
    _sign_out(visit)
    page.get_by_role("button", name="Yes, run again").click()
    said = page.locator("#again-notice")
    expect(said).to_contain_text("Your session has ended")
    expect(said.get_by_role("button", name="Sign in")).to_be_visible()
    visit.excuse()


def test_signed_out_page_is_accessible_and_leads_to_the_login_and_back(visit: Visit) -> None:
    _sign_out(visit)
    page = visit.go("dispatches?model=churn")
    assert violations(page) == []
    visit.wrong.clear()  # only that it is a 401
    page.get_by_role("link", name="Sign in").click()
    fill_in(page)
    page.wait_for_url(re.compile(r"/mlops/dispatches\?model=churn$"))
    expect(page.get_by_role("heading", name="Dispatches of churn")).to_be_visible()


def _airflow_notices_nothing(page: Page) -> None:
    """Airflow's own page would notice as well, some time, and lead to the login by itself."""
    page.route(re.compile(r"/ui/|/api/v2/(?!auth/)"), lambda route: route.abort())


def test_run_inside_of_airflow_after_the_session_leads_to_the_login_and_back(visit: Visit) -> None:
    frame = visit.inside("/plugin/mlops-showroom", "Showroom")
    frame.get_by_role("link", name="Churn", exact=True).click()
    frame.get_by_role("checkbox", name="Choose case 2").check()
    expect(frame.locator("#chosen")).to_have_text("1 chosen")  # scripts are at work
    _airflow_notices_nothing(visit.page)
    _sign_out(visit)
    frame.get_by_role("button", name="Run the chosen cases").click()
    said = frame.locator("#result [role=alert]")
    expect(said).to_contain_text("Your session has ended")
    said.get_by_role("button", name="Sign in").click()
    visit.page.unroute_all(behavior="ignoreErrors")
    fill_in(visit.page)
    visit.page.wait_for_url("**/plugin/mlops-showroom**")
    again = visit.page.frame_locator("iframe").get_by_role("heading", name="Churn")
    expect(again).to_be_visible()
    visit.excuse()  # the refusals were the point


def test_page_that_is_opened_inside_of_airflow_after_the_session_leads_to_the_login_and_back(
    visit: Visit,
) -> None:
    frame = visit.inside("/plugin/mlops-showroom", "Showroom")
    _airflow_notices_nothing(visit.page)
    _sign_out(visit)
    frame.get_by_role("link", name="Churn", exact=True).click()
    frame.get_by_role("link", name="Sign in").click()
    visit.page.unroute_all(behavior="ignoreErrors")
    fill_in(frame)
    expect(frame.get_by_role("heading", name="Churn")).to_be_visible()
    visit.excuse()


CHOSEN = "i18nextLng"  # where Airflow's pages keep the language, in the browser's localStorage


def _choose(page: Page, language: str) -> None:
    page.evaluate(f"localStorage.setItem('{CHOSEN}', '{language}')")


def test_page_is_in_the_language_that_airflow_has_chosen_and_loaded_twice_only_once(visit: Visit) -> None:
    page = visit.go("monitor")
    loaded: list[str] = []
    page.on("request", lambda request: loaded.extend([request.url] * request.is_navigation_request()))
    for chosen, tag, count in (
        ("pt", "pt-BR", 2),
        ("pt", "pt-BR", 1),
        ("de", "en", 2),
        ("pt-BR", "pt-BR", 2),
    ):
        _choose(page, chosen)
        loaded.clear()
        visit.go("monitor")
        expect(page.locator("html")).to_have_attribute("lang", tag)
        assert len(loaded) == count
    assert violations(page) == []


def test_charts_are_drawn_in_the_zone_that_airflow_has_chosen_and_csv_stays_in_utc(visit: Visit) -> None:
    page = visit.go("dispatches?model=churn")
    loaded: list[str] = []
    page.on("request", lambda request: loaded.extend([request.url] * request.is_navigation_request()))
    for zone, hours, count in (("Asia/Tokyo", 9, 2), ("Asia/Tokyo", 9, 1), ("America/New_York", None, 2)):
        page.evaluate(f"""localStorage.setItem("timezone", '"{zone}"')""")
        loaded.clear()
        visit.go("dispatches?model=churn")
        expect(page.get_by_text(f"Times are in the zone {zone}.")).to_be_visible()
        assert len(loaded) == count
        if hours:
            chart = page.locator("svg[data-start]").first
            chart.hover()
            shown = page.locator(".chart-frame", has=chart).get_by_role("status").inner_text()
            moments = page.locator("table time[datetime]").evaluate_all(
                "all => all.map((one) => one.dateTime)"
            )
            local = {
                f"{datetime.fromisoformat(moment) + timedelta(hours=hours):%Y-%m-%d %H:%M JST}"
                for moment in moments
            }
            assert shown.partition(": ")[0] in local
    csv = page.context.request.get("/mlops/api/v1/dispatches.csv").text()
    assert re.search(r"\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)", csv)
    assert not re.search(r"[+-]\d[1-9]:00", csv)


def test_page_that_was_asked_for_before_the_choice_was_kept_is_loaded_again(visit: Visit) -> None:
    page = visit.go("monitor")
    english = page.context.request.get("/mlops/monitor").text()
    _choose(page, "pt")
    page.route(
        "**/mlops/monitor", lambda route: route.fulfill(body=english, content_type="text/html"), times=2
    )
    visit.go("monitor")
    expect(page.locator("html")).to_have_attribute("lang", "pt-BR")


def test_page_whose_cookie_is_taken_away_is_still_shown(visit: Visit) -> None:
    page = visit.go("monitor")
    _choose(page, "pt")
    page.add_init_script("Object.defineProperty(Document.prototype, 'cookie', { get: () => '', set() {} })")
    visit.go("monitor")
    expect(page.get_by_role("heading", name="Monitor")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_view_follows_when_another_language_is_chosen_in_airflow(visit: Visit) -> None:
    _choose(visit.go("monitor"), "pt")
    frame = visit.inside("/plugin/mlops-dispatches", "Despachos")
    expect(visit.page.locator("html")).to_have_attribute("lang", "pt")
    _choose(visit.page, "en")
    shown = visit.page.frame_locator("iframe")
    expect(shown.get_by_role("heading", name="Dispatches", exact=True)).to_be_visible()
    assert frame.url.endswith("/mlops/dispatches")


def test_scripts_speak_the_language_of_the_page(visit: Visit) -> None:
    _choose(visit.go("monitor"), "pt")
    page = visit.go("showroom/churn")
    expect(page.locator("#chosen")).to_have_text("escolha um ou mais casos")
    page.get_by_role("checkbox", name="Escolher o caso 2").check()
    page.get_by_role("checkbox", name="Escolher o caso 3").check()
    expect(page.locator("#chosen")).to_have_text("2 escolhidos")
    page.get_by_role("button", name="Executar os casos escolhidos").click()
    expect(page.locator("#result article")).to_have_count(2)
    expect(page.get_by_role("link", name="E se…").first).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Atalhos de teclado")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role(
        "button", name="Por quê?"
    ).first.click()  # a page that was posted, and is not loaded again
    page.wait_for_url("**/showroom/churn/why/**")
    expect(page.locator("html")).to_have_attribute("lang", "pt-BR")
    _choose(page, "en")
    visit.go("showroom")
    expect(page.get_by_role("button", name="Keyboard shortcuts")).to_be_visible()


# What the scene's pages say in both languages: names, states that are the same word, and texts of the log.
IN_BOTH = {
    *("Churn", "Churn · Showroom", "Event store", "Event store – Monitor", "Hosts", "IPv4:", "IPv6:", "Logs"),  # noqa: RUF001
    *("Monitor", "No such name", "Nobody there", "Who leaves, who stays?", "absent", "asset", "backfill"),
    *("broken", "churn", "churn,", "collect", "connection absent", "connection events", "demo", "· demo"),
    *("connection source, table customers", "event store", "id", "id 3", "infer", "leaves", "log", "manual"),
    *("nowhere.invalid:1", "ok", "persist", "predicted_at", "prediction", "probability_leaves", "truth"),
    *("probability_stays", "refused", "showroom", "source", "stays", "terminal"),
}
OF_THE_LOG = re.compile(
    r"^(config\.yaml:|connection '|there is no Airflow connection|/|curl |SELECT |Python 3\.|\{)"
    r"|^[0-9a-f-]{8,}$|service not known|name resolution$"
)


def test_no_page_in_portuguese_keeps_an_english_text(visit: Visit) -> None:
    root, calls = visit.scene.airflow.api.url, visit.page.context.request
    paths = [
        *("showroom", "showroom?search=nothing", "showroom/churn", "showroom/churn?search=77777"),
        *("showroom/churn/what-if?key=[3]", "showroom/none", "dispatches", "dispatches?limit=2"),
        *("dispatches?model=churn", "dispatches?model=churn&origin=backfill", "dispatches?model=none"),
        *("dispatches?sort=duration", "dispatches/none", "dispatches/of-run?dag_id=churn&run_id=later"),
        f"dispatches/{visit.scene.failed}",
        *(
            f"dispatches/{visit.scene.succeeded}{part}"
            for part in ("", "?part=predictions", "?part=rejected")
        ),
        *("monitor", "monitor?group=tag", "monitor?search=nothing", "monitor/history?target=none"),
        *("monitor/history?target=event store", "monitor/history?target=model churn"),
    ]
    forms: list[tuple[str, dict[str, str | float | bool]]] = [
        ("run", {"key": "[3]"}),
        ("run", {"key": "[3]", "was.a": "1", "set.a": "60"}),
        ("why", {"key": "[3]"}),
    ]
    said: dict[str, set[str]] = {}
    for language in ("en", "pt"):
        headers = {"Accept": "text/html", "Accept-Language": language, "Origin": root}
        answers = [calls.get(f"/mlops/{path}", headers=headers) for path in paths]
        answers += [
            calls.post(f"/mlops/showroom/churn/{name}", form=form, headers=headers) for name, form in forms
        ]
        said[language] = set().union(*(of_page(answer.text()) for answer in answers))
    kept = {text for text in said["en"] & said["pt"] - IN_BOTH if not OF_THE_LOG.search(text)}
    assert kept == set()
    assert len(said["pt"]) > 200
