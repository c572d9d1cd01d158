"""Ticks stand at round places inside of any range, and few enough to read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

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
    ],
)
def test_number_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert number_ticks(low, high) == ticks


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
