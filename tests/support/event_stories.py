"""What several event-store tests need: identities, log entries, and the proof that a summary is true."""

from __future__ import annotations

import uuid
from functools import reduce
from typing import Any

from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.events.records import DispatchIdentity, DispatchRecord, LogEntry, Origin, summarise
from mlops_plugin.events.store import EventStore
from support.servers import ServerDatabase


def connection_of(database: ServerDatabase, **changes: Any) -> ConnectionSpec:
    given: dict[str, Any] = {
        "conn_id": "mlops_events",
        "conn_type": database.engine,
        "host": database.host,
        "port": database.port,
        "login": database.user,
        "password": database.password,
        "schema": database.database,
    }
    return ConnectionSpec(**{**given, **changes})


def new_identity(model: str = "churn", origin: Origin = "manual", **rest: Any) -> DispatchIdentity:
    return DispatchIdentity(dispatch_id=str(uuid.uuid4()), model=model, origin=origin, **rest)


def new_entry(rows: int = 3, **changes: Any) -> LogEntry:
    given: dict[str, Any] = {
        "rows": rows,
        "columns": [{"name": "größe", "type": "double"}],
        "first_key": {"id": 1},
        "last_key": {"id": rows},
        "artifact_sha256": "a" * 64,
        "artifact_uri": "models/churn.skops",
        "config_sha256": "c" * 64,
        "query": "SELECT * FROM t",
    }
    return LogEntry(**{**given, **changes})


def found(store: EventStore, dispatch_id: str) -> DispatchRecord:
    """The row of a dispatch, after proving that it is what its events add up to."""
    record = store.get(dispatch_id)
    assert record is not None
    assert record == reduce(summarise, store.events(dispatch_id), None)
    return record
