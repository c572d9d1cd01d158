"""What `infer` reports of a dispatch, put together from what it recorded of each partition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mlops_plugin.pipeline.distribution import merged
from mlops_plugin.pipeline.staging.notes import Predicted
from mlops_plugin.pipeline.validation.rejections import Reason, details, merged_reasons

Report = Mapping[str, Any]


def infer_report(predicted: Predicted) -> dict[str, Any]:
    """What is recorded of one partition, or of all rows."""
    return {
        "rows": predicted.rows,
        "rows_rejected": predicted.rejected,
        "reasons": details(predicted.reasons),
        "imputed": predicted.imputed,
        "distribution": predicted.distribution,
    }


def whole_report(reports: Sequence[Report]) -> Report | None:
    """The reports of all partitions as one; None where there are none."""
    if len(reports) < 2:
        return reports[0] if reports else None
    imputed: Counter[str] = Counter()
    for report in reports:
        imputed.update(report["imputed"])
    reasons = merged_reasons(map(_reasons, reports))
    return {
        "rows": sum(report["rows"] for report in reports),
        "rows_rejected": sum(report["rows_rejected"] for report in reports),
        "reasons": details(reasons),
        "imputed": dict(imputed),
        "distribution": merged([report["distribution"] for report in reports]),
    }


def _reasons(report: Report) -> list[Reason]:
    return [(found["column"], found["reason"], found["rows"]) for found in report["reasons"]]
