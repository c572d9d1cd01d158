"""The app that holds all views, mounted by `plugin.py` in Airflow's API server."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from airflow.api_fastapi.core_api.security import get_user
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlops_plugin.errors import MlopsError
from mlops_plugin.web.access import signed_in
from mlops_plugin.web.error_status import status_of
from mlops_plugin.web.pages import VIEWS, Pages, airflow_url
from mlops_plugin.web.site import Site

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
_YEAR_S = 31_536_000


def create_app(site: Site, routers: Sequence[APIRouter]) -> FastAPI:
    """The app over a site, with the views' routers; every route asks for a signed-in user."""
    app = FastAPI(
        title="ML models on Airflow",
        version="1",
        dependencies=[Depends(get_user), Depends(signed_in)],
        docs_url=None,  # the interactive page loads its scripts from elsewhere
        redoc_url=None,
        openapi_url=None,  # served below, behind the same door as everything
    )
    app.state.site = site
    app.state.pages = Pages()
    app.add_middleware(_Headers)
    app.add_exception_handler(HTTPException, _http_error)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _bad_request)  # type: ignore[arg-type]
    app.add_exception_handler(MlopsError, _our_error)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _unforeseen)
    for router in routers:
        app.include_router(router)
    app.add_api_route("/static/{name:path}", _static, include_in_schema=False)
    app.add_api_route("/api/v1/openapi.json", lambda: JSONResponse(app.openapi()), include_in_schema=False)
    return app


def _static(request: Request, name: str) -> Response:
    pages: Pages = request.app.state.pages
    file = pages.assets.get(name)
    if file is None:
        raise HTTPException(404, f"there is no asset '{name}'")
    return FileResponse(file, headers={"Cache-Control": f"private, max-age={_YEAR_S}"})


def _http_error(request: Request, error: HTTPException) -> Response:
    return _answer(request, error.status_code, str(error.detail))


def _bad_request(request: Request, error: RequestValidationError) -> Response:
    said = "; ".join(f"{'.'.join(map(str, found['loc'][1:]))}: {found['msg']}" for found in error.errors())
    return _answer(request, 422, said)


def _our_error(request: Request, error: MlopsError) -> Response:
    # Ours only: their texts are for operators and hold no secret.
    return _answer(request, status_of(error), str(error))


def _unforeseen(request: Request, _error: Exception) -> Response:
    answer = _answer(request, 500, "the server failed; the reason is in the API server's log")
    answer.headers.update(_HEADERS)  # made outside of the middleware that adds them
    return answer


def _answer(request: Request, status: int, said: str) -> Response:
    wants_page = "text/html" in request.headers.get("accept", "") and "/api/" not in request.url.path
    if not wants_page:
        return JSONResponse({"detail": said}, status_code=status)
    pages: Pages = request.app.state.pages
    if status == 401:
        back = quote(f"{request.url.path}?{request.url.query}".rstrip("?"), safe="")
        login = airflow_url(request, f"api/v2/auth/login?next={back}")
        return pages.render(request, "signed_out.html", status, login=login)
    return pages.render(
        request, "error.html", status, code=status, said=said, view=_view_above(request, status)
    )


def _view_above(request: Request, status: int) -> str | None:
    """The view that the way back leads to; none from the view itself, or where it may not be seen."""
    view, _, page = (
        request.url.path.removeprefix(request.scope.get("root_path", "")).strip("/").partition("/")
    )
    return view if view in VIEWS and page and status != 403 else None


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
