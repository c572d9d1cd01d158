"""What a dispatch with a contract leaves in a workshop, for tests of rejected rows."""

from __future__ import annotations

from typing import Any

from mlops_plugin.pipeline.dispatch import Dispatch
from support.workshop import Workshop

RANGE = {"columns": {"a": {"type": "number", "nullable": False, "min": -100, "max": 100}}}


def quarantined(workshop: Workshop, columns: str = "id, column_name, reason, value") -> list[tuple[Any, ...]]:
    return workshop.in_sink(
        f"SELECT {columns} FROM churn_predictions_quarantine ORDER BY quarantined_at, record_number"
    )


def tables(workshop: Workshop) -> set[str]:
    return {
        name for (name,) in workshop.in_sink("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
    }


def ids(workshop: Workshop) -> list[int]:
    return [row["id"] for row in workshop.predictions()]


def counts(workshop: Workshop, dispatch: Dispatch) -> tuple[int | None, ...]:
    record = workshop.record(dispatch.id)
    return record.rows_collected, record.rows_predicted, record.rows_rejected, record.rows_persisted


def again(workshop: Workshop, dispatch: Dispatch, **changes: Any) -> Dispatch:
    """The same dispatch, cleared, with the configuration as it is now."""
    return Dispatch(**{**vars(dispatch), "model": workshop.model(), **changes})
