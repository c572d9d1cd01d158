"""Sends a transaction to a server as whole messages, each of several statements: one round trip for each."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from mlops_plugin.events.servers.engine import (
    TRUSTED_S,
    end_waiting,
    expect_answer,
    mark_used,
    silence_of,
)

# The protocol of MySQL: a packet is its payload's length and its number in four bytes, and the payload.
_HEADER = 4
_LONGEST = 2**24 - 1
_QUERY = b"\x03"
_NO_ATTRIBUTES = b"\x00\x01"  # of the query: none, for one set of parameters
_ERROR = 0xFF
_RECEIVED_AT_ONCE = 1 << 16
_KEPT_S = 60.0  # a connection is kept out of its pool


class Messenger:
    """Sends transactions over one connection, which it keeps between them: to take it out of the pool and to
    put it back costs this process more than the transaction. Several threads may use it.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._kept: _Kept | None = None
        self._is_closed = False

    def send(self, messages: Sequence[Sequence[str]]) -> None:
        """Send the statements of each message; they begin and end transactions themselves.

        Raises what SQLAlchemy raises.
        """
        kept = self._take()
        connection = kept.connection
        driver: Any = connection.driver_connection
        try:
            for message in messages:
                _send(driver, message)
        except BaseException as error:
            failure = self._failure(connection, error)
            connection.invalidate()  # its transaction may still be open
            connection.close()
            if failure is None:
                raise
            raise failure from error
        end_waiting(connection)
        self._keep(replace(kept, used_at=time.monotonic()))

    def close(self) -> None:
        """Put the connection back into the pool, at once or as soon as its transaction has ended."""
        with self._lock:
            self._is_closed = True
            kept, self._kept = self._kept, None
        if kept is not None:
            kept.put_back()

    def _keep(self, kept: _Kept) -> None:
        with self._lock:
            if self._kept is None and not self._is_closed:
                self._kept = kept
                return
        kept.put_back()

    def _take(self) -> _Kept:
        with self._lock:
            kept, self._kept = self._kept, None
        now = time.monotonic()
        if kept is not None:
            if now - kept.used_at < TRUSTED_S and now - kept.taken_at < _KEPT_S:
                expect_answer(kept.connection)
                return kept
            kept.put_back()  # the pool asks whether it lives, and renews what is old
        # `raw_connection` would raise what the driver raises.
        return _Kept(self._engine.connect().connection, taken_at=now, used_at=now)

    def _failure(self, connection: sa.PoolProxiedConnection, error: BaseException) -> Exception | None:
        """What SQLAlchemy would raise; None for what is none of the server's."""
        silence = silence_of(connection)
        if silence is not None:
            return silence
        dialect = self._engine.dialect
        failure = dialect.loaded_dbapi.Error
        if not isinstance(error, OSError | failure):
            return None
        is_lost = isinstance(error, OSError) or dialect.is_disconnect(
            error, connection.driver_connection, None
        )
        orig = error if isinstance(error, failure) else dialect.loaded_dbapi.OperationalError(str(error))
        return sa.exc.DBAPIError.instance(
            None,
            None,
            orig,
            failure,
            hide_parameters=True,
            connection_invalidated=is_lost,
            dialect=dialect,
        )


@dataclass(frozen=True)
class _Kept:
    """A connection that is out of the pool; the times are in seconds of `time.monotonic`."""

    connection: sa.PoolProxiedConnection
    taken_at: float
    used_at: float

    def put_back(self) -> None:
        info = self.connection.info
        self.connection.close()
        mark_used(info, self.used_at)


def _send(driver: Any, statements: Sequence[str]) -> None:
    if not hasattr(driver, "cmd_query"):
        driver.autocommit = True  # psycopg2 would begin a transaction of its own
        with driver.cursor() as cursor:
            cursor.execute("; ".join(statements))
        driver.autocommit = False
        return
    whole = "; ".join(statements).encode()
    socket = getattr(getattr(driver, "_socket", None), "sock", None)
    if socket is not None and len(whole) < _LONGEST - _HEADER:
        _ask_mysql(driver, socket, whole, len(statements))
        return
    cursor = driver.cursor()  # the connector's part in C shows nobody its socket
    cursor.execute(whole)
    while cursor.nextset():
        pass
    cursor.close()


def _ask_mysql(driver: Any, socket: Any, statements: bytes, count: int) -> None:
    """What the connector does in Python: with few calls, where it takes longer than the server."""
    from mysql.connector.constants import ClientFlag
    from mysql.connector.errors import get_exception

    has_attributes = driver._client_flags & ClientFlag.CLIENT_QUERY_ATTRIBUTES
    payload = _QUERY + (_NO_ATTRIBUTES if has_attributes else b"") + statements
    socket.sendall(struct.pack("<I", len(payload)) + payload)
    received, answers, start = b"", 0, 0
    while answers < count:
        more = socket.recv(_RECEIVED_AT_ONCE)
        if not more:
            raise ConnectionResetError("the server closed the connection")
        received += more
        while len(received) >= start + _HEADER:
            end = start + _HEADER + int.from_bytes(received[start : start + 3], "little")
            if end > len(received):
                break
            if received[start + _HEADER] == _ERROR:  # it runs none of the statements behind this one
                raise get_exception(received[start:end])
            answers, start = answers + 1, end
