"""What an event knows beside its columns if it is not the end of a step (`step_reports` has those)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from mlops_plugin.events.details.process_identity import ProcessIdentity
from mlops_plugin.events.details.step_reports import as_json


@dataclass(frozen=True)
class TryStart:
    """Who makes a try of a step.

    `try_id` is Airflow's id of the try, a UUID of version 7, which grows with time; None outside of Airflow.
    `task` is the task that runs all steps; None if the step has a task of its own, or none at all.
    """

    process: ProcessIdentity | None = None
    try_id: str | None = None
    clears: int | None = None  # how often tasks of its run have been cleared
    task: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in as_json(self).items() if value is not None}


@dataclass(frozen=True)
class PartitionCounts:
    """What the partitions of a dispatch add up to, before `persist` judges it."""

    rows_predicted: int
    rows_rejected: int

    def to_json(self) -> dict[str, Any]:
        return as_json(self)


@dataclass(frozen=True)
class FinalCounts:
    """The rows of a dispatch that succeeded. Earlier versions superseded nothing, and did not say so."""

    rows_collected: int
    rows_predicted: int
    rows_rejected: int
    rows_persisted: int
    rows_superseded: int = 0

    def to_json(self) -> dict[str, Any]:
        return as_json(self)


@dataclass(frozen=True)
class Reconciliation:
    """How an abandoned dispatch was closed, and why."""

    state: Literal["succeeded", "failed"]
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return as_json(self)
