"""The routes of the Open Inference Protocol; `mlops serve` makes one app in each of its processes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version as package_version
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException as RoutingError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import ConfigError, MlopsError, ServingError
from mlops_plugin.events.store import EventStore
from mlops_plugin.inference_server.admission import Admission
from mlops_plugin.inference_server.api_description import describe_api
from mlops_plugin.inference_server.gate import Gate, GateClosed, NotSignedIn
from mlops_plugin.inference_server.group_commit import GroupCommit
from mlops_plugin.inference_server.inference_answers import Answer, answer_of, require_outputs
from mlops_plugin.inference_server.inference_requests import HEADER_LENGTH, parse, rows_of
from mlops_plugin.inference_server.metrics import MEDIA_TYPE, Metrics
from mlops_plugin.inference_server.model_descriptions import (
    ModelDescription,
    ModelDescriptions,
    checked_columns,
)
from mlops_plugin.masking import masked
from mlops_plugin.serving.run import Showroom
from mlops_plugin.serving.wanted import Wanted
from mlops_plugin.web.error_status import headers_of, status_of
from mlops_plugin.web.shared_site import Site
from mlops_plugin.web.well_formed import BodyLimit, printable

SERVER_NAME = "mlops"
_EXTENSIONS = ["binary_tensor_data"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Body:
    """The body of a request, and the size of its JSON part as the header says it."""

    content: bytes
    header_length: str | None


class InferenceServer:
    """What the routes of one process share."""

    def __init__(self, site: Site, gate: Gate, metrics: Metrics) -> None:
        self.site = site
        self.gate = gate
        self.metrics = metrics
        self.descriptions = ModelDescriptions()
        self.admission = Admission()
        self._lock = threading.Lock()
        self._commits: tuple[EventStore, GroupCommit] | None = None

    async def model(self, request: Request, name: str) -> tuple[ModelConfig, str]:
        """The model, and who asks. Unknown and forbidden look the same."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        caller = await self.gate.admit(token.strip() if scheme.lower() == "bearer" else None, name)
        if not caller.may_run_models:
            raise HTTPException(403, "your role may not use Showroom, which you need to run models")
        loaded = self.site.loaded()
        if not caller.may_read or (name not in loaded.config.models and name not in loaded.broken):
            raise HTTPException(404, f"there is no model '{printable(name)}', or you may not read its DAG")
        if not caller.may_trigger:
            raise HTTPException(
                403, f"your role may not trigger the DAG '{name}', which you need to run this model"
            )
        if name in loaded.broken:
            raise HTTPException(503, f"models.{name}: its configuration is invalid; run: mlops check {name}")
        return loaded.config.models[name], caller.name

    async def described(self, model: ModelConfig, version: str | None) -> ModelDescription:
        """The model's description; loads it if it is not loaded."""
        return await self.admission.run(model.name, lambda: self._describe(model, version))

    def _describe(self, model: ModelConfig, version: str | None) -> ModelDescription:
        described = self.descriptions.describe(model, self.site.model_pool())
        if version not in (None, described.version):
            raise HTTPException(404, f"models.{model.name}: its current version is {described.version}")
        return described

    async def infer(self, model: ModelConfig, user: str, body: Body, version: str | None) -> Answer:
        """Ask the model about the rows of a request; its dispatch is recorded before it is answered."""
        return await self.admission.run(model.name, lambda: self._infer(model, user, body, version))

    def _infer(self, model: ModelConfig, user: str, body: Body, version: str | None) -> Answer:
        asked = parse(body.content, body.header_length)
        described = self._describe(model, version)
        rows = rows_of(asked, model.key, described.features, checked_columns(model))
        require_outputs(asked.request, [output.name for output in described.outputs])
        site = self.site
        showroom = Showroom(site.deployment(), self._store(), site.model_pool(), site.case_queries)
        shown = showroom.run(model, Wanted(table=rows), user)
        if shown.artifact_sha256 != described.version:
            raise ServingError(
                f"models.{model.name}: its artifact changed during this request; send it again"
            )
        return answer_of(model.name, model.key, asked.request, shown)

    def count(self) -> str:
        """The metrics as they stand."""
        commits = 0 if self._commits is None else self._commits[1].commits
        self.metrics.stands(commits=commits, running=self.admission.running, waiting=self.admission.waiting)
        return self.metrics.text()

    def _store(self) -> GroupCommit:
        """The event store, shared by the requests of this process; another once the configuration says so."""
        store = self.site.event_store()
        with self._lock:
            if self._commits is None or self._commits[0] is not store:
                self._commits = store, GroupCommit(store)
            return self._commits[1]


