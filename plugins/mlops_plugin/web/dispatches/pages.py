"""The pages of Dispatches: what ran, on which rows, with which model, and the outcome."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from mlops_plugin.events.reading import DispatchFilter
from mlops_plugin.events.records import DispatchRecord, Origin, State
from mlops_plugin.events.store import EventStore
from mlops_plugin.events.tries import idle_seconds
from mlops_plugin.pipeline.dispatch import dispatch_id as id_of_run
from mlops_plugin.pipeline.reading.mark_keeping import newest_mark_words
from mlops_plugin.pipeline.recording.infer_reports import merge_reports
from mlops_plugin.web.access import reads
from mlops_plugin.web.badges import badge_of
from mlops_plugin.web.charts import Chart
from mlops_plugin.web.dispatches.lines import (
    COUNT_LIMIT,
    airflow_log_path,
    airflow_run_path,
    count_states,
    dispatch_path,
    measure_lines,
    present_line,
)
from mlops_plugin.web.dispatches.listing import ListQuery, Tab, columns_of, read_listing
from mlops_plugin.web.dispatches.plots import distribution_chart, history_charts
from mlops_plugin.web.dispatches.rows import KINDS, show_first_rows
from mlops_plugin.web.dispatches.story import (
    explains_case,
    infer_report_of,
    list_tries,
    registered_of,
    signature_of,
    step_to_resume,
    summarise_steps,
)
from mlops_plugin.web.dispatches.timeline import timeline
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.languages.translation import translate
from mlops_plugin.web.languages.written_values import format_duration
from mlops_plugin.web.pages import pages, url
from mlops_plugin.web.shared_site import Site
from mlops_plugin.web.visible import Visible, VisibleDep

HISTORY = 100  # dispatches in the plots
BUSY_EVERY_S, IDLE_EVERY_S = 3, 30

router = APIRouter(include_in_schema=False, dependencies=[reads("Dispatches")])


@router.get("/dispatches", response_class=HTMLResponse)
def show_list(request: Request, seen: VisibleDep, asked: Annotated[ListQuery, Query()]) -> Response:
    """The list; with `part=list` only the part that changes while dispatches run."""
    store, wanted = seen.site.event_store(), seen.passing(asked.filter)
    listing = read_listing(store, asked, wanted)
    now = store.now()
    is_busy = any(timed.line.state == "running" for timed in listing.lines)
    together = {name for name, model in seen.models.items() if model.execution == "together"}
    values: dict[str, Any] = {
        "asked": asked,
        "now": now,
        "listing": listing,
        "columns": columns_of(asked),
        "rows": [
            present_line(timed, is_one_task=timed.line.model in together, tab=asked.tab)
            for timed in listing.lines
        ],
        "is_busy": is_busy,
        "reason": _why_empty(asked, is_first=listing.newest is None),
        "counts": count_states(partial(store.count, at_most=COUNT_LIMIT + 1), wanted),
        "with_showroom": asked.link("dispatches", origin="all", before=None, after=None, skip=None),
    }
    if asked.part == "list":
        return pages(request).render(request, "dispatches/list.html", **values)
    names = seen.names
    return pages(request).render(
        request,
        "dispatches/page.html",
        **values,
        models=sorted({*names, *filter(None, [asked.model])}),
        states=get_args(State),
        origins=get_args(Origin),
        is_known=asked.model is None or asked.model in names or bool(listing.lines),
        charts=_charts(request, store, wanted, now, asked.tab) if asked.model else [],
        mark=_mark(seen, asked.model),
        fragment=asked.link("dispatches", part="list"),
        export=asked.export_link,
        reset=_reset(asked),
        every_s=BUSY_EVERY_S if is_busy else IDLE_EVERY_S,
    )


def _charts(
    request: Request, store: EventStore, wanted: DispatchFilter, now: datetime, tab: Tab
) -> list[Chart]:
    """The model's newest dispatches over time; each point leads to its dispatch."""
    history = store.history(wanted, limit=HISTORY)
    timed = measure_lines(store, [line for line, _reports in history], now)
    return history_charts(
        [(each, merge_reports(reports)) for each, (_line, reports) in zip(timed, history, strict=True)],
        lambda line: url(request, dispatch_path(line.dispatch_id, tab)),
    )


def _why_empty(asked: ListQuery, *, is_first: bool) -> str:
    if not is_first:
        return _("There are no older dispatches.")
    if asked.is_narrowed:
        return _("No dispatch matches the filter.")
    return _("There are no dispatches yet. Trigger a model's DAG in Airflow, or run a case in the Showroom.")


