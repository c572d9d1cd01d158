"""The data intervals of a model's schedule, as Airflow computes them.

Light, because `dag_factory` loads it whenever Airflow parses DAGs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from mlops_plugin.config.schedules import UTC_NAME, CronSchedule, FixedSchedule, PeriodicSchedule
from mlops_plugin.config.schema import ModelConfig

Interval = tuple[datetime, datetime]
# A clock changes within a day of these intervals, or Airflow computes them right.
_AROUND = timedelta(days=1)
_MOST_INTERVALS = 5_000  # two days have 2,880 minutes


def period_of(model: ModelConfig) -> PeriodicSchedule | None:
    """The schedule if it has periods, else None: manual runs, assets, `@once`, `@continuous`."""
    return model.schedule if isinstance(model.schedule, CronSchedule | FixedSchedule) else None


def interval_at(model: ModelConfig, moment: datetime) -> Interval:
    """The last complete data interval of the model's schedule before `moment`; both ends aware.

    Without periods it is empty: the moment itself.
    """
    from airflow.sdk import timezone

    timetable = _timetable(model)
    if timetable is None:
        return moment, moment
    if _is_near_a_change(model, moment):
        return without_gap(model, _last_complete(model, moment))
    found = timetable.infer_manual_data_interval(run_after=timezone.coerce_datetime(moment))
    return found.start, found.end


def _is_near_a_change(model: ModelConfig, moment: datetime) -> bool:
    """Whether the model's clock changes within a day."""
    if not isinstance(model.schedule, CronSchedule) or model.timezone == UTC_NAME:
        return False
    offsets = {
        (moment + shift).astimezone(ZoneInfo(model.timezone)).utcoffset() for shift in (-_AROUND, _AROUND)
    }
    return len(offsets) > 1


def _last_complete(model: ModelConfig, moment: datetime) -> Interval:
    """The last interval of the chain that scheduled runs have.

    In the hours around a change, Airflow infers intervals without a length, or ones that end too early.
    """
    from airflow.sdk import timezone

    before = moment - 2 * _AROUND
    found = _timetable(model).infer_manual_data_interval(run_after=timezone.coerce_datetime(before))
    last = (found.start, found.end)
    for interval in _intervals_from(model, before):
        if interval[1] > moment:
            break
        last = interval
    return last


def interval_end(model: ModelConfig, start: datetime) -> datetime | None:
    """When the data interval that begins at `start` ends; None if the schedule has no periods."""
    period = period_of(model)
    if isinstance(period, FixedSchedule):
        return start + period.length
    if period is None:
        return None
    # The one that ends at `start` is the newest that is complete then; near a change it is looked for.
    before = start - 2 * _AROUND if _is_near_a_change(model, start) else start
    return next((end for _, end in _intervals_from(model, before) if end > start), None)


def without_gap(model: ModelConfig, interval: Interval) -> Interval:
    """The interval from the end of the one before it on.

    When clocks go forward, Airflow's cron timetable leaves out the times that the clock skips ("*/20 2 * * *"
    has none of 02:20 and 02:40 then), and the next interval begins after them: rows would be in none.
    """
    start, end = interval
    if not isinstance(model.schedule, CronSchedule) or model.timezone == UTC_NAME or start >= end:
        return interval
    zone = ZoneInfo(model.timezone)
    before = start - _AROUND
    if before.astimezone(zone).utcoffset() == (end + _AROUND).astimezone(zone).utcoffset():
        return interval
    for earlier, later in pairwise(_intervals_from(model, before)):
        if later[0] == start:
            return min(earlier[1], start), end
        if later[0] > start:
            break
    return interval


def _intervals_from(model: ModelConfig, moment: datetime) -> Iterator[Interval]:
    """The intervals after the last one that is complete at `moment`."""
    from airflow.sdk import timezone
    from airflow.timetables.base import TimeRestriction

    timetable = _timetable(model)
    last = timetable.infer_manual_data_interval(run_after=timezone.coerce_datetime(moment))
    anything = TimeRestriction(earliest=None, latest=None, catchup=True)
    for _ in range(_MOST_INTERVALS):
        found = timetable.next_dagrun_info(last_automated_data_interval=last, restriction=anything)
        if found is None or found.data_interval is None:
            return
        last = found.data_interval
        yield last.start, last.end


def _timetable(model: ModelConfig) -> Any:
    """Airflow's own timetable, of the scheduler's side; None without periods."""
    from airflow.timetables import interval as timetables

    match model.schedule:
        case CronSchedule(expression):
            return _cron_timetable(expression, model.timezone)
        case FixedSchedule(length=length):
            return timetables.DeltaDataIntervalTimetable(length)
    return None


@lru_cache(maxsize=16)
def _cron_timetable(expression: str, zone: str) -> Any:
    """Airflow's own, which remembers what it has found.

    It parses the expression at each step, and asks for the same ones again and again: near a change of the
    clocks, an interval of a minute would take five seconds.
    """
    from airflow.timetables.interval import CronDataIntervalTimetable

    timetable: Any = CronDataIntervalTimetable(expression, timezone=zone)
    timetable._get_next = _remembered(timetable._get_next)
    timetable._get_prev = _remembered(timetable._get_prev)
    return timetable


def _remembered(find: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Of a local time that the clock shows twice, both are equal in Python: so it is asked in UTC."""
    known = lru_cache(maxsize=_MOST_INTERVALS)(find)
    return lambda moment: known(moment.in_timezone(UTC_NAME))
