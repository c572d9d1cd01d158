"""Events as the store is about to append them: what is told of a dispatch, made fit for every engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from mlops_plugin.errors import EventStoreError
from mlops_plugin.events.records import (
    DispatchIdentity,
    EventRecord,
    Kind,
    Step,
    clean,
    first_line,
    identity_details,
    plain,
)
from mlops_plugin.events.tables import DISPATCH_ID_CHARS, ERROR_CHARS, NAME_CHARS


def beginning(identity: DispatchIdentity) -> EventRecord:
    _check_identity(identity)
    details = identity_details(identity)
    for name in ("requested_by", "dag_id", "run_id"):
        details[name] = details[name] and clean(details[name], NAME_CHARS)
    return replace(new_event(identity.dispatch_id, "started", details=details), model=identity.model)


def _check_identity(identity: DispatchIdentity) -> None:
    for name, limit in (("dispatch_id", DISPATCH_ID_CHARS), ("model", NAME_CHARS)):
        value = getattr(identity, name)
        if value != clean(value, limit):
            raise EventStoreError(
                f"event store: {name} {value!r} cannot be stored; "
                f"use at most {limit} characters, without NUL and lone surrogates"
            )
    for name in ("data_interval_start", "data_interval_end"):
        value = getattr(identity, name)
        if value is not None and value.tzinfo is None:
            raise EventStoreError(f"event store: {name} {value} has no time zone; use an aware time")


def new_event(
    dispatch_id: str,
    kind: Kind,
    step: Step | None = None,
    *,
    try_number: int | None = None,
    partition: int | None = None,
    error: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> EventRecord:
    return EventRecord(
        id=None,
        dispatch_id=dispatch_id,
        model="",  # taken from the dispatch when it is appended
        step=step,
        kind=kind,
        partition_number=partition,
        try_number=try_number,
        at=datetime.now(UTC),
        row_count=None,
        seconds=None,
        error=None if error is None else first_line(error, ERROR_CHARS),
        details=None if details is None else plain(details),
    )
