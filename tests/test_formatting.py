"""Values as people read them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from mlops_plugin.formatting import (
    MISSING,
    format_availability,
    format_distance,
    format_duration,
    format_like,
    format_number,
    format_period,
    format_value,
)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0012344, "0.001234"),
        (12.0, "12"),
        (1234.56, "1,235"),
        (123_456.7, "123,457"),
        (50_000.0, "50,000"),
        (-32_361.2, "-32,361"),
        (1.2344e9, "1.234e+09"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
    ],
)
def test_a_number_has_the_digits_that_matter(value: float, written: str) -> None:
    assert format_number(value) == written


@pytest.mark.parametrize(
    ("value", "greatest", "written"),
    [
        (0.0012, 0.456, "0.001"),
        (0.0012, 0.00456, "0.00120"),
        (-12.0, 456.0, "-12"),
        (12.34, 45.6, "12.3"),
        (1234.0, 45_678.9, "1,234"),
        (0.0, 0.0, "0"),
        (1e-9, 3e-9, "1.00e-09"),
    ],
)
def test_numbers_side_by_side_have_the_same_decimals(value: float, greatest: float, written: str) -> None:
    assert format_like(value, greatest) == written


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (7500, "2 h 5 min"),
        (900_000, "10 d"),
        (-5, "0 s"),
    ],
)
def test_a_period_has_its_largest_units(seconds: int, text: str) -> None:
    assert format_period(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, MISSING), (0, "0.00 s"), (0.254, "0.25 s"), (9.14, "9.1 s"), (60, "1 min"),
     (125, "2 min 5 s"),
     (3600, "1 h"), (11_040, "3 h 4 min"), (183_600, "2 d 3 h"), (59.99, "1 min")],
)  # fmt: skip
def test_a_duration_has_the_digits_that_matter(seconds: float | None, shown: str) -> None:
    assert format_duration(seconds) == shown


@pytest.mark.parametrize(
    ("share", "text"), [(1.0, "100 %"), (0.9999, "99.9 %"), (2 / 3, "66.6 %"), (0.0, "0.0 %")]
)
def test_only_everything_is_a_hundred_percent(share: float, text: str) -> None:
    assert format_availability(share) == text


def test_a_moment_lies_ahead_or_has_passed() -> None:
    assert format_distance(timedelta(minutes=5)) == "in 5 min"
    assert format_distance(timedelta(minutes=-2)) == "2 min ago"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "NULL"),
        (True, "true"),
        (0.12345678, "0.123457"),
        (2**53 + 1, "9007199254740993"),
        (b"\x00\xff", "00ff"),
        (date(2026, 3, 1), "2026-03-01"),
        (datetime(2026, 3, 1, 12, tzinfo=UTC), "2026-03-01T12:00:00+00:00"),
        (1234567.8, "1234568"),
        (-123456789012345.0, "-123456789012345"),
        (1e15, "1e+15"),
    ],
)
def test_a_value_of_a_row_is_readable(value: object, text: str) -> None:
    assert format_value(value) == text
