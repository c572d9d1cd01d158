"""Dispatches that are over, recorded in two statements: every engine gives them back as they were."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

import pytest
import sqlalchemy as sa

from mlops_plugin.errors import EventStoreError
from mlops_plugin.events.details.milestones import FinalCounts
from mlops_plugin.events.details.serialization import write_details
from mlops_plugin.events.details.step_reports import InferReport, NumberCounts
from mlops_plugin.events.records import Details, DispatchIdentity, DispatchRecord, EventRecord, summarise
from mlops_plugin.events.store import EventStore
from mlops_plugin.events.whole_dispatches import Happened, WholeDispatch, WholeDispatches

AWKWARD = "O'Brien \"x\" \\' 100% %s %(a)s ? :a ;-- ümlaut 🙂 \t'"
BEGAN = datetime(2026, 3, 29, 1, 59, 59, 999_999, UTC)  # clocks changed in Europe a microsecond later


def _written(details: Details) -> str:
    return json.dumps(write_details(details), ensure_ascii=False)


def _whole(number: int, user: str | None) -> WholeDispatch:
    identity = DispatchIdentity(f"d{number}", "churn", "showroom", user, dry_run=True)
    report = InferReport(3, 0, distribution=NumberCounts((3,), -1074, 5, 0.1, 1e300, 1e-300))
    ended = BEGAN + timedelta(seconds=1.5)
    events = (
        Happened(None, "started", BEGAN, _written(identity)),
        Happened("infer", "succeeded", ended, _written(report), 1, 3, 0.1),
        Happened(None, "succeeded", ended, _written(FinalCounts(3, 3, 0, 0))),
    )
    record = DispatchRecord(
        **vars(identity),
        state="succeeded",
        created_at=BEGAN,
        updated_at=ended,
        finished_at=ended,
        tries=1,
        rows_collected=3,
        rows_predicted=3,
        rows_rejected=0,
        rows_persisted=0,
        rows_superseded=0,
    )
    return WholeDispatch(record, events)


def _columns(event: EventRecord | Happened) -> tuple[Any, ...]:
    return event.step, event.kind, event.try_number, event.row_count, event.seconds


def _shifted(record: DispatchRecord, by: timedelta) -> DispatchRecord:
    moments: dict[str, Any] = {
        name: value + by for name, value in vars(record).items() if isinstance(value, datetime)
    }
    return replace(record, **moments)


@pytest.mark.parametrize("users", [[AWKWARD], [None, "ada", AWKWARD, "x" * 250]])
def test_dispatches_are_read_back_as_they_were(store: EventStore, users: Sequence[str | None]) -> None:
    whole = [_whole(number, user) for number, user in enumerate(users)]
    WholeDispatches(store).append(whole)
    for one in whole:
        found, events = store.get(one.record.dispatch_id), store.events(one.record.dispatch_id)
        assert found is not None
        # By the store's clock: the same for all moments.
        assert found == _shifted(one.record, found.created_at - BEGAN)
        assert found == reduce(summarise, events[1:], summarise(None, events[0]))
        assert [*map(_columns, events)] == [*map(_columns, one.events)]
        assert [event.details and _written(event.details) for event in events] == [
            event.details for event in one.events
        ]


def test_many_dispatches_take_three_statements_and_one_transaction(store: EventStore) -> None:
    statements: list[str] = []
    commits: list[Any] = []
    dispatches = WholeDispatches(store)
    dispatches.append([_whole(0, "ada")])
    engine = store._engine
    assert engine is not None
    sa.event.listen(engine, "before_cursor_execute", lambda *said: statements.append(said[2].split()[0]))
    sa.event.listen(engine, "commit", commits.append)
    dispatches.append([_whole(number, "ada") for number in range(1, 33)])
    inserts = [statement for statement in statements if statement == "INSERT"]
    assert (len(inserts), len(commits)) == (2, 1)
    assert len([statement for statement in statements if statement == "SELECT"]) <= 1  # the store's clock
    assert all(store.get(f"d{number}") for number in range(33))


def test_all_are_recorded_or_none(store: EventStore) -> None:
    dispatches = WholeDispatches(store)
    dispatches.append([_whole(1, "ada")])
    with pytest.raises(EventStoreError):
        dispatches.append([_whole(2, "ada"), _whole(1, "ada")])
    assert store.get("d2") is None
