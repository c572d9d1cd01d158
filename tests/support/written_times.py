"""Times around two bounds, and exactly on them, in the forms in which people keep times as text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
MOMENTS = [MIDNIGHT + shift for shift in (-DAY, -HOUR, timedelta(0), HOUR, DAY - HOUR, DAY, DAY + HOUR)]
TEXTS: dict[str, Callable[[datetime], str]] = {
    "space": lambda moment: f"{moment:%Y-%m-%d %H:%M:%S}",
    "fraction": lambda moment: f"{moment:%Y-%m-%d %H:%M:%S}.000",
    "minutes": lambda moment: f"{moment:%Y-%m-%d %H:%M}",
    "T": lambda moment: f"{moment:%Y-%m-%dT%H:%M:%S}",
    "TZ": lambda moment: f"{moment:%Y-%m-%dT%H:%M:%S}Z",
    "Z": lambda moment: f"{moment:%Y-%m-%d %H:%M:%S}Z",
    "offset": lambda moment: f"{moment:%Y-%m-%d %H:%M:%S}+00:00",
    "away": lambda moment: f"{moment + 2 * HOUR:%Y-%m-%d %H:%M:%S}+02:00",
    "isoformat": lambda moment: moment.isoformat(),
    "slashes": lambda moment: f"{moment:%Y/%m/%d %H:%M:%S}",
    "compact": lambda moment: f"{moment:%Y%m%d}",
    "epoch text": lambda moment: str(int(moment.timestamp())),
}
