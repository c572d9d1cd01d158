"""The list of cases: what stands first, and which columns can be folded away."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pyarrow as pa
from playwright.sync_api import Browser, expect

from mlops_plugin.serving.cases import CasePage, CaseView
from mlops_plugin.web.showroom.cases import present_cases
from mlops_plugin.web.showroom.steps import step_words
from web.conftest import drawn_page, rendered, without_errors
from web.scene import violations

NAMES = ("id", "a", "b", "c", "d", "seen_at", "truth")


def _model(**changes: Any) -> Any:
    usual = {"title": None, "truth": "truth", "search": ["id", "seen_at"], "image": None}
    showroom = SimpleNamespace(**(usual | changes))
    return SimpleNamespace(name="churn", key=["id"], description="", showroom=showroom)


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


def test_a_few_features_are_not_folded_and_pixels_are_no_columns() -> None:
    assert _presented(_model())["inputs"] == 4
    assert _presented(_model(), ("a", "b", "c"))["inputs"] == 0
    picture = _presented(_model(image=SimpleNamespace(width=2, height=2)), ("a", "b", "c", "d"))
    assert _columns(picture) == (["id", "truth", "seen_at"], [])


def test_columns_of_features_fold_away_and_stay_folded(browser: Browser) -> None:
    model = _model()
    values: dict[str, Any] = {
        "model": model,
        "title": "Churn",
        "view": CaseView(),
        "table": _presented(model),
        "problem": None,
        "loading": SimpleNamespace(state="absent", error=None),
        "steps": list(step_words().items()),
        "may_run": True,
    }
    html = rendered("showroom/model.html", **values)
    html = html.replace('data-every="3"', 'data-every="0"')
    with drawn_page(browser, html) as page, without_errors(page):
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
