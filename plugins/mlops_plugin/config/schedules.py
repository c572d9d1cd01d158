"""Schedules as people write them: cron, an Airflow preset, a duration, asset names, or none.

`parse_schedule` decides once what a text is; everybody else asks the type of what it returns.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from mlops_plugin.config.durations import parse_positive_duration

# Airflow keeps its cron presets in airflow.utils.dates, which is too heavy to import here.
CRON_PRESETS = ("@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")
PRESETS = ("@once", "@continuous", *CRON_PRESETS)
UTC_NAME = "UTC"
_OF_THE_MACHINE = ("localtime", "posixrules")
_EXAMPLES = "write e.g. '*/5 * * * *', '5m', '@hourly', or a list of asset names"
_LOOKS_LIKE_DURATION = re.compile(r"\d[\ddhms]*")
_RANDOM = re.compile(r"(?<![a-z])[rh](?![a-z])", re.IGNORECASE)
_LONGEST_ASSET_NAME = 1500


@dataclass(frozen=True)
class CronSchedule:
    """At the times of a cron expression of five fields, or of a preset such as `@hourly`."""

    expression: str

    def __str__(self) -> str:
        return self.expression


@dataclass(frozen=True)
class FixedSchedule:
    """Always the same time after the last one; `text` is what the configuration says."""

    text: str
    length: timedelta

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class SpecialSchedule:
    """Without periods: once, or again and again."""

    preset: Literal["@once", "@continuous"]

    def __str__(self) -> str:
        return self.preset


@dataclass(frozen=True)
class AssetSchedule:
    """When all of these assets were updated since the last run."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return ", ".join(self.names)


Schedule = CronSchedule | FixedSchedule | SpecialSchedule | AssetSchedule
PeriodicSchedule = CronSchedule | FixedSchedule


def parse_schedule(value: object) -> Schedule | None:
    """A schedule of the configuration, None for manual runs only.

    Raises `ValueError` that says what to write. A parsed schedule passes: models inherit those of `defaults`.
    """
    if value is None or isinstance(value, Schedule):
        return value
    if isinstance(value, list | tuple):
        return AssetSchedule(_check_assets(tuple(value)))
    if not isinstance(value, str):
        raise ValueError(f"not a schedule; {_EXAMPLES}")  # noqa: TRY004 (pydantic reports ValueError only)
    schedule = value.strip()
    if not schedule:
        raise ValueError("an empty text is not a schedule; for manual runs only, write null")
    if schedule.startswith("@"):
        return _parse_preset(schedule)
    if _LOOKS_LIKE_DURATION.fullmatch(schedule):
        return FixedSchedule(schedule, parse_positive_duration(schedule))
    return CronSchedule(_check_cron(schedule))


def parse_periodic_schedule(value: object) -> PeriodicSchedule | None:
    """Like `parse_schedule`, for what must recur with time."""
    schedule = parse_schedule(value)
    if isinstance(schedule, AssetSchedule | SpecialSchedule):
        raise ValueError("must recur with time; write e.g. '5m', '*/5 * * * *' or '@hourly'")  # noqa: TRY004
    return schedule


def format_schedule(schedule: Schedule | None) -> str | list[str] | None:
    """What the configuration says, as JSON has it."""
    if isinstance(schedule, AssetSchedule):
        return list(schedule.names)
    return None if schedule is None else str(schedule)


def check_time_zone(name: str) -> str:
    """The name of a time zone in the IANA database. Raises `ValueError` with the nearest one."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        near = difflib.get_close_matches(name, available_timezones(), n=1, cutoff=0.6)
        hint = f"did you mean '{near[0]}'?" if near else "write e.g. UTC or America/Sao_Paulo"
        raise ValueError(f"'{name}' is not a time zone; {hint}") from error
    if name in _OF_THE_MACHINE:
        raise ValueError(f"'{name}' depends on the machine; write e.g. UTC or America/Sao_Paulo")
    return name


def has_whole_hours(name: str) -> bool:
    """Whether the clocks of a time zone change by whole hours, in this and the next year."""
    zone, year = ZoneInfo(name), datetime.now(UTC).year
    moments = [datetime(year + ahead, month, 1, tzinfo=UTC) for ahead in (0, 1) for month in range(1, 13)]
    offsets = [moment.astimezone(zone).utcoffset() or timedelta(0) for moment in moments]
    return all((offset - offsets[0]) % timedelta(hours=1) == timedelta(0) for offset in offsets)


def _check_assets(names: tuple[object, ...]) -> tuple[str, ...]:
    if not names:
        raise ValueError("the list of asset names is empty; for manual runs only, write null")
    checked = []
    for name in names:
        if not isinstance(name, str) or not name.strip() or not name.isascii():
            raise ValueError("an asset name is ASCII text, e.g. [churn.predictions]")
        if len(name) > _LONGEST_ASSET_NAME:
            raise ValueError(f"an asset name has at most {_LONGEST_ASSET_NAME} characters")
        if name in checked:
            raise ValueError(f"the asset '{name}' is listed twice")
        checked.append(name)
    return tuple(checked)


def _parse_preset(schedule: str) -> Schedule:
    if schedule in CRON_PRESETS:
        return CronSchedule(schedule)
    if schedule == "@once":
        return SpecialSchedule("@once")
    if schedule == "@continuous":
        return SpecialSchedule("@continuous")
    near = difflib.get_close_matches(schedule.lower(), PRESETS, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise ValueError(f"'{schedule}' is not a preset; {hint}There are {', '.join(PRESETS)}")


# Many models share a schedule, and a check costs 0.1 ms.
@lru_cache(maxsize=256)
def _check_cron(schedule: str) -> str:
    if len(schedule.split()) != 5:
        asset = f"; write an asset name in a list: [{schedule}]" if " " not in schedule else ""
        raise ValueError(f"'{schedule}' is not a cron expression; {_EXAMPLES}{asset}")
    # 9 ms: only if a cron expression is used. Comes with Airflow.
    from croniter import CroniterError, croniter  # type: ignore[import-untyped]

    if _RANDOM.search(schedule):
        raise ValueError(f"'{schedule}' has a random or hashed part, which changes at each evaluation")
    try:
        croniter(schedule).get_next()
    except (CroniterError, ValueError, OverflowError) as error:
        raise ValueError(f"'{schedule}' is not a cron expression ({error}); {_EXAMPLES}") from error
    return schedule
