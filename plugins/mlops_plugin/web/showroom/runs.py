"""Running a model from the Showroom's pages: steps as they happen, then the result."""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import MlopsError
from mlops_plugin.serving.run import Shown, Showroom, StepNews
from mlops_plugin.serving.wanted import Wanted
from mlops_plugin.web.access import UserName, creates, reads
from mlops_plugin.web.error_status import headers_of, status_of
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.pages import address, pages
from mlops_plugin.web.showroom.category_bars import category_bars
from mlops_plugin.web.showroom.curve import curve_chart
from mlops_plugin.web.showroom.request_fields import RunnableModel, ShowroomDep, WantedDep
from mlops_plugin.web.showroom.results import csv_uri, curl_command, outcomes
from mlops_plugin.web.showroom.steps import ended_steps, step_text
from mlops_plugin.web.showroom.verdict import judge

router = APIRouter(prefix="/showroom/{name}", include_in_schema=False)
_log = logging.getLogger(__name__)

_STREAM = "application/x-ndjson"
_LOADING_EVERY_S = 0.5


@router.get("/run", dependencies=[reads("Showroom")])
@router.get("/why", dependencies=[reads("Showroom")])
def cases_again_page(name: str) -> Response:
    """A reloaded or bookmarked result leads to the cases: a model runs only on request."""
    return Response(status_code=303, headers={"Location": f"../{quote(name, safe='')}"})


@router.post("/run", response_class=HTMLResponse, dependencies=[creates("Showroom")])
def run_page(
    request: Request, showroom: ShowroomDep, model: RunnableModel, user: UserName, wanted: WantedDep
) -> Response:
    """The result as a page, or as a stream for the script of the page."""
    if _STREAM in request.headers.get("accept", ""):
        return StreamingResponse(_lines(request, showroom, model, wanted, user), media_type=_STREAM)
    shown, error, news = None, None, list[StepNews]()
    try:
        shown = showroom.run(model, wanted, user, news.append)
    except MlopsError as failure:
        error = failure
    page = pages(request).render(
        request,
        "showroom/run.html",
        status=status_of(error) if error else 200,
        model=model,
        title=model.showroom.title or model.name,
        result=_result_html(request, showroom, model, wanted, shown or _problem(error)),
        steps=ended_steps(news),
    )
    page.headers.update(headers_of(error))
    return page


def _lines(
    request: Request, showroom: Showroom, model: ModelConfig, wanted: Wanted, user: str
) -> Iterator[str]:
    """A run as lines of JSON: steps as they happen, loading of the model, and finally the result as HTML."""
    updates: queue.SimpleQueue[StepNews | Shown | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            updates.put(showroom.run(model, wanted, user, updates.put))
        except Exception as error:  # noqa: BLE001 - shown on the page below
            updates.put(error)

    # In a thread of its own: a browser that disconnects must not stop a run half-way.
    threading.Thread(target=work, name=f"showroom-{model.name}", daemon=True).start()
    while True:
        try:
            news = updates.get(timeout=_LOADING_EVERY_S)
        except queue.Empty:
            yield json.dumps({"loading": showroom.pool.loading(model).state}) + "\n"
            continue
        if isinstance(news, StepNews):
            yield json.dumps({"step": news.step, "state": news.state, "text": step_text(news)}) + "\n"
            continue
        result = news if isinstance(news, Shown) else _problem(news)
        yield json.dumps({"html": _result_html(request, showroom, model, wanted, result)}) + "\n"
        return


def _problem(error: Exception | None) -> str:
    if isinstance(error, MlopsError):
        return str(error)
    _log.error("a Showroom run failed", exc_info=error)
    return _("the run failed; see the log of the API server")


def _result_html(
    request: Request, showroom: Showroom, model: ModelConfig, wanted: Wanted, result: Shown | str
) -> str:
    """The result of a run, or why it failed."""
    values: dict[str, Any] = {
        "problem": result,
        "model": model,
        "shown": None,
        "results": [],
        "csv": "",
        "curve": None,
        "categories": None,
        "wanted": wanted,
    }
    if isinstance(result, Shown):
        features = showroom.pool.features(model) or ()
        values |= {
            "problem": None,
            "shown": result,
            "results": outcomes(model, result, features, is_what_if=wanted.is_what_if),
            "csv": csv_uri(result, model),
            "curve": curve_chart(result, wanted),
            "categories": category_bars(result, wanted),
            "verdict": None if wanted.is_what_if else judge(result, model.showroom.truth),
        }
    asked: dict[str, Any] = {"keys": [list(key) for key in wanted.keys]}
    if wanted.changes:
        asked["changes"] = dict(wanted.changes)
    values["curl"] = curl_command(address(request, f"api/v1/showroom/models/{model.name}/runs"), asked)
    return bytes(pages(request).render(request, "showroom/result.html", **values).body).decode()
