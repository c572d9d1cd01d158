from __future__ import annotations

import re
from datetime import timedelta

import pytest
from airflow.sdk.definitions.timetables._cron import CRON_PRESETS

from mlops_plugin.config.schedules import (
    PRESETS,
    AssetSchedule,
    CronSchedule,
    FixedSchedule,
    Schedule,
    SpecialSchedule,
    check_time_zone,
    format_schedule,
    has_whole_hours,
    parse_schedule,
)


@pytest.mark.parametrize(
    ("written", "parsed"),
    [
        (None, None),
        ("*/5 * * * *", CronSchedule("*/5 * * * *")),
        ("15 6-18/2 1,15 JAN-JUN mon-fri", CronSchedule("15 6-18/2 1,15 JAN-JUN mon-fri")),
        ("0 0 29 2 *", CronSchedule("0 0 29 2 *")),
        ("0 0 L * *", CronSchedule("0 0 L * *")),
        ("@hourly", CronSchedule("@hourly")),
        ("@once", SpecialSchedule("@once")),
        ("15m", FixedSchedule("15m", timedelta(minutes=15))),
        ("1d12h", FixedSchedule("1d12h", timedelta(hours=36))),
        (["churn.predictions"], AssetSchedule(("churn.predictions",))),
        (["a", "b"], AssetSchedule(("a", "b"))),
    ],
)
def test_a_schedule_is_parsed_once_and_serialized_as_it_was_written(
    written: object, parsed: Schedule | None
) -> None:
    assert parse_schedule(written) == parsed
    assert parse_schedule(parsed) == parsed
    assert format_schedule(parsed) == written


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("5 minutes", "'5 minutes' is not a cron expression; write e.g. '\\*/5 \\* \\* \\* \\*', '5m'"),
        ("* * * *", "not a cron expression"),
        ("* * * * * *", "not a cron expression"),
        ("61 * * * *", "out of range"),
        ("a b c d e", "not a cron expression"),
        ("*/0 * * * *", "not a cron expression"),
        ("0 0 30 2 *", "failed to find next date"),
        ("R * * * *", "random"),
        ("H * * * *", "random"),
        ("1" * 5000 + " * * * *", "not a cron expression"),
        ("churn.predictions", r"a list: \[churn.predictions\]"),
        ("@hourli", "did you mean '@hourly'"),
        ("@Hourly", "did you mean '@hourly'"),
        ("@annually", "not a preset"),
        ("0s", "longer than 0s"),
        ("90", "not a duration"),
        ("", "write null"),
        ((), "write null"),
        (("a", "a"), "listed twice"),
        (("",), "asset name"),
        (("größe",), "ASCII"),
        ((5,), "asset name"),
        (("a" * 1501,), "1500"),
        (5, "not a schedule"),
        ({"assets": ["a"]}, "not a schedule"),
    ],
)
def test_what_is_no_schedule_is_refused_with_what_to_write(schedule: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_schedule(schedule)


def test_the_presets_are_airflows() -> None:
    assert set(PRESETS) == {"@once", "@continuous", *CRON_PRESETS}


def test_a_time_zone_is_one_of_the_iana_database() -> None:
    assert check_time_zone("America/Sao_Paulo") == "America/Sao_Paulo"
    for wrong in ("America/Sao Paulo", "Sao_Paulo", "", "/etc/passwd", "../UTC", "localtime", "UTC+3"):
        with pytest.raises(ValueError, match=re.escape(f"'{wrong}'")):
            check_time_zone(wrong)


def test_only_clocks_that_change_by_whole_hours_fit_a_cron_schedule() -> None:
    assert has_whole_hours("Europe/Berlin")
    assert has_whole_hours("Asia/Kolkata")
    assert not has_whole_hours("Australia/Lord_Howe")
