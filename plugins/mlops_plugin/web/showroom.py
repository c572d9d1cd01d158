"""The Showroom: choose a model, see its cases, run it on some, ask what if and why."""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import threading
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, urlencode, urljoin

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import CaseError, ConfigError, ContractError, FeatureError, MlopsError
from mlops_plugin.pipeline.baseline_making import find_baseline
from mlops_plugin.pipeline.dispatch import STEPS
from mlops_plugin.serving.cases import CasePage, CaseView, open_cases, text_of
from mlops_plugin.serving.explanation import explain, usual_of_baseline, usual_values
from mlops_plugin.serving.run import Shown, Showroom, StepNews, Wanted
from mlops_plugin.web.access import UserName, creates, reads
from mlops_plugin.web.pages import pages, url
from mlops_plugin.web.picture import data_uri
from mlops_plugin.web.showroom_results import (
    csv_uri,
    curl_command,
    key_json,
    outcomes,
    reasons,
    shown_text,
)
from mlops_plugin.web.site import Site

router = APIRouter()
_log = logging.getLogger(__name__)

_STREAM = "application/x-ndjson"
_MAX_FORM_BYTES = 1 << 20
_LOADING_EVERY_S = 0.5
_STEP_WORDS = {"collect": "Collect", "log": "Log", "infer": "Infer", "persist": "Show"}


def site(request: Request) -> Site:
    """What all views share."""
    found: Site = request.app.state.site
    return found


def wanted_model(request: Request, name: str) -> ModelConfig:
    """The model of that name; 404 where there is none, 409 where its entry is broken."""
    loaded = site(request).loaded()
    if name not in loaded.config.models and name not in loaded.broken:
        raise HTTPException(404, f"there is no model '{name}'")
    try:
        return loaded.model(name)
    except ConfigError as error:
        raise HTTPException(409, str(error)) from error


Model = Annotated[ModelConfig, Depends(wanted_model)]
Form = list[tuple[str, str]]


async def submitted(request: Request) -> Form:
    """The fields of a form, in order."""
    body = await request.body()
    if len(body) > _MAX_FORM_BYTES:
        raise HTTPException(413, "the form is too large")
    return parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)


def showroom(request: Request) -> Showroom:
    """What runs models."""
    shared = site(request)
    return Showroom(shared.deployment(), shared.event_store(), shared.model_pool())


@contextlib.contextmanager
def told() -> Iterator[None]:
    """What a request asks wrongly is the request's fault; everything else is told as what it is."""
    try:
        yield
    except (CaseError, ContractError, FeatureError) as error:
        raise HTTPException(422, str(error)) from error


@router.get("/showroom", response_class=HTMLResponse, dependencies=[reads("Showroom")])
def models_page(request: Request, search: str = "") -> HTMLResponse:
    loaded = site(request).loaded()
    pool = site(request).model_pool()
    found = [
        {
            "name": model.name,
            "title": model.showroom.title or model.name,
            "description": model.description,
            "tags": model.tags,
            "loading": pool.loading(model),
        }
        for model in loaded.config.models.values()
        if _matches(search, model)
    ]
    found.sort(key=lambda one: str(one["title"]).casefold())
    broken = [name for name in sorted(loaded.broken) if search.casefold() in name.casefold()]
    return pages(request).render(
        request, "showroom.html", models=found, broken=broken, search=search, total=len(loaded.config.models)
    )


def _matches(search: str, model: ModelConfig) -> bool:
    texts = (model.name, model.showroom.title or "", model.description, *model.tags)
    return all(any(word in text.casefold() for text in texts) for word in search.casefold().split())


@router.get("/showroom/{name}", response_class=HTMLResponse, dependencies=[reads("Showroom")])
def cases_page(
    request: Request,
    model: Model,
    search: str = "",
    sort: str | None = None,
    descending: bool = False,
    page: int = 1,
) -> HTMLResponse:
    view = CaseView(search=search, sort=sort or None, is_descending=descending, page=max(page, 1))
    table, problem = None, None
    try:
        with open_cases(model, site(request).deployment()) as cases:
            table = _case_table(request, model, cases.page(view), view)
    except MlopsError as error:
        problem = str(error)
    pool = site(request).model_pool()
    return pages(request).render(
        request,
        "showroom_model.html",
        model=model,
        title=model.showroom.title or model.name,
        view=view,
        table=table,
        problem=problem,
        loading=pool.loading(model),
        steps=[(step, _STEP_WORDS[step]) for step in STEPS],
    )


@router.get("/showroom/{name}/state", response_class=HTMLResponse, dependencies=[reads("Showroom")])
def state_fragment(request: Request, model: Model) -> HTMLResponse:
    loading = site(request).model_pool().loading(model)
    return pages(request).render(request, "showroom_state.html", loading=loading)


