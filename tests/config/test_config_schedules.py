from __future__ import annotations

import pytest
from airflow.sdk.definitions.timetables._cron import CRON_PRESETS

from mlops_plugin.config.schedules import PRESETS, check_schedule


@pytest.mark.parametrize(
    "schedule",
    [
        None,
        "*/5 * * * *",
        "15 6-18/2 1,15 JAN-JUN mon-fri",
        "0 0 29 2 *",
        "0 0 L * *",
        "@hourly",
        "@once",
        "15m",
        "1d12h",
        ("churn.predictions",),
        ("a", "b"),
    ],
)
def test_a_schedule_in_any_of_its_forms_passes_unchanged(schedule: str | tuple[str, ...] | None) -> None:
    assert check_schedule(schedule) == schedule


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
        check_schedule(schedule)


def test_the_presets_are_airflows() -> None:
    assert set(PRESETS) == {"@once", "@continuous", *CRON_PRESETS}
