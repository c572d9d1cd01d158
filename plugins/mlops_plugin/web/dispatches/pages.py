"""The pages of Dispatches: what ran, on which rows, with which model, and the outcome."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal, get_args
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BeforeValidator, Field

from mlops_plugin.events.marks import newest_mark
from mlops_plugin.events.reading import DispatchFilter, DispatchLine
from mlops_plugin.events.records import DispatchRecord, Origin, State
from mlops_plugin.events.store import EventStore
from mlops_plugin.formatting import format_duration
from mlops_plugin.pipeline.dispatch import dispatch_id as id_of_run
from mlops_plugin.pipeline.reading.mark_keeping import mark_words
from mlops_plugin.pipeline.recording.infer_reports import merge_reports
from mlops_plugin.web.access import reads
from mlops_plugin.web.badges import badge_of
from mlops_plugin.web.dispatches.api import COUNT_LIMIT
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
from mlops_plugin.web.dispatches.story import infer_report_of, list_tries, summarise_steps
from mlops_plugin.web.dispatches.timeline import timeline
from mlops_plugin.web.pages import pages
from mlops_plugin.web.shared_site import Site
from mlops_plugin.web.visible import Visible, VisibleDep

HISTORY = 100  # dispatches in the plots
BUSY_EVERY_S, IDLE_EVERY_S = 3, 30

router = APIRouter(include_in_schema=False, dependencies=[reads("Dispatches")])


class ListQuery(DispatchPageQuery):
    """The list's page; `part` asks for the part that refreshes, `tab` keeps the model of a DAG."""

    after: CursorText = Field(None, description="End before this one: the page of newer ones.")
    part: str | None = None
    tab: Annotated[Literal["dag"] | None, BeforeValidator(none_if_empty)] = None

    def link(self, path: str, **more: str | None) -> str:
        return super().link(path, **{"part": None, **more})


@router.get("/dispatches", response_class=HTMLResponse)
def show_list(request: Request, seen: VisibleDep, asked: Annotated[ListQuery, Query()]) -> Response:
    """The list; with `part=list` only the part that changes while dispatches run."""
    store, wanted = seen.site.event_store(), seen.passing(asked.filter)
    lines, is_first = _page(store, asked, wanted)
    now = store.now()
    is_busy = any(line.state == "running" for line in lines)
    together = {name for name, model in seen.models.items() if model.execution == "together"}
    values: dict[str, Any] = {
        "asked": asked,
        "rows": [present_line(line, now, is_one_task=line.model in together) for line in lines],
        "is_busy": is_busy,
        "reason": _why_empty(asked, is_first=is_first),
        "count": count_words(partial(store.count, at_most=COUNT_LIMIT + 1), wanted),
        **_links(asked, lines, is_first=is_first),
    }
    if asked.part == "list":
        return pages(request).render(request, "dispatches/list.html", **values)
    names = seen.names
    charts = []
    if asked.model:
        history = store.history(wanted, limit=HISTORY)
        charts = history_charts([(line, merge_reports(reports)) for line, reports in history])
    return pages(request).render(
        request,
        "dispatches/page.html",
        **values,
        models=sorted({*names, *filter(None, [asked.model])}),
        states=get_args(State),
        origins=get_args(Origin),
        is_known=asked.model is None or asked.model in names or bool(lines),
        charts=charts,
        mark=_mark(seen, asked.model),
        fragment=asked.link("dispatches", part="list"),
        export=asked.link("api/v1/dispatches.csv", before=None, after=None, limit=None, tab=None),
        reset=_reset(asked),
        every_s=BUSY_EVERY_S if is_busy else IDLE_EVERY_S,
    )


def _why_empty(asked: ListQuery, *, is_first: bool) -> str:
    if not is_first:
        return "There are no older dispatches."
    if any((asked.model, asked.state, asked.origin, asked.since, asked.until)):
        return "No dispatch matches the filter."
    return "There are no dispatches yet. Trigger a model's DAG in Airflow, or run a case in the Showroom."


def _mark(seen: Visible, name: str | None) -> str | None:
    """Up to which value the model has read its source, in words; None if that is not recorded."""
    model = seen.models.get(name or "")
    if model is None or model.source.cursor is None:
        return None
    return mark_words(model, newest_mark(seen.site.event_store(), model.name))


def _reset(asked: ListQuery) -> str:
    """The list without a filter; in a DAG's tab its model stays."""
    kept = {"model", "tab"} if asked.tab else set[str]()
    return asked.link("dispatches", **dict.fromkeys(ListQuery.model_fields.keys() - kept))


