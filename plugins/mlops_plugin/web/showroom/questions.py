"""The pages What if and Why, which ask about one case."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from mlops_plugin.events.details.step_reports import CollectReport, PersistReport
from mlops_plugin.serving.references import references_of
from mlops_plugin.serving.wanted import Wanted
from mlops_plugin.web.access import UserName, creates, reads
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.pages import address, pages
from mlops_plugin.web.shared_site import SiteDep
from mlops_plugin.web.showroom.picture import data_uri, pixel_map
from mlops_plugin.web.showroom.reasons import present_explanation
from mlops_plugin.web.showroom.request_fields import (
    Model,
    RunnableModel,
    ShowroomDep,
    WantedDep,
    key_of,
    shown_key,
)
from mlops_plugin.web.showroom.steps import step_words
from mlops_plugin.web.showroom.what_if_fields import drawing_of, field_of
from mlops_plugin.web.visible import VisibleDep
from mlops_plugin.web.well_formed import KeyText

router = APIRouter(prefix="/showroom", include_in_schema=False)
# What runs the model: reading is not enough.
_RUNS = [creates("Showroom")]


@router.get("/{name}/what-if", response_class=HTMLResponse, dependencies=_RUNS)
def what_if_page(request: Request, site: SiteDep, model: RunnableModel, key: KeyText) -> HTMLResponse:
    """A case with its features to change, and what the model answers then."""
    with site.case_queries.open(model, site.deployment()) as cases:
        row = cases.chosen([key_of(key)]).read_all()
        with site.model_pool().runtime(model) as runtime:
            features = runtime.features
            references = references_of(model, runtime, cases)
    usual = references.usual
    values = row.to_pylist()[0]
    fields = [field_of(name, values[name], usual.get(name)) for name in features if name in values]
    image = model.showroom.image
    picture = data_uri([values.get(name) for name in features], image.width, image.height) if image else None
    return pages(request).render(
        request,
        "showroom/what_if.html",
        model=model,
        title=model.showroom.title or model.name,
        key=key,
        key_text=shown_key(key_of(key)),
        fields=fields,
        source=references.source,
        picture=picture,
        drawing=drawing_of(image, features, usual) if len(fields) == len(features) else None,
        steps=list(step_words().items()),
    )


@router.post("/{name}/why", dependencies=_RUNS)
def ask_why(showroom: ShowroomDep, model: RunnableModel, user: UserName, wanted: WantedDep) -> Response:
    """Explain a case, and lead to the page of that explanation."""
    shown = showroom.run(model, Wanted(keys=wanted.keys[:1], is_why=True), user)
    return Response(status_code=303, headers={"Location": f"why/{shown.dispatch_id}"})


@router.get("/{name}/why/{dispatch_id}", response_class=HTMLResponse, dependencies=[reads("Showroom")])
def why_page(request: Request, seen: VisibleDep, model: Model, dispatch_id: str) -> HTMLResponse:
    """The explanation that a run has stored, for everybody who may see the model: nothing is computed."""
    dispatch = seen.dispatch(dispatch_id)
    details = [event.details for event in seen.site.event_store().events(dispatch_id)]
    asked = [one for one in details if isinstance(one, CollectReport) and one.keys and one.why]
    found = [
        one.place.explanation for one in details if isinstance(one, PersistReport) and one.place.explanation
    ]
    if dispatch.model != model.name or not found or not asked:
        raise HTTPException(
            404,
            _(
                "dispatch '%(id)s' explains no case of this model; ask why from a result",
                id=dispatch_id[:100],
            ),
        )
    return pages(request).render(
        request,
        "showroom/why.html",
        model=model,
        title=model.showroom.title or model.name,
        key_text=shown_key((asked[-1].keys or ((),))[0]),
        pixels=pixel_map(found[-1], asked[-1].why.features if asked[-1].why else (), model.showroom.image),
        why=present_explanation(found[-1]),
        source=found[-1].source,
        dispatch=dispatch,
        link=address(request, f"showroom/{model.name}/why/{dispatch_id}"),
    )
