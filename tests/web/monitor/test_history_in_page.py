"""The history of a target in a browser, drawn without Airflow: charts that say exact values."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import get_args

from playwright.sync_api import Browser, Locator, Page, expect

from mlops_plugin.events.health.probes import ProbeRecord
from mlops_plugin.web.monitor.records import FailedProbe, IncidentStatus, Window
from mlops_plugin.web.monitor.windows import TargetPast, shown_past, spans_of
from web.conftest import drawn_page, rendered, without_errors
from web.scene import violations

NOW = datetime(2026, 3, 1, 12, 10, tzinfo=UTC)
START = datetime(2026, 2, 28, 12, 30, tzinfo=UTC)  # of the first of 48 half hours


def drawn() -> str:
    """A day with a probe each quarter of an hour, one of them refused at 06:00, and none before 18:00."""
    probes = []
    for number in range(73):
        at = datetime(2026, 2, 28, 18, tzinfo=UTC) + timedelta(minutes=15 * number)
        is_down = at == datetime(2026, 3, 1, 6, tzinfo=UTC)
        seconds = None if is_down else 0.01 + number / 10_000
        probes.append(
            ProbeRecord("host a", at, "down" if is_down else "up", seconds, "refused" if is_down else None)
        )
    failed = datetime(2026, 3, 1, 6, tzinfo=UTC)
    past = TargetPast(
        target="host a",
        name="Feature service",
        is_watched=True,
        windows={window: spans_of(window, probes, NOW) for window in get_args(Window)},
        incidents=[
            IncidentStatus(state="down", began_at=failed, ended_at=None, ended_as=None, error="refused")
        ],
        failed_probes=[FailedProbe(at=failed, state="down", error="refused")],
        now=NOW,
    )
    return rendered("monitor/history.html", **shown_past(past))


def _chart(page: Page, name: str) -> Locator:
    return page.get_by_role("img", name=re.compile(f"^{name}"))


def _tip(page: Page, name: str) -> Locator:
    return page.locator(".chart-frame", has=_chart(page, name)).get_by_role("status", include_hidden=True)


def _point_at(page: Page, name: str, bar: int) -> None:
    """At the middle of one of the 48 bars, which stand between 76 and 628 of 640."""
    chart = _chart(page, name)
    box = chart.bounding_box()
    assert box is not None
    chart.hover(position={"x": (76 + (bar + 0.45) / 48 * 552) / 640 * box["width"], "y": box["height"] / 2})


def test_a_crosshair_shows_what_was_found_in_the_nearest_span(browser: Browser) -> None:
    availability, latency = "Availability, last 24 hours", "Latency, last 24 hours"
    with drawn_page(browser, drawn(), width=1300) as page, without_errors(page):
        assert page.evaluate("shifts") == []
        chart = _chart(page, availability).bounding_box()
        assert chart is not None
        assert chart["width"] > 500
        ticks = _chart(page, latency).locator("text").all_text_contents()
        assert ticks[:5] == ["0 ms", "5 ms", "10 ms", "15 ms", "20 ms"]
        assert [words[:5] for words in ticks[5:]] == ["18:00", "00:00", "06:00", "12:00"]
        _point_at(page, availability, 47)
        expect(_tip(page, availability)).to_have_text("2026-03-01 12:00: 100 % of 1 probe")
        _point_at(page, availability, 35)  # 06:00: one of two
        expect(_tip(page, availability)).to_have_text("2026-03-01 06:00: 50.0 % of 2 probes")
        expect(page.locator(".chart-frame .crosshair[visibility=visible]")).to_have_count(1)
        _point_at(page, availability, 0)
        expect(_tip(page, availability)).to_have_text("2026-02-28 12:30: not probed")
        _point_at(page, latency, 47)
        expect(_tip(page, latency)).to_have_text("2026-03-01 12:00: 17.2 ms on average, 17.2 ms at most")
        expect(_tip(page, availability)).to_be_hidden()
        for width in (700, 400):
            page.set_viewport_size({"width": width, "height": 800})
            _point_at(page, latency, 47)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert violations(page) == []


def test_the_keyboard_reads_the_bars_and_times_are_in_the_zone_that_was_chosen(browser: Browser) -> None:
    name = "Availability, last 24 hours"
    with drawn_page(browser, drawn()) as page:
        page.evaluate("""localStorage.setItem("timezone", '"Asia/Tokyo"')""")
        page.reload()
        page.wait_for_load_state("networkidle")
        _chart(page, name).focus()
        page.keyboard.press("End")
        expect(_tip(page, name)).to_have_text("2026-03-01 21:00: 100 % of 1 probe")
        page.keyboard.press("ArrowLeft")
        expect(_tip(page, name)).to_contain_text("2026-03-01 20:30: ")
        page.keyboard.press("Escape")
        expect(_tip(page, name)).to_be_hidden()
