"""The page Why over a stored explanation, drawn without Airflow."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from mlops_plugin.config.schema import ImageConfig
from mlops_plugin.events.details.explanations import (
    Contribution,
    Explanation,
    Method,
    Obstacle,
    ReferenceSource,
)
from mlops_plugin.web.languages.translation import speaking
from mlops_plugin.web.showroom.picture import pixel_map
from mlops_plugin.web.showroom.reasons import SHOWN, present_explanation
from web.conftest import drawn_page, rendered, stop_clock, without_errors
from web.scene import violations

LINK = "http://pages.test/mlops/showroom/churn/why/d1"


def _explanation(
    *amounts: float | None, method: Method = "exact", obstacle: Obstacle | None = None, **changes: Any
) -> Explanation:
    contributions = tuple(
        Contribution(f"f{n}", 1.5, 2, amount, 0.01 if method == "sampled" else None)
        for n, amount in enumerate(amounts)
    )
    total = sum(amount or 0.0 for amount in amounts)
    reference = None if method == "one_by_one" else 0.25
    usual = {
        "outcome": "probability_7",
        "value": 0.25 + total,
        "reference": reference,
        "orders": None if method == "exact" else 64,
    }
    values: dict[str, Any] = usual | changes
    return Explanation(
        method=method, contributions=contributions, source=ReferenceSource(5), obstacle=obstacle, **values
    )


def _drawn(found: Explanation) -> str:
    values: dict[str, Any] = {
        "model": SimpleNamespace(name="churn", key=["id"]),
        "title": "Churn",
        "key_text": "3",
        "pixels": pixel_map(found, [f"f{n}" for n in range(30)], ImageConfig(width=6, height=5)),
        "why": present_explanation(found),
        "source": found.source,
        "dispatch": SimpleNamespace(dispatch_id="d1", created_at=datetime(2026, 1, 1, tzinfo=UTC)),
        "link": LINK,
    }
    return rendered("showroom/why.html", **values)


def test_all_amounts_have_the_same_decimals_and_add_up() -> None:
    shown = present_explanation(_explanation(0.4012, -0.05, 0.000321, 0.0))
    assert [one.amount for one in shown.reasons] == ["+0.401", "-0.050", "+0.000", "+0.000"]
    assert [one.effect for one in shown.reasons] == ["raises", "lowers", "raises", "changes nothing"]
    assert shown.sums is not None
    assert (shown.sums.reference, shown.sums.amounts, shown.sums.value) == ("0.250", "+0.352", "0.602")
    assert shown.value == "0.602"  # one format of numbers
    with speaking("pt"):
        assert [one.amount for one in present_explanation(_explanation(1234.5, -2.0)).reasons] == [
            "+1.234",
            "-2",
        ]


def test_a_value_and_its_reference_do_not_look_alike_if_they_differ() -> None:
    found = _explanation(0.4)
    (one,) = found.contributions
    close = replace(found, contributions=(replace(one, value=1234567.125, reference=1234567.25),))
    (reason,) = present_explanation(close).reasons
    assert (reason.value, reason.reference) == ("1234567.125", "1234567.25")


def test_bars_diverge_from_the_middle() -> None:
    up, down = (one.bar for one in present_explanation(_explanation(0.4, -0.1)).reasons)
    assert re.findall(r'class="(\w+)" x="([\d.]+)" y="2" width="([\d.]+)"', up) == [
        ("raises", "100.0", "100.0")
    ]
    assert re.findall(r'class="(\w+)" x="([\d.]+)" y="2" width="([\d.]+)"', down) == [
        ("lowers", "75.0", "25.0")
    ]


def test_sampled_amounts_have_their_error() -> None:
    shown = present_explanation(_explanation(0.4, -0.1, method="sampled"))
    assert [one.error for one in shown.reasons] == ["± 0.010", "± 0.010"]
    assert "64 random orders" in shown.method
    assert 'class="error-bar"' in shown.reasons[0].bar
    assert not present_explanation(_explanation(0.4)).has_errors


@pytest.mark.parametrize(
    ("obstacle", "said"), [("slow", "too slow"), ("many", "too many features"), ("unanswered", "rejects")]
)
def test_the_simpler_method_says_why_it_was_taken_and_claims_no_sum(obstacle: Obstacle, said: str) -> None:
    shown = present_explanation(_explanation(0.4, None, method="one_by_one", obstacle=obstacle))
    assert said in shown.method
    assert "need not add up" in shown.method
    assert shown.sums is None
    assert (shown.reasons[1].amount, shown.reasons[1].effect[:7]) == ("", "unknown")


def test_small_contributions_are_folded_away_and_the_smallest_added_up() -> None:
    shown = present_explanation(_explanation(*[0.1] * 30, others=7, others_amount=-0.02))
    assert (len(shown.reasons), len(shown.more)) == (SHOWN, 10)
    assert shown.others == "7 further features together contribute -0.020"
    assert shown.sums is not None
    assert shown.sums.amounts == "+2.98"


def test_pixels_are_coloured_by_what_they_contribute() -> None:
    image = ImageConfig(width=2, height=2)
    explained = replace(_explanation(0.4, -0.2, 0.0, None), source=ReferenceSource(5))
    found = pixel_map(explained, ["f1", "f0", "f3", "f2"], image)
    assert found is not None
    assert re.findall(r'class="(\w+)" x="(\d+)" y="(\d+)" [^>]*fill-opacity="([\d.]+)"', found.svg) == [
        ("lowers", "0", "0", "0.50"),
        ("raises", "10", "0", "1.00"),
        ("lowers", "0", "10", "0.00"),
        ("lowers", "10", "10", "0.00"),
    ]
    assert "Pixels that raise the probability of 7: 1; that lower it: 1" in found.svg
    for features, size in ((["f0", "f1"], image), (["f0", "f1", "f2", "gone"], image), (["f0"] * 4, None)):
        assert pixel_map(explained, features, size) is None
    assert pixel_map(replace(explained, others=1), ["f1", "f0", "f3", "f2"], image) is None


def test_the_page_is_accessible_fits_a_phone_and_its_link_is_copied(browser: Browser) -> None:
    html = _drawn(_explanation(*[0.1, -0.05] * 15, method="sampled"))
    with drawn_page(browser, html) as page, without_errors(page):
        page.evaluate("document.querySelector('details').open = true")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert violations(page) == []
        for width in (700, 400):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate("document.querySelector('main').append(document.createElement('textarea'))")
        button = page.locator("[data-copy=why-link]")
        stop_clock(page)
        button.click()  # without HTTPS, as here, there is no clipboard API
        expect(button).to_have_text("Copied")
        page.locator("textarea").focus()
        page.keyboard.press("Control+V")
        expect(page.locator("textarea")).to_have_value(LINK)
