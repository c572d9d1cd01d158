"""The time zone of the page that is being made: the one chosen in Airflow's UI, else the browser's, else UTC.

`static/choices.js` copies the choice to a cookie. Charts are drawn by it; times in tables are written by the
browser, and programs always get UTC.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from zoneinfo import ZoneInfo

from fastapi import Request

COOKIE = "mlops_time_zone"
UTC = ZoneInfo("UTC")
_NAME = re.compile(r"[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,2}")

_zone: ContextVar[ZoneInfo] = ContextVar("zone", default=UTC)


@contextmanager
def in_zone(zone: ZoneInfo) -> Iterator[None]:
    """Everything inside is drawn in that zone; in this task and the threads that it waits for."""
    before = _zone.set(zone)
    try:
        yield
    finally:
        _zone.reset(before)


def current_zone() -> ZoneInfo:
    """The time zone."""
    return _zone.get()


def zone_of(request: Request) -> ZoneInfo:
    """The time zone that a browser asks for; UTC if it names none that is known here."""
    return _named(request.cookies.get(COOKIE, "")[:100])


@lru_cache(maxsize=100)
def _named(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name) if _NAME.fullmatch(name) else UTC
    except (OSError, ValueError, LookupError):  # no such zone; a folder of zones; a file that is no zone
        return UTC
