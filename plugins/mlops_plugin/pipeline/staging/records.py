"""The notes that steps leave on a dispatch's shelf, as typed records; `notes` reads and compares them.

A note is stored as JSON. `to_json` and `from_json` are its one writer and its one reader; the reader also
takes what an earlier version has stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import TypeAdapter

from mlops_plugin.databases.sink.write_request import Order
from mlops_plugin.events.details.step_reports import Accounts, Counts, IncrementRead
from mlops_plugin.formats.registry.model_version import ModelVersion
from mlops_plugin.pipeline.reading.partitions import StoredPartition
from mlops_plugin.pipeline.staging.checksums import Blocks
from mlops_plugin.pipeline.staging.shelf import Staged
from mlops_plugin.pipeline.validation.rejections import Reason

KeyValues = dict[str, Any]  # key column -> its value as JSON has it
_Note = TypeVar("_Note")


@dataclass(frozen=True)
class ColumnType:
    """One column of the query; `type` is Arrow's name of it."""

    name: str
    type: str


@dataclass(frozen=True)
class Planned:
    """What `plan` left: the partitions in order; `id` differs from one plan of a dispatch to the next."""

    id: str
    query: str
    partitions: tuple[StoredPartition, ...]
    order: Order | None = None  # see reading.order; None for a dry run and in notes of earlier versions
    source: str | None = None  # see notes.source_settings; None in notes of earlier versions
    is_masked: bool = True  # the query; else partitions read it as it stands here


@dataclass(frozen=True)
class Collected:
    """What `collect` left on the shelf. `columns` are in the query's order; `at` is ISO 8601, UTC."""

    file: str
    rows: int
    query: str
    columns: tuple[ColumnType, ...]
    first_key: KeyValues | None
    last_key: KeyValues | None
    increment: IncrementRead | None = None
    plan: str | None = None  # the plan whose partition the rows are
    blocks: Blocks | None = None  # of the file, see staging.checksums
    at: str | None = None  # when the source was asked; None in notes of earlier versions
    order: Order | None = None  # see reading.order; with partitions their plan's
    sink: str | None = None  # see notes.sink_settings; None in notes of earlier versions

    @property
    def staged(self) -> Staged:
        return Staged(self.file, self.blocks)

    @property
    def skipped_artifact(self) -> str | None:
        """The artifact whose predictions were left out of the rows."""
        return None if self.increment is None else self.increment.skipped_artifact

    @property
    def skipped_answers(self) -> str | None:
        """What answered them, see `answering.answered_by`; None in notes of earlier versions."""
        return None if self.increment is None else self.increment.skipped_answers


@dataclass(frozen=True)
class Judge:
    """The model that predicts: hashes of its artifact and of the signature beside it, None if it has none.

    `input_sha256`: of what the signature says of the input, for models with `skip_predicted`.
    """

    artifact_sha256: str
    signature_sha256: str | None
    input_sha256: str | None = None


@dataclass(frozen=True)
class Logged:
    """What `log` pinned: the later steps read these very files and refuse anything else.

    `settings`: see `notes.pinned_settings`. `parts` is what was collected, one for each partition; notes of
    earlier versions have only the files' names, and no `judge`.
    """

    collected: tuple[str, ...]
    artifact_sha256: str
    settings: str
    parts: tuple[Collected, ...] = ()
    judge: Judge | None = None

    @property
    def input_sha256(self) -> str | None:
        """See `Judge`."""
        return None if self.judge is None else self.judge.input_sha256

    @property
    def is_partitioned(self) -> bool:
        return any(part.plan is not None for part in self.parts)


@dataclass(frozen=True)
class Predicted:
    """What `infer` left on the shelf: key and prediction columns. `at` is ISO 8601, UTC."""

    file: str
    collected: str  # the file of the rows it was made from
    rows: int
    rejected: int  # rows, each with one or more records in `rejected_file`
    rejected_file: str | None
    reasons: tuple[Reason, ...]
    imputed: dict[str, int]  # column -> values replaced
    artifact_sha256: str
    at: str
    distribution: Counts  # of the (first) prediction, see pipeline.distribution
    blocks: Blocks | None = None  # of the file, see staging.checksums
    rejected_blocks: Blocks | None = None
    libraries: dict[str, str] = field(default_factory=dict)  # versions; empty in notes of earlier versions
    judged_by: str | None = None  # see validation.quarantine; None if nobody asks, and as above
    baseline_sha256: str | None = None  # of the contract's baseline, if it has one; None as above

    @property
    def staged(self) -> Staged:
        return Staged(self.file, self.blocks)

    @property
    def staged_records(self) -> Staged | None:
        """The records of rejected rows; None if there are none."""
        return None if self.rejected_file is None else Staged(self.rejected_file, self.rejected_blocks)


@dataclass(frozen=True)
class Persisted:
    """What `persist` left: the files of predictions that are in the sink, and the accounts."""

    predictions: tuple[str, ...] = field(default=())
    accounts: Accounts = field(default=Accounts(0, 0, 0, 0))


@dataclass(frozen=True)
class PinnedVersion:
    """The version of a registered model, and how often the run had been cleared when it was asked for."""

    version: ModelVersion
    clears: int


def to_json(note: object) -> dict[str, Any]:
    """A note as JSON."""
    stored: dict[str, Any] = _adapter(type(note)).dump_python(note, mode="json")
    return stored


def from_json(kind: type[_Note], stored: Mapping[str, Any]) -> _Note:
    """A note as `to_json` stored it. Raises `ValueError` if it is no such note."""
    note: _Note = _adapter(kind).validate_python(stored)
    return note


_adapters: dict[type[object], TypeAdapter[Any]] = {}


def build_adapters() -> None:
    """Make what reads and writes each kind of note, for a process that forks those that do."""
    for kind in (Planned, Collected, Logged, Predicted, Persisted):
        _adapter(kind)


def _adapter(kind: type[object]) -> TypeAdapter[Any]:
    """Made on first use: it takes some milliseconds."""
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]
