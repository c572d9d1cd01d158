"""What servers were asked, counted by the servers themselves: statements by database, and bytes."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from support.servers import Server, ServerDatabase

_CONNECTED = re.compile(r" on (\w+) ")
# Not asked: a connection's beginning and end, and statements that are forgotten without an answer.
_NO_QUESTION = ("Connect", "Quit", "Close stmt")


class StatementLog:
    """How many requests, and of which kind, each database has got while the log was on."""

    def __init__(self) -> None:
        self.by_database: dict[str, Counter[str]] = {}

    def count(self, database: ServerDatabase) -> int:
        return self.by_database.get(database.database, Counter()).total()


@contextmanager
def logged_statements(server: Server) -> Iterator[StatementLog]:
    """Complete when the work inside has ended."""
    log = StatementLog()
    if server.engine == "mysql":
        administration = server.administration
        administration.execute(
            "SET GLOBAL log_output = 'TABLE'", "TRUNCATE mysql.general_log", "SET GLOBAL general_log = 1"
        )
        try:
            yield log
        finally:
            administration.execute("SET GLOBAL general_log = 0")
        log.by_database = _of_mariadb(administration)
        return
    behind = server.log.stat().st_size
    _set_postgres(server, "all")
    try:
        yield log
    finally:
        _set_postgres(server, "none")
    with server.log.open("rb") as file:
        file.seek(behind)
        log.by_database = _of_postgres(file.read().decode(errors="replace"))


def bytes_received(server: Server) -> int:
    """What MariaDB has got from all its clients."""
    ((_, count),) = server.administration.rows("SHOW GLOBAL STATUS LIKE 'Bytes_received'")
    return int(count)


def _of_mariadb(administration: ServerDatabase) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    database: dict[int, str] = {}
    rows = administration.rows(
        "SELECT thread_id, command_type, CONVERT(argument USING utf8mb4) FROM mysql.general_log "
        "ORDER BY event_time"
    )
    for thread, command, argument in rows:
        if command == "Connect" and (connected := _CONNECTED.search(argument)):
            database[thread] = connected[1]
        elif thread in database and command not in _NO_QUESTION:
            found.setdefault(database[thread], Counter())[command] += 1
    return found


def _of_postgres(text: str) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for database, kind in re.findall(r"^\[(\w+)\] LOG:  (statement|execute) ?", text, re.MULTILINE):
        found.setdefault(database, Counter())[kind] += 1
    return found


def _set_postgres(server: Server, statements: str) -> None:
    server.administration.execute(
        f"ALTER SYSTEM SET log_statement = '{statements}'",
        "ALTER SYSTEM SET log_line_prefix = '[%d] '",
        "SELECT pg_reload_conf()",
    )
    while server.administration.rows("SHOW log_statement") != [(statements,)]:
        time.sleep(0.01)
