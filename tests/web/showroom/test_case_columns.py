"""The list of cases: what stands first, and which columns can be folded away."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
from playwright.sync_api import Browser, Route, expect

from mlops_plugin.serving.case_paging import Place
from mlops_plugin.serving.cases import CasePage, CaseView
from mlops_plugin.web.showroom.cases import present_cases
from mlops_plugin.web.showroom.picture import data_uri
from mlops_plugin.web.showroom.steps import step_words
from web.conftest import drawn_page, rendered, without_errors
from web.scene import violations

NAMES = ("id", "a", "b", "c", "d", "seen_at", "truth")


def _model(cursor: str = "updated", **changes: Any) -> Any:
    usual = {"title": None, "truth": "truth", "search": ["id", "seen_at"], "image": None}
    showroom = SimpleNamespace(**(usual | changes))
    source = SimpleNamespace(cursor=SimpleNamespace(column=cursor))
    return SimpleNamespace(name="churn", key=["id"], description="", showroom=showroom, source=source)


def _presented(model: Any, features: tuple[str, ...] | None = None) -> dict[str, Any]:
    rows = pa.table({name: [float(n), float(n) + 1] for n, name in enumerate(NAMES)})
    return present_cases(model, CasePage(rows, None, None), CaseView(), features)


def _columns(table: dict[str, Any]) -> tuple[list[str], list[str]]:
    columns = table["columns"]
    return [one["name"] for one in columns], [one["name"] for one in columns if one["is_input"]]


def test_key_and_truth_come_before_the_features() -> None:
    names, inputs = _columns(_presented(_model()))
    assert names == ["id", "truth", "a", "b", "c", "d", "seen_at"]
    assert inputs == ["a", "b", "c", "d"]  # as far as is known before the model is loaded
    names, inputs = _columns(_presented(_model(truth="id"), ("a", "truth")))
    assert names == list(NAMES)
    assert inputs == ["a", "truth"]


def test_documents_are_cut_and_their_keys_are_whole() -> None:
    rows = pa.table({"id": ["k" * 9_000] * 2, "note": ["<b>" * 10**6] * 2})
    table = present_cases(_model(), CasePage(rows, None, None), CaseView(), None)
    assert [len(text) for text, *_looks in table["rows"][0]["cells"]] == [501, 501]
    assert json.loads(table["rows"][0]["key"]) == ["k" * 9_000]


def test_null_looks_otherwise_than_a_text_of_these_letters() -> None:
    rows = pa.table({"id": [1, 2, 3], "note": [None, "NULL", ""]})
    table = present_cases(_model(), CasePage(rows, None, None), CaseView(), None)
    assert [row["cells"][1][0::3] for row in table["rows"]] == [("NULL", True), ("NULL", False), ("", False)]


def test_infinite_pixels_are_dark() -> None:
    pixels = [0.0, 8.0, float("inf"), None]
    assert data_uri(pixels, 2, 2) == data_uri([0.0, 8.0, 0.0, float("nan")], 2, 2)


def test_the_cursor_is_no_feature_unless_the_model_reads_it() -> None:
    model = _model(cursor="d")
    assert _columns(_presented(model))[1] == ["a", "b", "c"]
    assert _columns(_presented(model, ("a", "d")))[1] == ["a", "d"]


def test_a_few_features_are_not_folded_and_pixels_are_no_columns() -> None:
    assert _presented(_model())["inputs"] == 4
    assert _presented(_model(), ("a", "b", "c"))["inputs"] == 0
    picture = _presented(_model(image=SimpleNamespace(width=2, height=2)), ("a", "b", "c", "d"))
    assert _columns(picture) == (["id", "truth", "seen_at"], [])


def test_pictures_are_there_before_the_model_is_loaded() -> None:
    model = _model(image=SimpleNamespace(width=2, height=1), search=["id"])
    rows = pa.table({"id": [1], "seen_at": ["2026"], "p0": [0], "p1": [16], "truth": [0], "updated": [7]})
    for known in (None, ("p0", "p1")):
        table = present_cases(model, CasePage(rows, None, None), CaseView(), known)
        assert table["rows"][0]["picture"].startswith("data:image/png")
        assert [column["name"] for column in table["columns"]] == ["id", "truth", "seen_at", "updated"]
    more = rows.append_column("p2", pa.array([1.5]))  # which of the three are the picture, nobody knows yet
    assert not present_cases(model, CasePage(more, None, None), CaseView(), None)["has_pictures"]


def _html(model: Any, table: dict[str, Any], **changes: Any) -> str:
    values: dict[str, Any] = {
        "model": model,
        "title": "Churn",
        "view": CaseView(),
        "table": table,
        "problem": None,
        "loading": SimpleNamespace(state="absent", error=None),
        "steps": list(step_words().items()),
        "may_run": True,
        "sees_last": False,
        "query": "",
        "page_sizes": [25, 100, 200],
    }
    html = rendered("showroom/model.html", **(values | changes))
    return html.replace('data-every="3"', 'data-every="0"')


def test_columns_of_features_fold_away_and_stay_folded(browser: Browser) -> None:
    model = _model()
    with drawn_page(browser, _html(model, _presented(model))) as page, without_errors(page):
        cell, fold = page.get_by_role("columnheader", name="b"), page.get_by_role("button", name="4 features")
        expect(cell).to_be_visible()
        fold.click()
        expect(cell).to_be_hidden()
        expect(page.get_by_role("columnheader", name="truth")).to_be_visible()
        page.reload()
        expect(fold).to_have_attribute("aria-expanded", "false")
        expect(cell).to_be_hidden()
        assert violations(page) == []
        fold.press("Enter")
        expect(cell).to_be_visible()


LAST = {
    '["0.0"]': {"words": "<b>stays", "at": "2026-01-02T03:04:00Z", "dispatch": "d/1"},
    '["1.0"]': None,
}


@pytest.mark.parametrize("is_known", [True, False])
def test_last_predictions_and_the_number_of_cases_come_after_the_page(
    browser: Browser, is_known: bool
) -> None:
    model = _model()
    rows = pa.table({name: [float(n), float(n) + 1] for n, name in enumerate(NAMES)})
    page_of_cases = CasePage(rows, None, Place((1.0,)))
    table = present_cases(model, page_of_cases, CaseView("x"), None)
    html = _html(model, table, sees_last=True, query="search=x&after=%5B0%5D", view=CaseView("x"))
    asked: list[str] = []

    def answer(route: Route) -> None:
        path, query = urlsplit(route.request.url)[2:4]
        asked.append(f"{path.rpartition('/')[2]}?{query}")
        if len(asked) == 1:  # as the server says that it is busy
            route.fulfill(json=None, body="null", headers={"Retry-After": "5"})
        elif path.endswith("count"):
            route.fulfill(body="more than 10,000 cases" if is_known else "", content_type="text/html")
        else:
            route.fulfill(json=LAST if is_known else None)

    with drawn_page(browser, "<main></main>") as page, without_errors(page):
        page.route("**/showroom/churn/*", answer)
        page.route("**/mlops/page", lambda route: route.fulfill(body=html, content_type="text/html"))
        page.reload()
        page.wait_for_function(
            "performance.getEntriesByType('resource').some((one) => one.name.includes('/count?'))"
        )
        assert asked == [
            f"{what}?search=x&after=%5B0%5D" for what in ("last-predictions", "last-predictions", "count")
        ]
        heads = page.get_by_role("columnheader").all_text_contents()
        assert [head.split()[0] for head in heads[1:5]] == ["id", "truth", "last", "a"]
        expect(page.locator("#found")).to_have_text("more than 10,000 cases" if is_known else "")
        cells = page.locator("tbody .last")
        assert cells.all_text_contents() == (["<b>stays", "\N{EN DASH}"] if is_known else ["", ""])
        if is_known:
            link = page.get_by_role("link", name="<b>stays")
            expect(link).to_have_attribute("href", "./dispatches/d%2F1")
            expect(link).to_have_attribute("title", "<b>stays, 2026-01-02 03:04")
            assert violations(page) == []
        assert page.evaluate("shifts") == []


def test_a_list_that_is_all_on_one_page_has_its_number_and_asks_for_none() -> None:
    model = _model()
    html = _html(model, _presented(model))
    assert '<span class="hint" id="found" role="status">2 cases</span>' in html
    assert "data-ask" not in html


def test_the_link_above_why_leads_back_to_the_list_as_it_was_left(browser: Browser) -> None:
    model = _model()
    rows = pa.table({name: [float(n), float(n) + 1] for n, name in enumerate(NAMES)})
    html = _html(model, present_cases(model, CasePage(rows, None, None), CaseView(), None))
    why = '<a data-back href="page">Churn</a>'
    above = html[: html.index("<main")] + why + html[html.index("<footer") :]
    lines = json.dumps({"html": '<h2 data-dispatch="d1">Result</h2>'}) + "\n"
    with drawn_page(browser, html) as page, without_errors(page):
        page.route("**/showroom/churn/run", lambda route: route.fulfill(body=lines))
        page.route("**/showroom/churn/state", lambda route: route.fulfill(body=""))
        page.route("**/mlops/why", lambda route: route.fulfill(body=above, content_type="text/html"))
        page.goto("http://pages.test/mlops/page?search=1")
        page.get_by_role("checkbox", name="Choose case 1").check()
        page.get_by_role("button", name="Run the chosen cases").click()
        expect(page.get_by_role("heading", name="Result")).to_be_visible()
        page.goto("http://pages.test/mlops/why")
        page.get_by_role("link", name="Churn").click()
        page.wait_for_url("**/page?search=1")
        expect(page.get_by_role("heading", name="Result")).to_be_visible()
        expect(page.locator("#chosen")).to_have_text("1 chosen")
        page.goto("http://pages.test/mlops/page?search=1")  # not from there: a new list
        expect(page.get_by_role("heading", name="Result")).to_have_count(0)
