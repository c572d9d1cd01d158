"""What the event store keeps, as records, and the one rule that turns events into a dispatch.

`summarise` is that rule: the store applies it at each append, and applying it to all events of a dispatch
from the beginning gives its row again. Nothing here knows SQL.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal, NamedTuple

from mlops_plugin.events.details.milestones import FinalCounts, PartitionCounts, Reconciliation, TryStart
from mlops_plugin.events.details.step_reports import InferReport, PersistReport, StepReport

Origin = Literal["scheduled", "manual", "backfill", "asset", "showroom", "terminal"]
State = Literal["running", "succeeded", "failed"]
Step = Literal["plan", "collect", "log", "infer", "persist"]  # `plan` only if rows are partitioned
Kind = Literal["started", "logged", "counted", "succeeded", "failed", "reconciled"]

TEXT_CHARS = 100_000  # a longer text (a query, a value in a key) is cut: an event is no place for data


class Cursor(NamedTuple):
    """Where a page of dispatches ends; the next page starts after it."""

    created_at: datetime
    dispatch_id: str


@dataclass(frozen=True)
class DispatchIdentity:
    """What is known of a dispatch before its first step."""

    dispatch_id: str  # at most 36 characters; the same for every try of the same run
    model: str
    origin: Origin
    requested_by: str | None = None
    dag_id: str | None = None
    run_id: str | None = None
    data_interval_start: datetime | None = None  # aware
    data_interval_end: datetime | None = None  # aware
    dry_run: bool = False

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class LogEntry:
    """What was collected, and the artifact that will predict; recorded before anything is inferred."""

    rows: int | None  # None while they are still being collected: a second entry has their counts
    columns: Sequence[Mapping[str, str]]  # {"name": ..., "type": ...} each, in order
    first_key: Mapping[str, Any] | None  # key column -> value; None if nothing was collected
    last_key: Mapping[str, Any] | None
    artifact_sha256: str
    artifact_uri: str
    config_sha256: str
    query: str  # as it was run, templates rendered

    def to_json(self) -> dict[str, Any]:
        """Without `rows`, which the event has in a column of its own."""
        return {name: value for name, value in vars(self).items() if name != "rows"}


# What an event knows beside its columns. Its kind, and for the end of a step the step, decide which it is.
Details = DispatchIdentity | TryStart | LogEntry | PartitionCounts | StepReport | FinalCounts | Reconciliation


@dataclass(frozen=True)
class EventRecord:
    """One thing that happened; `step` is None if it happened to the dispatch as a whole."""

    id: int | None  # order of recording; None until it is recorded
    dispatch_id: str
    model: str
    step: Step | None
    kind: Kind
    partition_number: int | None  # from 0; None if the step handled all rows
    try_number: int | None
    at: datetime  # aware UTC
    row_count: int | None
    seconds: float | None
    error: str | None  # first line
    details: Details | None  # `serialization` writes and reads it


@dataclass(frozen=True)
class DispatchRecord:
    """One row of `mlops_dispatch`: the sum of the events of a dispatch."""

    dispatch_id: str
    model: str
    origin: Origin
    requested_by: str | None
    dag_id: str | None
    run_id: str | None
    data_interval_start: datetime | None
    data_interval_end: datetime | None
    dry_run: bool
    state: State
    created_at: datetime  # when it was first begun; a retry or a cleared run keeps it
    updated_at: datetime  # when its last event happened
    started_at: datetime | None = None  # when its first step started
    finished_at: datetime | None = None
    tries: int = 0  # the highest try number of any step
    rows_collected: int | None = None
    rows_predicted: int | None = None
    rows_rejected: int | None = None
    rows_persisted: int | None = None
    rows_superseded: int | None = None  # predictions left out, because the sink has newer ones
    columns: list[dict[str, str]] | None = None
    first_key: dict[str, Any] | None = None
    last_key: dict[str, Any] | None = None
    artifact_sha256: str | None = None
    artifact_uri: str | None = None
    config_sha256: str | None = None
    query: str | None = None
    error: str | None = None  # why it failed; None unless `state` is failed

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.created_at, self.dispatch_id)


# A step that starts again resets its counts and those of the steps after it.
_COUNTS: Mapping[str, tuple[str, ...]] = {
    "plan": (),
    "collect": ("rows_collected", "rows_predicted", "rows_rejected", "rows_persisted", "rows_superseded"),
    "log": (),
    "infer": ("rows_predicted", "rows_rejected", "rows_persisted", "rows_superseded"),
    "persist": ("rows_persisted", "rows_superseded"),
}


def summarise(dispatch: DispatchRecord | None, event: EventRecord) -> DispatchRecord:
    """The dispatch after one more event; None before the first, which must be its beginning."""
    if dispatch is None:
        dispatch = _first(event)
    tries = max(dispatch.tries, event.try_number or 0)
    changes = _by_dispatch_event(event) if event.step is None else _by_step_event(event, event.step)
    if event.kind == "started" and event.step and dispatch.started_at is None:
        changes["started_at"] = event.at
    changes |= {"updated_at": max(dispatch.updated_at, event.at), "tries": tries}
    return DispatchRecord(**(vars(dispatch) | changes))


def _first(event: EventRecord) -> DispatchRecord:
    if not isinstance(event.details, DispatchIdentity):
        raise ValueError(  # noqa: TRY004 -- an event in a wrong place, no wrong argument
            f"the first event of dispatch {event.dispatch_id} is not its start"
        )
    identity = vars(event.details)
    return DispatchRecord(**identity, state="running", created_at=event.at, updated_at=event.at)


def _by_dispatch_event(event: EventRecord) -> dict[str, Any]:
    match event.kind, event.details:
        case "started", _:
            return {"state": "running", "finished_at": None, "error": None}
        case "succeeded", counts:
            final = vars(counts) if isinstance(counts, FinalCounts) else {}
            return {"state": "succeeded", "finished_at": event.at, "error": None, **final}
        case "failed", _:
            return {"state": "failed", "finished_at": event.at, "error": event.error}
        case "reconciled", Reconciliation(state=state):
            return {"state": state, "finished_at": event.at, "error": event.error}
        case _:
            return {}


def _by_step_event(event: EventRecord, step: Step) -> dict[str, Any]:
    match event.kind, event.details:
        case "started", _:  # also of a cleared task: a closed dispatch is open again
            reopened = {"state": "running", "finished_at": None, "error": None}
            return {**reopened, **dict.fromkeys(_COUNTS[step])}
        case "logged", LogEntry() as entry:
            return {"rows_collected": event.row_count, **entry.to_json()}
        case "counted", PartitionCounts() as counts:  # by `persist`, which is the first to see all partitions
            return dict(vars(counts))
        # What the partitions of a step counted, the dispatch as a whole adds up.
        case "succeeded", report if _COUNTS[step] and event.partition_number is None:
            return {_COUNTS[step][0]: event.row_count, **_counted_beside(report)}
        case _:
            return {}


def _counted_beside(report: Details | None) -> dict[str, int]:
    """What a step counted beside the rows that it passed on."""
    match report:
        case InferReport():
            return {"rows_rejected": report.rows_rejected}
        case PersistReport():
            return {"rows_superseded": report.accounts.superseded}
        case _:
            return {}


def plain(value: Any) -> Any:
    """`value` as JSON can hold it on every engine; what JSON does not know becomes text."""
    kind = type(value)  # the commonest first: a dispatch of a few rows is made of these
    if kind is str:
        return clean(value, TEXT_CHARS)
    if kind is dict:
        return {clean(str(key), TEXT_CHARS): plain(item) for key, item in value.items()}
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            return clean(value, TEXT_CHARS)
        case datetime():
            return (value.astimezone(UTC) if value.tzinfo else value).isoformat()
        case date():
            return value.isoformat()
        case Mapping():
            return {clean(str(key), TEXT_CHARS): plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
        case _:
            return clean(str(value), TEXT_CHARS)


def clean(text: str, limit: int) -> str:
    """`text` as every engine can store it: no NUL, no half a surrogate pair, at most `limit` characters."""
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def first_line(error: str, limit: int) -> str:
    """The first line of `error` that is not empty, cleaned."""
    return next((clean(line.strip(), limit) for line in error.splitlines() if line.strip()), "unknown error")
