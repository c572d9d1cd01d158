"""Reads the notes that steps leave on a shelf, and checks that they belong together.

`log.json` is the one authority: what `infer` and `persist` work on is named there, whatever was planned or
collected again since. A dispatch with partitions has a note of `collect` and of `infer` for each partition,
and one of every other step.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.databases.sink.write_request import Order
from mlops_plugin.environments.location import environment_key
from mlops_plugin.errors import KeyColumnError, StagingError, StagingOutdated
from mlops_plugin.events.details.step_reports import Accounts
from mlops_plugin.events.records import Step
from mlops_plugin.formats.registry.model_version import ModelVersion
from mlops_plugin.pipeline.reading.key_range import outermost
from mlops_plugin.pipeline.reading.partitions import Partition, PlannedQuery
from mlops_plugin.pipeline.staging.records import (
    Collected,
    Judge,
    Logged,
    Persisted,
    PinnedVersion,
    Planned,
    Predicted,
    from_json,
    to_json,
)
from mlops_plugin.pipeline.staging.shelf import Shelf, Staged

_log = logging.getLogger(__name__)

_NAMES: dict[type[object], str] = {
    Planned: "plan",
    Collected: "collect",
    Logged: "log",
    Predicted: "infer",
    Persisted: "persist",
    PinnedVersion: "version",
}
_Note = TypeVar("_Note", Planned, Collected, Logged, Predicted, Persisted, PinnedVersion)
_ASK_FIRST: frozenset[Step] = frozenset({"plan", "collect"})
_ASK: frozenset[Step] = _ASK_FIRST | {"log"}


def put_note(
    note: Planned | Collected | Logged | Predicted | Persisted | PinnedVersion, shelf: Shelf
) -> None:
    """Leave a step's note, in place of that of an earlier try."""
    shelf.put_note(_NAMES[type(note)], to_json(note))


def put_persisted(note: Persisted, shelf: Shelf) -> None:
    """Leave the note of `persist`; logs if staging refuses it.

    Without it, to clear `persist` later means to clear `collect`, too: the staged rows are gone.
    """
    try:
        put_note(note, shelf)
    except StagingError as error:
        # The predictions are in the sink: the step must not fail. Another try would write them again.
        _log.warning("%s", error)


def read_note(kind: type[_Note], shelf: Shelf) -> _Note:
    """A step's note; raises `StagingError` if there is none, or if another version stored it."""
    name = _NAMES[kind]
    try:
        return from_json(kind, shelf.note(name))
    except ValueError as error:
        raise StagingOutdated(
            f"staging: the note of step '{name}' was written by another version of this software; "
            "clear 'collect' and the tasks after it in Airflow"
        ) from error


def find_note(kind: type[_Note], shelf: Shelf) -> _Note | None:
    """A step's note, or None if it has left none."""
    return None if shelf.find_note(_NAMES[kind]) is None else read_note(kind, shelf)


@dataclass(frozen=True)
class PlannedPartition:
    """The partition of one `collect`, the plan that it belongs to, and the order that the plan has taken."""

    plan: str
    partition: Partition
    order: Order | None


def planned_partition(model: ModelConfig, shelf: Shelf) -> PlannedPartition:
    """The partition that a partition's shelf stands for.

    Raises `StagingOutdated` if it is not planned, or if others were for another query.
    """
    planned = read_note(Planned, shelf.whole)
    if planned.source not in (None, source_settings(model)):
        raise StagingOutdated(
            f"models.{model.name}: source.connection, source.query or timezone changed in the configuration "
            "after the partitions were planned; clear 'plan' and the tasks after it in Airflow to dispatch "
            "again"
        )
    if shelf.partition is None or shelf.partition >= len(planned.partitions):
        raise StagingOutdated(
            f"staging: partition {shelf.partition} is not among the {len(planned.partitions)} of the "
            "latest plan; clear 'plan' and the tasks after it in Airflow"
        )
    partition = planned.partitions[shelf.partition].partition()
    query = PlannedQuery(planned.query, planned.is_masked)
    return PlannedPartition(planned.id, replace(partition, query=query), planned.order)


@dataclass(frozen=True)
class AllCollected:
    """What was collected for a dispatch: `whole` has the partitions as one, `parts` each of them."""

    whole: Collected
    parts: tuple[Collected, ...]


