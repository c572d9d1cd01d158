"""Which time zone a page is drawn in."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from starlette.requests import Request

from mlops_plugin.web.charts import Point, line_chart
from mlops_plugin.web.time_zone import COOKIE, in_zone, zone_of

START = datetime(2026, 10, 24, 22, tzinfo=UTC)  # midnight in Berlin, three hours before clocks are set back


def asked(cookie: str) -> str:
    headers = [(b"cookie", cookie.encode("latin-1"))]
    return zone_of(Request({"type": "http", "path": "/monitor", "root_path": "", "headers": headers})).key


@pytest.mark.parametrize(
    "name", ["Europe/Berlin", "America/Argentina/Buenos_Aires", "Asia/Calcutta", "Etc/GMT+5"]
)
def test_a_cookie_names_a_zone(name: str) -> None:
    assert asked(f"_token=x; {COOKIE}={name}") == name


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Europe",
        "Nowhere/Else",
        "+05:30",
        "../../etc/passwd",
        "/etc/localtime",
        "tzdata.zi",
        "x" * 5_000,
        "\xff",
        "<b>",
    ],
)
def test_what_is_no_zone_is_utc(value: str) -> None:
    assert asked(f"{COOKIE}={value}") == "UTC"


def test_a_chart_writes_its_axis_and_its_values_in_the_zone_of_the_page() -> None:
    points = [Point(START + timedelta(hours=n), float(n), "succeeded") for n in range(6)]
    in_utc = str(line_chart("rows", "Rows", points).svg)
    with in_zone(ZoneInfo("Europe/Berlin")):
        chart = line_chart("rows", "Rows", points)
    shown = str(chart.svg)
    assert "2026-10-25 02:00 CEST: 2" in shown
    assert "2026-10-25 02:00 CET: 3" in shown
    assert re.search(r">00:00<tspan [^>]*>Oct 25<", shown)
    assert re.search(r">22:00<tspan [^>]*>Oct 24<", in_utc)
    assert "2026-10-25 01:00 UTC: 3" in in_utc
    # What scripts read stays exact.
    assert chart.table.rows[0][0] == START.isoformat()
    assert f'data-start="{START.isoformat()}"' in shown
