"""The Showroom's page of a model and its cases."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from mlops_plugin.errors import MlopsError
from mlops_plugin.web.access import may_see, may_use, reads
from mlops_plugin.web.error_status import headers_of, status_of
from mlops_plugin.web.pages import pages
from mlops_plugin.web.shared_site import SiteDep
from mlops_plugin.web.showroom.cases import PAGE_SIZES, present_cases
from mlops_plugin.web.showroom.request_fields import Model, View
from mlops_plugin.web.showroom.steps import step_words
from mlops_plugin.web.visible import VisibleDep

router = APIRouter(prefix="/showroom", include_in_schema=False, dependencies=[reads("Showroom")])


@router.get("/{name}", response_class=HTMLResponse)
def cases_page(
    request: Request,
    seen: VisibleDep,
    model: Model,
    view: View,
) -> HTMLResponse:
    """A model and a page of its cases."""
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
    user = seen.rights.user
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
        steps=list(step_words().items()),
        may_run=may_use(user, "Showroom") and seen.rights.may_trigger(model.name),
        sees_last=may_see(user, "Dispatches"),
        query=request.url.query,
        page_sizes=sorted({*PAGE_SIZES, view.page_rows}),
    )
    page.headers.update(headers)
    return page


@router.get("/{name}/state", response_class=HTMLResponse)
def state_fragment(request: Request, site: SiteDep, model: Model) -> HTMLResponse:
    """Whether the model is in memory."""
    return pages(request).render(request, "showroom/state.html", loading=site.model_pool().loading(model))
