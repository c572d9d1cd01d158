"""Times around two bounds, and exactly on them, in the forms in which people keep times as text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.databases.database import Database, read_rows
from mlops_plugin.errors import QueryError
from mlops_plugin.pipeline.reading.compared_times import require_comparable_times

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


def taken(database: Database, model: ModelConfig, query: str) -> list[int] | None:
    """The numbers that the rendered query returns; None: it is refused."""
    try:
        require_comparable_times(model, database, query)
    except QueryError:
        return None
    return sorted(number for (number,) in read_rows(database, query))
