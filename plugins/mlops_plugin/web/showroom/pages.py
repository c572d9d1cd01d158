"""The Showroom's pages of models and of their cases."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import MlopsError
from mlops_plugin.serving.cases import CaseView
from mlops_plugin.web.access import may_use, reads
from mlops_plugin.web.error_status import headers_of, status_of
from mlops_plugin.web.pages import pages
from mlops_plugin.web.shared_site import SiteDep
from mlops_plugin.web.showroom.cases import present_cases
from mlops_plugin.web.showroom.request_fields import Model, place_of
from mlops_plugin.web.showroom.steps import STEP_WORDS
from mlops_plugin.web.visible import VisibleDep
from mlops_plugin.web.well_formed import ColumnName, KeyText, Search

router = APIRouter(prefix="/showroom", include_in_schema=False, dependencies=[reads("Showroom")])


@router.get("", response_class=HTMLResponse)
def models_page(request: Request, seen: VisibleDep, search: Search = "") -> HTMLResponse:
    models = seen.models
    pool = seen.site.model_pool()
    found = [
        {
            "name": model.name,
            "title": model.showroom.title or model.name,
            "description": model.description,
            "tags": model.tags,
            "loading": pool.loading(model),
        }
        for model in models.values()
        if _matches(search, model)
    ]
    found.sort(key=lambda one: str(one["title"]).casefold())
    broken = [name for name in sorted(seen.broken) if search.casefold() in name.casefold()]
    return pages(request).render(
        request,
        "showroom/models.html",
        models=found,
        broken=broken,
        search=search,
        total=len(models),
    )


def _matches(search: str, model: ModelConfig) -> bool:
    texts = (model.name, model.showroom.title or "", model.description, *model.tags)
    return all(any(word in text.casefold() for text in texts) for word in search.casefold().split())


@router.get("/{name}", response_class=HTMLResponse)
def cases_page(
    request: Request,
    seen: VisibleDep,
    model: Model,
    search: Search = "",
    sort: ColumnName | None = None,
    descending: bool = False,
    after: KeyText = "",
    before: KeyText = "",
) -> HTMLResponse:
    view = CaseView(search, sort or None, descending, place_of(after, before))
    site = seen.site
    pool = site.model_pool()
    table, problem, status = None, None, 200
    headers: dict[str, str] = {}
    try:
        with site.case_queries.open(model, site.deployment()) as cases:
            table = present_cases(model, cases.page(view), view, pool.features(model))
    except MlopsError as error:
        problem, status = str(error), status_of(error)
        headers = headers_of(error)
    page = pages(request).render(
        request,
        "showroom/model.html",
        status=status,
        model=model,
        title=model.showroom.title or model.name,
        view=view,
        table=table,
        problem=problem,
        loading=pool.loading(model),
        steps=list(STEP_WORDS.items()),
        may_run=may_use(seen.rights.user, "Showroom") and seen.rights.may_trigger(model.name),
    )
    page.headers.update(headers)
    return page


@router.get("/{name}/state", response_class=HTMLResponse)
def state_fragment(request: Request, site: SiteDep, model: Model) -> HTMLResponse:
    return pages(request).render(request, "showroom/state.html", loading=site.model_pool().loading(model))
