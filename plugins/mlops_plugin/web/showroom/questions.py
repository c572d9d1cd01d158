"""The pages What if and Why, which ask about one case."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from mlops_plugin.serving.explanation import explain, references_of
from mlops_plugin.serving.wanted import Wanted
from mlops_plugin.web.access import UserName, creates
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.languages.written_values import format_value
from mlops_plugin.web.pages import pages
from mlops_plugin.web.shared_site import SiteDep
from mlops_plugin.web.showroom.picture import data_uri
from mlops_plugin.web.showroom.request_fields import RunnableModel, ShowroomDep, WantedDep, key_of, shown_key
from mlops_plugin.web.showroom.results import reasons
from mlops_plugin.web.showroom.steps import step_words
from mlops_plugin.web.showroom.what_if_fields import field_of
from mlops_plugin.web.well_formed import KeyText

# These run the model, so reading is not enough.
router = APIRouter(prefix="/showroom", include_in_schema=False, dependencies=[creates("Showroom")])


@router.get("/{name}/what-if", response_class=HTMLResponse)
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
        references=references,
        picture=picture,
        steps=list(step_words().items()),
    )


@router.post("/{name}/why", response_class=HTMLResponse)
def why_page(
    request: Request, showroom: ShowroomDep, model: RunnableModel, user: UserName, wanted: WantedDep
) -> HTMLResponse:
    """What each feature contributes to the prediction of a case."""
    key = wanted.keys[0]
    shown = showroom.run(model, Wanted(keys=[key], is_why=True), user)
    assert shown.references is not None  # noqa: S101 -- a why has some
    found = explain(shown.rows.slice(0, 1).to_pylist()[0], shown.answers, shown.references)
    return pages(request).render(
        request,
        "showroom/why.html",
        model=model,
        title=model.showroom.title or model.name,
        key_text=shown_key(key),
        outcome=_outcome_words(found.outcome),
        value=format_value(found.value),
        reasons=reasons(found),
        references=shown.references,
        dispatch_id=shown.dispatch_id,
    )


def _outcome_words(outcome: str) -> str:
    """The output that was watched: `probability of 7`; `score` and `prediction` are names of columns."""
    label = outcome.removeprefix("probability_")
    return outcome if label == outcome else _("probability of %(label)s", label=label)