def all_collected(model: ModelConfig, shelf: Shelf) -> AllCollected:
    """What was collected last, for `log`.

    Raises `StagingOutdated` if rows were collected for another sink or by another plan, `KeyColumnError` if
    partitions disagree on the type of a key.
    """
    planned = None if model.source.partitions is None else find_note(Planned, shelf.whole)
    if planned is None:
        part = read_note(Collected, shelf)
        _require_same_sink(model, [part])
        return AllCollected(part, (part,))
    shelves = [shelf.of_partition(number) for number in range(len(planned.partitions))]
    parts = tuple(read_note(Collected, part) for part in shelves)
    _require_same_sink(model, parts)
    if any(part.plan != planned.id for part in parts):
        raise StagingOutdated(
            f"models.{model.name}: partitions were planned again after some of them were collected; clear "
            "'collect' and the tasks after it in Airflow"
        )
    if len({(part.skipped_artifact, part.skipped_answers) for part in parts}) > 1:
        raise StagingOutdated(
            f"models.{model.name}: the model changed while partitions left out the rows that it had "
            "predicted; clear 'plan' and the tasks after it in Airflow"
        )
    filled = [part for part in parts if part.rows] or list(parts)
    types = _agreed_types(model, filled)
    whole = replace(
        filled[0],
        rows=sum(part.rows for part in parts),
        query=planned.query,
        first_key=outermost(min, [part.first_key for part in filled], types),
        last_key=outermost(max, [part.last_key for part in filled], types),
    )
    return AllCollected(whole, parts)


def _require_same_sink(model: ModelConfig, parts: Sequence[Collected]) -> None:
    """Raise `StagingOutdated` if rows were collected for another sink.

    A cursor and `skip_predicted` leave out what the sink has, and mode replace wants all rows.
    """
    if any(part.sink not in (None, sink_settings(model)) for part in parts):
        first = "collect" if model.source.partitions is None else "plan"
        raise StagingOutdated(
            f"models.{model.name}.sink: its connection, table or mode changed in the configuration after the "
            f"rows were collected, which may be the new ones for the former sink only; clear '{first}' and "
            "the tasks after it in Airflow to dispatch again"
        )


def _agreed_types(model: ModelConfig, parts: Sequence[Collected]) -> dict[str, str]:
    types = [{column.name: column.type for column in part.columns} for part in parts]
    for name in model.key:
        found = {of_part[name] for of_part in types}
        if len(found) > 1:
            raise KeyColumnError(
                f"models.{model.name}.key: column '{name}' is of type {' and '.join(sorted(found))} in "
                "different partitions; CAST it in the query"
            )
    return types[0]


def require_logged(model: ModelConfig, shelf: Shelf) -> Logged:
    """What was logged, with its parts; raises `StagingOutdated` if the configuration has changed since."""
    logged = read_note(Logged, shelf.whole)
    if logged.settings != pinned_settings(model):
        first = "collect" if model.source.partitions is None else "plan"
        raise StagingOutdated(
            f"models.{model.name}: its key, features, model, input, output, partitions or sink changed in "
            f"the configuration after this dispatch was logged; clear '{first}' and the tasks after it in "
            "Airflow to dispatch again"
        )
    return logged if logged.parts else replace(logged, parts=_parts_by_name(model, logged, shelf))


def _parts_by_name(model: ModelConfig, logged: Logged, shelf: Shelf) -> tuple[Collected, ...]:
    """The parts of a note of an earlier version, which names only the files."""
    is_planned = model.source.partitions is not None and find_note(Planned, shelf.whole) is not None
    shelves = _shelves(len(logged.collected), shelf, is_planned=is_planned)
    parts = tuple(read_note(Collected, part) for part in shelves)
    if tuple(part.file for part in parts) != logged.collected:
        raise _collected_again(model)
    return parts


def _collected_again(model: ModelConfig) -> StagingOutdated:
    return StagingOutdated(
        f"models.{model.name}: rows were collected again after they were logged; clear 'log' "
        "and the tasks after it in Airflow"
    )


def _require_unchanged(model: ModelConfig, part: Collected, shelf: Shelf) -> None:
    """Raise `StagingOutdated` if newer rows wait to be logged: the operator wants those."""
    newest = find_note(Collected, shelf)
    if newest is not None and newest.file != part.file:
        raise _collected_again(model)


def _shelves(parts: int, shelf: Shelf, *, is_planned: bool) -> list[Shelf]:
    """The shelf of each part that was logged."""
    return [shelf.of_partition(number) for number in range(parts)] if is_planned else [shelf.whole]


@dataclass(frozen=True)
class LoggedRows:
    """The rows that were logged for one `infer`.

    While they are still being collected, `part` is what is known of them so far, and `complete` waits for
    all of it; `staged` is their file.
    """

    judge: Judge | None
    artifact_sha256: str
    part: Collected
    staged: Staged
    complete: Callable[[], Collected]


