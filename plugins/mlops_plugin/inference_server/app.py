"""The routes of the Open Inference Protocol; `mlops serve` makes one app in each of its processes."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version as package_version
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException as RoutingError
from starlette.types import ASGIApp

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import CaseError, ConfigError, MlopsError
from mlops_plugin.inference_server.api_description import describe_api
from mlops_plugin.inference_server.batches import Batches
from mlops_plugin.inference_server.gate import Gate, GateClosed, NotSignedIn
from mlops_plugin.inference_server.infer_route import InferRoute, ReadBody, token_of
from mlops_plugin.inference_server.inference import Body, Inference, Question
from mlops_plugin.inference_server.inference_answers import Answer
from mlops_plugin.inference_server.known_callers import TRUSTED_S
from mlops_plugin.inference_server.metrics import MEDIA_TYPE, Metrics
from mlops_plugin.inference_server.model_descriptions import ModelDescription
from mlops_plugin.inference_server.threads import Threads
from mlops_plugin.masking import masked
from mlops_plugin.web.error_status import headers_of, status_of
from mlops_plugin.web.shared_site import Site
from mlops_plugin.web.well_formed import BodyLimit, printable

SERVER_NAME = "mlops"
_EXTENSIONS = ["binary_tensor_data"]
_COUNTED_EVERY_S = 1.0
_LONG_BYTES = 1 << 18
_log = logging.getLogger(__name__)


class InferenceServer:
    """What the routes of one process share."""

    def __init__(self, site: Site, gate: Gate, metrics: Metrics) -> None:
        self.site = site
        self.gate = gate
        self.metrics = metrics
        self.inference = Inference(site)
        self.threads = Threads()
        self.batches: Batches[Question, Answer] = Batches(self.threads, self.inference.answer)

    async def model(self, name: str, token: str | None) -> tuple[ModelConfig, str]:
        """The model, and who asks. Unknown and forbidden look the same."""
        caller = await self.gate.admit(token, name)
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
        return await self.threads.run(model.name, lambda: self.inference.describe(model, version))

    async def infer(self, name: str, token: str | None, read: ReadBody) -> Answer:
        """Ask the model about the rows of a request; its dispatch is recorded before it is answered."""
        model, user = await self.model(name, token)
        began = time.monotonic()
        body = await read()
        if time.monotonic() - began > TRUSTED_S:  # meanwhile, the token may have been revoked
            model, user = await self.model(name, token)
        is_long = len(body.content) > _LONG_BYTES  # to read it would keep all others waiting
        question = None if is_long else self._by_last_description(model, user, body)
        if question is None:
            described = await self.described(model, body.version)
            if is_long:
                read_it = functools.partial(Question.of, model, user, body, described)
                question = await self.threads.run(model.name, read_it)
            else:
                question = Question.of(model, user, body, described)
        answer = await self.batches.ask(name, question)
        await self.model(name, token)  # it may have waited long, for its turn or for the model
        return answer

    def _by_last_description(self, model: ModelConfig, user: str, body: Body) -> Question | None:
        """The request read by what is known of its model; None if the model must be looked at.

        If the model has changed, `Inference` finds out before it asks, and reads the request again.
        """
        described = self.inference.descriptions.last(model)
        if described is None or body.version not in (None, described.version):
            return None
        try:
            return Question.of(model, user, body, described)
        except CaseError:  # maybe not with the present version
            return None

    def count(self) -> str:
        """The metrics as they stand."""
        self._stand()
        return self.metrics.text()

    async def keep_counted(self) -> None:
        """Say how this process stands, until cancelled: any of them answers for all."""
        while True:
            self._stand()
            await asyncio.sleep(_COUNTED_EVERY_S)

    def _stand(self) -> None:
        self.metrics.stands(
            commits=self.inference.commits,
            running=self.batches.running,
            waiting=self.batches.waiting + self.threads.turns.waiting,
        )


def create_serving_app(site: Site, gate: Gate, metrics: Metrics) -> ASGIApp:
    """The app, and before it the route that programs ask most."""
    app = create_app(site, gate, metrics)

    def infer(name: str, token: str | None, read: ReadBody) -> Awaitable[Answer]:
        server: InferenceServer = app.state.server
        return server.infer(name, token, read)

    return InferRoute(app, infer, _refusal_of_any, metrics)


def create_app(site: Site, gate: Gate, metrics: Metrics) -> FastAPI:
    """The routes over a site, all but infer; `gate` decides who may ask."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        server = app.state.server = InferenceServer(site, gate, metrics)
        counting = asyncio.create_task(server.keep_counted())
        yield
        counting.cancel()
        server.threads.close()

    app = FastAPI(
        title="ML models on Airflow, Open Inference Protocol",
        version="2",
        docs_url=None,  # the interactive page loads scripts from another site
        redoc_url=None,
        openapi_url=None,  # served below, with what FastAPI does not know of
        lifespan=lifespan,
    )
    app.add_middleware(BodyLimit)
    app.add_exception_handler(RoutingError, _error)
    app.add_exception_handler(MlopsError, _error)
    app.add_exception_handler(Exception, _unexpected_error)
    app.add_api_route("/v2/health/live", _live)
    app.add_api_route("/v2/health/ready", _ready)
    app.add_api_route("/v2", _server)
    app.add_api_route("/metrics", _metrics, response_class=PlainTextResponse)
    app.add_api_route("/v2/openapi.json", _openapi)
    for place in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        app.add_api_route(place, _metadata)
        app.add_api_route(f"{place}/ready", _model_ready)
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
    model, described = await _described(request, name, version)
    return {
        "name": name,
        "versions": [described.version],
        "platform": f"mlops_{model.model.format}",
        "inputs": [{"name": one.name, "datatype": one.datatype, "shape": [-1]} for one in described.inputs],
        "outputs": [{"name": one.name, "datatype": one.datatype, "shape": [-1]} for one in described.outputs],
    }


