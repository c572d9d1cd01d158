"""Whether a database answers: its Airflow connection, connecting, and a query that returns nothing."""

from __future__ import annotations

from dataclasses import dataclass
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
from mlops_plugin.wait_limits import Limits

_LATER_S = 2.0  # who waits for the probe has called it timed out by then
CONNECTION, CONNECTING, QUERY = "connection", "connecting", "query"


@dataclass(frozen=True)
class DatabaseProbe:
    """One probe of a database, which nobody waits for after `timeout_s`; its own waits end a little later."""

    events: EventsConfig
    airflow_home: Path
    notes: Notes
    timeout_s: float

    def of_database(self, conn_id: str, table: str | None) -> None:
        """Connect, and ask `table` for no rows. Raises what failed, after the notes have it."""
        with self.notes.step(CONNECTION):
            spec = get_connection(conn_id)
        if self._holds_the_event_store(spec):
            # Two SQLite libraries in one process ruin each other's locks on a file: use the store's.
            self._ask_store(self._address(spec), table)
            return
        with self.notes.step(CONNECTING):
            database = open_database(spec, limits=self._limits)
        with database:
            if table is not None:
                with self.notes.step(QUERY):
                    # Not `*`: what its columns hold is no concern here, some types are refused.
                    quoted = TableName.parse(table).quoted(database.engine)
                    for _ in database.read(f"SELECT 1 AS one FROM {quoted} WHERE 1 = 0", batch_rows=1):
                        pass

    def of_event_store(self) -> None:
        """Connect to the event store and look whether its tables are those of this code."""
        with self.notes.step(CONNECTION):
            spec = get_connection(self.events.connection) if self.events.connection else None
            address = self._address(spec)
        self._ask_store(address, None)

    @property
    def _limits(self) -> Limits:
        return Limits().of_probe(self.timeout_s + _LATER_S)

    def _address(self, spec: ConnectionSpec | None) -> StoreAddress:
        return StoreAddress.of(self.events, spec, self.airflow_home, self._limits.store)

    def _ask_store(self, address: StoreAddress, table: str | None) -> None:
        engine = address.create_engine()
        try:
            with self.notes.step(CONNECTING), translate_errors(address, "connecting"):
                if address.path is not None and not address.path.exists():
                    raise EventStoreError(
                        f"event store ({address}): there is no such file; run: mlops db upgrade"
                    )
                engine.connect().close()
            with self.notes.step(QUERY), translate_errors(address, "querying the columns"):
                if table is None:
                    check_schema(engine, address)
                else:
                    name = TableName.parse(table)
                    chosen = sa.table(name.name, schema=".".join(name.parts[:-1]) or None)
                    nothing = sa.select(sa.literal(1)).select_from(chosen).where(sa.false())
                    with engine.connect() as connection:
                        connection.execute(nothing).all()
        finally:
            engine.dispose()

    def _holds_the_event_store(self, spec: ConnectionSpec) -> bool:
        of_events = get_connection(self.events.connection) if self.events.connection else None
        return self._address(of_events).is_file_of(spec, self.airflow_home)
