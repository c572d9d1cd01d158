"""What the steps of a dispatch tell each other: the notes on its shelf, and whether they belong together.

A dispatch whose rows are partitioned has a note of `collect` and of `infer` for each partition, and one of
every other step; one that is not has one of each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import KeyColumnError, StagingOutdated
from mlops_plugin.pipeline.reading.key_range import outermost
from mlops_plugin.pipeline.reading.partitions import Partition
from mlops_plugin.pipeline.staging.checksums import Blocks
from mlops_plugin.pipeline.staging.shelf import Shelf, Staged
from mlops_plugin.pipeline.validation.rejections import Reason

PLANNED = "plan"
COLLECTED = "collect"
LOGGED = "log"
PREDICTED = "infer"
PERSISTED = "persist"

_Note = TypeVar("_Note")


@dataclass(frozen=True)
class Planned:
    """What `plan` left: the partitions in order; `id` tells one plan of a dispatch from the next."""

    id: str
    query: str
    partitions: list[dict[str, Any]]  # Partition.as_json


@dataclass(frozen=True)
class Collected:
    """What `collect` left on the shelf. `columns`: {name, type (Arrow's)} in the query's order."""

    file: str
    rows: int
    query: str
    columns: list[dict[str, str]]
    first_key: dict[str, Any] | None
    last_key: dict[str, Any] | None
    increment: dict[str, Any] | None = None  # what of the query was read, see pipeline.increment
    plan: str | None = None  # whose partition the rows are
    blocks: Blocks | None = None  # of the file, see pipeline.checksums

    @property
    def staged(self) -> Staged:
        return Staged(self.file, self.blocks)


@dataclass(frozen=True)
class Logged:
    """What `log` pinned; later steps refuse anything else. `settings`: see `pinned_settings`."""

    collected: list[str]  # files, one for each partition
    artifact_sha256: str
    settings: str


@dataclass(frozen=True)
class Predicted:
    """What `infer` left on the shelf: key and prediction columns. `at` is ISO 8601, UTC."""

    file: str
    collected: str  # the file of the rows it was made from
    rows: int
    rejected: int  # rows, each with one or more records in `rejected_file`
    rejected_file: str | None
    reasons: list[Reason]
    imputed: dict[str, int]  # column -> values replaced
    artifact_sha256: str
    at: str
    distribution: dict[str, Any]  # of the (first) prediction, see pipeline.distribution
    blocks: Blocks | None = None  # of the file, see pipeline.checksums
    rejected_blocks: Blocks | None = None

    @property
    def staged(self) -> Staged:
        return Staged(self.file, self.blocks)

    @property
    def staged_records(self) -> Staged | None:
        """The records of rejected rows; None where there are none."""
        return None if self.rejected_file is None else Staged(self.rejected_file, self.rejected_blocks)


@dataclass(frozen=True)
class Accounts:
    """Rows of a whole dispatch; it closes: collected = predicted + rejected, predicted = persisted."""

    collected: int
    predicted: int
    rejected: int
    persisted: int


def read_note(kind: type[_Note], name: str, shelf: Shelf) -> _Note:
    """A step's note; raises `StagingError` where it has left none, or another version's."""
    try:
        return kind(**shelf.note(name))
    except TypeError as error:
        raise StagingOutdated(
            f"staging: the note of step '{name}' was left by another version of this software; clear "
            "'collect' and what follows it in Airflow"
        ) from error


def find_plan(model: ModelConfig, shelf: Shelf) -> Planned | None:
    """The dispatch's plan; None where its rows are not partitioned."""
    if model.source.partitions is None or shelf.whole.find_note(PLANNED) is None:
        return None
    return read_note(Planned, PLANNED, shelf.whole)


def planned_partition(shelf: Shelf) -> tuple[Planned, Partition]:
    """The plan, and the partition that a partition's shelf is for."""
    planned = read_note(Planned, PLANNED, shelf.whole)
    if shelf.partition is None or shelf.partition >= len(planned.partitions):
        raise StagingOutdated(
            f"staging: partition {shelf.partition} is not among the {len(planned.partitions)} that were "
            "planned last; clear 'plan' and what follows it in Airflow"
        )
    return planned, Partition.from_json(planned.partitions[shelf.partition])


def shelves(planned: Planned | None, shelf: Shelf) -> list[Shelf]:
    """The shelf of each partition, or the one shelf of all rows."""
    if planned is None:
        return [shelf]
    return [shelf.of_partition(number) for number in range(len(planned.partitions))]


def all_collected(model: ModelConfig, shelf: Shelf) -> tuple[Collected, list[str]]:
    """What was collected, partitions as one, and the files that it is in.

    Raises `StagingOutdated` where a partition is of another plan, `KeyColumnError` where they disagree on the
    type of a key.
    """
    planned = find_plan(model, shelf)
    parts = [read_note(Collected, COLLECTED, part) for part in shelves(planned, shelf)]
    files = [part.file for part in parts]
    if planned is None:
        return parts[0], files
    if any(part.plan != planned.id for part in parts):
        raise StagingOutdated(
            f"models.{model.name}: partitions were planned again after some of them were collected; clear "
            "'collect' and what follows it in Airflow"
        )
    if len({(part.increment or {}).get("skipped_artifact") for part in parts}) > 1:
        raise StagingOutdated(
            f"models.{model.name}: the artifact changed while partitions were collected without the rows "
            "that have a prediction by it; clear 'plan' and what follows it in Airflow"
        )
    filled = [part for part in parts if part.rows] or parts
    types = _agreed_types(model, filled)
    return replace(
        filled[0],
        rows=sum(part.rows for part in parts),
        query=planned.query,
        first_key=outermost(min, [part.first_key for part in filled], types),
        last_key=outermost(max, [part.last_key for part in filled], types),
    ), files


def increment_note(model: ModelConfig, shelf: Shelf) -> dict[str, Any] | None:
    """What of its query a dispatch with a cursor has read; such a dispatch has no partitions."""
    return None if model.source.cursor is None else read_note(Collected, COLLECTED, shelf).increment


def _agreed_types(model: ModelConfig, parts: Sequence[Collected]) -> dict[str, str]:
    types = [{column["name"]: column["type"] for column in part.columns} for part in parts]
    for name in model.key:
        found = {of_part[name] for of_part in types}
        if len(found) > 1:
            raise KeyColumnError(
                f"models.{model.name}.key: column '{name}' is of type {' and '.join(sorted(found))} in "
                "different partitions; CAST it in the query"
            )
    return types[0]


def require_logged(model: ModelConfig, shelf: Shelf) -> Logged:
    """What was logged; raises `StagingOutdated` where the configuration has changed since."""
    logged = read_note(Logged, LOGGED, shelf.whole)
    if logged.settings != pinned_settings(model):
        first = "collect" if model.source.partitions is None else "plan"
        raise StagingOutdated(
            f"models.{model.name}: its key, features, model, input, output, partitions or sink changed in "
            f"the configuration after this dispatch was logged; clear '{first}' and what follows it in "
            "Airflow to dispatch anew"
        )
    return logged


def require_collected(model: ModelConfig, logged: Logged, shelf: Shelf) -> Collected:
    """The rows on this shelf; raises `StagingOutdated` where they are not those that were logged."""
    collected = read_note(Collected, COLLECTED, shelf)
    if collected.file not in logged.collected:
        raise StagingOutdated(
            f"models.{model.name}: rows were collected again after they were logged; clear 'log' "
            "and what follows it in Airflow"
        )
    return collected


def require_predicted(model: ModelConfig, logged: Logged, shelf: Shelf) -> tuple[Collected, Predicted]:
    """The predictions on this shelf, and what of; raises `StagingOutdated` where not what was logged."""
    collected = require_collected(model, logged, shelf)
    predicted = read_note(Predicted, PREDICTED, shelf)
    if (predicted.collected, predicted.artifact_sha256) != (collected.file, logged.artifact_sha256):
        raise StagingOutdated(
            f"models.{model.name}: the predictions are of other rows or of another artifact than "
            "those logged last; clear 'infer' and what follows it in Airflow"
        )
    return collected, predicted


def persisted_before(files: Sequence[str], shelf: Shelf) -> Accounts | None:
    """The accounts of a try that persisted these very predictions, then died before it could say so."""
    note = shelf.find_note(PERSISTED)
    if note is None or note["predictions"] != list(files):
        return None
    return Accounts(**note["accounts"])


def pinned_settings(model: ModelConfig) -> str:
    """A hash of what must not change between the steps of one dispatch."""
    settings = model.model_dump_json(
        include={
            "key": True,
            "features": True,
            "model": True,
            "input": True,
            "output": True,
            "source": {"partitions"},
            "sink": {"connection", "table", "mode"},
        }
    )
    return hashlib.sha256(settings.encode()).hexdigest()
