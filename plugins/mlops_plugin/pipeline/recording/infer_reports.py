"""The report of `infer`, made of what it left on the shelf, and the reports of all partitions as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from mlops_plugin.events.details.step_reports import InferReport, ReasonCount
from mlops_plugin.pipeline.distribution import merge
from mlops_plugin.pipeline.staging.records import Predicted
from mlops_plugin.pipeline.validation.rejections import Reason, merged_reasons

_MOST_REASONS = 20  # that are shown, the most frequent ones


def infer_report(predicted: Predicted) -> InferReport:
    """What `infer` reports of the rows that it has predicted."""
    return InferReport(
        predicted.rows,
        predicted.rejected,
        infer_reasons(predicted.reasons),
        predicted.imputed,
        predicted.distribution,
        predicted.libraries,
    )


def merge_reports(parts: Sequence[InferReport]) -> InferReport | None:
    """The reports of all partitions as the report of the whole, to be shown; None if there are none."""
    if len(parts) < 2:
        return replace(parts[0], reasons=parts[0].reasons[:_MOST_REASONS]) if parts else None
    imputed: Counter[str] = Counter()
    for part in parts:
        imputed.update(part.imputed)
    reasons = ([(found.column, found.reason, found.rows) for found in part.reasons] for part in parts)
    return InferReport(
        rows=sum(part.rows for part in parts),
        rows_rejected=sum(part.rows_rejected for part in parts),
        reasons=infer_reasons(merged_reasons(reasons))[:_MOST_REASONS],
        imputed=dict(imputed),
        distribution=merge([part.distribution for part in parts if part.distribution is not None]),
        libraries=_all_versions(parts),
    )


def _all_versions(parts: Sequence[InferReport]) -> dict[str, str]:
    """The versions that predicted; several of one library if partitions ran on unlike machines."""
    found: dict[str, dict[str, None]] = {}
    for part in parts:
        for name, version in part.libraries.items():
            found.setdefault(name, {})[version] = None
    return {name: ", ".join(versions) for name, versions in found.items()}


def infer_reasons(reasons: Iterable[Reason]) -> tuple[ReasonCount, ...]:
    """Reasons as a report keeps them, the most frequent first.

    All different ones: one that is rare in a partition may be the most frequent of the whole.
    """
    return tuple(ReasonCount(*reason) for reason in reasons)
