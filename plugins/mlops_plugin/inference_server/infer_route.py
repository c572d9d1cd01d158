"""The route that programs ask most, `POST .../infer`: it passes by what FastAPI does for each request."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from fastapi import HTTPException
from fastapi.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlops_plugin.inference_server.inference import Body
from mlops_plugin.inference_server.inference_answers import Answer
from mlops_plugin.inference_server.inference_requests import HEADER_LENGTH
from mlops_plugin.inference_server.metrics import Metrics
from mlops_plugin.web.well_formed import BodyLimit

ReadBody = Callable[[], Awaitable[Body]]
# Answers a request for the model of a name, with the token of its header, once it may be read.
Infer = Callable[[str, str | None, ReadBody], Awaitable[Answer]]
Refuse = Callable[[Exception], Response]

_NO_ENCODING = b"identity"
_HEADER_LENGTH = HEADER_LENGTH.lower().encode()


class InferRoute:
    """Answers infer requests, counts them by their status, and passes on all others to the app."""

    def __init__(self, app: ASGIApp, infer: Infer, refuse: Refuse, metrics: Metrics) -> None:
        self._app = app
        self._infer = infer
        self._refuse = refuse
        self._metrics = metrics
        self._bounded = BodyLimit(self._answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _place(scope["path"]) is None:
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 500

        async def send_seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._bounded(scope, receive, send_seen)
        finally:
            self._metrics.answered(status, time.monotonic() - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answered(scope, receive)
        except Exception as error:  # noqa: BLE001 - each has its status
            await self._refuse(error)(scope, receive, send)
            return
        self._metrics.judged(answer.predicted, answer.rejected)
        headers = [(b"content-length", b"%d" % len(answer.content))]
        if answer.json_bytes is None:
            headers.append((b"content-type", b"application/json"))
        else:
            headers.append((b"content-type", b"application/octet-stream"))
            headers.append((_HEADER_LENGTH, b"%d" % answer.json_bytes))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.content})

    async def _answered(self, scope: Scope, receive: Receive) -> Answer:
        place = _place(scope["path"])
        assert place is not None  # noqa: S101 -- else the app is asked
        name, version = place
        if scope["method"] != "POST":
            raise HTTPException(405, "Method Not Allowed", {"Allow": "POST"})
        headers = dict(reversed(scope["headers"]))  # of a header that comes twice the first, as in all routes
        length = headers.get(_HEADER_LENGTH)

        async def read() -> Body:
            if headers.get(b"content-encoding", _NO_ENCODING) != _NO_ENCODING:
                raise HTTPException(415, "compressed requests are not supported; send the body as it is")
            content = await _content(receive)
            return Body(content, None if length is None else length.decode("latin-1"), version)

        token = token_of(headers.get(b"authorization", b"").decode("latin-1"))
        return await self._infer(name, token, read)


def _place(path: str) -> tuple[str, str | None] | None:
    """The model and the version in `/v2/models/NAME[/versions/VERSION]/infer`; None for any other path."""
    match path.split("/"):
        case ["", "v2", "models", name, "infer"] if name:
            return name, None
        case ["", "v2", "models", name, "versions", version, "infer"] if name and version:
            return name, version
        case _:
            return None


def token_of(authorization: str) -> str | None:
    """The token in the header `Authorization`; None if there is none."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


async def _content(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HTTPException(400, "the client went away before its request was complete")
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
