"""The app that holds all views, mounted by `plugin.py` in Airflow's API server."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlops_plugin.errors import BrokenModel, ConfigError, MlopsError, UnknownModel
from mlops_plugin.masking import masked
from mlops_plugin.web.access import KnownTokens, Rights, signed_in
from mlops_plugin.web.error_status import headers_of, refusals, status_of
from mlops_plugin.web.languages.negotiation import language_of
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.languages.translation import ngettext, speaking
from mlops_plugin.web.pages import VIEWS, Pages, airflow_url
from mlops_plugin.web.shared_site import Site
from mlops_plugin.web.time_zone import in_zone, zone_of
from mlops_plugin.web.turns import Limits, Turns
from mlops_plugin.web.well_formed import BodyLimit, printable, well_formed

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'self'"
    ),
    "X-Frame-Options": "SAMEORIGIN",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",  # unless an answer says otherwise
}
# Less than `workers.pool` admits: pages want a place, too. Four models that hang leave a fifth its places.
_PROGRAMS = Limits(running_of_one=3, running=15, waiting_of_one=50, waiting=1000, wait_s=5.0)
_YEAR_S = 31_536_000
_SHOWN_FAULTS = 20  # of an invalid request


def create_app(site: Site, routers: Sequence[APIRouter]) -> FastAPI:
    """The app over a site, with the views' routers; every route asks for a signed-in user."""
    app = FastAPI(
        title="ML models on Airflow",
        version="1",
        dependencies=[Depends(signed_in), Depends(well_formed)],
        docs_url=None,  # the interactive page loads scripts from another site
        redoc_url=None,
        openapi_url=None,  # served below, to signed-in users only
        responses=refusals(400, 401, 403, 422, 500, 503),
    )
    app.state.site = site
    app.state.pages = Pages()
    app.state.tokens = KnownTokens()
    app.state.turns = Turns(_PROGRAMS)
    app.add_middleware(BodyLimit)
    app.add_middleware(_Choices)
    app.add_middleware(_Headers)
    app.add_exception_handler(HTTPException, _http_error)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _bad_request)  # type: ignore[arg-type]
    app.add_exception_handler(MlopsError, _our_error)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _unexpected_error)
    for router in routers:
        app.include_router(router)
    app.add_api_route("/static/{name:path}", _static, include_in_schema=False)
    app.add_api_route("/api/v1/openapi.json", _openapi, include_in_schema=False)
    return app


def _openapi(request: Request) -> Response:
    """The description of the API, with the address under which this request has found it."""
    app: FastAPI = request.app
    return JSONResponse({**app.openapi(), "servers": [{"url": request.scope.get("root_path") or "/"}]})


def _static(request: Request, name: str) -> Response:
    """A style sheet, script or picture of the pages."""
    pages: Pages = request.app.state.pages
    file = pages.assets.get(name)
    if file is None:
        raise HTTPException(404, _("there is no asset '%(name)s'", name=name))
    return FileResponse(file, headers={"Cache-Control": f"private, max-age={_YEAR_S}"})


def _http_error(request: Request, error: HTTPException) -> Response:
    return _answer(request, error.status_code, str(error.detail))


def _bad_request(request: Request, error: RequestValidationError) -> Response:
    faults = [f"{'.'.join(map(str, found['loc'][1:]))}: {found['msg']}" for found in error.errors()]
    shown = [fault[:500] for fault in faults[:_SHOWN_FAULTS]]
    if len(faults) > _SHOWN_FAULTS:
        more = len(faults) - _SHOWN_FAULTS
        shown.append(ngettext("and %(number)s more", "and %(number)s more", more))
    return _answer(request, 422, "; ".join(shown))


def _our_error(request: Request, error: MlopsError) -> Response:
    # Only ours: their texts are for operators, and masked.
    answer = _answer(request, status_of(error), _text_for(request, error))
    answer.headers.update(headers_of(error))
    return answer


def _text_for(request: Request, error: MlopsError) -> str:
    """The error's text. A fault of the whole configuration may name models that the user may not see."""
    is_of_one_model = isinstance(error, BrokenModel | UnknownModel)
    rights: Rights = request.state.rights
    if isinstance(error, ConfigError) and not is_of_one_model and not rights.may_read_all():
        return _("the configuration is invalid; an administrator can read why in Airflow's import errors")
    return str(error)


def _unexpected_error(request: Request, _error: Exception) -> Response:
    # Outside of the middlewares; in another zone than the chosen one, the page would load itself again.
    with speaking(language_of(request)), in_zone(zone_of(request)):
        answer = _answer(request, 500, _("the server failed; see the log of the API server"))
    answer.headers.update(_HEADERS)  # this answer bypasses the middleware that adds them
    return answer


def _answer(request: Request, status: int, text: str) -> Response:
    text, path = printable(masked(text)), request.scope["path"]
    wants_page = "text/html" in request.headers.get("accept", "") and "/api/" not in path
    if not wants_page:
        return JSONResponse({"detail": text}, status_code=status)
    pages: Pages = request.app.state.pages
    if status == 401:
        back = quote(f"{path}?{request.scope['query_string'].decode('latin-1')}".rstrip("?"), safe="")
        login = airflow_url(request, f"api/v2/auth/login?next={back}")
        return pages.render(request, "signed_out.html", status, login=login)
    return pages.render(
        request, "error.html", status, code=status, text=text, view=_view_above(request, status)
    )


def _view_above(request: Request, status: int) -> str | None:
    """The view that the breadcrumb leads to; None on the view itself, or if the user may not see it."""
    view, _slash, page = (
        request.scope["path"].removeprefix(request.scope.get("root_path", "")).strip("/").partition("/")
    )
    return view if view in VIEWS and page and status != 403 else None


class _Choices:
    """Says everything in the language of the request, and draws it in its time zone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        with speaking(language_of(request)), in_zone(zone_of(request)):
            await self._app(scope, receive, send)


class _Headers:
    """Adds the security headers to every answer, errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)
