"""What `infer` reported of a dispatch, its partitions put together; the views read it from events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlops_plugin.pipeline.step_reports import InferReport, merge_reports

Report = Mapping[str, Any]


def whole_report(reports: Sequence[Report]) -> Report | None:
    """The stored reports of all partitions as one; None if there are none."""
    if len(reports) < 2:
        return reports[0] if reports else None
    return merge_reports([InferReport.from_json(report) for report in reports]).to_json()
