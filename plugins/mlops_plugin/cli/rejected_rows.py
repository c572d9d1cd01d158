"""Why a dispatch in the terminal rejected rows: each reason with its count and an example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mlops_plugin.errors import MlopsError
from mlops_plugin.events.details.step_reports import InferReport, ReasonCount
from mlops_plugin.pipeline.recording.infer_reports import merge_reports
from mlops_plugin.pipeline.validation.column_check import NOT_OF_TYPE

if TYPE_CHECKING:
    from rich.console import Console

    from mlops_plugin.pipeline.deployment import Deployment
    from mlops_plugin.pipeline.dispatch import Dispatch
    from mlops_plugin.pipeline.validation.quarantine import Example

_MOST_REASONS = 10
_NOT_A_NUMBER = NOT_OF_TYPE["number"]


def print_rejected(console: Console, dispatch: Dispatch, deployment: Deployment) -> None:
    """Print the reasons, if rows were rejected, as the event store and the quarantine have them."""
    with deployment.event_store() as store:
        events = store.events(dispatch.id)
    reports = [event.details for event in events if isinstance(event.details, InferReport)]
    report = merge_reports(reports)
    if report is None or not report.reasons:
        return
    examples = _examples(dispatch, deployment)
    for found in report.reasons[:_MOST_REASONS]:
        console.print(f"  {_line(found, examples)}", markup=False, soft_wrap=True)
    if len(report.reasons) > _MOST_REASONS:
        console.print(f"  and {len(report.reasons) - _MOST_REASONS} more reasons")


def _examples(dispatch: Dispatch, deployment: Deployment) -> Mapping[tuple[str | None, str], Example]:
    if dispatch.is_dry_run:  # it stores none
        return {}
    from mlops_plugin.pipeline.validation.quarantine import Quarantine

    try:
        return Quarantine(dispatch.model, dispatch.id, deployment).examples()
    except MlopsError:  # the reasons say enough, and the dispatch's own outcome must be seen
        return {}


def _line(found: ReasonCount, examples: Mapping[tuple[str | None, str], Example]) -> str:
    rows = "1 row" if found.rows == 1 else f"{found.rows:,} rows"
    line = f"{rows}: '{found.column}' {found.reason}" if found.column else f"{rows}: {found.reason}"
    example = examples.get((found.column, found.reason))
    if example is None:
        return line
    value = "NULL" if example.value is None else repr(example.value)
    line += f", e.g. {value} of key {example.key}" if found.column else f", e.g. key {example.key}"
    if found.reason == _NOT_A_NUMBER and example.value is not None:
        literal = example.value.replace("'", "''")
        line += f"; if it means a missing value, write NULLIF({found.column}, '{literal}') in the query"
    return line
