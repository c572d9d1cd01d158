"""The details of an event come back as they were recorded, and those of earlier versions are still read."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from mlops_plugin.errors import EventStoreError
from mlops_plugin.events import tables
from mlops_plugin.events.details.milestones import FinalCounts, PartitionCounts, Reconciliation, TryStart
from mlops_plugin.events.details.process_identity import ProcessIdentity
from mlops_plugin.events.details.serialization import read_details, write_details
from mlops_plugin.events.details.step_reports import (
    Accounts,
    ClassCounts,
    CollectReport,
    Explained,
    IncrementRead,
    InferReport,
    LogReport,
    NumberCounts,
    PersistReport,
    Place,
    PlanReport,
    ReasonCount,
)
from mlops_plugin.events.records import Details, Kind, Step
from mlops_plugin.events.store import EventStore
from support.event_stories import new_entry, new_identity

START, END = datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC)
INCREMENT = IncrementRead(
    "updated_at", "timestamp", "2026-01-01 00:00:00", "2026-01-02 00:00:00", 3, "a" * 64
)
CASES = CollectReport(
    2, keys=(("1", "x"),), changes={"age": 3, "name": None}, why=Explained("cases", ("age",))
)
CLASSES = InferReport(
    9, 2, (ReasonCount("age", "missing", 1), ReasonCount(None, "refused", 1)), {"age": 4},
    ClassCounts((("no", 4), ("yes", 5)), others=1, missing=2),
)  # fmt: skip
NUMBERS = InferReport(3, distribution=NumberCounts((1, 0, 2), -3, -5, low=-0.6, mean=None, high=1e300))
OF_STEPS: list[tuple[Step, Kind, Details]] = [
    ("collect", "started", TryStart(ProcessIdentity("host/boot/pid", 7, None), "0199-try")),
    ("infer", "started", TryStart()),
    ("persist", "counted", PartitionCounts(4, 1)),
    ("plan", "succeeded", PlanReport.of(["id below 10", "id from 10"])),
    ("collect", "succeeded", CollectReport(10, partition="id below 10", increment=INCREMENT)),
    ("collect", "succeeded", CASES),
    ("log", "succeeded", LogReport(3, "a" * 64, "c" * 64)),
    ("infer", "succeeded", CLASSES),
    ("infer", "succeeded", NUMBERS),
    ("infer", "succeeded", InferReport(0, distribution=NumberCounts((), 0, 0))),
    ("persist", "succeeded", PersistReport(Accounts(5, 4, 1, 3, 1), Place("sink", "t", True), "2026-01-02")),
    ("persist", "succeeded", PersistReport(Accounts(2, 2, 0, 0), Place(shown=2))),
]
OF_DISPATCHES: list[tuple[Kind, Details]] = [
    ("started", new_identity(data_interval_start=START, data_interval_end=END, run_id="r")),
    ("succeeded", FinalCounts(5, 4, 1, 3, 1)),
    ("reconciled", Reconciliation("failed", "its process ended")),
]
STORED: list[tuple[Step | None, Kind, Details]] = [
    *OF_STEPS,
    *((None, kind, details) for kind, details in OF_DISPATCHES),
    ("log", "logged", new_entry(3)),
]


@pytest.mark.parametrize(("step", "kind", "details"), STORED)
def test_details_come_back_as_they_were_written(step: Step | None, kind: Kind, details: Details) -> None:
    stored = json.loads(json.dumps(write_details(details), allow_nan=False))
    assert read_details(step, kind, stored, 3) == details


def test_details_come_back_from_every_engine(store: EventStore) -> None:
    identity = new_identity(data_interval_start=START, data_interval_end=END)
    key, start = identity.dispatch_id, TryStart(ProcessIdentity.current(), "0199-try")
    store.start_step(identity, "collect", made_by=start)
    store.step_succeeded(key, "collect", 1, rows=10, report=CASES)
    store.log(key, new_entry(3))
    store.step_succeeded(key, "infer", 1, rows=9, report=CLASSES)
    store.reconcile(key, "failed", "its process ended")
    reconciled = Reconciliation("failed", "its process ended")
    assert [event.details for event in store.events(key)] == [
        identity, start, CASES, new_entry(3), CLASSES, reconciled,
    ]  # fmt: skip


NO_NUMBERS = {"kind": "numbers", "exponent": 0, "first": 0, "counts": [], "missing": 0}
FOUR_COUNTS = {"collected": 5, "predicted": 4, "rejected": 1, "persisted": 4}
# What version 0.1.0 and the versions before it stored.
OF_EARLIER_VERSIONS: list[tuple[Step | None, Kind, dict[str, Any], Details]] = [
    ("infer", "succeeded", {"rows": 3}, InferReport(3)),
    (
        "infer",
        "succeeded",
        {"rows": 3, "distribution": {"kind": "classes", "counts": [["a", 3]], "others": 0, "missing": 0}},
        InferReport(3, distribution=ClassCounts((("a", 3),))),
    ),
    (
        "infer",
        "succeeded",
        {"rows": 0, "distribution": NO_NUMBERS},
        InferReport(0, distribution=NumberCounts((), 0, 0)),
    ),
    ("collect", "started", {}, TryStart()),
    (
        "collect",
        "succeeded",
        {"rows": 2, "increment": {"column": "id", "kind": "integer", "first": None, "greatest": "9"}},
        CollectReport(2, increment=IncrementRead("id", "integer", None, "9")),
    ),
    ("collect", "succeeded", {"rows": 2, "first_key": {"id": 1}, "last_key": {"id": 2}}, CollectReport(2)),
    (
        "persist",
        "succeeded",
        {"rows": 4, **FOUR_COUNTS, "connection": "s", "table": "t"},
        PersistReport(Accounts(5, 4, 1, 4), Place("s", "t")),
    ),
    (
        None,
        "succeeded",
        {"rows_collected": 5, "rows_predicted": 4, "rows_rejected": 1, "rows_persisted": 4},
        FinalCounts(5, 4, 1, 4),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("step", "kind", "stored", "details"), OF_EARLIER_VERSIONS)
def test_details_of_earlier_versions_are_read(
    step: Step | None, kind: Kind, stored: dict[str, Any], details: Details
) -> None:
    assert read_details(step, kind, stored, None) == details


def test_the_count_of_an_event_stands_in_for_one_that_its_details_lack() -> None:
    assert read_details("infer", "succeeded", {"distribution": None}, 7) == InferReport(7)


def test_an_event_without_details_has_none() -> None:
    assert read_details("infer", "succeeded", None, 7) is None
    assert read_details("infer", "failed", None, None) is None


def test_details_that_were_damaged_are_named(store: EventStore) -> None:
    identity = new_identity()
    store.begin(identity)
    store.step_succeeded(identity.dispatch_id, "infer", 1, rows=3, report=InferReport(3))
    damaged = sa.update(tables.events).where(tables.events.c.step == "infer")
    with store.address.create_engine().begin() as connection:
        connection.execute(damaged.values(details={"rows": "many", "rows_rejected": 1}))
    with pytest.raises(EventStoreError) as refused:
        store.events(identity.dispatch_id)
    assert "'infer succeeded'" in str(refused.value)
    assert "rows" in str(refused.value)


def test_a_start_keeps_its_interval_as_the_same_moment_in_utc(store: EventStore) -> None:
    local = START.astimezone(datetime.fromisoformat("2026-01-02T00:00:00+09:00").tzinfo)
    identity = new_identity(data_interval_start=local, data_interval_end=END)
    record = store.begin(identity)
    assert record.data_interval_start == START
    assert record.data_interval_start.tzinfo is UTC
    stored = store.events(identity.dispatch_id)[0].details
    assert stored == replace(identity, data_interval_start=START)