def logged_rows(model: ModelConfig, shelf: Shelf) -> LoggedRows:
    """The rows that the note of `log` has for this shelf; raises `StagingOutdated`."""
    logged = require_logged(model, shelf)
    part = require_part(model, logged, shelf)
    return LoggedRows(logged.judge, logged.artifact_sha256, part, part.staged, lambda: part)


def require_part(model: ModelConfig, logged: Logged, shelf: Shelf) -> Collected:
    """The rows that were logged for this shelf; raises `StagingOutdated` if there are none."""
    number = shelf.partition or 0
    if number >= len(logged.parts):
        raise StagingOutdated(
            f"models.{model.name}: partition {number} is not among the {len(logged.parts)} that were logged; "
            "clear 'log' and the tasks after it in Airflow"
        )
    _require_unchanged(model, logged.parts[number], shelf)
    return logged.parts[number]


def require_predicted(model: ModelConfig, logged: Logged, shelf: Shelf) -> tuple[Predicted, ...]:
    """The predictions of each part that was logged; raises `StagingOutdated` if they are of anything else."""
    shelves = _shelves(len(logged.parts), shelf, is_planned=logged.is_partitioned)
    for part, place in zip(logged.parts, shelves, strict=True):
        _require_unchanged(model, part, place)
    predicted = tuple(read_note(Predicted, place) for place in shelves)
    for made, part in zip(predicted, logged.parts, strict=True):
        if (made.collected, made.artifact_sha256) != (part.file, logged.artifact_sha256):
            raise StagingOutdated(
                f"models.{model.name}: the predictions do not belong to the rows and the artifact "
                "that were logged last; clear 'infer' and the tasks after it in Airflow"
            )
    if len({made.baseline_sha256 for made in predicted} - {None}) > 1:  # earlier versions have noted none
        raise StagingOutdated(
            f"models.{model.name}.input.baseline: it was exchanged while partitions were predicted, so their "
            "rows were held to different rules; clear 'infer' and the tasks after it in Airflow"
        )
    return predicted


def persisted_before(predicted: Sequence[Predicted], shelf: Shelf) -> Accounts | None:
    """The accounts of a try that persisted these very predictions; None if there was none."""
    note = find_note(Persisted, shelf)
    if note is None or note.predictions != tuple(part.file for part in predicted):
        return None
    return note.accounts


def source_settings(model: ModelConfig) -> str:
    """A hash of what must be the same for all partitions of a dispatch."""
    settings = model.model_dump_json(include={"source": {"connection", "query"}, "timezone": True})
    return hashlib.sha256(settings.encode()).hexdigest()


def sink_settings(model: ModelConfig) -> str:
    """A hash of the sink for which rows are collected, and of what it does with them."""
    settings = model.sink.model_dump_json(include={"connection", "table", "mode"})
    return hashlib.sha256(settings.encode()).hexdigest()


def pinned_settings(model: ModelConfig) -> str:
    """A hash of what must not change between the steps of one dispatch."""
    # Where it runs changes no answer; with which libraries may.
    ignored = {"isolation"} if model.model.environment is not None else {"isolation", "environment"}
    if model.model.connection is None:  # dispatches of earlier versions had none
        ignored.add("connection")
    settings = model.model_dump_json(
        include={
            "key": True,
            "features": True,
            "model": True,
            "input": True,
            "output": True,
            "source": {"partitions"},
            "sink": {"connection", "table", "mode"},
        },
        exclude={"model": ignored},
    )
    return hashlib.sha256((settings + (environment_key(model) or "")).encode()).hexdigest()


def pinned_version(
    model: ModelConfig, shelf: Shelf, find: Callable[[], ModelVersion], step: Step, clears: int | None
) -> ModelVersion:
    """The version of a registered model for all steps and retries of a dispatch; `find` asks the registry.

    Its first step asks, and so does one from which the dispatch goes on with the current model after its run
    was cleared once more: `clears` is how often it was. Raises `StagingOutdated` if no step has asked, or for
    another URI.
    """
    known, clears = _found_before(shelf.whole, step), clears or 0
    is_known = known is not None and known.version.uri == model.model.uri
    if known is not None and is_known and (step not in _ASK or clears <= known.clears):
        return known.version
    if not is_known and step not in _ASK_FIRST:
        raise StagingOutdated(
            f"models.{model.name}.model: {model.model.uri} was not resolved by this dispatch; clear its "
            "first task and the tasks after it in Airflow"
        )
    found = find()
    put_note(PinnedVersion(found, clears), shelf.whole)
    return found


def _found_before(shelf: Shelf, step: Step) -> PinnedVersion | None:
    """What an earlier step or try has found; what another version of this software noted is asked again."""
    try:
        return find_note(PinnedVersion, shelf)
    except StagingOutdated:
        if step not in _ASK_FIRST:
            raise
        return None
