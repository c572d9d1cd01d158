"""Dispatches as JSON and CSV, for programs: the same data as on the pages."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import fields
from datetime import datetime
from itertools import chain
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from mlops_plugin.events.details.serialization import write_details
from mlops_plugin.events.details.step_reports import ClassCounts, NumberCounts
from mlops_plugin.events.reading import DispatchFilter, DispatchLine
from mlops_plugin.events.records import Kind, Origin, State, Step
from mlops_plugin.pipeline.recording.infer_reports import merge_reports
from mlops_plugin.pipeline.writing.predictions import first_predictions
from mlops_plugin.web.access import reads
from mlops_plugin.web.dispatches.filters import DispatchPageQuery, DispatchQuery, write_cursor
from mlops_plugin.web.dispatches.lines import COUNT_LIMIT
from mlops_plugin.web.dispatches.plots import distribution_of
from mlops_plugin.web.dispatches.story import infer_report_of, signature_of
from mlops_plugin.web.error_status import refusals
from mlops_plugin.web.visible import VisibleDep

PREDICTION_ROWS = 20
PREDICTIONS_TIMEOUT_S = 8.0

router = APIRouter(prefix="/api/v1", tags=["Dispatches"], dependencies=[reads("Dispatches")])


class _FromRecord(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class Dispatch(_FromRecord):
    """One execution of a model. Times are UTC; rows are null until a step has counted them."""

    dispatch_id: str = Field(description="Also stored with each row of its predictions.")
    model: str
    origin: Origin
    state: State
    requested_by: str | None = Field(description="The user who requested it, if any.")
    dag_id: str | None = Field(
        description="Airflow's DAG and run; null if the origin is showroom or terminal."
    )
    run_id: str | None
    data_interval_start: datetime | None
    data_interval_end: datetime | None
    dry_run: bool
    created_at: datetime = Field(description="When it first started.")
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime
    seconds: float | None = Field(None, description="From its start to its end; null while it runs.")
    tries: int = Field(description="The highest try number of any step.")
    rows_collected: int | None
    rows_predicted: int | None
    rows_rejected: int | None
    rows_persisted: int | None
    rows_superseded: int | None = Field(
        description="Predictions left out because the table holds those of a newer dispatch."
    )
    error: str | None


class DispatchPage(BaseModel):
    """Dispatches, newest first."""

    dispatches: list[Dispatch]
    next: str | None = Field(description="`before` of the next page; null on the last.")
    count: int = Field(description=f"How many match the filter, at most {COUNT_LIMIT}.")
    is_count_bounded: bool = Field(description="Whether more than `count` match.")


class Event(_FromRecord):
    """Something that happened to a dispatch; `step` is null if it concerns the whole dispatch."""

    step: Step | None
    kind: Kind
    partition_number: int | None = Field(description="Of a partitioned dispatch, from 0; null: all rows.")
    try_number: int | None
    at: datetime
    row_count: int | None
    seconds: float | None
    error: str | None
    details: Annotated[
        dict[str, Any] | None, BeforeValidator(lambda details: details and write_details(details))
    ]


class DispatchDetail(Dispatch):
    """A dispatch with all that is known of it."""

    columns: list[dict[str, str]] | None = Field(description="The query's columns: name, type.")
    first_key: dict[str, Any] | None
    last_key: dict[str, Any] | None
    artifact_sha256: str | None
    artifact_uri: str | None
    signature_sha256: str | None = Field(None, description="Of the signature beside the artifact, if any.")
    config_sha256: str | None
    libraries: dict[str, str] | None = Field(
        None, description="Versions of Python and of the libraries that predicted; null before `infer`."
    )
    query: str | None = Field(description="The SQL that was run.")
    events: list[Event] = []


class HistoryEntry(BaseModel):
    """A dispatch in a model's history, with how its predictions were distributed (null: not recorded)."""

    dispatch: Dispatch
    distribution: ClassCounts | NumberCounts | None


