"""The first rows that a dispatch left in its sink and in the quarantine, as its page loads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import Response

from mlops_plugin.errors import MlopsError
from mlops_plugin.events.records import DispatchRecord
from mlops_plugin.pipeline.predictions import FirstRows, first_predictions, first_rejections
from mlops_plugin.web.dispatches.api import PREDICTION_ROWS, PREDICTIONS_TIMEOUT_S
from mlops_plugin.web.pages import pages
from mlops_plugin.web.site import Site

# The same in every row, and told above them.
_TOLD_ABOVE = frozenset({"dispatch_id", "model", "artifact_sha256"})


@dataclass(frozen=True)
class FirstRowsKind:
    """How to show them. Where `has_any` is false the table is not asked: it may not even exist yet."""

    template: str
    read: Callable[..., FirstRows]
    has_any: Callable[[DispatchRecord], bool]
    hidden: frozenset[str]


KINDS: Mapping[str, FirstRowsKind] = {
    "predictions": FirstRowsKind(
        "dispatches/predictions.html",
        first_predictions,
        lambda dispatch: bool(dispatch.rows_persisted),
        _TOLD_ABOVE,
    ),
    "rejected": FirstRowsKind(
        "dispatches/rejected.html",
        first_rejections,
        lambda dispatch: bool(dispatch.rows_rejected) and not dispatch.dry_run,
        _TOLD_ABOVE | {"key_text", "record_number"},
    ),
}


def show_first_rows(request: Request, site: Site, dispatch: DispatchRecord, kind: FirstRowsKind) -> Response:
    """The rows as they are in the database now, or why they cannot be read."""
    found = problem = None
    try:
        if kind.has_any(dispatch):
            model = site.loaded().model(dispatch.model)
            limits = {"limit": PREDICTION_ROWS, "timeout_s": PREDICTIONS_TIMEOUT_S}
            found = kind.read(site.deployment(), model, dispatch.dispatch_id, **limits)
    except MlopsError as error:  # a database that is away is no reason not to show the rest
        problem = str(error)
    places = [n for n, name in enumerate(found.columns if found else []) if name not in kind.hidden]
    return pages(request).render(
        request,
        kind.template,
        dispatch=dispatch,
        problem=problem,
        table=found.table if found else None,
        columns=[found.columns[n] for n in places] if found else [],
        rows=[[row[n] for n in places] for row in found.rows] if found else [],
    )
