"""What a step needs of the deployment it runs in: staging, the event store, and a way to databases."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlops_plugin.config.schema import EventsConfig, ModelConfig, StagingConfig
from mlops_plugin.connections import ConnectionSpec, airflow_home, get_connection
from mlops_plugin.databases.database import Database
from mlops_plugin.databases.opening import open_database
from mlops_plugin.errors import ConnectionUnusable
from mlops_plugin.events.address import StoreAddress
from mlops_plugin.events.store import EventStore
from mlops_plugin.pipeline.staging.shelf import Staging
from mlops_plugin.wait_limits import Limits


@dataclass(frozen=True)
class Deployment:
    """Paths in the configuration are relative to `airflow_home`."""

    events: EventsConfig
    staging_config: StagingConfig
    airflow_home: Path
    requires_confinement: bool = False  # `serving.require_confinement`
    limits: Limits = field(default_factory=Limits)

    def of_dispatch(self, model: ModelConfig) -> Deployment:
        """The same for a dispatch of a model, whose statements may take as long as its tasks."""
        return replace(self, limits=self.limits.of_dispatch(model.task_timeout))

    @classmethod
    def of_airflow(
        cls, events: EventsConfig, staging: StagingConfig, *, requires_confinement: bool = False
    ) -> Deployment:
        """The deployment of the Airflow that this process belongs to."""
        return cls(events, staging, airflow_home(), requires_confinement)

    @property
    def staging(self) -> Staging:
        return Staging.of(self.staging_config, self.airflow_home)

    def event_store(self) -> EventStore:
        """Open the event store; the caller closes it."""
        connection = get_connection(self.events.connection) if self.events.connection else None
        return EventStore.open(self.events, connection, self.airflow_home, self.limits.store)

    def database(
        self, conn_id: str, *, max_text_bytes: int = 4096, exact_columns: Collection[str] | None = None
    ) -> Database:
        """Open a database; the caller closes it. See `ReadOptions`."""
        connection = get_connection(conn_id)
        self._refuse_event_store_file(connection)
        return open_database(
            connection, max_text_bytes=max_text_bytes, exact_columns=exact_columns, limits=self.limits
        )

    def source(self, model: ModelConfig) -> Database:
        """Open a model's source to read rows for the model; the caller closes it."""
        return self.database(
            model.source.connection,
            max_text_bytes=model.source.max_text_bytes,
            exact_columns=_exact_columns(model),
        )

    def _refuse_event_store_file(self, connection: ConnectionSpec) -> None:
        """Two SQLite libraries in one process (ours for events, ADBC's for rows) break each other's locks."""
        of_events = get_connection(self.events.connection) if self.events.connection else None
        store = StoreAddress.of(self.events, of_events, self.airflow_home)
        if store.is_file_of(connection, self.airflow_home):
            raise ConnectionUnusable(
                f"connection '{connection.conn_id}': its SQLite file {store.path} holds the event store; "
                "use separate files for rows and events"
            )


def _exact_columns(model: ModelConfig) -> set[str]:
    """The columns whose values must arrive as stored: rows are found, ordered and divided by them."""
    source = model.source
    columns = {*model.key}
    if source.cursor is not None:
        columns.add(source.cursor.column)
    if source.pages is not None:
        columns.add(source.pages.column)
    if source.partitions is not None:
        columns |= {*(source.partitions.hash or ()), source.partitions.column or ""}
    return columns
