"""The Dispatches view: what ran, with which rows, which model and what outcome."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Literal, get_args
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BeforeValidator, Field

from mlops_plugin.events.marks import newest_mark
from mlops_plugin.events.reading import DispatchLine
from mlops_plugin.events.records import DispatchRecord, Origin, State
from mlops_plugin.events.store import EventStore
from mlops_plugin.pipeline.dispatch import dispatch_id as id_of_run
from mlops_plugin.pipeline.infer_report import whole_report
from mlops_plugin.pipeline.reading.mark_keeping import mark_words
from mlops_plugin.web import figures
from mlops_plugin.web.access import RightsDep, RightsOf, reads
from mlops_plugin.web.dispatches.api import COUNT_LIMIT, found_dispatch
from mlops_plugin.web.dispatches.filters import (
    CursorText,
    DispatchPageQuery,
    none_if_empty,
    parse_cursor,
    write_cursor,
)
from mlops_plugin.web.dispatches.lines import airflow_log_path, airflow_run_path, count_words, present_line
from mlops_plugin.web.dispatches.plots import distribution_chart, history_charts
from mlops_plugin.web.dispatches.rows import KINDS, show_first_rows
from mlops_plugin.web.dispatches.story import infer_report_of, summarise_steps, tell_tries, timeline
from mlops_plugin.web.pages import pages
from mlops_plugin.web.site import Site, SiteDep

HISTORY = 100  # dispatches in the plots
BUSY_EVERY_S, IDLE_EVERY_S = 3, 30

router = APIRouter(include_in_schema=False, dependencies=[reads("Dispatches")])


class ListQuery(DispatchPageQuery):
    """The list's page; `part` asks for a part of it that is shown anew, `tab` keeps to the model of a DAG."""

    after: CursorText = Field(None, description="End before this one: the page of newer ones.")
    part: str | None = None
    tab: Annotated[Literal["dag"] | None, BeforeValidator(none_if_empty)] = None

    def link(self, path: str, **more: str | None) -> str:
        return super().link(path, **{"part": None, **more})


@router.get("/dispatches", response_class=HTMLResponse)
def show_list(request: Request, site: SiteDep, asked: Annotated[ListQuery, Query()]) -> Response:
    """The list, or with `part=list` only what changes while dispatches run."""
    store = site.event_store()
    lines, is_first = _page(store, asked)
    now = datetime.now(UTC)
    is_busy = any(line.state == "running" for line in lines)
    values: dict[str, Any] = {
        "asked": asked,
        "rows": [present_line(line, now) for line in lines],
        "is_busy": is_busy,
        "count": count_words(partial(store.count, at_most=COUNT_LIMIT + 1), asked.filter),
        **_links(asked, lines, is_first=is_first),
    }
    if asked.part == "list":
        return pages(request).render(request, "dispatches/list.html", **values)
    models = sorted({*site.loaded().config.models, *site.loaded().broken, *filter(None, [asked.model])})
    charts = []
    if asked.model:
        history = store.history(asked.filter, limit=HISTORY)
        charts = history_charts([(line, whole_report(reports)) for line, reports in history])
    return pages(request).render(
        request,
        "dispatches/page.html",
        **values,
        models=models,
        states=get_args(State),
        origins=get_args(Origin),
        is_known=asked.model is None or asked.model in site.loaded().config.models or bool(lines),
        charts=charts,
        mark=_mark(site, asked.model),
        fragment=asked.link("dispatches", part="list"),
        export=asked.link("api/v1/dispatches.csv", before=None, after=None, limit=None, tab=None),
        reset=_reset(asked),
        every_s=BUSY_EVERY_S if is_busy else IDLE_EVERY_S,
    )


def _mark(site: Site, name: str | None) -> str | None:
    """Up to where the model has read its source, in words; None where that is not kept."""
    model = site.loaded().config.models.get(name or "")
    if model is None or model.source.cursor is None:
        return None
    return mark_words(model, newest_mark(site.event_store(), model.name))


