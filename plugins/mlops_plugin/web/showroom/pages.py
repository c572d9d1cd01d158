"""The Showroom's pages of models and of their cases."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import MlopsError
from mlops_plugin.events.latest import latest_dispatches, recent_dispatches
from mlops_plugin.monitoring.model_state import ModelState, last_dispatch, model_state
from mlops_plugin.monitoring.watch import LastDispatches
from mlops_plugin.orchestration.dag_states import AirflowState, AirflowStateDep
from mlops_plugin.web.access import may_see, may_use, reads
from mlops_plugin.web.error_status import headers_of, status_of
from mlops_plugin.web.languages.translation import translate
from mlops_plugin.web.pages import pages
from mlops_plugin.web.shared_site import Site, SiteDep
from mlops_plugin.web.showroom.cases import PAGE_SIZES, present_cases
from mlops_plugin.web.showroom.request_fields import Model, View
from mlops_plugin.web.showroom.steps import step_words
from mlops_plugin.web.sparkline import sparkline
from mlops_plugin.web.visible import Visible, VisibleDep
from mlops_plugin.web.well_formed import Search

_WAIT_S = 0.25  # how long the list waits for last dispatches
_READ_TIMEOUT_S = 10.0
_ON_CARD = 20  # dispatches

router = APIRouter(prefix="/showroom", include_in_schema=False, dependencies=[reads("Showroom")])


@router.get("", response_class=HTMLResponse)
def models_page(
    request: Request, seen: VisibleDep, airflow: AirflowStateDep, search: Search = ""
) -> HTMLResponse:
    """The models, with their last dispatches and how they are."""
    models = seen.models
    pool = seen.site.model_pool()
    user = seen.rights.user
    sees_dispatches = may_see(user, "Dispatches")
    known = _last_dispatches(seen.site)
    last = known if known and sees_dispatches else LastDispatches({}, {})
    health = _health(seen, airflow, known) if known and may_see(user, "Monitor") else {}
    found = [
        {
            "name": model.name,
            "title": model.showroom.title or model.name,
            "description": model.description,
            "tags": model.tags,
            "loading": pool.loading(model),
            "last": last.latest.get(model.name),
            "sparkline": sparkline(last.recent.get(model.name, ())),
            "health": health.get(model.name),
            "why": translate(health[model.name].why) if model.name in health else "",
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


def _last_dispatches(site: Site) -> LastDispatches | None:
    """Of all models; None if the event store has not answered yet: the page does not wait for it."""
    store, names = site.event_store(), [*site.loaded().config.models]

    def read() -> LastDispatches:
        return LastDispatches(latest_dispatches(store, names), recent_dispatches(store, names, _ON_CARD))

    return site.watch.last.look(read, wait_s=_WAIT_S, timeout_s=_READ_TIMEOUT_S).value


def _health(seen: Visible, airflow: AirflowState, known: LastDispatches) -> dict[str, ModelState]:
    """How each model is, in the Monitor's words."""
    models, now = seen.models, datetime.now(UTC)
    late_after, dags = seen.site.loaded().config.monitor.late_after, airflow.dags(models)
    return {
        name: model_state(
            dags.get(name),
            last_dispatch(dags.get(name), known.latest.get(name)),
            now,
            late_after=late_after,
            limit=model.dispatch_timeout,
        )
        for name, model in models.items()
    }


def _matches(search: str, model: ModelConfig) -> bool:
    texts = (model.name, model.showroom.title or "", model.description, *model.tags)
    return all(any(word in text.casefold() for text in texts) for word in search.casefold().split())


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
