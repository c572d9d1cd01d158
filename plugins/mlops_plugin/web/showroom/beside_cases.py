"""What stands beside a page of cases and does not hold it up: their number, and the last prediction of each.

The page asks for both once it is there, and again where `Retry-After` says so. They have seconds; what cannot
be found out by then is left out.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel

from mlops_plugin.errors import MlopsError
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.serving.last_predictions import LastPrediction
from mlops_plugin.web.access import reads
from mlops_plugin.web.error_status import headers_of
from mlops_plugin.web.languages.written_values import format_value
from mlops_plugin.web.shared_site import Site, SiteDep
from mlops_plugin.web.showroom.cases import count_words
from mlops_plugin.web.showroom.request_fields import Model, View
from mlops_plugin.web.showroom.results import key_json
from mlops_plugin.web.well_formed import Search

_WITHIN_S = 5.0

router = APIRouter(prefix="/showroom/{name}", include_in_schema=False, dependencies=[reads("Showroom")])


class ShownPrediction(BaseModel):
    """A case's last prediction in words, when it was made, and its dispatch."""

    words: str
    at: datetime | None
    dispatch: str


@router.get("/count", response_class=HTMLResponse)
def count_fragment(site: SiteDep, model: Model, search: Search = "") -> HTMLResponse:
    """How many cases a search finds, in words; nothing if the database does not count them in time."""
    try:
        with site.case_queries.open(model, _hurried(site), is_aside=True) as cases:
            return HTMLResponse(count_words(cases.count(search)))
    except MlopsError as error:
        return HTMLResponse("", headers=headers_of(error))


# Only of the cases of this page, which are read again: a key that is none of the model's cases stays unknown.
@router.get("/last-predictions", dependencies=[reads("Dispatches")])
def last_predictions(
    response: Response, site: SiteDep, model: Model, view: View
) -> dict[str, ShownPrediction | None] | None:
    """By key the last predictions of a page's cases, null for one without; null if they are not known."""
    try:
        with site.case_queries.open(model, _hurried(site), is_aside=True) as cases:
            rows = cases.page(view).rows.select(list(model.key))
            keys = [tuple(row.values()) for row in rows.to_pylist()]
            found = site.last_predictions.find(model, site.deployment(), keys)
    except MlopsError as error:
        response.headers.update(headers_of(error))
        return None
    return None if found is None else {key_json(key): _shown(found.get(key)) for key in keys}


def _hurried(site: Site) -> Deployment:
    deployment = site.deployment()
    return replace(deployment, limits=deployment.limits.of_probe(_WITHIN_S))


def _shown(last: LastPrediction | None) -> ShownPrediction | None:
    if last is None:
        return None
    at = None if last.predicted_at is None else last.predicted_at.replace(tzinfo=UTC)
    return ShownPrediction(words=format_value(last.prediction), at=at, dispatch=last.dispatch_id)