def _reset(asked: ListQuery) -> str:
    """The list without a filter; in a DAG's tab its model stays."""
    kept = {"model", "tab"} if asked.tab else set[str]()
    return asked.link("dispatches", **dict.fromkeys(ListQuery.model_fields.keys() - kept))


def _page(store: EventStore, asked: ListQuery) -> tuple[list[DispatchLine], bool]:
    """The lines, and whether they are the newest."""
    if asked.after:
        newer = store.newer_page(asked.filter, after=parse_cursor(asked.after), limit=asked.limit)
        if len(newer) == asked.limit:
            return newer, False
        return store.page(asked.filter, limit=asked.limit), True
    return store.page(asked.filter, before=asked.cursor, limit=asked.limit), asked.before is None


def _links(asked: ListQuery, lines: list[DispatchLine], *, is_first: bool) -> dict[str, str | None]:
    newest = asked.link("dispatches", before=None, after=None)
    newer = older = None
    if lines and not is_first:
        newer = asked.link("dispatches", before=None, after=write_cursor(lines[0].cursor))
    if len(lines) == asked.limit:
        older = asked.link("dispatches", before=write_cursor(lines[-1].cursor), after=None)
    return {"newest": None if is_first else newest, "newer": newer, "older": older}


@router.get("/dispatches/of-run", response_class=HTMLResponse)
def show_of_run(request: Request, site: SiteDep, rights: RightsDep, dag_id: str, run_id: str) -> Response:
    """The dispatch of a DAG run, for the tab on the run's page."""
    # Airflow puts the run id into the address as it is: a plus sign arrives as a space.
    for spelling in dict.fromkeys((run_id, run_id.replace(" ", "+"))):
        dispatch = site.event_store().get(id_of_run(dag_id, spelling))
        if dispatch is not None:
            return _show(request, site, rights, dispatch)
    return pages(request).render(
        request, "dispatches/none.html", dag_id=dag_id, is_model=dag_id in site.loaded().config.models
    )


@router.get("/dispatches/{dispatch_id}", response_class=HTMLResponse)
def show_one(
    request: Request, site: SiteDep, rights: RightsDep, dispatch_id: str, part: str | None = None
) -> Response:
    """One dispatch; `part=story` is what changes while it runs, `part=predictions` is read from the sink."""
    dispatch = found_dispatch(site, dispatch_id)
    if kind := KINDS.get(part or ""):
        return show_first_rows(request, site, dispatch, kind)
    if part == "story":
        return pages(request).render(request, "dispatches/story.html", **_story(site, dispatch))
    return _show(request, site, rights, dispatch)


def _show(request: Request, site: Site, rights: RightsOf, dispatch: DispatchRecord) -> Response:
    dag_id = dispatch.dag_id if dispatch.run_id is not None else None
    return pages(request).render(
        request,
        "dispatches/one.html",
        **_story(site, dispatch),
        link=f"dispatches/{quote(dispatch.dispatch_id, safe='')}",
        every_s=BUSY_EVERY_S if dispatch.state == "running" else 0,
        has_run=dag_id is not None,
        may_run_again=dag_id is not None and rights(dag_id).may_clear,
    )


def _story(site: Site, dispatch: DispatchRecord) -> dict[str, Any]:
    store = site.event_store()
    events = store.events(dispatch.dispatch_id)
    previous = store.previous(dispatch)
    before = store.events(previous.dispatch_id) if previous else []
    now = datetime.now(UTC)
    tries = tell_tries(events)
    run = airflow_run_path(dispatch.dag_id, dispatch.run_id)
    report = infer_report_of(events)
    seconds = ((dispatch.finished_at or now) - dispatch.created_at).total_seconds()
    return {
        "dispatch": dispatch,
        "badge": figures.BADGES[dispatch.state],
        "duration": figures.duration(seconds),
        "is_busy": dispatch.state == "running",
        "steps": summarise_steps(tries),
        "tries": tries,
        "timeline": timeline(tries, now),
        "reasons": (report or {}).get("reasons") or [],
        "chart": distribution_chart(report, infer_report_of(before)),
        "previous": previous,
        "airflow_run": run,
        "log_path": partial(airflow_log_path, run),
        "figures": figures,
    }
