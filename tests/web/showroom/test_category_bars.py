"""What if over a category: one bar for each value of its list, from what the model answered for it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from playwright.sync_api import Browser, expect

from mlops_plugin.serving.curves import Categories
from mlops_plugin.serving.run import Shown
from mlops_plugin.serving.showing_sink import Rejection
from mlops_plugin.serving.wanted import Wanted
from mlops_plugin.web.showroom.category_bars import CategoriesShown, category_bars
from mlops_plugin.web.showroom.curve import curve_chart
from web.conftest import drawn_page, rendered, without_errors
from web.scene import violations

WANTED = Wanted(keys=[(1,)], changes={"a": "y"}, curve=Categories("a", ("x", "y", "z")))


def _shown(values: list[Any], column: str, outcomes: list[Any], rejected: int = -1) -> Shown:
    """A run on the case as it is, as it was changed, and with each category."""
    rows = pa.table({"id": [1] * len(values), "a": values})
    kept = [outcome for row, outcome in enumerate(outcomes) if row != rejected]
    predictions = pa.table({"id": [1] * len(kept), column: kept})
    rejections = () if rejected < 0 else (Rejection(rejected, "a", "not allowed", "z"),)
    return Shown("d", "0" * 64, rows, predictions, (), rejections, None, len(values) - 2)


def _drawn(shown: Shown) -> CategoriesShown:
    found = category_bars(shown, WANTED)
    assert found is not None
    return found


def _bars(found: CategoriesShown) -> list[tuple[float, float]]:
    """Where each bar begins and how long it is."""
    boxes = [ET.fromstring(one.bar).findall("rect") for one in found.rows]  # noqa: S314 - our own
    return [(float(box.attrib["x"]), float(box.attrib["width"])) for (box,) in boxes]


def test_a_probability_is_a_bar_from_nothing_and_the_case_is_marked() -> None:
    found = _drawn(_shown(["x", "y", "x", "y", "z"], "probability_stays", [0.5, 1.0, 0.5, 1.0, 0.25]))
    assert (found.feature, found.outcome, found.low, found.high) == ("a", "probability of stays", "0", "1")
    assert [(one.label, one.outcome, one.note) for one in found.rows] == [
        ("x", "0.5", "as it is"),
        ("y", "1", "now"),
        ("z", "0.25", ""),
    ]
    assert _bars(found) == [(0, 100), (0, 200), (0, 50)]
    assert [one.is_now for one in found.rows] == [False, True, False]


def test_amounts_are_marked_between_round_ends() -> None:
    found = _drawn(_shown(["x", "x", "x", "y", "z"], "prediction", [10.0, 10.0, 10.0, 20.0, 15.0]))
    assert (found.low, found.high) == ("10", "20")
    starts = [start for start, _width in _bars(found)]
    assert (starts[0], starts[1]) == (0, 194)
    assert starts[2] == pytest.approx(97)
    same = _drawn(_shown(["x", "x", "x", "y", "z"], "prediction", [3.0] * 5))
    assert (same.low, same.high) == ("2", "4")


def test_a_category_that_is_rejected_has_no_bar_and_a_value_beside_the_list_has_one() -> None:
    found = _drawn(_shown(["x", None, "x", "y", "z"], "score", [1.0, 5.0, 1.0, 2.0, 0.0], rejected=4))
    assert [(one.label, one.outcome, one.note) for one in found.rows] == [
        ("x", "1", "as it is"),
        ("y", "2", ""),
        ("z", "rejected", ""),
        ("NULL", "5", "now"),
    ]
    assert ["rect" in one.bar for one in found.rows] == [True, True, False, True]


def test_there_are_no_bars_without_numbers_or_over_a_range() -> None:
    labels = _shown(["x", "x", "x", "y"], "prediction", ["stays", "stays", "stays", "leaves"])
    assert category_bars(labels, WANTED) is None
    numbers = _shown(["x", "x", "x", "y"], "score", [1.0, 1.0, 1.0, 2.0])
    assert category_bars(numbers, Wanted(keys=[(1,)], changes={"a": "y"})) is None
    assert curve_chart(numbers, WANTED) is None


def test_bars_are_accessible_and_fit_a_phone(browser: Browser) -> None:
    shown = _shown(["x", "y", "x", "y", "z"], "probability_stays", [0.5, 1.0, 0.5, 1.0, 0.25])
    values: dict[str, Any] = {"problem": None, "csv": "", "results": [], "verdict": None, "curl": ""}
    values |= {"model": SimpleNamespace(name="churn"), "shown": shown, "wanted": WANTED, "curve": None}
    result = rendered("showroom/result.html", categories=_drawn(shown), **values)
    html = rendered("showroom/run.html", title="Churn", steps=[], result=result, model=values["model"])
    with drawn_page(browser, html) as page, without_errors(page):
        expect(page.get_by_role("row", name="y now 1")).to_be_visible()
        for width, scheme in ((1300, "light"), (400, "dark")):
            page.set_viewport_size({"width": width, "height": 800})
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            assert violations(page) == []
            assert page.evaluate("document.documentElement.scrollWidth") <= width
