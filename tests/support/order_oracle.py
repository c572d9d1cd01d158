"""What sink, quarantine and records must be after any order of events, told without the product's code.

It hears what was read, what was left on a shelf, and that a transaction was committed, and says what the
tables must hold then. It is small on purpose: dictionaries, and one rule for who counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Mode = Literal["append", "upsert", "replace"]


@dataclass(frozen=True)
class Row:
    """A row of the source: each change gives it a version of its own; one that is bad breaks the contract."""

    version: int
    is_bad: bool = False


@dataclass(frozen=True)
class Place:
    """Where a dispatch stands: the end of its interval if its SQL uses it, and when it read."""

    number: int
    end: int | None = None

    def is_before(self, other: Place) -> bool:
        if self.end is not None and other.end is not None and self.end != other.end:
            return self.end < other.end
        return self.number < other.number


@dataclass(frozen=True)
class Read:
    """The rows that one `collect` has read, of a partition or of all."""

    rows: Mapping[int, Row]
    place: Place
    left_out: frozenset[tuple[int, int]] = frozenset()  # key and version, because of earlier predictions
    eligible: Mapping[int, Row] = field(default_factory=dict)  # of all partitions


@dataclass(frozen=True)
class Cell:
    """A prediction in the sink."""

    key: int
    version: int
    artifact: int
    owner: str
    place: Place


@dataclass(frozen=True)
class Record:
    """A rejected row in the quarantine."""

    key: int
    owner: str
    place: Place
    released_by: str | None = None
    judged_by: int | None = None


@dataclass(frozen=True)
class Accounts:
    collected: int
    predicted: int
    rejected: int
    persisted: int
    superseded: int


@dataclass
class Story:
    """What one dispatch has done."""

    id: str
    planned: Place | None = None
    parts: int = 1
    collected: dict[int | None, Read] = field(default_factory=dict)
    logged: dict[int | None, Read] = field(default_factory=dict)
    artifact: int = 0
    registered: Place | None = None  # in the quarantine
    accounts: Accounts | None = None
    counts_as: Place | None = None  # of its last reading
    is_forced: bool = False

    @property
    def rows(self) -> dict[int, Row]:
        return {key: row for read in self.logged.values() for key, row in read.rows.items()}

    @property
    def place(self) -> Place:
        return next(iter(self.logged.values())).place


@dataclass
class Oracle:
    """The tables, as they must be."""

    has_contract: bool
    skips_predicted: bool
    has_own_table: bool = False  # whose rows know their dispatch, but not its try
    sink: list[Cell] = field(default_factory=list)
    quarantine: list[Record] = field(default_factory=list)
    handled: set[tuple[int, int]] = field(default_factory=set)  # key and version: persisted or put aside
    stories: dict[str, Story] = field(default_factory=dict)
    written: dict[str, Place] = field(default_factory=dict)  # by dispatch, since the last `replace`
    is_made: bool = False  # the table

    def log(self, story: Story, artifact: int) -> None:
        parts: list[int | None] = [None] if None in story.collected else [*range(story.parts)]
        story.logged = {part: story.collected[part] for part in parts}
        story.artifact = artifact

    def bad(self, story: Story) -> list[int]:
        return [key for key, row in story.rows.items() if row.is_bad and self.has_contract]

    def put_aside(self, story: Story, threshold: int) -> None:
        """The quarantine of a dispatch was committed."""
        place, bad = story.place, self.bad(story)
        released = {
            record.key: record.released_by
            # Its own records last: they say it for certain.
            for record in sorted(self.quarantine, key=lambda r: (r.owner == story.id, r.released_by or ""))
            if record.released_by is not None
            and place.is_before(self.stories[record.released_by].registered or place)
        }
        story.registered = place
        is_within = len(bad) <= threshold
        judged_by = story.artifact if self.skips_predicted and is_within else None
        self.quarantine = [record for record in self.quarantine if record.owner != story.id]
        self.quarantine += [Record(key, story.id, place, released.get(key), judged_by) for key in bad]
        if is_within:
            self.handled |= {(key, story.rows[key].version) for key in bad}

    def release(self, story: Story) -> None:
        """The release of what a dispatch over the quarantine has predicted was committed."""
        good = story.rows.keys() - self.bad(story)
        self.quarantine = [
            Record(record.key, record.owner, record.place, story.id, record.judged_by)
            if record.key in good
            and record.released_by is None
            and record.owner != story.id
            and record.place.is_before(story.place)
            else record
            for record in self.quarantine
        ]

    def write(self, story: Story, mode: Mode) -> None:
        """The predictions of a dispatch were committed."""
        place, rows, bad = story.place, story.rows, self.bad(story)
        cells = [
            Cell(key, row.version, story.artifact, story.id, place)
            for key, row in rows.items()
            if key not in bad
        ]
        superseded = {cell.key for cell in cells if self._is_superseded(cell, story, mode)}
        kept = [cell for cell in cells if cell.key not in superseded]
        self.sink = [cell for cell in self.sink if not self._gives_way(cell, kept, story, mode)] + kept
        self._register(story, mode, has_rows=bool(cells))
        story.counts_as = place
        story.accounts = Accounts(len(rows), len(cells), len(bad), len(kept), len(superseded))
        self.handled |= {(cell.key, cell.version) for cell in cells}
        for read in story.logged.values():
            self.handled |= read.left_out

    def _register(self, story: Story, mode: Mode, *, has_rows: bool) -> None:
        """What replaces the table counts although it is empty, what adds to it only if there is one."""
        self.is_made |= has_rows or self.has_own_table
        if mode == "replace" and not self._is_replaced_later(story):
            self.written = {story.id: story.place}
        elif mode == "upsert" and self.is_made:
            self.written[story.id] = story.place

    def _is_superseded(self, cell: Cell, story: Story, mode: Mode) -> bool:
        others = [other for other in self.sink if other.key == cell.key and other.owner != story.id]
        if mode == "append":
            return self.skips_predicted and any(other.artifact == cell.artifact for other in others)
        if mode == "replace":
            return self._is_replaced_later(story)
        return not story.is_forced and any(cell.place.is_before(self._counts_as(other)) for other in others)

    def _counts_as(self, cell: Cell) -> Place:
        """A row that its dispatch did not find again counts as of the last reading if nothing tells."""
        last = self.stories[cell.owner].counts_as if self.has_own_table else None
        return last or cell.place

    def _is_replaced_later(self, story: Story) -> bool:
        others = [place for owner, place in self.written.items() if owner != story.id]
        return not story.is_forced and any(story.place.is_before(place) for place in others)

    def _gives_way(self, cell: Cell, kept: list[Cell], story: Story, mode: Mode) -> bool:
        if mode == "append":
            return cell.owner == story.id
        if mode == "replace":
            return not self._is_replaced_later(story)
        return cell.key in {new.key for new in kept}
