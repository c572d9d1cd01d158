from __future__ import annotations

import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_plugin.config.durations import (
    LONGEST,
    PATTERN,
    format_duration,
    parse_duration,
    parse_positive_duration,
)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("10s", timedelta(seconds=10)),
        ("15m", timedelta(minutes=15)),
        ("2h", timedelta(hours=2)),
        ("90d", timedelta(days=90)),
        ("1h30m", timedelta(minutes=90)),
        ("0s", timedelta(0)),
        (" 5m ", timedelta(minutes=5)),
    ],
)
def test_a_duration_reads_as_written(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@given(st.integers(min_value=0, max_value=int(LONGEST.total_seconds())))
def test_a_formatted_duration_reads_back_the_same(seconds: int) -> None:
    text = format_duration(timedelta(seconds=seconds))

    assert parse_duration(text) == timedelta(seconds=seconds)
    assert re.search(PATTERN, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "m",
        "5 m",
        "1.5h",
        "-5m",
        "5m1h",
        "5M",
        "5min",
        "1h 30m",
        "\u0665m",
        "P1D",
        "9999999999d",
        "3651d",
    ],
)
def test_other_texts_are_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match=r"\d+[dms]\b"):
        parse_duration(text)


@pytest.mark.parametrize("value", [5, 1.5, True, None, ["5m"]])
def test_a_duration_without_unit_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"\d+[dms]\b"):
        parse_duration(value)


def test_a_number_is_told_which_units_there_are() -> None:
    with pytest.raises(ValueError, match=r"'30s'.*'30m'"):
        parse_duration(30)


def test_a_positive_duration_is_not_zero() -> None:
    with pytest.raises(ValueError, match="0s"):
        parse_positive_duration("0m")
