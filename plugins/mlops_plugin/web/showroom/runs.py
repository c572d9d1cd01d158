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
from mlops_plugin.web.error_status import status_of
from mlops_plugin.web.pages import address, pages
from mlops_plugin.web.showroom.requests import Model, ShowroomDep, WantedDep
from mlops_plugin.web.showroom.results import csv_uri, curl_command, outcomes
from mlops_plugin.web.showroom.steps import ended_steps, step_text

router = APIRouter(prefix="/showroom/{name}")
_log = logging.getLogger(__name__)

_STREAM = "application/x-ndjson"
_LOADING_EVERY_S = 0.5


@router.get("/run", include_in_schema=False, dependencies=[reads("Showroom")])
@router.get("/why", include_in_schema=False, dependencies=[reads("Showroom")])
def cases_again_page(name: str) -> Response:
    """Whoever reloads or bookmarks a result lands among the cases: a run happens on request only."""
    return Response(status_code=303, headers={"Location": f"../{quote(name, safe='')}"})


@router.post("/run", response_class=HTMLResponse, dependencies=[creates("Showroom")])
def run_page(
    request: Request, showroom: ShowroomDep, model: Model, user: UserName, wanted: WantedDep
) -> Response:
    """The result as a page, or for a script as a stream."""
    if _STREAM in request.headers.get("accept", ""):
        return StreamingResponse(_lines(request, showroom, model, wanted, user), media_type=_STREAM)
    shown, error, news = None, None, list[StepNews]()
    try:
        shown = showroom.run(model, wanted, user, news.append)
    except MlopsError as failure:
        error = failure
    return pages(request).render(
        request,
        "showroom/run.html",
        status=status_of(error) if error else 200,
        model=model,
        title=model.showroom.title or model.name,
        result=_result_html(request, showroom, model, wanted, shown or _problem(error)),
        steps=ended_steps(news),
    )


def _lines(
    request: Request, showroom: Showroom, model: ModelConfig, wanted: Wanted, user: str
) -> Iterator[str]:
    """A run as lines of JSON: steps as they happen, the model's loading, and last the result as HTML."""
    told_of: queue.SimpleQueue[StepNews | Shown | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            told_of.put(showroom.run(model, wanted, user, told_of.put))
        except Exception as error:  # noqa: BLE001 - handed to the page below
            told_of.put(error)

    # Not in the generator itself: a browser that goes away must not stop a run half-way.
    threading.Thread(target=work, name=f"showroom-{model.name}", daemon=True).start()
    while True:
        try:
            news = told_of.get(timeout=_LOADING_EVERY_S)
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
    return "the run failed for a reason that is in the API server's log"


def _result_html(
    request: Request, showroom: Showroom, model: ModelConfig, wanted: Wanted, result: Shown | str
) -> str:
    """What a run showed, or the problem that it had."""
    values: dict[str, Any] = {"problem": result, "model": model, "shown": None, "results": [], "csv": ""}
    if isinstance(result, Shown):
        features = showroom.pool.features(model) or ()
        values |= {
            "problem": None,
            "shown": result,
            "results": outcomes(model, result, features, is_what_if=bool(wanted.changes)),
            "csv": csv_uri(result, model),
        }
    asked: dict[str, Any] = {"keys": [list(key) for key in wanted.keys]}
    if wanted.changes:
        asked["changes"] = dict(wanted.changes)
    values["curl"] = curl_command(address(request, f"api/v1/showroom/models/{model.name}/runs"), asked)
    return bytes(pages(request).render(request, "showroom/result.html", **values).body).decode()
