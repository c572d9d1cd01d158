"""Schedules as people write them: cron, an Airflow preset, a duration, asset names, or none."""

from __future__ import annotations

import difflib
import re
from functools import lru_cache

from mlops_plugin.config.durations import parse_positive_duration

# Airflow keeps its cron presets in airflow.utils.dates, which is too heavy to import here.
PRESETS = (
    "@once",
    "@continuous",
    "@hourly",
    "@daily",
    "@weekly",
    "@monthly",
    "@quarterly",
    "@yearly",
)
_EXAMPLES = "write e.g. '*/5 * * * *', '5m', '@hourly', or a list of asset names"
_LOOKS_LIKE_DURATION = re.compile(r"\d[\ddhms]*")
_RANDOM = re.compile(r"(?<![a-z])[rh](?![a-z])", re.IGNORECASE)
_LONGEST_ASSET_NAME = 1500


def check_schedule(value: object) -> str | tuple[str, ...] | None:
    """Return a usable schedule as it is; raises `ValueError` that says what to write."""
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return _check_assets(tuple(value))
    if not isinstance(value, str):
        raise ValueError(f"not a schedule; {_EXAMPLES}")  # noqa: TRY004 (pydantic reports ValueError only)
    schedule = value.strip()
    if not schedule:
        raise ValueError("an empty text is no schedule; for manual runs only write null")
    if schedule.startswith("@"):
        return _check_preset(schedule)
    if _LOOKS_LIKE_DURATION.fullmatch(schedule):
        parse_positive_duration(schedule)
        return schedule
    return _check_cron(schedule)


def _check_assets(names: tuple[object, ...]) -> tuple[str, ...]:
    if not names:
        raise ValueError("the list of asset names is empty; for manual runs only write null")
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


def _check_preset(schedule: str) -> str:
    if schedule in PRESETS:
        return schedule
    near = difflib.get_close_matches(schedule.lower(), PRESETS, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise ValueError(f"'{schedule}' is not a preset; {hint}There are {', '.join(PRESETS)}")


# Many models share a schedule, and a check costs 0.1 ms.
@lru_cache(maxsize=256)
def _check_cron(schedule: str) -> str:
    if len(schedule.split()) != 5:
        asset = f"; an asset name stands in a list: [{schedule}]" if " " not in schedule else ""
        raise ValueError(f"'{schedule}' is not a cron expression; {_EXAMPLES}{asset}")
    # 9 ms: only where a cron expression is used. Comes with Airflow.
    from croniter import CroniterError, croniter  # type: ignore[import-untyped]

    if _RANDOM.search(schedule):
        raise ValueError(f"'{schedule}' has a random or hashed part, which Airflow evaluates anew each time")
    try:
        croniter(schedule).get_next()
    except (CroniterError, ValueError, OverflowError) as error:
        raise ValueError(f"'{schedule}' is not a cron expression ({error}); {_EXAMPLES}") from error
    return schedule
