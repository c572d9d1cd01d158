"""Connections of tests to a server that somebody ends, as an administrator or an idle timeout would."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from pymysql.err import OperationalError  # type: ignore[import-untyped]

from support.servers import ServerDatabase

_SOON_S = 60.0
_OTHERS = {
    "mysql": (
        "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()",
        "KILL CONNECTION {}",
    ),
    "postgres": (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
        "SELECT pg_terminate_backend({})",
    ),
}


def end_connections(database: ServerDatabase) -> None:
    """End all connections to a database but one's own; returns once the server has no others."""
    find, end = _OTHERS[database.engine]
    deadline = time.monotonic() + _SOON_S
    with database.cursor() as cursor:
        while numbers := _numbers(cursor, find):
            assert time.monotonic() < deadline, "connections that were ended are still there"
            for number in numbers:
                with contextlib.suppress(OperationalError):  # it has just gone by itself
                    cursor.execute(end.format(number))
            time.sleep(0.02)


def _numbers(cursor: Any, find: str) -> list[int]:
    cursor.execute(find)
    return [number for (number,) in cursor.fetchall()]
