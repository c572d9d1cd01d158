"""The column `details` of an event: its one writer and its one reader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mlops_plugin.errors import EventStoreError
from mlops_plugin.events.details.milestones import FinalCounts, PartitionCounts, Reconciliation, TryStart
from mlops_plugin.events.details.step_reports import (
    Accounts,
    CollectReport,
    InferReport,
    LogReport,
    PersistReport,
    Place,
    PlanReport,
)
from mlops_plugin.events.records import Details, DispatchIdentity, Kind, LogEntry, Step, plain
from mlops_plugin.masking import masked_values

_OF_DISPATCH: Mapping[Kind, type[Details]] = {
    "started": DispatchIdentity,
    "succeeded": FinalCounts,
    "reconciled": Reconciliation,
}
_OF_STEP: Mapping[Kind, type[Details]] = {"started": TryStart, "logged": LogEntry, "counted": PartitionCounts}
_REPORTS: Mapping[Step, type[Details]] = {
    "plan": PlanReport,
    "collect": CollectReport,
    "log": LogReport,
    "infer": InferReport,
    "persist": PersistReport,
}


# Of what is stored: no texts. `kind` says how to read the record that it stands in.
_NAMES = frozenset(("columns", "first_key", "last_key", "state", "kind"))


def write_details(details: Details) -> dict[str, Any]:
    """What the column holds: JSON that every engine can store, with its texts masked."""
    stored: dict[str, Any] = plain(details.to_json())
    if isinstance(details, DispatchIdentity | TryStart):  # who makes the dispatch, and which
        return stored
    return {name: _masked(name, item) for name, item in stored.items()}


def _masked(name: str, item: Any) -> Any:
    """Names and keys stay: a column may be called like a password, and must still be found."""
    if name in _NAMES:
        return item
    if isinstance(item, dict):
        return {inner: _masked(inner, value) for inner, value in item.items()}
    if isinstance(item, list):
        return [_masked("", value) for value in item]
    return masked_values(item)


def read_details(
    step: Step | None, kind: Kind, stored: Mapping[str, Any] | None, rows: int | None
) -> Details | None:
    """The record in the column of such an event, also of one that an earlier version has stored.

    `rows` is the event's own count of rows. What is stored beside the record's fields is left out. Raises
    `EventStoreError` if it is no such record.
    """
    record = _type_of(step, kind)
    if stored is None or record is None:
        return None
    try:
        if record is PersistReport:
            return _read_persist(stored)
        count = rows if record is LogEntry else rows or 0
        details: Details = _adapter(record).validate_python({"rows": count, **stored})
    except ValidationError as error:
        what = f"'{step} {kind}'" if step else f"'dispatch {kind}'"
        fields = ", ".join(sorted({".".join(map(str, one["loc"])) for one in error.errors()}))
        raise EventStoreError(
            f"event store: the details of an event {what} cannot be read: {fields}; they were edited by "
            "hand, or written by a newer version: upgrade this one"
        ) from None  # pydantic quotes what was stored, which may hold a secret
    return details


def _type_of(step: Step | None, kind: Kind) -> type[Details] | None:
    if step is None:
        return _OF_DISPATCH.get(kind)
    return _REPORTS[step] if kind == "succeeded" else _OF_STEP.get(kind)


def _read_persist(stored: Mapping[str, Any]) -> PersistReport:
    accounts: Accounts = _adapter(Accounts).validate_python(stored)
    place: Place = _adapter(Place).validate_python(stored)
    return PersistReport(accounts, place, stored.get("mark"))


_adapters: dict[type[object], TypeAdapter[Any]] = {}


def _adapter(record: type[object]) -> TypeAdapter[Any]:
    """Made on first use: it takes a millisecond."""
    if record not in _adapters:
        _adapters[record] = TypeAdapter(record)
    return _adapters[record]
