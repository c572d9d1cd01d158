"""What the sink is asked to write: the request of one dispatch, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from mlops_plugin.config.schema import SinkConfig

if TYPE_CHECKING:
    from mlops_plugin.databases.database import Database


def _nothing_to_prepare(database: Database) -> None:
    """Most requests need nothing from the table before they change it."""


def _nothing_to_check() -> None:
    """A request that no newer try can make obsolete."""


@dataclass(frozen=True)
class Order:
    """Decides which of two dispatches of a table counts: see `dispatches_table.newer`.

    `number` is given by the event store before the source is read. `interval_end` (aware) is the end of the
    data interval that the dispatch's SQL uses; None if it reads whatever is there.
    """

    number: int
    interval_end: datetime | None = None


@dataclass(frozen=True)
class Registration:
    """What table `mlops_dispatches` keeps of a dispatch; `is_forced`: it replaces newer predictions too.

    `answered_by`: a hash of what decides its answers, if other dispatches leave out what it has predicted.
    """

    order: Order
    model: str
    artifact_sha256: str
    predicted_at: datetime  # aware
    is_forced: bool = False
    answered_by: str | None = None


@dataclass(frozen=True)
class WriteRequest:
    """One dispatch's rows for one table.

    `sink` names the table and the mode. `is_searched_by_key`: a table that is created gets an index for
    finding a key of any dispatch. `distinct_by_artifact`: rows whose key another dispatch has already
    predicted with this artifact and the same settings are left out (mode append only). `registration`: what
    puts the dispatch in order with others; None for a table in which no two dispatches share a row.
    `is_narrow`: a table that is created may have narrow rows (see `narrow_rows`): they have the
    registration's model, artifact and time. `goes_behind`: the dispatch behind whose rows this
    one has read; the table must hold it.

    Both callbacks run inside the sink's transaction, while it holds the table's lock: `prepare` before the
    first change, `check` right before the commit. What they raise rolls everything back.
    """

    sink: SinkConfig
    key: tuple[str, ...]
    dispatch_id: str
    is_searched_by_key: bool = False
    distinct_by_artifact: str | None = None
    registration: Registration | None = None
    is_narrow: bool = False
    goes_behind: str | None = None
    prepare: Callable[[Database], None] = _nothing_to_prepare
    check: Callable[[], None] = _nothing_to_check


@dataclass(frozen=True)
class Written:
    """Rows of a dispatch as the database itself counted them: in the table, and left out for a better one."""

    persisted: int
    superseded: int = 0
