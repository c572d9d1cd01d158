"""What a step needs of the deployment it runs in: staging, the event store, and a way to databases."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mlops_plugin.config.schema import EventsConfig, StagingConfig
from mlops_plugin.connections import ConnectionSpec, get_connection
from mlops_plugin.databases.database import Database
from mlops_plugin.databases.opening import open_database
from mlops_plugin.errors import ConnectionUnusable
from mlops_plugin.events.address import StoreAddress
from mlops_plugin.events.store import EventStore
from mlops_plugin.pipeline.staging.shelf import Staging


@dataclass(frozen=True)
class Deployment:
    """Paths in the configuration are relative to `airflow_home`."""

    events: EventsConfig
    staging_config: StagingConfig
    airflow_home: Path

    @classmethod
    def of_airflow(cls, events: EventsConfig, staging: StagingConfig) -> Deployment:
        """The deployment of the Airflow that this process belongs to."""
        home = os.environ.get("AIRFLOW_HOME", "~/airflow")  # Airflow's own rule
        return cls(events, staging, Path(home).expanduser())

    @property
    def staging(self) -> Staging:
        return Staging.of(self.staging_config, self.airflow_home)

    def event_store(self) -> EventStore:
        """Open the event store; the caller closes it."""
        connection = get_connection(self.events.connection) if self.events.connection else None
        return EventStore.open(self.events, connection, self.airflow_home)

    def database(self, conn_id: str, *, max_text_bytes: int = 4096) -> Database:
        """Open a source or sink; the caller closes it."""
        connection = get_connection(conn_id)
        self._refuse_event_store_file(connection)
        return open_database(connection, max_text_bytes=max_text_bytes)

    def _refuse_event_store_file(self, connection: ConnectionSpec) -> None:
        """Two SQLite libraries in one process (ours for events, ADBC's for rows) ruin each other's locks."""
        if connection.conn_type != "sqlite":
            return
        with self.event_store() as store:
            events_file = store.address.path
        rows_file = StoreAddress.of(self.events, connection, self.airflow_home).path
        if events_file is not None and rows_file is not None and rows_file.resolve() == events_file.resolve():
            raise ConnectionUnusable(
                f"connection '{connection.conn_id}': its SQLite file {events_file} holds the event store; "
                "rows and events need a file each"
            )
