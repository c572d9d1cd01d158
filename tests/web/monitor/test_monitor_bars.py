"""Bars say in words what they show, and a failure is never rounded away."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from mlops_plugin.events.health.probes import ProbeRecord, Span, added_up
from mlops_plugin.web.monitor.bars import availability_bars, day_bars, describe_latency, latency_bars
from mlops_plugin.web.monitor.windows import spans_of, whole_day

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOTHING = Span("", NOON)
WHOLE = 104.0  # the height of the plotted part


def heights(svg: str, look: str) -> list[float]:
    return [float(height) for height in re.findall(rf'class="{look}" [^>]* height="([\d.]+)"', svg)]


def test_one_failure_of_many_is_seen() -> None:
    svg = availability_bars([Span("", NOON, up=9_999, down=1), NOTHING], "day", "last 24 hours")

    assert ">Availability, last 24 hours</title>" in svg
    assert ">99.9 % of 10,000 probes</desc>" in svg
    assert heights(svg, "down") == [2.0]
    assert heights(svg, "up") == [WHOLE - 2.0]
    assert heights(svg, "none") == [2.0]


def test_a_span_that_was_down_has_no_green() -> None:
    svg = availability_bars([Span("", NOON, down=3)], "day", "x")

    assert heights(svg, "down") == [WHOLE]
    assert not heights(svg, "up")


def test_latency_bars_are_in_proportion() -> None:
    found = [Span("", NOON, up=2, seconds_sum=0.04, seconds_max=0.03), Span("", NOON, up=1, seconds_sum=0.01)]
    svg = latency_bars(found, "day", "x")

    assert heights(svg, "latency") == [WHOLE, WHOLE / 2]
    assert ">20 ms<" in svg  # a tick
    assert "16.7 ms on average, 30.0 ms at most" in svg


def test_nothing_probed_is_said() -> None:
    assert "not probed" in availability_bars([NOTHING], "day", "x")
    assert "not known" in latency_bars([NOTHING], "day", "x")
    assert "not probed" in day_bars([None] * 24, None)


def test_a_day_counts_probes_rather_than_hours() -> None:
    assert "66.6 % of probes succeeded in 24 hours" in day_bars([1.0, 0.5], 2 / 3)


def test_a_day_counts_probes_that_are_kept_only_as_sums() -> None:
    now = NOON + timedelta(minutes=40)
    hours = [Span("", NOON - timedelta(hours=n), up=6, down=6) for n in range(30, -1, -1)]
    single = [ProbeRecord("", now - timedelta(minutes=5 * n), "up", 0.1, None) for n in range(37)]
    for kept, count, down in ((timedelta(hours=3), 21 * 12 + 33, 21 * 6), (timedelta(days=2), 37, 0)):
        day = added_up(spans_of("24 hours", whole_day(single, hours, now - kept), now))
        assert (day.count, day.down) == (count, down)


def test_a_label_is_escaped() -> None:
    assert "<b>" not in availability_bars([NOTHING], "day", '"><b>')


def test_what_has_no_latency_has_not_one_of_zero() -> None:
    """A model gets through, and in no time that could be told."""
    assert describe_latency([Span("", NOON, up=3)]) == "not known"
    assert heights(latency_bars([Span("", NOON, up=3)], "day", "x"), "latency") == []