def _page(store: EventStore, asked: ListQuery, wanted: DispatchFilter) -> tuple[list[DispatchLine], bool]:
    """The lines, and whether they are the newest."""
    if asked.after:
        newer = store.newer_page(wanted, after=parse_cursor(asked.after), limit=asked.limit)
        if len(newer) == asked.limit:
            return newer, False
        return store.page(wanted, limit=asked.limit), True
    return store.page(wanted, before=asked.cursor, limit=asked.limit), asked.before is None


def _links(asked: ListQuery, lines: list[DispatchLine], *, is_first: bool) -> dict[str, str | None]:
    newest = asked.link("dispatches", before=None, after=None)
    newer = older = None
    if lines and not is_first:
        newer = asked.link("dispatches", before=None, after=write_cursor(lines[0].cursor))
    if len(lines) == asked.limit:
        older = asked.link("dispatches", before=write_cursor(lines[-1].cursor), after=None)
    return {"newest": None if is_first else newest, "newer": newer, "older": older}


@router.get("/dispatches/of-run", response_class=HTMLResponse)
def show_of_run(request: Request, seen: VisibleDep, dag_id: str, run_id: str) -> Response:
    """The dispatch of a DAG run, for the tab on the run's page."""
    # Airflow puts the run id into the URL unescaped: a plus sign arrives as a space.
    for spelling in dict.fromkeys((run_id, run_id.replace(" ", "+"))):
        dispatch = seen.site.event_store().get(id_of_run(dag_id, spelling))
        if dispatch is not None and seen.rights.may_read(dispatch.model):
            return _show(request, seen, dispatch)
    return pages(request).render(
        request, "dispatches/none.html", dag_id=dag_id, is_model=dag_id in seen.names
    )


@router.get("/dispatches/{dispatch_id}", response_class=HTMLResponse)
def show_one(request: Request, seen: VisibleDep, dispatch_id: str, part: str | None = None) -> Response:
    """One dispatch; `part=story` is what changes while it runs, `part=predictions` is read from the sink."""
    dispatch = seen.dispatch(dispatch_id)
    if kind := KINDS.get(part or ""):
        return show_first_rows(request, seen, dispatch, kind)
    if part == "story":
        return pages(request).render(request, "dispatches/story.html", **_story(seen.site, dispatch))
    return _show(request, seen, dispatch)


def _show(request: Request, seen: Visible, dispatch: DispatchRecord) -> Response:
    dag_id = dispatch.dag_id if dispatch.run_id is not None else None
    return pages(request).render(
        request,
        "dispatches/one.html",
        **_story(seen.site, dispatch),
        link=f"dispatches/{quote(dispatch.dispatch_id, safe='')}",
        every_s=BUSY_EVERY_S if dispatch.state == "running" else 0,
        has_run=dag_id is not None,
        may_run_again=dag_id is not None and seen.rights.may_clear(dag_id),
    )


def _changed(dispatch: DispatchRecord, previous: DispatchRecord | None) -> set[str]:
    """Which of the hashes, if both dispatches have them, differ from those of the previous dispatch."""
    pairs = {
        name: (getattr(dispatch, name), getattr(previous, name, None))
        for name in ("artifact_sha256", "config_sha256")
    }
    return {name for name, (now, before) in pairs.items() if now and before and now != before}


def _story(site: Site, dispatch: DispatchRecord) -> dict[str, Any]:
    store = site.event_store()
    events = store.events(dispatch.dispatch_id)
    previous = store.previous(dispatch)
    before = store.events(previous.dispatch_id) if previous else []
    now = store.now()
    tries = list_tries(events)
    run = airflow_run_path(dispatch.dag_id, dispatch.run_id)
    report = infer_report_of(events)
    seconds = ((dispatch.finished_at or now) - dispatch.created_at).total_seconds()
    return {
        "dispatch": dispatch,
        "badge": badge_of(dispatch.state),
        "duration": format_duration(seconds),
        "is_busy": dispatch.state == "running",
        "steps": summarise_steps(tries),
        "tries": tries,
        "timeline": timeline(tries, now),
        "reasons": report.reasons if report else (),
        "chart": distribution_chart(report, infer_report_of(before)),
        "previous": previous,
        "changed": _changed(dispatch, previous),
        "airflow_run": run,
        "log_path": partial(airflow_log_path, run),
    }
