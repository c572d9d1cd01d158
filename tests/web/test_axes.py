"""Ticks stand at round places inside of any range, and few enough to read."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from mlops_plugin.web.axes import duration_ticks, number_ticks, tick_words, time_ticks

START = datetime(2026, 1, 31, 22, 47, tzinfo=UTC)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.5, 1]),
        (0, 0.3, [0, 0.1, 0.2, 0.3]),
        (0, 123_456, [0, 50_000, 100_000, 150_000]),
        (-5, 5, [-5, 0, 5]),
        (0, 1e-9, [0, 5e-10, 1e-9]),
        (-1e308, 1e308, [-1e308, -5e307, 0, 5e307, 1e308]),
        (2, 2, [1, 1.5, 2, 2.5, 3]),
        (0, 0, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_number_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert number_ticks(low, high) == ticks


@pytest.mark.parametrize("low", [1e17, -1e17, 3e300, 0.1])
def test_ticks_around_one_number_differ(low: float) -> None:
    for high in (low, math.nextafter(low, math.inf)):
        ticks = number_ticks(low, high)
        assert ticks[0] < low <= high < ticks[-1]


@pytest.mark.parametrize(
    ("longest", "ticks"),
    [
        (0.3, [0, 0.1, 0.2, 0.3]),
        (14.8, [0, 5, 10, 15]),
        (400, [0, 120, 240, 360, 480]),
        (4_000, [0, 1_800, 3_600, 5_400]),
        (900_000, [0, 604_800, 1_209_600]),
    ],
)
def test_duration_ticks_are_those_of_a_clock(longest: float, ticks: list[float]) -> None:
    assert duration_ticks(0, longest) == ticks


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(seconds=5), ["Jan 31, 22:47:00", "22:47:02", "22:47:04"]),
        (timedelta(minutes=7), ["Jan 31, 22:48", "22:50", "22:52", "22:54"]),
        (timedelta(hours=3), ["Jan 31, 23:00", "Feb 1, 00:00", "01:00"]),
        (timedelta(hours=20), ["Feb 1, 00:00", "06:00", "12:00", "18:00"]),
        (timedelta(days=20), ["Feb 7", "Feb 14"]),
        (timedelta(days=400), ["Apr 2026", "Jul 2026", "Oct 2026", "Jan 2027"]),
    ],
)
def test_times_have_ticks_at_full_units(length: timedelta, words: list[str]) -> None:
    assert tick_words(time_ticks(START, START + length, 6)) == words


@pytest.mark.parametrize("seconds", [2, 9, 100, 5_000, 40_000, 200_000, 4e6, 5.1e6, 1e8, 2e9])
def test_no_range_of_time_has_more_ticks_than_fit(seconds: float) -> None:
    end = START + timedelta(seconds=seconds)
    ticks = time_ticks(START, end, 6)
    assert len(ticks) <= 6
    assert all(START <= tick <= end for tick in ticks)


@pytest.mark.parametrize(
    ("zone", "start", "length", "words"),
    [
        # Half an hour beside UTC, and a day that begins elsewhere.
        (
            "Asia/Kolkata",
            "2026-01-31T16:47",
            timedelta(hours=4),
            ["Jan 31, 23:00", "Feb 1, 00:00", "01:00", "02:00"],
        ),
        ("America/Sao_Paulo", "2026-01-31T22:47", timedelta(days=3), ["Feb 1", "Feb 2", "Feb 3"]),
        ("America/Sao_Paulo", "2026-01-15T00:00", timedelta(days=70), ["Feb 2026", "Mar 2026"]),
        # Clocks are set forward from 02:00 to 03:00 (01:00 UTC), and back from 03:00 to 02:00 (01:00 UTC).
        ("Europe/Berlin", "2026-03-28T23:30", timedelta(hours=3), ["Mar 29, 01:00", "03:00", "04:00"]),
        (
            "Europe/Berlin",
            "2026-03-28T22:30",
            timedelta(hours=23),
            ["Mar 29, 00:00", "06:00", "12:00", "18:00"],
        ),
        (
            "Europe/Berlin",
            "2026-10-24T23:30",
            timedelta(hours=3),
            ["Oct 25, 02:00 CEST", "02:00 CET", "03:00"],
        ),
        (
            "Europe/Berlin",
            "2026-10-24T21:30",
            timedelta(hours=25),
            ["Oct 25, 00:00", "06:00", "12:00", "18:00"],
        ),
        ("Europe/Berlin", "2026-10-23T21:30", timedelta(days=4), ["Oct 24", "Oct 25", "Oct 26", "Oct 27"]),
        # By half an hour.
        (
            "Australia/Lord_Howe",
            "2026-04-04T14:20",
            timedelta(minutes=100),
            ["Apr 5, 01:30 +11", "01:30 +1030", "02:00", "02:30"],
        ),
        # A day without a midnight.
        ("Africa/Cairo", "2026-04-22T20:00", timedelta(days=3), ["Apr 23", "Apr 24", "Apr 25"]),
    ],
)
def test_ticks_stand_at_round_local_times_also_where_clocks_are_changed(
    zone: str, start: str, length: timedelta, words: list[str]
) -> None:
    begin = datetime.fromisoformat(start).replace(tzinfo=UTC)
    assert tick_words(time_ticks(begin, begin + length, 6, ZoneInfo(zone))) == words


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "Australia/Lord_Howe", "Africa/Cairo", "Africa/Casablanca"]
)
def test_ticks_are_in_order_and_few_over_every_change_of_a_year(zone: str) -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    lengths = [
        timedelta(minutes=30),
        timedelta(hours=5),
        timedelta(hours=11.9),
        timedelta(hours=17.9),
        timedelta(days=3),
    ]
    for hour in range(0, 366 * 24, 5):
        start = begin + timedelta(hours=hour)
        for length in lengths:
            ticks = [tick.astimezone(UTC) for tick in time_ticks(start, start + length, 6, ZoneInfo(zone))]
            assert 1 <= len(ticks) <= 6
            assert ticks == sorted(set(ticks))
            assert start <= ticks[0]
            assert ticks[-1] <= start + length