def create_app(site: Site, gate: Gate, metrics: Metrics) -> FastAPI:
    """The app over a site; `gate` decides who may ask."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.server = InferenceServer(site, gate, metrics)
        yield
        app.state.server.admission.close()

    app = FastAPI(
        title="ML models on Airflow, Open Inference Protocol",
        version="2",
        docs_url=None,  # the interactive page loads scripts from another site
        redoc_url=None,
        openapi_url=None,  # served below, with what FastAPI does not know of
        lifespan=lifespan,
    )
    app.add_middleware(BodyLimit)
    app.add_middleware(_Timed, metrics=metrics)
    app.add_exception_handler(RoutingError, _http_error)  # type: ignore[arg-type]
    app.add_exception_handler(MlopsError, _our_error)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _unexpected_error)
    app.add_api_route("/v2/health/live", _live)
    app.add_api_route("/v2/health/ready", _ready)
    app.add_api_route("/v2", _server)
    app.add_api_route("/metrics", _metrics, response_class=PlainTextResponse)
    app.add_api_route("/v2/openapi.json", _openapi, include_in_schema=False)
    for place in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        app.add_api_route(place, _metadata)
        app.add_api_route(f"{place}/ready", _model_ready)
        app.add_api_route(f"{place}/infer", _infer, methods=["POST"])
    return app


def _shared(request: Request) -> InferenceServer:
    server: InferenceServer = request.app.state.server
    return server


async def _live() -> dict[str, bool]:
    """Whether the process answers."""
    return {"live": True}


def _ready(request: Request) -> dict[str, bool]:
    """Whether the configuration can be read and the event store answers: nothing is answered without them."""
    site = _shared(request).site
    try:
        with site.event_store().read("checking whether it answers"):
            return {"ready": True}
    except MlopsError as error:
        _log.warning("not ready: %s", error)
        # Anybody may ask, so that the reason stays in the log.
        raise HTTPException(
            503, "the configuration or the event store is not available; see the log"
        ) from error


async def _server() -> dict[str, Any]:
    """Name and version of the server."""
    return {"name": SERVER_NAME, "version": package_version("mlops-plugin"), "extensions": _EXTENSIONS}


async def _openapi(request: Request) -> Response:
    """The description of this API."""
    return JSONResponse(describe_api(request.app))


async def _metrics(request: Request) -> Response:
    """The counts, for Prometheus."""
    return PlainTextResponse(_shared(request).count(), media_type=MEDIA_TYPE)


async def _metadata(request: Request, name: str, version: str | None = None) -> dict[str, Any]:
    """The inputs and outputs of a model, and its version."""
    server = _shared(request)
    model, _ = await server.model(request, name)
    described = await server.described(model, version)
    return {
        "name": name,
        "versions": [described.version],
        "platform": f"mlops_{model.model.format}",
        "inputs": [{"name": one.name, "datatype": one.datatype, "shape": [-1]} for one in described.inputs],
        "outputs": [{"name": one.name, "datatype": one.datatype, "shape": [-1]} for one in described.outputs],
    }


async def _model_ready(request: Request, name: str, version: str | None = None) -> dict[str, Any]:
    """Whether the model is loaded, or can be."""
    server = _shared(request)
    model, _ = await server.model(request, name)
    await server.described(model, version)
    return {"name": name, "ready": True}


async def _infer(request: Request, name: str, version: str | None = None) -> Response:
    """Predict the rows of the request."""
    server = _shared(request)
    model, user = await server.model(request, name)
    if request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, "compressed requests are not supported; send the body as it is")
    body = Body(await request.body(), request.headers.get(HEADER_LENGTH))
    answer = await server.infer(model, user, body, version)
    server.metrics.judged(answer.predicted, answer.rejected)
    if answer.json_bytes is None:
        return Response(answer.content, answer.status, media_type="application/json")
    headers = {HEADER_LENGTH: str(answer.json_bytes)}
    return Response(answer.content, answer.status, headers, media_type="application/octet-stream")


def _refusal(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": printable(masked(text))}, status, headers)


async def _http_error(_request: Request, error: RoutingError) -> Response:
    return _refusal(error.status_code, str(error.detail))


async def _our_error(_request: Request, error: MlopsError) -> Response:
    if isinstance(error, NotSignedIn):
        return _refusal(401, str(error), {"WWW-Authenticate": "Bearer"})
    if isinstance(error, GateClosed):
        return _refusal(503, str(error))
    if isinstance(error, ConfigError):
        text = "the configuration is invalid; an administrator can read why in Airflow's import errors"
        return _refusal(503, text)
    status = status_of(error)
    # The protocol knows no 422 for what is wrong with a request.
    return _refusal(400 if status == 422 else status, str(error), headers_of(error))


async def _unexpected_error(_request: Request, _error: Exception) -> Response:
    return _refusal(500, "the server failed; see its log")


class _Timed:
    """Counts infer requests by their status and how long they took."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].endswith("/infer"):
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 500

        async def send_seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_seen)
        finally:
            self._metrics.answered(status, time.monotonic() - started)
