"""Whether a database answers: its Airflow connection, connecting, and a query that returns nothing."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from mlops_plugin.config.schema import EventsConfig
from mlops_plugin.connections import ConnectionSpec, get_connection
from mlops_plugin.databases.opening import open_database
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import EventStoreError
from mlops_plugin.events.address import StoreAddress, translate_errors
from mlops_plugin.events.migrating import check_schema
from mlops_plugin.monitoring.probe_result import Notes

CONNECTION, CONNECTING, QUERY = "connection", "connecting", "query"


def probe_database(
    conn_id: str, table: str | None, events: EventsConfig, airflow_home: Path, notes: Notes
) -> None:
    """Connect, and ask `table` for no rows. Raises what failed, after `notes` have it."""
    with notes.step(CONNECTION):
        spec = get_connection(conn_id)
    if _holds_the_event_store(spec, events, airflow_home):
        # Two SQLite libraries in one process ruin each other's locks on a file: use the store's.
        _probe_store(StoreAddress.of(events, spec, airflow_home), table, notes)
        return
    with notes.step(CONNECTING):
        database = open_database(spec)
    with database:
        if table is not None:
            with notes.step(QUERY):
                # Not `*`: what its columns hold is no concern here, some types are refused.
                nothing = f"SELECT 1 AS one FROM {TableName.parse(table).quoted(database.engine)} WHERE 1 = 0"
                for _ in database.read(nothing, batch_rows=1):
                    pass


def probe_event_store(events: EventsConfig, airflow_home: Path, notes: Notes) -> None:
    """Connect to the event store and look whether its tables are those of this code."""
    with notes.step(CONNECTION):
        spec = get_connection(events.connection) if events.connection else None
        address = StoreAddress.of(events, spec, airflow_home)
    _probe_store(address, None, notes)


def _probe_store(address: StoreAddress, table: str | None, notes: Notes) -> None:
    engine = address.create_engine()
    try:
        with notes.step(CONNECTING), translate_errors(address, "connecting"):
            if address.path is not None and not address.path.exists():
                raise EventStoreError(
                    f"event store ({address}): there is no such file; run: mlops db upgrade"
                )
            engine.connect().close()
        with notes.step(QUERY), translate_errors(address, "asking for no rows"):
            if table is None:
                check_schema(engine, address)
            else:
                name = TableName.parse(table)
                chosen = sa.table(name.name, schema=".".join(name.parts[:-1]) or None)
                with engine.connect() as connection:
                    connection.execute(sa.select(sa.literal(1)).select_from(chosen).where(sa.false())).all()
    finally:
        engine.dispose()


def _holds_the_event_store(spec: ConnectionSpec, events: EventsConfig, airflow_home: Path) -> bool:
    connection = get_connection(events.connection) if events.connection else None
    return StoreAddress.of(events, connection, airflow_home).is_file_of(spec, airflow_home)
