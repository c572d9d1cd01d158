"""The Showroom as JSON: the models, their cases, and a run of one on cases or on rows of the request."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.events.records import Step
from mlops_plugin.serving.cases import MAX_CHOSEN, MAX_PAGE_ROWS, CaseView
from mlops_plugin.serving.run import as_json
from mlops_plugin.serving.wanted import MAX_ROWS, Wanted
from mlops_plugin.web.access import UserName, creates, reads
from mlops_plugin.web.error_status import refusals
from mlops_plugin.web.shared_site import SiteDep
from mlops_plugin.web.showroom.request_fields import Model, place_of, showroom
from mlops_plugin.web.showroom.results import place_text
from mlops_plugin.web.turns import Turns
from mlops_plugin.web.visible import Visible, VisibleDep
from mlops_plugin.web.well_formed import ColumnName, KeyText, Search, Value

router = APIRouter(prefix="/api/v1/showroom", tags=["Showroom"])


class ModelState(BaseModel):
    """A model that can be run. `state`: whether it is loaded."""

    model_config = ConfigDict(protected_namespaces=())

    name: str
    title: str
    description: str
    key: list[str]
    truth: str | None
    state: Literal["absent", "loading", "ready", "failed"]
    error: str | None = None


class CasesPage(BaseModel):
    """One page of cases, key columns first. `next` is `after` of the next page, `previous` is `before` of the
    one before; null if there is none."""

    columns: list[str]
    rows: list[dict[str, Any]]
    previous: str | None
    next: str | None


class RunRequest(BaseModel):
    """Cases by their key values, or rows of features. `changes` runs each case as it is and then changed."""

    model_config = ConfigDict(extra="forbid")

    keys: list[list[Value]] = Field(default=[], max_length=MAX_CHOSEN, examples=[[[17], [18]]])
    rows: list[dict[ColumnName, Value]] = Field(default=[], max_length=MAX_ROWS, examples=[[{"age": 41}]])
    changes: dict[ColumnName, Value] = Field(default={}, examples=[{"age": 42}])


class StepTime(BaseModel):
    step: Step
    seconds: float
    rows: int


class RejectedValue(BaseModel):
    """Why a row was rejected; `row` counts from 0 in the order of the rows."""

    row: int
    column: str | None
    reason: str
    value: str | None


class RunResult(BaseModel):
    """`predictions`: the key and the model's output, in the order of the rows; with changes, the unchanged
    cases come first. Rows that the contract rejects are in `rejected` instead."""

    dispatch_id: str
    artifact_sha256: str
    predictions: list[dict[str, Any]]
    rejected: list[RejectedValue]
    steps: list[StepTime]


@router.get("/models", dependencies=[reads("Showroom")])
def models(seen: VisibleDep) -> list[ModelState]:
    """The models that the user may read, and their states."""
    pool = seen.site.model_pool()
    found = []
    for model in seen.models.values():
        loading = pool.loading(model)
        found.append(
            ModelState(
                name=model.name,
                title=model.showroom.title or model.name,
                description=model.description,
                key=list(model.key),
                truth=model.showroom.truth,
                state=loading.state,
                error=loading.error,
            )
        )
    return found


@router.get("/models/{name}/cases", responses=refusals(404, 429), dependencies=[reads("Showroom")])
def cases(
    site: SiteDep,
    model: Model,
    search: Search = "",
    sort: ColumnName | None = None,
    descending: bool = False,
    after: KeyText = "",
    before: KeyText = "",
    page_rows: Annotated[int, Query(ge=1, le=MAX_PAGE_ROWS)] = 25,
) -> CasesPage:
    """A page of the cases of a model."""
    view = CaseView(search, sort, descending, place_of(after, before), page_rows)
    with site.case_queries.open(model, site.deployment()) as found:
        page = found.page(view)
    return CasesPage(
        columns=page.rows.column_names,
        rows=list(as_json(page.rows)),
        previous=None if page.previous is None else place_text(page.previous),
        next=None if page.next is None else place_text(page.next),
    )


@router.post(
    "/models/{name}/runs",
    response_model=RunResult,
    responses=refusals(400, 404, 413, 429),
    dependencies=[creates("Showroom")],
)
async def run(
    request: Request, seen: VisibleDep, name: str, user: UserName, asked: Annotated[RunRequest, Body()]
) -> Response:
    """Run a model on cases by key, with changed values, or on a table of rows."""
    if bool(asked.keys) == bool(asked.rows):
        raise HTTPException(422, "send either keys of cases or rows of features")
    keys = [tuple(key) for key in asked.keys]
    wanted = Wanted(keys=keys, rows=asked.rows, changes=asked.changes)
    model = await run_in_threadpool(seen.runnable, name)  # some auth managers ask a server
    turns: Turns = request.app.state.turns
    async with turns.of(model.name):
        return await run_in_threadpool(_run, seen, model, wanted, user)


def _run(seen: Visible, model: ModelConfig, wanted: Wanted, user: str) -> Response:
    # No response model: it would cost a one-row run another thread.
    shown = showroom(seen.site).run(model, wanted, user)
    result = RunResult(
        dispatch_id=shown.dispatch_id,
        artifact_sha256=shown.artifact_sha256,
        predictions=list(as_json(shown.predictions)),
        rejected=[RejectedValue(**vars(one)) for one in shown.rejections],
        steps=[
            StepTime(step=news.step, seconds=news.seconds or 0.0, rows=news.rows or 0) for news in shown.steps
        ],
    )
    return Response(result.model_dump_json(), media_type="application/json")
