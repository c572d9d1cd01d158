"""What is watched: each target knows its name, its address and how it is probed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from mlops_plugin.config.schema import (
    EventsConfig,
    HostConfig,
    MonitorConfig,
    WatchedConfig,
    WatchedDatabaseConfig,
)
from mlops_plugin.connections import airflow_port
from mlops_plugin.monitoring.probe_result import Notes

Kind = Literal["host", "database"]
_NOTHING = WatchedConfig()
ID_CHARS = 300  # the length of the history's column


class Target(Protocol):
    """Something that can be probed."""

    @property
    def id(self) -> str:
        """Stays the same when the target is renamed, so that it keeps its history."""

    @property
    def kind(self) -> Kind: ...

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def address(self) -> str:
        """Where it is, without secrets."""

    @property
    def own(self) -> WatchedConfig:
        """The settings of this target alone."""

    def probe(self, timeout_s: float, notes: Notes) -> None:
        """Try everything once and note each step; an error may be raised after it was noted."""


@dataclass(frozen=True)
class HostTarget:
    """A TCP port."""

    host: str
    port: int
    name: str
    kind: Kind = "host"
    own: WatchedConfig = _NOTHING

    @classmethod
    def of(cls, config: HostConfig) -> HostTarget:
        port = config.port or airflow_port()
        return cls(config.host, port, config.name or _joined(config.host, port), own=config)

    @property
    def id(self) -> str:
        return f"host {_joined(self.host, self.port)}"

    @property
    def address(self) -> str:
        return _joined(self.host, self.port)

    def probe(self, timeout_s: float, notes: Notes) -> None:
        from mlops_plugin.monitoring.host_probe import probe_host

        probe_host(self.host, self.port, timeout_s, notes)


@dataclass(frozen=True)
class DatabaseTarget:
    """A database behind an Airflow connection."""

    conn_id: str
    table: str | None
    name: str
    events: EventsConfig = field(repr=False)
    airflow_home: Path = field(repr=False)
    kind: Kind = "database"
    own: WatchedConfig = _NOTHING

    @classmethod
    def of(cls, config: WatchedDatabaseConfig, events: EventsConfig, airflow_home: Path) -> DatabaseTarget:
        name = config.name or config.connection
        return cls(config.connection, config.table, name, events, airflow_home, own=config)

    @property
    def id(self) -> str:
        return f"database {self.conn_id} {self.table or ''}".strip()[:ID_CHARS]

    @property
    def address(self) -> str:
        return f"connection {self.conn_id}" + (f", table {self.table}" if self.table else "")

    def probe(self, timeout_s: float, notes: Notes) -> None:
        from mlops_plugin.monitoring.database_probe import DatabaseProbe

        DatabaseProbe(self.events, self.airflow_home, notes, timeout_s).of_database(self.conn_id, self.table)


@dataclass(frozen=True)
class EventStoreTarget:
    """The event store, probed as dispatches use it."""

    events: EventsConfig = field(repr=False)
    airflow_home: Path = field(repr=False)
    id: str = "event store"
    name: str = "Event store"
    kind: Kind = "database"
    own: WatchedConfig = _NOTHING

    @property
    def address(self) -> str:
        return f"connection {self.events.connection}" if self.events.connection else "SQLite file"

    def probe(self, timeout_s: float, notes: Notes) -> None:
        from mlops_plugin.monitoring.database_probe import DatabaseProbe

        DatabaseProbe(self.events, self.airflow_home, notes, timeout_s).of_event_store()


def targets_of(monitor: MonitorConfig, events: EventsConfig, airflow_home: Path) -> tuple[Target, ...]:
    """Everything to watch, hosts first; the event store is always included.

    A host without a port may be the same as one with Airflow's port: it is watched once, as the first says.
    """
    hosts = [HostTarget.of(host) for host in monitor.hosts]
    databases = [DatabaseTarget.of(database, events, airflow_home) for database in monitor.databases]
    targets: list[Target] = [*hosts, EventStoreTarget(events, airflow_home), *databases]
    found: dict[str, Target] = {}
    for target in targets:
        found.setdefault(target.id, target)
    return tuple(found.values())


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
