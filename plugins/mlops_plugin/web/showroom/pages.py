"""The Showroom's pages of models and of their cases."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import MlopsError
from mlops_plugin.events.latest import latest_dispatches
from mlops_plugin.events.records import DispatchRecord
from mlops_plugin.serving.cases import CaseView
from mlops_plugin.web.access import may_see, may_use, reads
from mlops_plugin.web.error_status import headers_of, status_of
from mlops_plugin.web.pages import pages
from mlops_plugin.web.shared_site import Site, SiteDep
from mlops_plugin.web.showroom.cases import present_cases
from mlops_plugin.web.showroom.request_fields import Model, place_of
from mlops_plugin.web.showroom.steps import step_words
from mlops_plugin.web.visible import VisibleDep
from mlops_plugin.web.well_formed import ColumnName, KeyText, Search

_WAIT_S = 0.25  # how long the list waits for last dispatches
_READ_TIMEOUT_S = 10.0

router = APIRouter(prefix="/showroom", include_in_schema=False, dependencies=[reads("Showroom")])


@router.get("", response_class=HTMLResponse)
def models_page(request: Request, seen: VisibleDep, search: Search = "") -> HTMLResponse:
    """The models, with their last dispatch."""
    models = seen.models
    pool = seen.site.model_pool()
    sees_dispatches = may_see(seen.rights.user, "Dispatches")
    last = _last_dispatches(seen.site) if sees_dispatches else {}
    found = [
        {
            "name": model.name,
            "title": model.showroom.title or model.name,
            "description": model.description,
            "tags": model.tags,
            "loading": pool.loading(model),
            "last": last.get(model.name),
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
        now=datetime.now(UTC),
        sees_dispatches=sees_dispatches,
    )


def _last_dispatches(site: Site) -> Mapping[str, DispatchRecord]:
    """Of all models, as far as the event store has answered: the page does not wait for it."""
    store, names = site.event_store(), [*site.loaded().config.models]
    known = site.watch.last.look(
        lambda: latest_dispatches(store, names), wait_s=_WAIT_S, timeout_s=_READ_TIMEOUT_S
    )
    return known.value or {}


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
    """A model and a page of its cases."""
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
        steps=list(step_words().items()),
        may_run=may_use(seen.rights.user, "Showroom") and seen.rights.may_trigger(model.name),
    )
    page.headers.update(headers)
    return page


@router.get("/{name}/state", response_class=HTMLResponse)
def state_fragment(request: Request, site: SiteDep, model: Model) -> HTMLResponse:
    """Whether the model is in memory."""
    return pages(request).render(request, "showroom/state.html", loading=site.model_pool().loading(model))
