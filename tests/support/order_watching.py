"""What stands between a story and the product: points at which processes stop, and what the oracle hears."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import sqlalchemy as sa

from mlops_plugin.databases.sink.write_request import Order, Written
from mlops_plugin.events.details.step_reports import Place as Destination
from mlops_plugin.events.fencing import TryToken
from mlops_plugin.events.records import Step
from mlops_plugin.events.store import EventStore
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.reading.partitions import Partition
from mlops_plugin.pipeline.runner import ConfiguredSource
from mlops_plugin.pipeline.staging.shelf import Shelf, unheard
from mlops_plugin.pipeline.step_runner import OpenSource
from mlops_plugin.pipeline.validation.rejections import RejectedRows
from mlops_plugin.pipeline.writing.sinks import Predictions, TableSink
from support.order_oracle import Place, Read, Row, Story
from support.stopping import current, point

if TYPE_CHECKING:
    from support.order_world import World

STEPS: tuple[Step, ...] = ("plan", "collect", "log", "infer", "persist")
FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Try:
    """What one try does, told to the oracle."""

    world: World
    story: Story
    step: Step
    part: int | None
    dispatch: Dispatch
    began: int = 0  # when it registered
    planned: Place | None = None
    has_read: Read | None = None

    def require_newest(self, did: str) -> None:
        """Nothing that it does may count once a newer try has registered."""
        for other in self.world.tries:
            is_before = STEPS.index(other.step) <= STEPS.index(self.step)
            both_parts = {self.step, other.step} <= {"collect", "infer"}
            concerns = not both_parts or None in (self.part, other.part) or self.part == other.part
            if other.story is self.story and other.began > self.began and is_before and concerns:
                raise AssertionError(
                    f"{self.step} {self.part} {did} after a newer try of {other.step} had registered"
                )

    def stored(self, result: object) -> None:
        """A transaction of the event store was committed: it may have registered the try, or its order."""
        if isinstance(result, TryToken):
            self.world.clock += 1
            self.began = self.world.clock
            self.world.tries.append(self)
        elif isinstance(result, int) and self.step == "plan":
            self.planned = self.place()

    def place(self) -> Place:
        world = self.world
        world.clock += 1
        interval = self.dispatch.data_interval if world.features.uses_interval else None
        return Place(world.clock, None if interval is None else (interval[1] - FIRST_DAY).days)

    def noted(self, name: str, note: Mapping[str, Any]) -> None:
        self.require_newest(f"left a note '{name}'")
        oracle, story = self.world.oracle, self.story
        match name:
            case "plan":
                story.planned = self.planned
                story.parts = len(note["partitions"])
                story.collected = {}
            case "collect":
                assert self.has_read is not None
                story.collected[self.part] = self.has_read
            case "log":
                oracle.log(story, self.world.hashes.index(note["artifact_sha256"]))
                self._require_complete()

    def _require_complete(self) -> None:
        """Partitions together have each row once; one that changed while they were read may be missing."""
        reads = list(self.story.logged.values())
        keys = [key for read in reads for key in read.rows]
        assert len(keys) == len(set(keys)), "a row was collected twice"
        if self.dispatch.row_limit is None:
            always = set.intersection(*(set(read.eligible.items()) for read in reads))
            assert {key for key, _ in always} <= set(keys), "a row was collected by no partition"

    def read(
        self, table: pa.Table, place: Place, eligible: Mapping[int, Row], new: Mapping[int, Row]
    ) -> None:
        found = {
            key: Row(version, b is None)
            for key, b, version in zip(
                *(table.column(name).to_pylist() for name in ("id", "b", "version")), strict=True
            )
        }
        limit = self.dispatch.row_limit
        assert len(found) == table.num_rows
        assert found.items() <= eligible.items(), f"read {found}, of {eligible}"
        if self.part is None:
            wanted = len(eligible) if limit is None else min(limit, len(eligible))
            assert len(found) >= wanted, f"read {found}, of {eligible}"
        if limit is not None:
            found = dict(list(found.items())[:limit])
        if self.part is not None:
            assert self.story.planned is not None
            place = self.story.planned
        left_out = {(key, row.version) for key, row in new.items() if key not in eligible}
        self.has_read = Read(found, place, frozenset(left_out), eligible)


class WatchedStore(EventStore):
    """An event store with a point before and after each transaction."""

    def write(
        self, doing: str, work: Callable[[sa.Connection], Any], *, repeats_lost_commit: bool = False
    ) -> Any:
        point()
        result = super().write(doing, work, repeats_lost_commit=repeats_lost_commit)
        process = current()
        if process is not None and isinstance(process.doing, Try):
            process.doing.stored(result)
        point()
        return result


@dataclass(frozen=True)
class WatchedShelf(Shelf):
    seen: Try | None = None

    def put_note(self, name: str, note: Mapping[str, Any]) -> None:
        point()
        super().put_note(name, note)
        assert self.seen is not None
        self.seen.noted(name, note)
        point()


@dataclass(frozen=True)
class WatchedSource:
    source: ConfiguredSource
    seen: Try

    def plan(self) -> tuple[str, Sequence[Partition]]:
        point()
        planned = self.source.plan()
        point()
        return planned

    @contextlib.contextmanager
    def open(self, partition: Partition) -> Iterator[OpenSource]:
        point()
        with self.source.open(partition) as source:
            keep, drop = self._keys()
            first = source.increment._first if source.increment is not None else None
            point()
            yield _OpenSource(source, self.seen, keep, drop, None if first is None else int(str(first)))

    def _keys(self) -> tuple[set[int] | None, set[int]]:
        """The quarantined keys that are read alone, or left out."""
        world, own = self.seen.world, self.seen.story.id
        records = world.oracle.quarantine
        if self.seen.dispatch.is_quarantined:
            return {r.key for r in records if r.released_by in (None, own)}, set()
        if not world.features.skips_predicted:
            return None, set()
        judged = [r for r in records if r.judged_by == world.artifact and r.owner != own]
        return None, {r.key for r in judged if r.released_by is None}


@dataclass(frozen=True)
class _OpenSource:
    source: Any
    seen: Try
    keep: set[int] | None
    drop: set[int]
    first: int | None

    @property
    def increment(self) -> Any:
        return self.source.increment

    def reads_beside_writes(self) -> bool:
        return bool(self.source.reads_beside_writes())

    def describe(self) -> Any:
        return self.source.describe()

    def rows(self) -> pa.RecordBatchReader:
        rows = self.source.rows()  # what the statement sees is fixed now, also what all pages see
        place, eligible = self.seen.place(), self._eligible()

        def pages() -> Iterator[pa.RecordBatch]:
            found = []
            for batch in rows:
                found.append(batch)
                yield batch
                point()
            self.seen.read(pa.Table.from_batches(found, rows.schema), place, *eligible)

        if self.source.pages is not None and self.seen.dispatch.row_limit is None:
            return pa.RecordBatchReader.from_batches(rows.schema, pages())
        table = rows.read_all()
        self.seen.read(table, place, *eligible)
        point()
        return table.to_reader()

    def _eligible(self) -> tuple[dict[int, Row], dict[int, Row]]:
        """The rows that must be read, and all that are new by the cursor."""
        world = self.seen.world
        if self.keep is not None:
            return {key: row for key, row in world.source.items() if key in self.keep}, {}
        new = {
            key: row for key, row in world.source.items() if self.first is None or row.version >= self.first
        }
        left_out = set(self.drop)
        if self.increment is not None and (skipped := self.increment.skipped) is not None:
            artifact = world.hashes.index(skipped.artifact_sha256)
            left_out |= {
                cell.key
                for cell in world.oracle.sink
                if cell.artifact == artifact and cell.owner != self.seen.story.id
            }
        return {key: row for key, row in new.items() if key not in left_out}, new


class WatchedSink:
    """The sink of a dispatch; the oracle hears of each of its transactions."""

    is_stored = True

    def __init__(self, dispatch: Dispatch, deployment: Any, check: Callable[[], None], seen: Try) -> None:
        def checked() -> None:
            process = current()
            with contextlib.nullcontext() if process is None else process.locked():
                check()
                point()

        self._sink = TableSink(dispatch, deployment, checked, unheard)
        self._seen = seen

    def write(self, predictions: Predictions) -> Written:
        point()
        written = self._sink.write(predictions)
        self._seen.require_newest("wrote predictions")
        self._seen.world.oracle.write(self._seen.story, self._seen.dispatch.model.sink.mode)
        self._seen.world.compare()
        point()
        return written

    def count(self, at: datetime) -> int:
        return self._sink.count(at)

    def quarantine(self, rejected: RejectedRows) -> bool:
        point()
        is_stored = self._sink.quarantine(rejected)
        if is_stored:
            self._seen.require_newest("wrote the quarantine")
            threshold = self._seen.dispatch.model.error_threshold
            assert isinstance(threshold, int)
            self._seen.world.oracle.put_aside(self._seen.story, threshold)
        point()
        return is_stored

    def release(self, rows: pa.RecordBatchReader, order: Order) -> None:
        point()
        self._sink.release(rows, order)
        self._seen.require_newest("released keys")
        self._seen.world.oracle.release(self._seen.story)
        point()

    def describe(self) -> Destination:
        return self._sink.describe()
