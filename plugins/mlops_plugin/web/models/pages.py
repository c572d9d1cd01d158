"""The page that lists the models, the Showroom's first."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from markupsafe import escape

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import MlopsError
from mlops_plugin.monitoring.background import Known
from mlops_plugin.monitoring.watch import LastDispatches
from mlops_plugin.orchestration.dag_states import AirflowStateDep
from mlops_plugin.web.access import may_see, reads
from mlops_plugin.web.error_status import headers_of
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.models.cards import CardRights, cards_of, read_last, store_now
from mlops_plugin.web.pages import pages
from mlops_plugin.web.shared_site import Site, SiteDep
from mlops_plugin.web.showroom.request_fields import Model
from mlops_plugin.web.showroom.verdict import judge_pairs
from mlops_plugin.web.visible import VisibleDep
from mlops_plugin.web.well_formed import Search

_WAIT_S = 0.25  # how long the list waits for last dispatches
_READ_TIMEOUT_S = 10.0
_KEPT_S = 60.0  # what is older is not shown as if it were so now: nothing refreshes the list

router = APIRouter(include_in_schema=False, dependencies=[reads("Showroom")])


@router.get("/showroom", response_class=HTMLResponse)
def models_page(
    request: Request, seen: VisibleDep, airflow: AirflowStateDep, search: Search = ""
) -> HTMLResponse:
    """The models, with their last dispatches and their health."""
    models = seen.models
    user = seen.rights.user
    rights = CardRights(dispatches=may_see(user, "Dispatches"), monitor=may_see(user, "Monitor"))
    found = [model for model in models.values() if _matches(search, model)]
    known = _last_known(seen.site) if rights.monitor or rights.dispatches else Known[LastDispatches]()
    return pages(request).render(
        request,
        "models/list.html",
        models=cards_of(
            found,
            airflow.dags([model.name for model in found]) if rights.monitor else {},
            known.value,
            rights,
            late_after=seen.site.loaded().config.monitor.late_after,
            loading_of=seen.site.model_pool().loading,
        ),
        broken=[name for name in sorted(seen.broken) if search.casefold() in name.casefold()],
        search=search,
        total=len(models),
        now=store_now(known.value),
        sees_dispatches=rights.dispatches,
        sees_monitor=rights.monitor,
        is_read=known.value is not None,
        problem=_("The event store does not answer: cards may be out of date.") if known.error else None,
    )


# Of stored predictions, which whoever may read dispatches may see.
@router.get("/showroom/{name}/accuracy", response_class=HTMLResponse, dependencies=[reads("Dispatches")])
def accuracy_fragment(site: SiteDep, model: Model) -> HTMLResponse:
    """How right the model's stored predictions are, in words; nothing if that is not known."""
    try:
        found = site.accuracies.pairs(model, site.deployment(), site.case_queries, site.last_predictions)
    except MlopsError as error:
        return HTMLResponse("", headers=headers_of(error))
    verdict = judge_pairs(found)
    return HTMLResponse("" if verdict is None else escape(verdict.short))


def _last_known(site: Site) -> Known[LastDispatches]:
    """Of all models, as far as the event store has answered: the page does not wait for it."""
    store, names = site.event_store(), [*site.loaded().config.models]
    return site.watch.last.look(
        lambda: read_last(store, names), wait_s=_WAIT_S, timeout_s=_READ_TIMEOUT_S, kept_s=_KEPT_S
    )


def _matches(search: str, model: ModelConfig) -> bool:
    texts = (model.name, model.showroom.title or "", model.description, *model.tags)
    return all(any(word in text.casefold() for text in texts) for word in search.casefold().split())