@router.get("/showroom/{name}/run", include_in_schema=False, dependencies=[reads("Showroom")])
def run_again_page(name: str) -> Response:
    """Whoever reloads or bookmarks a result lands among the cases: a run happens on request only."""
    return Response(status_code=303, headers={"Location": f"../{quote(name, safe='')}"})


@router.post("/showroom/{name}/run", response_class=HTMLResponse, dependencies=[creates("Showroom")])
def run_page(
    request: Request, model: Model, user: UserName, form: Annotated[Form, Depends(submitted)]
) -> Response:
    wanted = _wanted_of(form)
    if not wanted.keys:
        raise HTTPException(422, "no case was chosen; choose at least one")
    if _STREAM in request.headers.get("accept", ""):
        return StreamingResponse(_lines(request, model, wanted, user), media_type=_STREAM)
    shown, problem, news = None, None, list[StepNews]()
    try:
        shown = showroom(request).run(model, wanted, user, news.append)
    except MlopsError as error:
        problem = str(error)
    html = _result_html(request, model, wanted, shown, problem)
    return pages(request).render(
        request,
        "showroom_run.html",
        status=200 if shown else 422,
        model=model,
        title=model.showroom.title or model.name,
        result=html,
        steps=_ended_steps(news),
    )


# It starts the model's process, so seeing is not enough.
@router.get("/showroom/{name}/what-if", response_class=HTMLResponse, dependencies=[creates("Showroom")])
def what_if_page(request: Request, model: Model, key: str) -> HTMLResponse:
    with told(), open_cases(model, site(request).deployment()) as cases:
        row = cases.chosen([_key_of(key)]).read_all()
        sample = cases.sample()
    with site(request).model_pool().runtime(model) as runtime:
        features, sha256 = runtime.features, runtime.artifact_sha256
    baseline = find_baseline(model, sha256)
    usual = usual_values(features, sample) | (usual_of_baseline(baseline) if baseline else {})
    values = row.to_pylist()[0]
    fields = [
        {
            "name": name,
            "value": text_of(values.get(name)),
            "usual": usual.get(name),
            "hint": _hint(usual, name),
        }
        for name in features
        if name in values
    ]
    image = model.showroom.image
    picture = data_uri([values.get(name) for name in features], image.width, image.height) if image else None
    return pages(request).render(
        request,
        "showroom_what_if.html",
        model=model,
        title=model.showroom.title or model.name,
        key=key,
        key_text=_key_text(key),
        fields=fields,
        sampled=sample.num_rows,
        baseline=baseline,
        picture=picture,
        steps=[(step, _STEP_WORDS[step]) for step in STEPS],
    )


@router.get("/showroom/{name}/why", response_class=HTMLResponse, dependencies=[creates("Showroom")])
def why_page(request: Request, model: Model, key: str) -> HTMLResponse:
    with told(), open_cases(model, site(request).deployment()) as cases:
        row = cases.chosen([_key_of(key)]).read_all()
        sample = cases.sample()
    with told(), site(request).model_pool().runtime(model) as runtime:
        found = explain(row, usual_values(runtime.features, sample), runtime)
    return pages(request).render(
        request,
        "showroom_why.html",
        model=model,
        title=model.showroom.title or model.name,
        key=key,
        key_text=_key_text(key),
        outcome=found.outcome.replace("probability_", "probability of ", 1),
        value=shown_text(found.value),
        reasons=reasons(found),
        sampled=sample.num_rows,
    )


def _wanted_of(form: Form) -> Wanted:
    keys = [_key_of(value) for name, value in form if name == "key"]
    was = {name.removeprefix("was."): value for name, value in form if name.startswith("was.")}
    changes = {
        name.removeprefix("set."): value or None
        for name, value in form
        if name.startswith("set.") and value != was.get(name.removeprefix("set."))
    }
    return Wanted(keys=keys, changes=changes)


def _key_of(text: str) -> tuple[Any, ...]:
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if not isinstance(values, list) or any(isinstance(value, list | dict) for value in values):
        raise HTTPException(422, f"'{text[:100]}' is no key; a key is a JSON array of its columns' values")
    return tuple(values)


def _key_text(key: str) -> str:
    return " / ".join(str(value) for value in _key_of(key))


def _hint(usual: dict[str, Any], name: str) -> str:
    found = usual.get(name)
    if found is None or found.reference is None:
        return "no usual value known"
    if found.least is None:
        return f"commonest: {shown_text(found.reference)}"
    return f"median {shown_text(found.reference)}, {shown_text(found.least)} to {shown_text(found.greatest)}"


