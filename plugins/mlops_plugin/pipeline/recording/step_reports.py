"""What each step reports when it is done: recorded with its end, shown to people, and Airflow's XCom.

`to_json` is the one writer of each report; `InferReport.from_json` reads one back for the views.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from mlops_plugin.pipeline.distribution import merged
from mlops_plugin.pipeline.reading.increment_read import IncrementRead
from mlops_plugin.pipeline.staging.records import Accounts, Predicted
from mlops_plugin.pipeline.validation.rejections import Reason, details, merged_reasons


class StepReport(Protocol):
    """What a step did, small enough for an event."""

    @property
    def rows(self) -> int | None:
        """How many rows it handled; None for `plan`."""

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class PlanReport:
    """The names of the partitions, in order."""

    partitions: tuple[str, ...]

    @property
    def rows(self) -> None:
        return None

    def to_json(self) -> dict[str, Any]:
        numbered = [{"number": number, "name": name} for number, name in enumerate(self.partitions)]
        return {"rows": None, "partitions": numbered}


@dataclass(frozen=True)
class CollectReport:
    """`source`: what the source adds about the rows it chose, as JSON."""

    rows: int
    source: Mapping[str, Any]
    increment: IncrementRead | None = None

    def to_json(self) -> dict[str, Any]:
        increment = {"increment": self.increment.to_json()} if self.increment else {}
        return {"rows": self.rows, **self.source, **increment}


@dataclass(frozen=True)
class LogReport:
    rows: int
    artifact_sha256: str
    config_sha256: str
    signature_sha256: str | None = None  # of the signature beside the artifact, if there is one

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class InferReport:
    """Of one partition, or of all rows. `distribution`: see pipeline.distribution."""

    rows: int
    rows_rejected: int
    reasons: tuple[Reason, ...]
    imputed: Mapping[str, int]
    distribution: Mapping[str, Any]

    @classmethod
    def of(cls, predicted: Predicted) -> InferReport:
        return cls(
            predicted.rows, predicted.rejected, predicted.reasons, predicted.imputed, predicted.distribution
        )

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> InferReport:
        """What `to_json` stored in the details of an event."""
        reasons = tuple((found["column"], found["reason"], found["rows"]) for found in stored["reasons"])
        return cls(
            stored["rows"], stored["rows_rejected"], reasons, stored["imputed"], stored["distribution"]
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "rows_rejected": self.rows_rejected,
            "reasons": details(self.reasons),
            "imputed": dict(self.imputed),
            "distribution": dict(self.distribution),
        }


def merge_reports(parts: Sequence[InferReport]) -> InferReport:
    """The reports of all partitions, at least one, as the report of the whole."""
    imputed: Counter[str] = Counter()
    for part in parts:
        imputed.update(part.imputed)
    return InferReport(
        rows=sum(part.rows for part in parts),
        rows_rejected=sum(part.rows_rejected for part in parts),
        reasons=tuple(merged_reasons(part.reasons for part in parts)),
        imputed=dict(imputed),
        distribution=merged([dict(part.distribution) for part in parts]),
    )


def whole_report(reports: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The stored reports of all partitions as one; None if there are none."""
    if len(reports) < 2:
        return reports[0] if reports else None
    return merge_reports([InferReport.from_json(report) for report in reports]).to_json()


@dataclass(frozen=True)
class PersistReport:
    """`place`: where the predictions went, as the sink describes it; `mark`: the new high-water mark."""

    accounts: Accounts
    place: Mapping[str, Any]
    mark: str | None = None

    @property
    def rows(self) -> int:
        return self.accounts.persisted

    def to_json(self) -> dict[str, Any]:
        mark = {} if self.mark is None else {"mark": self.mark}
        superseded = {"rows_superseded": self.accounts.superseded}  # the name that the store adds up
        return {"rows": self.rows, **asdict(self.accounts), **superseded, **self.place, **mark}
