"""Compares a dispatch's rejected rows with `error_threshold`, before anything is in the sink."""

from __future__ import annotations

from mlops_plugin.config.schema import rows_tolerated
from mlops_plugin.errors import ThresholdError
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.validation.rejections import Reason, format_reasons


def is_within_threshold(dispatch: Dispatch, collected: int, rejected: int) -> bool:
    """Whether `error_threshold` tolerates so many rejected rows."""
    return rejected <= rows_tolerated(dispatch.model.error_threshold, collected)


def require_within_threshold(
    dispatch: Dispatch, *, collected: int, rejected: int, reasons: list[Reason], is_stored: bool
) -> None:
    """Raise `ThresholdError` if too many rows were rejected. The Showroom shows them instead.

    `is_stored`: whether their records are in the quarantine already.
    """
    model = dispatch.model
    if dispatch.origin == "showroom" or is_within_threshold(dispatch, collected, rejected):
        return
    sink = model.quarantine_sink
    where = "a dry run stores none of them"
    if is_stored:
        where = f"see {sink.table} (connection '{sink.connection}'), dispatch_id {dispatch.id}"
    raise ThresholdError(
        f"models.{model.name}: {rejected} of {collected} rows were rejected, more than error_threshold: "
        f"{model.error_threshold} allows: {format_reasons(reasons)}; {where}; nothing was written to "
        f"{model.sink.table}; correct the source or the contract, or raise error_threshold"
    )