async def _model_ready(request: Request, name: str, version: str | None = None) -> dict[str, Any]:
    """Whether the model is loaded, or can be."""
    await _described(request, name, version)
    return {"name": name, "ready": True}


async def _described(
    request: Request, name: str, version: str | None
) -> tuple[ModelConfig, ModelDescription]:
    """The model and its description, for a caller who may still read it once the model is loaded."""
    server, token = _shared(request), token_of(request.headers.get("authorization", ""))
    model, _ = await server.model(name, token)
    described = await server.described(model, version)
    await server.model(name, token)
    return model, described


def _refusal(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": printable(masked(text))}, status, headers)


async def _error(_request: Request, error: Exception) -> Response:
    return _refusal_of(error)


def _refusal_of(error: Exception) -> Response:
    match error:
        case RoutingError():
            return _refusal(error.status_code, str(error.detail), error.headers)
        case NotSignedIn():
            return _refusal(401, str(error), {"WWW-Authenticate": "Bearer"})
        case GateClosed():
            return _refusal(503, str(error))
        case ConfigError():
            text = "the configuration is invalid; an administrator can read why in Airflow's import errors"
            return _refusal(503, text)
        case MlopsError():
            status = status_of(error)
            # The protocol knows no 422 for what is wrong with a request.
            return _refusal(400 if status == 422 else status, str(error), headers_of(error))
    raise error


def _refusal_of_any(error: Exception) -> Response:
    """The answer to a request that failed; of what nobody expected, the log has the rest."""
    try:
        return _refusal_of(error)
    except Exception:  # noqa: BLE001 - logged, and answered with 500
        _log.exception("a request failed")
        return _unexpected()


async def _unexpected_error(_request: Request, _error: Exception) -> Response:
    return _unexpected()


def _unexpected() -> Response:
    return _refusal(500, "the server failed; see its log")
