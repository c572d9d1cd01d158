"""Sends a transaction to a server as whole messages, each of several statements: one round trip for each."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from mlops_plugin.events.servers.engine import silence_of

# The protocol of MySQL: a packet is its payload's length and its number in four bytes, and the payload.
_HEADER = 4
_LONGEST = 2**24 - 1
_QUERY = b"\x03"
_NO_ATTRIBUTES = b"\x00\x01"  # of the query: none, for one set of parameters
_ERROR = 0xFF
_RECEIVED_AT_ONCE = 1 << 16


def send_messages(engine: sa.Engine, messages: Sequence[Sequence[str]]) -> None:
    """Send the statements of each message over one connection; they begin and end transactions themselves.

    Raises what SQLAlchemy raises.
    """
    connection = engine.connect().connection  # `raw_connection` would raise what the driver raises
    driver: Any = connection.driver_connection
    failure = engine.dialect.loaded_dbapi.Error
    try:
        for message in messages:
            _send(driver, message)
    except BaseException as error:
        silence = silence_of(connection)
        is_lost = isinstance(error, OSError) or (
            isinstance(error, failure) and engine.dialect.is_disconnect(error, driver, None)
        )
        connection.invalidate()  # its transaction may still be open
        if silence is not None:
            raise silence from error
        if not isinstance(error, OSError | failure):
            raise
        orig = (
            error if isinstance(error, failure) else engine.dialect.loaded_dbapi.OperationalError(str(error))
        )
        raise sa.exc.DBAPIError.instance(
            None,
            None,
            orig,
            failure,
            hide_parameters=True,
            connection_invalidated=is_lost,
            dialect=engine.dialect,
        ) from error
    finally:
        connection.close()


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
