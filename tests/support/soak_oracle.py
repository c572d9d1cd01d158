"""What the tables of a soak must hold: while it goes on, and when it has come to rest.

Versions only grow, and newest wins. So while faults go on, no prediction in a sink may go back to an earlier
version of its row, and none may vanish. A mark may pass no version that is neither predicted nor put aside.
Nothing may be there twice. At the end every model has been dispatched last, and must have predicted what the
source holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from mlops_plugin.events.marks import newest_mark
from mlops_plugin.events.records import DispatchRecord, EventRecord
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
    customers: Customers
    seen: dict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))
    looks: int = 0
    _told: set[str] = field(default_factory=set)

    def look(self) -> None:
        """At each sink, as far as its database is there and its table was made."""
        for name in MODELS:
            is_one_snapshot = sink_of(name)["mode"] != "append" and "partitions" not in source_of(name)
            looks: list[Callable[[str], None]]
            looks = [self._look_for_older] if is_one_snapshot else [self._look_for_doubled]
            if "cursor" in source_of(name):
                looks.append(self._look_behind_mark)
            for look_at in looks:
                with suppress(Exception):
                    look_at(name)
                    self.looks += 1

    def count_steps(self) -> int:
        """How many steps have succeeded; 0 if the event store is away."""
        with suppress(Exception):
            return int(self.events.rows("SELECT COUNT(*) FROM mlops_event WHERE kind = 'succeeded'")[0][0])
        return 0

    def _look_for_older(self, name: str) -> None:
        """Than it was when we looked last."""
        rows = _predictions(name, self.sinks)
        if len({key for key, _, _ in rows}) < len(rows):
            self._tell(self.found.doubled, f"{name}: {sorted(rows)}")
        now, before = {key: version for key, version, _ in rows}, self.seen[name]
        self.seen[name] = now
        for key, version in before.items():
            if key in now and now[key] < version:
                self._tell(self.found.stale, f"{name}: key {key} went back from {version} to {now[key]}")
            if key not in now and sink_of(name)["mode"] == "upsert":
                self._tell(self.found.lost, f"{name}: key {key} had {version}, and is gone")

    def _look_for_doubled(self, name: str) -> None:
        """A key that a dispatch has twice, or two dispatches if only one row of it may be there."""
        is_kept = sink_of(name)["mode"] == "append" and "skip_predicted" not in source_of(name)
        owner = ", dispatch_id" if is_kept else ""
        twice = f"SELECT id{owner} FROM {name}_predictions GROUP BY id{owner} HAVING COUNT(*) > 1"
        for key, *_ in self.sinks[sink_of(name)["connection"]].rows(twice):
            self._tell(self.found.doubled, f"{name}: key {key} is there twice")

    def _look_behind_mark(self, name: str) -> None:
        """What the mark has passed is predicted or put aside, in this version or a later one."""
        marks = self.events.rows(f"SELECT value FROM mlops_mark WHERE model = '{name}' ORDER BY number DESC")
        mark = int(marks[0][0] or -1) if marks else -1
        passed = {key: row for key, row in self.customers.rows.items() if row[0] <= mark}
        predicted = {key: version for key, version, _ in _predictions(name, self.sinks)}
        judges = "input" in MODELS[name]
        bad = {key for key, (_, is_bad) in passed.items() if is_bad and judges}
        aside = _read_aside(name, self.sinks) if bad else set()
        for key in bad - aside:
            self._tell(self.found.lost, f"{name}: key {key} is bad, the mark has passed it, it is nowhere")
        for key in passed.keys() - bad:
            if predicted.get(key, -1) < passed[key][0]:
                told = f"{name}: the mark {mark} has passed key {key}, version {passed[key][0]}"
                self._tell(self.found.lost, f"{told}; the sink has {predicted.get(key)}")

    def _tell(self, found: list[str], what: str) -> None:
        if what not in self._told:
            self._told.add(what)
            found.append(f"{what}, before {_now()}")


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
    for name in end.last:
        rows = _predictions(name, end.sinks)
        records = records_of(end.workshop, name)
        kept = _kept_of_earlier_tries(name, end)
        for record in records:
            stored = sum(owner == record.dispatch_id and key not in kept for key, _, owner in rows)
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


def events_of(workshop: Workshop, dispatch: str) -> list[EventRecord]:
    """In the order of recording."""
    with workshop.deployment.event_store() as store:
        return store.events(dispatch)


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


def by_design(events: Sequence[EventRecord], recorded: str, acts: Sequence[str]) -> str | None:
    """Why a run may be Airflow's success and our failure; None if nothing explains that.

    Somebody cleared a task alone, or marked it or the run. So Airflow calls the run a success, although
    `persist` has not succeeded since the last step began: what was read last is not in the sink. Our record
    says so once the next dispatch begins; until then the dispatch is running, or was not even begun.
    """
    if not acts or _is_persisted(events):
        return None
    return f"{', '.join(acts)}; 'persist' has not succeeded since, so the dispatch is recorded as {recorded}"


def _is_persisted(events: Sequence[EventRecord]) -> bool:
    """Whether the last thing that happened in a step is that `persist` succeeded."""
    last = [event for event in events if event.step is not None and event.kind in ("started", "succeeded")]
    return bool(last) and (last[-1].step, last[-1].kind) == ("persist", "succeeded")


def _put_aside(name: str, sinks: Mapping[str, ServerDatabase]) -> set[int]:
    with suppress(Exception):  # no row was ever bad, so there is no table
        return _read_aside(name, sinks)
    return set()


def _read_aside(name: str, sinks: Mapping[str, ServerDatabase]) -> set[int]:
    aside = f"SELECT id FROM {name}_predictions_quarantine WHERE released_by IS NULL"
    return {int(key) for (key,) in sinks[sink_of(name)["connection"]].rows(aside)}


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


def _kept_of_earlier_tries(name: str, end: End) -> set[int]:
    """Keys whose prediction an earlier try of a dispatch may have left, which its last try does not count.

    In mode upsert a key that is gone from the source, or is bad now, keeps its last prediction.
    """
    if sink_of(name)["mode"] != "upsert":
        return set()
    now = end.customers.rows
    predicted = {key for key, _, _ in _predictions(name, end.sinks)}
    return {key for key in predicted if key not in now or now[key][1]}


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
