"""Sends a transaction to a server as whole messages, each of several statements: one round trip for each."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from mlops_plugin.events.servers.engine import silence_of
from mlops_plugin.events.sql_dialects import send_message


def send_messages(engine: sa.Engine, messages: Sequence[str]) -> None:
    """Send them one after the other over one connection; raises what SQLAlchemy raises."""
    connection = engine.raw_connection()
    driver = connection.driver_connection
    try:
        for message in messages:
            send_message(engine.dialect, driver, message)
    except BaseException as error:
        silence = silence_of(connection)
        raised = engine.dialect.loaded_dbapi.Error
        is_lost = isinstance(error, raised) and engine.dialect.is_disconnect(error, driver, None)
        connection.invalidate()  # its transaction may still be open
        if silence is not None:
            raise silence from error
        if not isinstance(error, raised):
            raise
        raise sa.exc.DBAPIError.instance(
            None,
            None,
            error,
            raised,
            hide_parameters=True,
            connection_invalidated=is_lost,
            dialect=engine.dialect,
        ) from error
    finally:
        connection.close()
