"""The databases of a story: its source and its sink, in files or on a server."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import adbc_driver_sqlite.dbapi

from support.order_features import Features
from support.servers import ServerDatabase

_SOURCE = (
    "DROP TABLE IF EXISTS customers",
    "CREATE TABLE customers (id INTEGER PRIMARY KEY, a DOUBLE PRECISION, b DOUBLE PRECISION,"
    " version INTEGER)",
)


def copy_file(origin: Path, to: Path) -> None:
    """Make a backup of an SQLite file, or restore one while others have the file open."""
    with (
        contextlib.closing(sqlite3.connect(origin)) as there,
        contextlib.closing(sqlite3.connect(to)) as here,
    ):
        there.backup(here)


class OrderTables:
    """What both hold, past the product. `paged` has the source of a model that reads in pages."""

    def __init__(self, folder: Path, features: Features, paged: ServerDatabase) -> None:
        self._folder, self._features, self._paged = folder, features, paged
        self._connections: dict[str, Any] = {}
        if features.has_sink_on_server:
            self._on_server("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
        else:
            self._in_file("source", "PRAGMA journal_mode=WAL")
            self._in_file("sink", "PRAGMA journal_mode=WAL")
        self.in_source(*_SOURCE)
        if features.has_own_table:
            self.in_sink(features.own_table)

    def in_source(self, *statements: str) -> None:
        if self._features.has_pages:
            self._on_server(*statements)
        else:
            self._in_file("sink" if self._features.skips_predicted else "source", *statements)

    def in_sink(self, *statements: str) -> list[tuple[Any, ...]]:
        """What the last statement returns."""
        if self._features.has_sink_on_server:
            return self._on_server(*statements)
        return self._in_file("sink", *statements)

    def has(self, name: str) -> bool:
        """Whether the sink's database has a table or view of this name."""
        if self._features.has_sink_on_server:
            return self.in_sink(f"SELECT to_regclass('{name}')") != [(None,)]
        return bool(self.in_sink(f"SELECT 1 FROM sqlite_master WHERE name = '{name}'"))

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()

    def _on_server(self, *statements: str) -> list[tuple[Any, ...]]:
        if statements[-1].startswith("SELECT"):
            return self._paged.rows(statements[-1])
        self._paged.execute(*statements)
        return []

    def _in_file(self, name: str, *statements: str) -> list[tuple[Any, ...]]:
        # By the library that the product reads with: two copies of SQLite break each other's locks.
        found: list[tuple[Any, ...]] = []
        if name not in self._connections:
            path = str(self._folder / f"{name}.db")
            self._connections[name] = adbc_driver_sqlite.dbapi.connect(path, autocommit=True)
        with self._connections[name].cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
                found = cursor.fetchall() if cursor.description else []
        return found
