"""The query parameters of a list of dispatches: which ones, and where the page starts."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlencode

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, WithJsonSchema

from mlops_plugin.events.reading import DispatchFilter, OriginFilter
from mlops_plugin.events.records import Cursor, Origin, State

_MARK = "~"
_NUMBER = re.compile(r"[-+]?[\d_.]*(e[-+]?\d+)?", re.IGNORECASE)


def none_if_empty(value: Any) -> Any:
    """A form sends empty fields, too."""
    return None if value == "" else value


def _as_utc(value: datetime | None) -> datetime | None:
    if value is None or value.tzinfo is None:
        return value and value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("is before the year 1 or after the year 9999 in UTC") from None


def _is_cursor(value: str | None) -> str | None:
    if value is not None:
        parse_cursor(value)
    return value


def _refuse_number(value: Any) -> Any:
    """Pydantic would take a number for seconds since 1970."""
    if isinstance(value, str) and value and _NUMBER.fullmatch(value.strip()):
        raise ValueError("is a number; write a time in ISO 8601, e.g. 2026-01-31T12:00:00Z")
    return none_if_empty(value)


def _or_empty(**described: Any) -> WithJsonSchema:
    """The description of a field that a form may leave empty."""
    return WithJsonSchema({"anyOf": [described, {"type": "string", "maxLength": 0}, {"type": "null"}]})


Moment = Annotated[
    datetime | None,
    BeforeValidator(_refuse_number),
    AfterValidator(_as_utc),
    _or_empty(type="string", format="date-time"),
]
CursorText = Annotated[
    Annotated[str, Field(max_length=100)] | None, BeforeValidator(none_if_empty), AfterValidator(_is_cursor)
]


AskedOrigin = OriginFilter | Literal["all"]


class DispatchQuery(BaseModel):
    """Which dispatches to show; without a parameter, all match. A time without a time zone is UTC."""

    model: Annotated[str | None, BeforeValidator(none_if_empty)] = Field(
        None, description="Only of this model.", max_length=250
    )
    state: Annotated[
        State | None, BeforeValidator(none_if_empty), _or_empty(type="string", enum=list(get_args(State)))
    ] = Field(None, description="Only in this state.")
    origin: Annotated[
        AskedOrigin | None,
        BeforeValidator(none_if_empty),
        _or_empty(type="string", enum=[*get_args(Origin), "operations", "all"]),
    ] = Field(None, description="Only of this origin; `operations`: of any but the Showroom.")
    since: Moment = Field(None, description="Only those that started at this time or later.")
    until: Moment = Field(None, description="Only those that started before this time.")

    @property
    def filter(self) -> DispatchFilter:
        origin = None if self.origin == "all" else self.origin
        return DispatchFilter(self.model, self.state, origin, self.since, self.until)

    def link(self, path: str, **more: str | None) -> str:
        """`path` with this query, changed by `more`."""
        values = {**self.model_dump(mode="json"), **more}
        text = urlencode({name: value for name, value in values.items() if value is not None})
        return f"{path}?{text}" if text else path


class DispatchPageQuery(DispatchQuery):
    """A page of the list."""

    before: CursorText = Field(None, description="Start after this one: `next` of the previous page.")
    limit: Annotated[int, Field(ge=1, le=1000, description="Dispatches in a page.")] = 50

    @property
    def cursor(self) -> Cursor | None:
        return None if self.before is None else parse_cursor(self.before)

    def link(self, path: str, **more: str | None) -> str:
        kept = {"limit": None} if self.limit == 50 else {}
        return super().link(path, **{**kept, **more})


def parse_cursor(text: str) -> Cursor:
    """The inverse of `write_cursor`; raises ValueError for anything else."""
    moment, mark, dispatch_id = text.partition(_MARK)
    try:
        created_at = datetime.fromisoformat(moment)
        is_moment = created_at.astimezone(UTC) == created_at  # False without a zone
    except (ValueError, OverflowError):
        is_moment = False
    if not mark or not is_moment:
        raise ValueError(f"{text!r} is not a position in the list; use `next` of a page")
    return Cursor(created_at, dispatch_id)


def write_cursor(cursor: Cursor) -> str:
    """A cursor as a query parameter."""
    return f"{cursor.created_at.astimezone(UTC).isoformat()}{_MARK}{cursor.dispatch_id}"
