"""The first rows that a dispatch left in its sink and in the quarantine, as its page loads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import Response

from mlops_plugin.errors import MlopsError
from mlops_plugin.events.records import DispatchRecord
from mlops_plugin.pipeline.writing.predictions import FirstRows, first_predictions, first_rejections
from mlops_plugin.web.dispatches.api import PREDICTION_ROWS, PREDICTIONS_TIMEOUT_S
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.pages import pages
from mlops_plugin.web.visible import Visible

# The same in every row, and shown above them.
_SHOWN_ABOVE = frozenset({"dispatch_id", "model", "artifact_sha256"})


@dataclass(frozen=True)
class FirstRowsKind:
    """How to show them. If `has_any` is false the table is not read: it may not exist yet."""

    template: str
    read: Callable[..., FirstRows]
    has_any: Callable[[DispatchRecord], bool]
    explain: Callable[[DispatchRecord, str | None], str]
    hidden: frozenset[str]


def _no_predictions(dispatch: DispatchRecord, table: str | None) -> str:
    """Why there are no rows to show; `table` is None if it was not read."""
    if table is not None:
        return _(
            "%(table)s no longer has rows of this dispatch: later dispatches replaced them.", table=table
        )
    if dispatch.origin == "showroom":
        return _("The Showroom shows predictions and does not store them.")
    if dispatch.dry_run:
        return _("A dry run stores no predictions.")
    if dispatch.rows_persisted == 0 and dispatch.rows_superseded:
        return _("It wrote no predictions: for each of its rows, the table holds that of a newer dispatch.")
    if dispatch.rows_persisted == 0:
        return _("There were no rows to predict.")
    return (
        _("It has not stored any predictions yet.")
        if dispatch.state == "running"
        else _("It stored no predictions.")
    )


def _no_rejections(dispatch: DispatchRecord, table: str | None) -> str:
    """Why there are no records to show; `table` is None if it was not read."""
    if table is not None and dispatch.state == "running":
        return _("%(table)s has no records of this dispatch yet.", table=table)
    if table is not None:
        return _("%(table)s no longer has records of this dispatch.", table=table)
    if dispatch.origin == "showroom":
        return _("The Showroom shows why rows are rejected; it does not store them.")
    return _("A dry run stores no rejected rows.") if dispatch.dry_run else _("It rejected no rows.")


KINDS: Mapping[str, FirstRowsKind] = {
    "predictions": FirstRowsKind(
        "dispatches/predictions.html",
        first_predictions,
        lambda dispatch: bool(dispatch.rows_persisted),
        _no_predictions,
        _SHOWN_ABOVE,
    ),
    "rejected": FirstRowsKind(
        "dispatches/rejected.html",
        first_rejections,
        lambda dispatch: bool(dispatch.rows_rejected) and not dispatch.dry_run,
        _no_rejections,
        _SHOWN_ABOVE | {"key_text", "record_number"},
    ),
}


def show_first_rows(
    request: Request, seen: Visible, dispatch: DispatchRecord, kind: FirstRowsKind
) -> Response:
    """The rows as they are in the database now, or why they cannot be read."""
    found = problem = None
    try:
        if kind.has_any(dispatch):
            model = seen.model(dispatch.model)
            limits = {"limit": PREDICTION_ROWS, "timeout_s": PREDICTIONS_TIMEOUT_S}
            found = kind.read(seen.site.deployment(), model, dispatch.dispatch_id, **limits)
    except MlopsError as error:  # the rest is shown even if the database is not available
        problem = str(error)
    places = [n for n, name in enumerate(found.columns if found else []) if name not in kind.hidden]
    return pages(request).render(
        request,
        kind.template,
        dispatch=dispatch,
        problem=problem,
        reason=kind.explain(dispatch, found.table if found else None),
        table=found.table if found else None,
        columns=[found.columns[n] for n in places] if found else [],
        rows=[[row[n] for n in places] for row in found.rows] if found else [],
    )
