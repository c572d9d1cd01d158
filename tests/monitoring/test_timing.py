"""When the next dispatch of a schedule is due, of which a task knows only where its interval begins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mlops_plugin.orchestration.data_intervals import interval_end
from support.workshop import Workshop

NOON = datetime(2026, 4, 1, 12, 0, tzinfo=UTC)
MIDNIGHT = datetime(2026, 4, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "start", "end"),
    [
        ("@hourly", NOON, NOON + timedelta(hours=1)),
        ("*/5 * * * *", NOON, NOON + timedelta(minutes=5)),
        ("@quarterly", MIDNIGHT, datetime(2026, 7, 1, tzinfo=UTC)),
        ("90s", NOON, NOON + timedelta(seconds=90)),
        ("@once", NOON, None),
        (None, NOON, None),
    ],
)
def test_a_dispatch_is_due_when_its_interval_ends(
    workshop: Workshop, schedule: str | None, start: datetime, end: datetime | None
) -> None:
    workshop.add_model("churn", schedule=schedule)

    assert interval_end(workshop.loaded.model("churn"), start) == end
