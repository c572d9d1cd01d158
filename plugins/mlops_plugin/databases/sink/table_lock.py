"""Lets one dispatch at a time write into a table, and says who is in the way; `writer` enters it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from mlops_plugin.databases.database import Database
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import DatabaseError

_log = logging.getLogger(__name__)
_TURN_S = 5.0  # a session that waits in turns shows that it lives, and hears of a newer try between them


@contextmanager
def only_writer(
    database: Database, table: TableName, dispatch_id: str, check: Callable[[], None]
) -> Iterator[None]:
    """Wait until no other dispatch writes into the table, and keep others out until the transaction ends.

    Call it with nothing done in the transaction. Raises `DatabaseError` with the holder of the lock after
    `limits.lock_s`, and what `check` raises: it is called between turns.
    """
    engine, limit_s, owner = database.engine, database.limits.lock_s, f"mlops dispatch {dispatch_id}"
    until = time.monotonic() + limit_s
    turn_s = min(_TURN_S, limit_s, database.limits.statement_s / 2)
    while not engine.take_lock(database, table, owner, turn_s):
        if time.monotonic() >= until:
            raise DatabaseError(
                database.conn_id,
                f"waiting for another dispatch that writes {table}",
                f"no lock within {limit_s:g} s; {_holder(database, table)}",
            )
        check()
        # We are the newest try, so a session of our name is that of an older one: it may write nothing.
        if ended := engine.end_superseded(database, table, owner, turn_s):
            _log.warning("%s of an earlier try held the lock of %s; it was ended", ended, table)
    try:
        yield
    finally:
        engine.release_lock(database, table)


def _holder(database: Database, table: TableName) -> str:
    found = ""
    with suppress(DatabaseError):  # what is known already must not get lost
        found = database.engine.lock_holder(database, table)
    return f"held by {found}" if found else "the database does not report who holds it"
