"""Durations as people write them: `10s`, `15m`, `2h`, `90d`, `1h30m`."""

from __future__ import annotations

import re
from datetime import timedelta

PATTERN = r"^(?=\d)(\d+d)?(\d+h)?(\d+m)?(\d+s)?$"
LONGEST = timedelta(days=3650)
_DURATION = re.compile(r"(?=\d)(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?", re.ASCII)
_EXPECTED = "write whole days, hours, minutes and seconds, e.g. '90d', '2h', '15m', '10s' or '1h30m'"


def parse_duration(value: object) -> timedelta:
    """Turn `1h30m` into a timedelta; a timedelta passes. Raises `ValueError` with an example."""
    if isinstance(value, timedelta):
        duration = value
    elif isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise ValueError(f"'{value}' is not a duration; {_EXPECTED}")
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        duration = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    elif isinstance(value, int) and not isinstance(value, bool):
        raise ValueError(f"a duration needs a unit; write e.g. '{value}s' or '{value}m'")  # noqa: TRY004 (pydantic)
    else:
        raise ValueError(f"not a duration; {_EXPECTED}")  # noqa: TRY004 (pydantic reports ValueError only)
    if not timedelta(0) <= duration <= LONGEST:
        raise ValueError(f"a duration must be between 0s and {format_duration(LONGEST)}")
    return duration


def parse_positive_duration(value: object) -> timedelta:
    """Like `parse_duration`, but refuses `0s`."""
    duration = parse_duration(value)
    if not duration:
        raise ValueError("must be longer than 0s; write e.g. '10s'")
    return duration


def format_duration(duration: timedelta) -> str:
    """The shortest text that `parse_duration` turns into this duration; parts of a second are dropped."""
    seconds = int(duration.total_seconds())
    parts = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
