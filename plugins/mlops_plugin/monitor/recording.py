"""One round of the DAG `mlops_monitor`: probe everything, remember it, and tell what has changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlops_plugin.config.schema import Config
from mlops_plugin.events.latest import latest_dispatches
from mlops_plugin.events.probes import Change, ProbeHistory, ProbeRecord, ProbeState
from mlops_plugin.events.store import EventStore
from mlops_plugin.monitor.board import Reading, probe_all
from mlops_plugin.monitor.targets import targets_of


@dataclass(frozen=True)
class Round:
    """What was recorded, what has changed, and what people call the targets."""

    probes: tuple[ProbeRecord, ...]
    changes: tuple[Change, ...]
    names: Mapping[str, str]


def record_round(config: Config, store: EventStore, airflow_home: Path) -> Round:
    """Probe each host and database, look at each model's last dispatch, and record all of it.

    Raises `EventStoreError` where it cannot be recorded.
    """
    monitor = config.monitor
    readings = _probe_twice(config, airflow_home)
    probes = (*_probes(readings), *_models(config, store))
    changes = ProbeHistory(store).record(
        probes, keep_probes=monitor.keep_probes, keep=monitor.keep, now=datetime.now(UTC)
    )
    names = {reading.target.id: reading.target.name for reading in readings}
    return Round(
        probes, tuple(changes), names | {model_target(name): f"model {name}" for name in config.models}
    )


def model_target(name: str) -> str:
    """What stands for a model among the targets of the history."""
    return f"model {name}"


def _probe_twice(config: Config, airflow_home: Path) -> list[Reading]:
    """Databases that answer are asked again: at first, loading the driver takes longer than the database."""
    targets = targets_of(config.monitor, config.events, airflow_home)
    timeout_s = config.monitor.timeout.total_seconds()
    first = probe_all(targets, timeout_s=timeout_s)
    well = [
        reading.target
        for reading in first
        if reading.target.kind == "database" and reading.result and reading.result.state == "up"
    ]
    second = {reading.target.id: reading for reading in probe_all(well, timeout_s=timeout_s)}
    return [second.get(reading.target.id, reading) for reading in first]


def _probes(readings: list[Reading]) -> Iterator[ProbeRecord]:
    for reading in readings:
        result = reading.result
        if result is not None:
            yield ProbeRecord(result.target_id, result.at, result.state, result.seconds, result.error)


def _models(config: Config, store: EventStore) -> Iterator[ProbeRecord]:
    """Up where the last dispatch succeeded; one that still runs says nothing yet."""
    now = datetime.now(UTC)
    for name, dispatch in latest_dispatches(store, config.models).items():
        if dispatch.state != "running":
            state: ProbeState = "up" if dispatch.state == "succeeded" else "down"
            yield ProbeRecord(model_target(name), now, state, None, dispatch.error)
