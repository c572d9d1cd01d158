"""Connections of tests to PostgreSQL, kept for the next time: a new one is a process of the server."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

# Of the database, or of a user of all: a new connection begins with them, and this one had begun before.
_SETTINGS = (
    "SELECT 1 FROM pg_db_role_setting WHERE setdatabase = 0 OR setdatabase = "
    "(SELECT oid FROM pg_database WHERE datname = current_database())"
)
Place = tuple[int, int]  # this process, which shares none with one that it was forked from, and a port
_kept: dict[Place, tuple[str, Any]] = {}  # a database, and a connection to it that nobody uses now


def take(port: int, database: str, connect: Callable[[], Any]) -> Any:
    """A connection in autocommit mode as a new one is; one to another database of the server is closed."""
    name, connection = _kept.pop(_place(port), ("", None))
    if name == database and _is_alive(connection):
        return connection
    _close(connection)
    return connect()


def give_back(port: int, database: str, connection: Any) -> None:
    """Keep a connection if it can be made as a new one would be: without locks, settings and other marks."""
    if not _is_as_new(connection):
        _close(connection)
        return
    _close(_kept.pop(_place(port), ("", None))[1])
    _kept[_place(port)] = database, connection


def let_go(port: int, database: str | None = None) -> None:
    """Close what is kept for a server, or if it is a connection to this database of it."""
    name, connection = _kept.pop(_place(port), ("", None))
    if connection is not None and database not in (None, name):
        _kept[_place(port)] = name, connection
    else:
        _close(connection)


def _place(port: int) -> Place:
    return os.getpid(), port


def _is_as_new(connection: Any) -> bool:
    import psycopg2  # type: ignore[import-untyped]

    try:
        with connection.cursor() as cursor:
            cursor.execute(_SETTINGS)
            if cursor.fetchall():
                return False
            cursor.execute("DISCARD ALL")
    except psycopg2.Error:  # in a transaction, or the server has ended
        return False
    return True


def _is_alive(connection: Any) -> bool:
    import psycopg2

    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except psycopg2.Error:  # the server has ended, or somebody this connection
        return False
    return True


def _close(connection: Any) -> None:
    if connection is not None:
        connection.close()