def _lines(request: Request, model: ModelConfig, wanted: Wanted, user: str) -> Iterator[str]:
    """A run as lines of JSON: steps as they happen, the model's loading, and last the result as HTML."""
    told_of: queue.SimpleQueue[StepNews | Shown | Exception] = queue.SimpleQueue()
    runs = showroom(request)

    def work() -> None:
        try:
            told_of.put(runs.run(model, wanted, user, told_of.put))
        except Exception as error:  # noqa: BLE001 - handed to the page below
            told_of.put(error)

    # Not in the generator itself: a browser that goes away must not stop a run half-way.
    threading.Thread(target=work, name=f"showroom-{model.name}", daemon=True).start()
    while True:
        try:
            news = told_of.get(timeout=_LOADING_EVERY_S)
        except queue.Empty:
            yield json.dumps({"loading": runs.pool.loading(model).state}) + "\n"
            continue
        if isinstance(news, StepNews):
            yield json.dumps({"step": news.step, "state": news.state, "text": _step_text(news)}) + "\n"
            continue
        shown = news if isinstance(news, Shown) else None
        problem = None if shown else _problem(news)
        html = _result_html(request, model, wanted, shown, problem)
        yield json.dumps({"html": html}) + "\n"
        return


def _problem(error: object) -> str:
    if isinstance(error, MlopsError):
        return str(error)
    _log.error("a Showroom run failed", exc_info=error if isinstance(error, BaseException) else None)
    return "the run failed for a reason that is in the API server's log"


def _ended_steps(news: list[StepNews]) -> list[tuple[str, str, str, str]]:
    ended = {one.step: one for one in news}
    return [
        (step, _STEP_WORDS[step], ended[step].state, _step_text(ended[step]))
        if step in ended
        else (step, _STEP_WORDS[step], "waiting", "")
        for step in STEPS
    ]


def _step_text(news: StepNews) -> str:
    if news.seconds is None:
        return "running"
    rows = "" if news.rows is None else f", {news.rows} {'row' if news.rows == 1 else 'rows'}"
    return f"{news.seconds * 1000:.0f} ms{rows}"


def _result_html(
    request: Request, model: ModelConfig, wanted: Wanted, shown: Shown | None, problem: str | None
) -> str:
    values: dict[str, Any] = {"problem": problem, "model": model, "shown": shown, "results": [], "csv": ""}
    if shown is not None:
        features = site(request).model_pool().features(model) or ()
        values["results"] = outcomes(model, shown, features, is_what_if=bool(wanted.changes))
        values["csv"] = csv_uri(shown, model)
    asked: dict[str, Any] = {"keys": [list(key) for key in wanted.keys]}
    if wanted.changes:
        asked["changes"] = dict(wanted.changes)
    address = urljoin(str(request.url), url(request, f"api/v1/showroom/models/{model.name}/runs"))
    values["curl"] = curl_command(address, asked)
    return bytes(pages(request).render(request, "showroom_result.html", **values).body).decode()


def _case_table(request: Request, model: ModelConfig, page: CasePage, view: CaseView) -> dict[str, Any]:
    names: list[str] = page.rows.column_names
    image = model.showroom.image
    pixels = _pixels(request, model, names)
    shown = [name for name in names if name not in pixels]
    numeric = {
        field.name
        for field in page.rows.schema
        if any(text in str(field.type) for text in ("int", "double", "float", "decimal"))
    }
    rows = [
        {
            "key": key_json(tuple(row[name] for name in model.key)),
            "label": " / ".join(shown_text(row[name]) for name in model.key),
            "cells": [(shown_text(row[name]), name in numeric) for name in shown],
            "picture": data_uri([row[n] for n in pixels], image.width, image.height) if image else None,
        }
        for row in page.rows.to_pylist()
    ]
    return {
        "columns": [_column(name, model, view, is_number=name in numeric) for name in shown],
        "rows": rows,
        "has_pictures": bool(pixels),
        "previous": _link(view, page=view.page - 1) if view.page > 1 else None,
        "next": _link(view, page=view.page + 1) if page.has_more else None,
    }


def _pixels(request: Request, model: ModelConfig, names: list[str]) -> tuple[str, ...]:
    """The columns that are a picture; before the model is loaded, told by their number."""
    image = model.showroom.image
    if image is None:
        return ()
    others = (*model.key, model.showroom.truth, *model.showroom.search)
    features = site(request).model_pool().features(model) or tuple(n for n in names if n not in others)
    fits = len(features) == image.width * image.height and set(features) <= set(names)
    return features if fits else ()


def _column(name: str, model: ModelConfig, view: CaseView, *, is_number: bool) -> dict[str, Any]:
    is_sorted = view.sort == name or (view.sort is None and model.key[0] == name)
    order = "none"
    if is_sorted:
        order = "descending" if view.is_descending else "ascending"
    return {
        "name": name,
        "is_number": is_number,
        "is_key": name in model.key,
        "is_truth": name == model.showroom.truth,
        "order": order,
        "link": _link(view, sort=name, descending=is_sorted and not view.is_descending, page=1),
    }


def _link(view: CaseView, **changes: Any) -> str:
    query = {
        "search": view.search,
        "sort": view.sort or "",
        "descending": str(view.is_descending).lower(),
        "page": view.page,
        **changes,
    }
    return "?" + urlencode(
        {name: value for name, value in query.items() if value not in ("", False, "false")}
    )
