"""One round of the DAG `mlops_monitor`: probe everything, record it, and return the changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path

from mlops_plugin.config.loader import LoadedConfig
from mlops_plugin.config.schema import Config, MonitorConfig
from mlops_plugin.events.health.incidents import Change, Thresholds
from mlops_plugin.events.health.probes import Findings, ProbeHistory, ProbeRecord, ProbeState
from mlops_plugin.events.latest import latest_dispatches, recent_dispatches
from mlops_plugin.events.records import DispatchRecord
from mlops_plugin.events.store import EventStore
from mlops_plugin.events.tries import read_moments, was_closed
from mlops_plugin.monitoring.board import Reading, probe_all
from mlops_plugin.monitoring.model_state import DagSeen
from mlops_plugin.monitoring.targets import Target, targets_of
from mlops_plugin.monitoring.timing import timing_target, timings

_LOOK_BACK = 20  # dispatches of a model that may run at once

# The DAGs of models, by name; asked with the models' last dispatches.
FindDags = Callable[[Mapping[str, DispatchRecord], datetime], Mapping[str, DagSeen]]


@dataclass(frozen=True)
class Round:
    """What was recorded, what has changed, and the names of the targets."""

    probes: tuple[ProbeRecord, ...]
    changes: tuple[Change, ...]
    names: Mapping[str, str]


def record_round(
    loaded: LoadedConfig, store: EventStore, airflow_home: Path, find_dags: FindDags | None = None
) -> Round:
    """Probe each host and database, look at each model's last dispatch and its DAG, and record all of it.

    Incidents of targets that were removed from the configuration end; an invalid model still counts as one.
    Without `find_dags` the timing of models is not recorded. Raises `EventStoreError` if recording fails.
    """
    config = loaded.config
    monitor = config.monitor
    readings = _probe_twice(config, airflow_home)
    last = latest_dispatches(store, config.models)
    now = store.now()  # by which dispatches are dated
    ahead = now - datetime.now(UTC)
    names = {reading.target.id: reading.target.name for reading in readings}
    # A model whose file cannot be read now was not removed.
    others = () if loaded.is_complete else store.models()
    for name in (*config.models, *loaded.broken, *others):
        names[model_target(name)] = names[timing_target(name)] = f"model {name}"
    found = Findings(
        probes=(*_probes(readings, ahead), *_models(_ended(store, last), now)),
        sightings=timings(config, find_dags(last, now), now) if find_dags else (),
        thresholds={reading.target.id: _thresholds(monitor, reading.target) for reading in readings},
        names=names,
        has_notifiers=bool(monitor.notify),
        watched=names.keys(),
    )
    changes = ProbeHistory(store).record(
        found, keep_probes=monitor.keep_probes, keep=monitor.keep, now=store.now()
    )
    return Round(tuple(found.probes), tuple(changes), names)


def model_target(name: str) -> str:
    """What stands for a model among the targets of the history."""
    return f"model {name}"


def model_of(target: str) -> str | None:
    """The model that a target of the history stands for; None for a host or a database."""
    start = model_target("")
    return target.removeprefix(start) if target.startswith(start) else None


def _probe_twice(config: Config, airflow_home: Path) -> list[Reading]:
    """Probe databases that answer a second time: the first probe includes loading the driver."""
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


def _probes(readings: list[Reading], ahead: timedelta) -> Iterator[ProbeRecord]:
    """Dated by the event store's clock, which is so far ahead of ours."""
    for reading in readings:
        result = reading.result
        if result is not None:
            yield ProbeRecord(result.target_id, result.at + ahead, result.state, result.seconds, result.error)


def _thresholds(monitor: MonitorConfig, target: Target) -> Thresholds:
    return Thresholds(
        failure=target.own.failure_threshold or monitor.failure_threshold,
        success=target.own.success_threshold or monitor.success_threshold,
    )


def _ended(store: EventStore, last: Mapping[str, DispatchRecord]) -> dict[str, DispatchRecord]:
    """The last dispatch of each model that has ended: one may run whenever a round looks.

    A model is left out while a cleared one runs again: the one before it says less than its own failure.
    """
    ended = {name: dispatch for name, dispatch in last.items() if dispatch.state != "running"}
    if len(ended) == len(last):
        return ended
    recent = recent_dispatches(store, last.keys() - ended.keys(), each=_LOOK_BACK)
    running = {
        name: [one.dispatch_id for one in takewhile(lambda one: one.state == "running", reversed(several))]
        for name, several in recent.items()
    }
    moments = read_moments(store, [one for several in running.values() for one in several])
    again = {dispatch_id for dispatch_id, found in moments.items() if was_closed(found)}
    begun = [name for name, several in running.items() if again.isdisjoint(several)]
    return ended | latest_dispatches(store, begun, has_ended=True)


def _models(ended: Mapping[str, DispatchRecord], now: datetime) -> Iterator[ProbeRecord]:
    """Up if the last dispatch that has ended succeeded."""
    for name, dispatch in ended.items():
        state: ProbeState = "up" if dispatch.state == "succeeded" else "down"
        yield ProbeRecord(model_target(name), now, state, None, dispatch.error)
