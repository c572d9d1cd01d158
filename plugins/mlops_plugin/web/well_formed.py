"""What a request may hold: text that every database and every answer can carry, of bounded size.

NUL and half a surrogate pair (from `\\ud800` in JSON) are text to Python, but not to databases or UTF-8.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import HTTPException, Request
from pydantic import AfterValidator, BeforeValidator, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.languages.written_values import format_count

MAX_BODY_BYTES = 8 << 20
MAX_SEARCH_CHARS = 1000
MAX_KEY_CHARS = 10_000
_INT64 = range(-(2**63), 2**63)


def check_text(text: str) -> str:
    """`text` itself; raises `ValueError` if it is not text to a database."""
    if "\0" in text:
        raise ValueError("text must not contain a NUL character; remove it")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("text must not contain half a surrogate pair; send valid Unicode") from None
    return text


def _check_number(value: Any) -> Any:
    if isinstance(value, int) and value not in _INT64:
        raise ValueError("a whole number has at most 64 bits; write a larger one as a decimal, e.g. 1e20")
    return value


Text = Annotated[str, AfterValidator(check_text)]
Value = Annotated[bool | int | float | Text | None, BeforeValidator(_check_number)]
Search = Annotated[Text, Field(max_length=MAX_SEARCH_CHARS)]
ColumnName = Annotated[Text, Field(max_length=255)]
KeyText = Annotated[Text, Field(max_length=MAX_KEY_CHARS)]


def parse_key(text: str) -> tuple[Any, ...] | None:
    """The values of a JSON array; None if it is anything else, or holds what no column can."""
    if len(text) > MAX_KEY_CHARS:
        return None
    try:
        values = json.loads(text)
        if not isinstance(values, list):
            return None
        for value in values:
            if isinstance(value, str):
                check_text(value)
            elif isinstance(value, list | dict) or (isinstance(value, float) and not math.isfinite(value)):
                return None
            _check_number(value)
    except (ValueError, RecursionError):  # the latter of deeply nested arrays
        return None
    return tuple(values)


def check_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Raise 422 if a field of a form or of the address is not text to a database."""
    for name, value in fields:
        try:
            check_text(name)
            check_text(value)
        except ValueError as error:
            raise HTTPException(422, f"{name[:100]}: {error}") from None


async def well_formed(request: Request) -> None:
    """Dependency of the whole app: no text in the address that a database would refuse."""
    if "\0" in request.scope["path"]:
        raise HTTPException(404, _("there is no page at this address"))
    check_fields(request.query_params.multi_items())


class BodyLimit:
    """Refuses a request with more than `MAX_BODY_BYTES` before anything reads it whole."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size = 0

        async def receive_bounded() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_BODY_BYTES:
                most = format_count(MAX_BODY_BYTES)
                raise HTTPException(
                    413, _("the request is too large; send at most %(bytes)s bytes", bytes=most)
                )
            return message

        await self._app(scope, receive_bounded if scope["type"] == "http" else receive, send)


def printable(text: str) -> str:
    """`text` as UTF-8 can carry it, for answers that repeat what a request held."""
    return text.encode("utf-8", "replace").decode()
