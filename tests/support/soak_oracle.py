"""What the tables of a soak must hold: while it goes on, and when it has come to rest.

Versions only grow, and newest wins. So while faults go on, no prediction in a sink may go back to an earlier
version of its row, and none may vanish. At the end every model has been dispatched last, and must have
predicted what the source holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from mlops_plugin.events.marks import newest_mark
from mlops_plugin.events.records import DispatchRecord
from support.servers import ServerDatabase
from support.soaked_models import MODELS, Customers, sink_of, source_of
from support.workshop import Workshop

_MANY = 100_000  # dispatches of a model


@dataclass
class Findings:
    """What is wrong."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    untrue: list[str] = field(default_factory=list)

    @property
    def all(self) -> list[str]:
        return [*self.lost, *self.doubled, *self.stale, *self.untrue]


@dataclass
class Watch:
    """Looks at the sinks again and again.

    With partitions a dispatch has several snapshots and one number, so only their end can be compared.
    """

    sinks: Mapping[str, ServerDatabase]
    found: Findings
    events: ServerDatabase
    seen: dict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))
    looks: int = 0

    def look(self) -> None:
        for name in MODELS:
            if sink_of(name)["mode"] != "append" and "partitions" not in source_of(name):
                with suppress(Exception):  # the database may be away, the table not made yet
                    self._look_at(name, _predictions(name, self.sinks))
                    self.looks += 1

    def count_steps(self) -> int:
        """How many steps have succeeded; 0 if the event store is away."""
        with suppress(Exception):
            return int(self.events.rows("SELECT COUNT(*) FROM mlops_event WHERE kind = 'succeeded'")[0][0])
        return 0

    def _look_at(self, name: str, rows: Iterable[tuple[int, int, str]]) -> None:
        now, before = {key: version for key, version, _ in rows}, self.seen[name]
        self.seen[name] = now
        for key, version in before.items():
            if key in now and now[key] < version:
                self.found.stale.append(
                    f"{name}: key {key} went back from {version} to {now[key]} before {_now()}"
                )
            if key not in now and sink_of(name)["mode"] == "upsert":
                self.found.lost.append(f"{name}: key {key} had {version}, and is gone, {_now()}")


@dataclass(frozen=True)
class End:
    """A soak that has come to rest: which dispatches were the last ones."""

    workshop: Workshop
    customers: Customers
    sinks: Mapping[str, ServerDatabase]
    last: Mapping[str, str]  # by model: its last dispatch
    deleted: frozenset[str]  # dispatches whose runs were deleted


def look(end: End, found: Findings) -> None:
    """Compare sinks, quarantine, marks and records with the source."""
    for name in MODELS:
        rows = _predictions(name, end.sinks)
        records = records_of(end.workshop, name)
        for record in records:
            stored = sum(owner == record.dispatch_id for _, _, owner in rows)
            if wrong := _wrong_in(record, stored, name, end):
                found.untrue.append(f"{name}: {record.dispatch_id} {record.state}: {wrong}; {record.error}")
        pairs = [(key, owner) for key, _, owner in rows]
        found.doubled += [f"{name}: {pair}" for pair in {*pairs} if pairs.count(pair) > 1]
        if sink_of(name)["mode"] == "append" and "skip_predicted" not in source_of(name):
            rows = [row for row in rows if row[2] == end.last[name]]
        _look_at_rows(name, end, rows, found)
        if "cursor" in source_of(name):
            _look_at_mark(name, end, found)


def _now() -> str:
    return f"{datetime.now(UTC):%H:%M:%S}"


def records_of(workshop: Workshop, name: str) -> list[DispatchRecord]:
    """All dispatches of a model."""
    with workshop.deployment.event_store() as store:
        return store.dispatches(model=name, limit=_MANY)


def keep_tables(folder: Path, sinks: Mapping[str, ServerDatabase]) -> None:
    """Write what the servers hold into text files, for whoever asks what happened."""
    for database in {*sinks.values()}:
        named = "SELECT table_name FROM information_schema.tables WHERE table_name LIKE '%mlops_%'"
        named += " OR table_name LIKE '%_predictions%'"
        for (table,) in database.rows(named):
            rows = database.rows(f"SELECT * FROM {table}")
            (folder / f"{table}.{database.engine}.txt").write_text("\n".join(map(repr, rows)))


def _predictions(name: str, sinks: Mapping[str, ServerDatabase]) -> list[tuple[int, int, str]]:
    """Key, version, dispatch."""
    rows = sinks[sink_of(name)["connection"]].rows(
        f"SELECT id, prediction, dispatch_id FROM {name}_predictions"
    )
    return [(int(key), round(float(version)), str(owner)) for key, version, owner in rows]


def _put_aside(name: str, sinks: Mapping[str, ServerDatabase]) -> set[int]:
    aside = f"SELECT id FROM {name}_predictions_quarantine WHERE released_by IS NULL"
    with suppress(Exception):  # no row was ever bad, so there is no table
        return {int(key) for (key,) in sinks[sink_of(name)["connection"]].rows(aside)}
    return set()


def _look_at_rows(name: str, end: End, rows: list[tuple[int, int, str]], found: Findings) -> None:
    put_aside = _put_aside(name, end.sinks) if "input" in MODELS[name] else set()
    skips = "skip_predicted" in source_of(name)
    versions = defaultdict(list)
    for key, version, _ in rows:
        versions[key].append(version)
    found.doubled += [f"{name}: key {key}" for key, several in versions.items() if len(several) > 1]
    for key, (version, is_bad) in end.customers.rows.items():
        predicted = versions[key]
        if skips:  # whatever was predicted or judged once is not read again
            if not predicted and key not in put_aside:
                found.lost.append(f"{name}: key {key}")
        elif is_bad and "input" in MODELS[name]:
            if key not in put_aside:
                found.lost.append(f"{name}: key {key} is bad, and not in quarantine")
        elif not predicted:
            found.lost.append(f"{name}: key {key}")
        elif version not in predicted:
            found.stale.append(f"{name}: key {key} has {predicted}, not {version}")
    if sink_of(name)["mode"] == "replace":
        gone = {key for key, several in versions.items() if several} - end.customers.rows.keys()
        found.stale += [f"{name}: key {key} is no longer in the source" for key in sorted(gone)]


def _look_at_mark(name: str, end: End, found: Findings) -> None:
    with end.workshop.deployment.event_store() as store:
        mark = newest_mark(store, name)
    value = -1 if mark is None or mark.value is None else int(mark.value)
    if not end.customers.last_version <= value <= end.customers.version:
        found.untrue.append(f"{name}: the mark is {mark}, the last version {end.customers.last_version}")


def _wrong_in(record: DispatchRecord, stored: int, name: str, end: End) -> str | None:
    """What is untrue in a record, given how many rows the sink has of its dispatch."""
    counts = [record.rows_collected, record.rows_predicted, record.rows_rejected, record.rows_persisted]
    told = f"{counts} and {record.rows_superseded} superseded, {stored} stored"
    if record.state == "running":
        return f"still running, {told}"
    if record.state == "failed":
        may_fail = record.run_id is None or record.dispatch_id in end.deleted
        is_told = not stored or "rows of it are in" in (record.error or "")
        return None if may_fail and is_told else told
    collected, predicted, rejected, persisted = (count or 0 for count in counts)
    adds_up = collected == predicted + rejected and predicted == persisted + (record.rows_superseded or 0)
    is_kept = sink_of(name)["mode"] == "append"  # no later dispatch takes its rows
    is_counted = stored == persisted if is_kept else stored <= persisted
    return None if adds_up and is_counted else told