def _mark(seen: Visible, name: str | None) -> str | None:
    """Up to which value the model has read its source, in words; None if that is not recorded."""
    model = seen.models.get(name or "")
    if model is None or model.source.cursor is None:
        return None
    return translate(newest_mark_words(model, seen.site.event_store()))


def _reset(asked: ListQuery) -> str:
    """The list without a filter; in a DAG's tab its model stays."""
    kept = {"model", "tab"} if asked.tab else set[str]()
    return asked.link("dispatches", **dict.fromkeys(ListQuery.model_fields.keys() - kept))


@router.get("/dispatches/of-run", response_class=HTMLResponse)
def show_of_run(request: Request, seen: VisibleDep, dag_id: str, run_id: str) -> Response:
    """The dispatch of a DAG run, for the tab on the run's page."""
    # Airflow puts the run id into the URL unescaped: a plus sign arrives as a space.
    spellings = dict.fromkeys((run_id, run_id.replace(" ", "+")))
    for spelling in spellings if seen.rights.may_read(dag_id) else ():
        dispatch = seen.site.event_store().get(id_of_run(dag_id, spelling))
        if dispatch is not None and seen.rights.may_read(dispatch.model):
            return _show(request, seen, dispatch, has_list=False)
    return pages(request).render(
        request, "dispatches/none.html", dag_id=dag_id, is_model=dag_id in seen.names
    )


@router.get("/dispatches/{dispatch_id}", response_class=HTMLResponse)
def show_one(
    request: Request, seen: VisibleDep, dispatch_id: str, part: str | None = None, tab: Tab = None
) -> Response:
    """One dispatch; `part=story` is what changes while it runs, `part=predictions` is read from the sink."""
    dispatch = seen.dispatch(dispatch_id)
    if kind := KINDS.get(part or ""):
        return show_first_rows(request, seen, dispatch, kind)
    if part == "story":
        return pages(request).render(request, "dispatches/story.html", **_story(seen.site, dispatch), tab=tab)
    return _show(request, seen, dispatch, tab)


def _show(
    request: Request, seen: Visible, dispatch: DispatchRecord, tab: Tab = None, *, has_list: bool = True
) -> Response:
    """The page; in the tab of a DAG run no list leads to it."""
    dag_id = dispatch.dag_id if dispatch.run_id is not None else None
    return pages(request).render(
        request,
        "dispatches/one.html",
        **_story(seen.site, dispatch),
        link=dispatch_path(dispatch.dispatch_id),
        tab=tab,
        has_list=has_list,
        every_s=BUSY_EVERY_S if dispatch.state == "running" else 0,
        has_run=dag_id is not None,
        may_run_again=dag_id is not None and seen.rights.may_clear(dag_id),
    )


def _changed(hashes: Mapping[str, tuple[str | None, str | None]]) -> set[str]:
    """Which of the hashes, if both dispatches have them, differ from those of the previous dispatch."""
    return {name for name, (now, before) in hashes.items() if now and before and now != before}


def _story(site: Site, dispatch: DispatchRecord) -> dict[str, Any]:
    store = site.event_store()
    events = store.events(dispatch.dispatch_id)
    previous = store.previous(dispatch)
    before = store.events(previous.dispatch_id) if previous else []
    now = store.now()
    tries = list_tries(events)
    run = airflow_run_path(dispatch.dag_id, dispatch.run_id)
    report = infer_report_of(events)
    is_busy = dispatch.state == "running"
    idle = idle_seconds(events, now if is_busy else None)
    hashes = {
        "artifact_sha256": (dispatch.artifact_sha256, previous.artifact_sha256 if previous else None),
        "signature_sha256": (signature_of(events), signature_of(before)),
        "config_sha256": (dispatch.config_sha256, previous.config_sha256 if previous else None),
    }
    seconds = max(0.0, ((dispatch.finished_at or now) - dispatch.created_at).total_seconds() - idle)
    return {
        "dispatch": dispatch,
        "badge": badge_of(dispatch.state),
        "duration": format_duration(seconds),
        "idle": format_duration(idle) if idle >= 1 else None,
        "is_busy": is_busy,
        "now": now,
        "steps": summarise_steps(tries),
        "resume": step_to_resume(tries) if dispatch.state == "failed" else None,
        "tries": tries,
        "timeline": timeline(tries, now),
        "reasons": report.reasons if report else (),
        "libraries": report.libraries if report else {},
        "chart": distribution_chart(report, infer_report_of(before)),
        "previous": previous,
        "explains_case": explains_case(events),
        "signature_sha256": hashes["signature_sha256"][0],
        "registered": registered_of(events),
        "changed": _changed(hashes),
        "airflow_run": run,
        "log_path": partial(airflow_log_path, run),
    }
