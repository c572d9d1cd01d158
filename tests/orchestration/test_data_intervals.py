"""Intervals of cron schedules in local time: without a gap or an overlap over both changes of the clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from airflow.sdk import timezone
from airflow.timetables._cron import CronMixin
from airflow.timetables.base import TimeRestriction
from airflow.timetables.interval import CronDataIntervalTimetable

from mlops_plugin.orchestration.data_intervals import Interval, interval_at, interval_end, without_gap
from support.workshop import Workshop

# (zone, a day or two before the clocks go forward, the same before they go back)
CHANGES = [
    ("Europe/Berlin", datetime(2026, 3, 27, tzinfo=UTC), datetime(2026, 10, 23, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 6, tzinfo=UTC), datetime(2026, 10, 30, tzinfo=UTC)),
    # Midnight itself is skipped there.
    ("America/Sao_Paulo", datetime(2018, 11, 2, tzinfo=UTC), datetime(2018, 2, 15, tzinfo=UTC)),
]
SCHEDULES = [
    *(pytest.param(schedule, marks=pytest.mark.slow) for schedule in ("@hourly", "*/30 0-4 * * *")),
    "@daily",
    "30 2 * * *",
    "*/20 2 * * *",
]


def scheduled(model: Any, first: datetime) -> list[Interval]:
    """What Airflow's scheduler would give to the runs of four days, as the dispatches have it."""
    timetable = CronDataIntervalTimetable(str(model.schedule), timezone=model.timezone)
    since = TimeRestriction(earliest=timezone.coerce_datetime(first), latest=None, catchup=True)
    found: list[Interval] = []
    last = None
    while info := timetable.next_dagrun_info(last_automated_data_interval=last, restriction=since):
        last = info.data_interval
        assert last is not None
        if last.start > first + timedelta(days=4):
            return found
        found.append(without_gap(model, (last.start, last.end)))
    return found


@pytest.mark.parametrize("zone", CHANGES, ids=lambda zone: str(zone[0]))
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_intervals_follow_one_another_over_both_changes_of_the_clocks(
    workshop: Workshop, schedule: str, zone: tuple[str, datetime, datetime]
) -> None:
    name, *changes = zone
    workshop.add_model("churn", schedule=schedule, timezone=name)
    model = workshop.model()
    for first in changes:
        intervals = scheduled(model, first)
        assert len(intervals) > 3
        assert all(start < end for start, end in intervals)
        assert [one[1] for one in intervals[:-1]] == [one[0] for one in intervals[1:]]
        for earlier, later in pairwise(intervals):  # a run by hand gets the same ones
            if later in intervals[::8] or schedule != "@hourly":
                assert interval_at(model, earlier[1]) == earlier
                assert interval_at(model, later[1] - timedelta(seconds=1)) == earlier
                if schedule.startswith("@"):  # others have pauses
                    assert interval_end(model, later[0]) == later[1]


def test_a_step_of_a_schedule_is_looked_for_once(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Near a change of the clocks, two days of intervals are looked through."""
    asked: list[Any] = []
    for name in ("_get_next", "_get_prev"):
        find = getattr(CronMixin, name)

        def ask(self: Any, moment: Any, find: Any = find) -> Any:
            asked.append((find, moment))
            return find(self, moment)

        monkeypatch.setattr(CronMixin, name, ask)
    workshop.add_model("churn", schedule="7,19 * * * *", timezone="Europe/Berlin")
    model, moment = workshop.model(), datetime(2026, 3, 29, 12, tzinfo=UTC)
    assert interval_at(model, moment)[1] == datetime(2026, 3, 29, 11, 19, tzinfo=UTC)
    assert len(asked) == len(set(asked)) > 100
    interval_at(model, moment + timedelta(minutes=1))
    assert len(asked) == len(set(asked))


def test_a_local_time_that_comes_twice_is_two_moments(workshop: Workshop) -> None:
    workshop.add_model("churn", schedule="*/30 * * * *", timezone="Europe/Berlin")
    zone = ZoneInfo("Europe/Berlin")
    moments = [datetime(2026, 10, 25, 2, 30, fold=fold, tzinfo=zone) for fold in (0, 1)]
    ends = [interval_at(workshop.model(), moment)[1] for moment in moments]
    assert ends == [datetime(2026, 10, 25, hour, 30, tzinfo=UTC) for hour in (0, 1)]


def test_a_daily_schedule_runs_at_the_same_local_time_all_year(workshop: Workshop) -> None:
    workshop.add_model("churn", schedule="0 6 * * *", timezone="Europe/Berlin")
    model = workshop.model()
    winter, summer = datetime(2026, 1, 15, 12, tzinfo=UTC), datetime(2026, 7, 15, 12, tzinfo=UTC)
    assert interval_at(model, winter)[1] == datetime(2026, 1, 15, 5, tzinfo=UTC)
    assert interval_at(model, summer)[1] == datetime(2026, 7, 15, 4, tzinfo=UTC)


def test_a_start_date_without_a_zone_is_in_the_models_time_zone(workshop: Workshop) -> None:
    workshop.add_model("churn", schedule="@daily", timezone="Asia/Tokyo", start_date="2026-01-01")
    assert workshop.model().start_date == datetime(2025, 12, 31, 15, tzinfo=UTC)
    workshop.add_model("churn", schedule="@daily", timezone="Asia/Tokyo", start_date="2026-01-01T00:00:00Z")
    assert workshop.model().start_date == datetime(2026, 1, 1, tzinfo=UTC)


def test_a_model_takes_the_time_zone_of_the_defaults(workshop: Workshop) -> None:
    workshop.sections["defaults"] = {"timezone": "America/Sao_Paulo"}
    workshop.add_model("churn", schedule="@daily")
    workshop.add_model("other", schedule="@daily", timezone="UTC")
    assert workshop.model().timezone == "America/Sao_Paulo"
    assert workshop.model("other").timezone == "UTC"