class Predictions(BaseModel):
    """The first rows that a dispatch left in its sink; none if later dispatches replaced them."""

    table: str
    columns: list[str]
    rows: list[list[str | None]] = Field(description="Values as text; null is NULL.")


@router.get("/dispatches")
def list_dispatches(seen: VisibleDep, asked: Annotated[DispatchPageQuery, Query()]) -> DispatchPage:
    """A page of dispatches, newest first; the next page is `before` its `next`."""
    store, wanted = seen.site.event_store(), seen.passing(asked.filter)
    lines = store.page(wanted, before=asked.cursor, limit=asked.limit)
    count = store.count(wanted, at_most=COUNT_LIMIT + 1)
    return DispatchPage(
        dispatches=[Dispatch.model_validate(line) for line in lines],
        next=write_cursor(lines[-1].cursor) if len(lines) == asked.limit else None,
        count=min(count, COUNT_LIMIT),
        is_count_bounded=count > COUNT_LIMIT,
    )


@router.get(
    "/dispatches.csv",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def export_dispatches(seen: VisibleDep, asked: Annotated[DispatchQuery, Query()]) -> StreamingResponse:
    """All dispatches that match the filter, as a CSV stream.

    Text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    pages = seen.site.event_store().every_page(seen.passing(asked.filter))
    first = next(pages, [])  # an error must come before the response starts
    name = f"dispatches-{asked.model}.csv" if asked.model else "dispatches.csv"
    return StreamingResponse(
        csv_rows(chain([first], pages)),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"},
    )


@router.get("/dispatches/{dispatch_id}", responses=refusals(404))
def show_dispatch(seen: VisibleDep, dispatch_id: str) -> DispatchDetail:
    """One dispatch with its events."""
    dispatch = seen.dispatch(dispatch_id)
    detail = DispatchDetail.model_validate(dispatch)
    if dispatch.finished_at is not None:
        detail.seconds = (dispatch.finished_at - dispatch.created_at).total_seconds()
    events = seen.site.event_store().events(dispatch.dispatch_id)
    detail.signature_sha256 = signature_of(events)
    report = infer_report_of(events)
    detail.libraries = dict(report.libraries) if report else None
    detail.events = [Event.model_validate(event) for event in events]
    return detail


@router.get("/dispatches/{dispatch_id}/predictions", responses=refusals(404))
def show_predictions(seen: VisibleDep, dispatch_id: str) -> Predictions:
    """The first rows of its predictions, read from the sink now."""
    dispatch = seen.dispatch(dispatch_id)
    found = first_predictions(
        seen.site.deployment(),
        seen.model(dispatch.model),
        dispatch.dispatch_id,
        limit=PREDICTION_ROWS,
        timeout_s=PREDICTIONS_TIMEOUT_S,
    )
    rows = [[None if value is None else str(value)[:500] for value in row] for row in found.rows]
    return Predictions(table=found.table, columns=found.columns, rows=rows)


@router.get("/models/{model}/history", responses=refusals(404))
def show_history(
    seen: VisibleDep,
    model: str,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> list[HistoryEntry]:
    """The model's newest dispatches, oldest first; those of the Showroom are left out."""
    return [
        HistoryEntry(
            dispatch=Dispatch.model_validate(line),
            distribution=distribution_of(merge_reports(reports)),
        )
        for line, reports in seen.site.event_store().history(
            seen.passing(DispatchFilter(model=model)), limit=limit
        )
    ]


_COLUMNS = [*(field.name for field in fields(DispatchLine)), "seconds"]
# A spreadsheet runs text that starts like this; see OWASP, "CSV Injection".
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_rows(pages: Iterable[list[DispatchLine]]) -> Iterator[str]:
    """The lines of a CSV file, a page of dispatches at a time."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for page in pages:
        writer.writerows([[_cell(getattr(line, name)) for name in _COLUMNS] for line in page])
        yield text.getvalue()
        text.seek(0)
        text.truncate()


def _cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
