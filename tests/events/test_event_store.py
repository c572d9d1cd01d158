"""What is recorded is what is read, on every engine."""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mlops_plugin.errors import EventStoreError
from mlops_plugin.events import tables
from mlops_plugin.events.details.step_reports import CollectReport, InferReport
from mlops_plugin.events.records import DispatchRecord, Origin, State, Step
from mlops_plugin.events.store import EventStore
from support.event_stories import found, new_entry, new_identity

HOSTILE = {
    "NUL": "be\0fore",
    "four-byte Unicode": "🦀 größer 🐘 than",
    "half a surrogate pair": "\udc80 alone",
    "ten million characters": "x" * 10_000_000,
    "four-byte and long": "🦀" * 200_000,
    "empty": "",
    "only line breaks": "\n\r\n\u2028",
    "SQL and format marks": "'; DROP TABLE mlops_event; -- %s %(x)s :y ? \\",
    "control characters": "\x1b[31m\x07\x7f",
}


def test_begin_keeps_the_identity_and_times_to_the_microsecond(store: EventStore) -> None:
    tokyo = timezone(timedelta(hours=9))
    start = datetime(2026, 3, 29, 2, 30, 15, 123456, tzinfo=tokyo)
    identity = new_identity(
        "größe",
        "scheduled",
        requested_by="zoë",
        dag_id="größe",
        run_id="scheduled__1",
        dry_run=True,
        data_interval_start=start,
        data_interval_end=datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    )
    before = datetime.now(UTC)
    store.begin(identity)
    record = found(store, identity.dispatch_id)
    after = datetime.now(UTC)
    assert {name: getattr(record, name) for name in asdict(identity)} == asdict(identity)
    assert record.data_interval_start is not None
    assert record.data_interval_start.tzinfo is UTC
    assert record.state == "running"
    assert before <= record.created_at <= after
    assert record.created_at.microsecond == store.events(identity.dispatch_id)[0].at.microsecond


def test_a_dispatch_leaves_a_complete_story(store: EventStore) -> None:
    identity = new_identity()
    key = identity.dispatch_id
    store.begin(identity)
    store.step_started(key, "collect", 1)
    store.step_succeeded(key, "collect", 1, rows=3, seconds=0.1)
    store.step_started(key, "log", 1)
    store.log(key, new_entry(3))
    store.step_succeeded(key, "log", 1, seconds=1 / 3)
    store.step_started(key, "infer", 1)
    store.step_succeeded(key, "infer", 1, rows=2, seconds=0.2, report=InferReport(2, rows_rejected=1))
    assert found(store, key).rows_predicted == 2
    assert found(store, key).rows_rejected == 1
    store.step_started(key, "persist", 1)
    store.step_succeeded(key, "persist", 1, rows=2, seconds=0.3)
    store.finish(key, collected=3, predicted=2, rejected=1, persisted=2)

    record = found(store, key)
    assert (record.state, record.error, record.tries) == ("succeeded", None, 1)
    counts = (record.rows_collected, record.rows_predicted, record.rows_rejected, record.rows_persisted)
    assert counts == (3, 2, 1, 2)
    assert (record.columns, record.first_key) == ([{"name": "größe", "type": "double"}], {"id": 1})
    assert (record.artifact_sha256, record.config_sha256) == ("a" * 64, "c" * 64)
    assert (record.artifact_uri, record.query) == ("models/churn.skops", "SELECT * FROM t")
    events = store.events(key)
    assert [(event.step, event.kind) for event in events] == [
        (None, "started"),
        ("collect", "started"), ("collect", "succeeded"),
        ("log", "started"), ("log", "logged"), ("log", "succeeded"),
        ("infer", "started"), ("infer", "succeeded"),
        ("persist", "started"), ("persist", "succeeded"),
        (None, "succeeded"),
    ]  # fmt: skip
    assert events[5].seconds == 1 / 3  # every bit of it
    assert events[7].details == InferReport(2, rows_rejected=1)
    assert {event.model for event in events} == {"churn"}
    assert record.started_at == events[1].at
    assert record.finished_at == record.updated_at == events[-1].at


def test_begin_again_reopens_and_keeps_created_at(store: EventStore) -> None:
    identity = new_identity()
    first = store.begin(identity)
    store.step_started(identity.dispatch_id, "collect", 1)
    store.step_failed(identity.dispatch_id, "collect", 1, error="no route", is_final=True)
    assert found(store, identity.dispatch_id).state == "failed"
    store.begin(identity)
    record = found(store, identity.dispatch_id)
    assert (record.state, record.finished_at, record.error) == ("running", None, None)
    assert record.created_at == first.created_at
    assert len(store.events(identity.dispatch_id)) == 5


def test_begin_of_a_running_dispatch_changes_nothing(store: EventStore) -> None:
    identity = new_identity()
    assert store.begin(identity) == store.begin(replace(identity, requested_by="someone else"))
    store.step_started(identity.dispatch_id, "collect", 1)
    record = found(store, identity.dispatch_id)
    assert store.begin(identity) == record == found(store, identity.dispatch_id)
    assert len(store.events(identity.dispatch_id)) == 2


def test_a_failed_try_that_is_repeated_leaves_the_dispatch_running(store: EventStore) -> None:
    identity = new_identity()
    key = identity.dispatch_id
    store.begin(identity)
    store.step_started(key, "infer", 1)
    store.step_failed(key, "infer", 1, seconds=1.5, error="\nno memory\nframe 1\nframe 2", is_final=False)
    assert (found(store, key).state, found(store, key).error) == ("running", None)
    store.step_started(key, "infer", 2)
    store.step_failed(key, "infer", 2, seconds=2.5, error="no memory, again", is_final=True)
    record = found(store, key)
    assert (record.state, record.error, record.tries) == ("failed", "no memory, again", 2)
    assert record.finished_at is not None
    failed = [event for event in store.events(key) if event.kind == "failed" and event.step]
    assert [(event.try_number, event.seconds, event.error) for event in failed] == [
        (1, 1.5, "no memory"),
        (2, 2.5, "no memory, again"),
    ]


def test_a_cleared_task_takes_back_its_count_and_reopens(store: EventStore) -> None:
    identity = new_identity()
    key = identity.dispatch_id
    store.begin(identity)
    store.finish(key, collected=5, predicted=4, rejected=1, persisted=4)
    store.step_started(key, "persist", 2)
    record = found(store, key)
    assert (record.state, record.finished_at) == ("running", None)
    assert (record.rows_collected, record.rows_predicted, record.rows_persisted) == (5, 4, None)
    store.step_started(key, "collect", 2)
    assert found(store, key).rows_collected is None


def test_reconcile_closes_what_is_running_and_nothing_else(store: EventStore) -> None:
    killed, done = new_identity(), new_identity()
    store.begin(killed)
    store.begin(done)
    store.finish(done.dispatch_id, collected=0, predicted=0, rejected=0, persisted=0)
    assert store.reconcile(killed.dispatch_id, "failed", "the run is over, its tasks were killed")
    record = found(store, killed.dispatch_id)
    assert (record.state, record.error) == ("failed", "the run is over, its tasks were killed")
    assert not store.reconcile(killed.dispatch_id, "succeeded", "again")
    assert not store.reconcile(done.dispatch_id, "failed", "too late")
    assert found(store, done.dispatch_id).state == "succeeded"
    assert store.events(killed.dispatch_id)[-1].kind == "reconciled"


def test_a_dispatch_that_was_never_begun_is_an_error_that_names_it(store: EventStore) -> None:
    assert store.get("nobody") is None
    assert store.events("nobody") == []
    calls: list[Callable[[], object]] = [
        lambda: store.step_started("nobody", "collect", 1),
        lambda: store.log("nobody", new_entry()),
        lambda: store.reconcile("nobody", "failed", "gone"),
    ]
    for call in calls:
        with pytest.raises(EventStoreError, match="'nobody'"):
            call()
    with store.address.create_engine().connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(tables.events)) == 0


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_never_breaks_recording(store: EventStore, text: str) -> None:
    identity = new_identity(requested_by=text, dag_id=text, run_id=text)
    key = identity.dispatch_id
    store.begin(identity)
    store.step_started(key, "collect", 1)
    entry = new_entry(
        query=text, artifact_uri=text, first_key={text: text}, columns=[{"name": text, "type": text}]
    )
    store.log(key, entry)
    store.step_succeeded(key, "collect", 1, report=CollectReport(1, changes={text: [text]}))
    store.step_failed(key, "infer", 1, error=text, is_final=True)
    record = found(store, key)
    assert record.state == "failed"
    assert record.error
    assert len(record.error) <= 1000
    assert "\n" not in record.error
    if text == HOSTILE["four-byte Unicode"]:
        assert (record.error, record.query, record.requested_by) == (text, text, text)


def test_values_that_json_does_not_know_are_kept_as_text(store: EventStore) -> None:
    identity = new_identity()
    store.begin(identity)
    first_key = {
        "nan": float("nan"), "inf": float("-inf"), "decimal": Decimal("1.10"), "blob": b"\xff\0",
        "day": date(2026, 1, 2), "at": datetime(2026, 1, 2, tzinfo=UTC), "big": 2**70, "none": None,
    }  # fmt: skip
    store.log(identity.dispatch_id, new_entry(first_key=first_key))
    assert found(store, identity.dispatch_id).first_key == {
        "nan": "nan", "inf": "-inf", "decimal": "1.10", "blob": "b'\\xff\\x00'",
        "day": "2026-01-02", "at": "2026-01-02T00:00:00+00:00", "big": 2**70, "none": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"), [("dispatch_id", "x" * 37), ("model", "m" * 251), ("model", "a\0b")]
)
def test_a_name_that_cannot_be_stored_is_refused_and_not_cut(
    store: EventStore, field: str, value: Any
) -> None:
    with pytest.raises(EventStoreError, match=field):
        store.begin(replace(new_identity(), **{field: value}))
    assert store.dispatches() == []


def test_a_time_without_zone_is_refused(store: EventStore) -> None:
    with pytest.raises(EventStoreError, match="data_interval_start 2026-01-01 00:00:00"):
        store.begin(new_identity(data_interval_start=datetime(2026, 1, 1)))
    assert store.dispatches() == []


def test_models_that_differ_in_case_are_different_models(store: EventStore) -> None:
    store.begin(new_identity("Churn"))
    store.begin(new_identity("churn"))
    assert [record.model for record in store.dispatches(model="churn")] == ["churn"]


def test_json_columns_hold_plain_json_for_other_clients(store: EventStore) -> None:
    identity = new_identity()
    store.begin(identity)
    store.log(identity.dispatch_id, new_entry(first_key={"größe": "a\ud800b\0"}))
    with store.address.create_engine().connect() as connection:
        text = connection.scalar(sa.text("SELECT first_key FROM mlops_dispatch"))
    assert isinstance(text, str)
    assert json.loads(text) == {"größe": "a?b\ufffd"}
    assert "größe" in text


@pytest.mark.parametrize("seed", range(3))
def test_any_order_of_calls_leaves_a_summary_that_its_events_give(store: EventStore, seed: int) -> None:
    chance = random.Random(seed)
    identity = new_identity()
    key = identity.dispatch_id
    store.begin(identity)
    steps: list[Step] = ["collect", "log", "infer", "persist"]
    states: set[State] = set()
    for _ in range(60):
        step, number = chance.choice(steps), chance.randint(1, 4)
        match chance.randrange(7):
            case 0:
                store.begin(identity)
            case 1:
                store.step_started(key, step, number)
            case 2:
                report = InferReport(number, rows_rejected=number) if step == "infer" else None
                store.step_succeeded(key, step, number, rows=number, report=report)
            case 3:
                store.step_failed(key, step, number, error=f"e{number}", is_final=number > 2)
            case 4:
                store.log(key, new_entry(number))
            case 5:
                store.finish(key, collected=4, predicted=number, rejected=4 - number, persisted=number)
            case 6:
                store.reconcile(key, "failed" if number > 2 else "succeeded", "seen over")
        states.add(found(store, key).state)
    assert states == {"running", "succeeded", "failed"}


def many_dispatches(store: EventStore, count: int) -> list[DispatchRecord]:
    """Insert dispatches of several models, states and origins; many share the same instant."""
    store.begin(new_identity())  # a row to take the other columns from
    sample = asdict(store.dispatches()[0])
    models, origins, states = ("a", "b", "c"), ("manual", "showroom"), ("running", "succeeded", "failed")
    instants = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=n) for n in range(count // 4)]
    chance = random.Random(count)
    records = []
    for n in range(count):
        at = chance.choice(instants)
        fields = {
            "model": chance.choice(models),
            "origin": chance.choice(origins),
            "state": chance.choice(states),
        }
        records.append({**sample, **fields, "dispatch_id": f"{n:06d}", "created_at": at, "updated_at": at})
    with store.address.create_engine().execution_options(writes=True).begin() as connection:
        connection.execute(sa.delete(tables.dispatches))
        connection.execute(sa.insert(tables.dispatches), records)
    newest_first = sorted(
        records, key=lambda record: (record["created_at"], record["dispatch_id"]), reverse=True
    )
    return [DispatchRecord(**record) for record in newest_first]


@pytest.mark.parametrize("model", [None, "a"])
@pytest.mark.parametrize("state", [None, "failed"])
@pytest.mark.parametrize("origin", [None, "manual"])
def test_pages_show_every_dispatch_once_newest_first(
    store: EventStore, model: str | None, state: State | None, origin: Origin | None
) -> None:
    wanted = [
        record
        for record in many_dispatches(store, 100)
        if model in (None, record.model) and state in (None, record.state) and origin in (None, record.origin)
    ]
    seen: list[DispatchRecord] = []
    while page := store.dispatches(
        model=model, state=state, origin=origin, before=seen[-1].cursor if seen else None, limit=3
    ):
        seen += page
    assert seen == wanted
    assert len(seen) > 3


def test_unfinished_finds_what_is_running_and_silent(store: EventStore) -> None:
    silent, other, done = new_identity("a"), new_identity("b"), new_identity("a")
    for identity in (silent, other, done):
        store.begin(identity)
    store.finish(done.dispatch_id, collected=0, predicted=0, rejected=0, persisted=0)
    assert [record.dispatch_id for record in store.unfinished(older_than=timedelta(0))] == [
        silent.dispatch_id,
        other.dispatch_id,
    ]
    assert [r.model for r in store.unfinished(older_than=timedelta(0), model="b")] == ["b"]
    assert store.unfinished(older_than=timedelta(minutes=1)) == []


def test_events_of_no_dispatch_are_refused_and_go_with_their_dispatch(store: EventStore) -> None:
    identity = new_identity()
    store.begin(identity)
    writer = store.address.create_engine().execution_options(writes=True)
    orphan = {"dispatch_id": "nobody", "model": "m", "kind": "started", "at": datetime.now(UTC)}
    with pytest.raises(sa.exc.IntegrityError), writer.begin() as connection:
        connection.execute(sa.insert(tables.events).values(orphan))
    with writer.begin() as connection:
        connection.execute(sa.delete(tables.dispatches))
        assert connection.scalar(sa.select(sa.func.count()).select_from(tables.events)) == 0
    writer.dispose()


def test_threads_share_one_store(store: EventStore) -> None:
    identity = new_identity()
    store.begin(identity)
    errors: list[BaseException] = []

    def append() -> None:
        try:
            for number in range(20):
                store.step_started(identity.dispatch_id, "infer", number)
                assert store.get(identity.dispatch_id)
        except BaseException as error:  # noqa: BLE001 -- handed to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=append) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    found(store, identity.dispatch_id)
    assert len(store.events(identity.dispatch_id)) == 121


def test_a_closed_store_opens_again(store: EventStore) -> None:
    store.begin(new_identity())
    store.close()
    assert len(store.dispatches()) == 1


def test_every_column_is_documented() -> None:
    documentation = (Path(__file__).parents[2] / "docs" / "events.md").read_text(encoding="utf-8")
    sections = {
        tables.dispatches: documentation.split("## `mlops_dispatch`")[1].split("## `mlops_event`")[0],
        tables.events: documentation.split("## `mlops_event`")[1].split("## Queries")[0],
    }
    for table, section in sections.items():
        first_cells = " ".join(line.split("|")[1] for line in section.splitlines() if line.startswith("|"))
        assert [column.name for column in table.columns if f"`{column.name}`" not in first_cells] == []


def test_the_documented_queries_run(store: EventStore) -> None:
    documentation = (Path(__file__).parents[2] / "docs" / "events.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sql\n(.*?)```", documentation.split("## Queries")[1], re.DOTALL)
    recent = {"postgresql": "now() - interval '1 day'", "sqlite": "datetime('now', '-1 day')"}
    old, marked, new = (new_identity().dispatch_id for _ in range(3))
    for dispatch_id in (old, marked, new):
        store.begin(replace(new_identity(), dispatch_id=dispatch_id))
        store.finish(dispatch_id, collected=0, predicted=0, rejected=0, persisted=0)
    engine = store.address.create_engine().execution_options(writes=True)
    with engine.begin() as connection:
        of_old = tables.dispatches.c.dispatch_id.in_([old, marked])
        aged = sa.update(tables.dispatches).values(created_at=datetime(2025, 1, 1, tzinfo=UTC))
        connection.execute(aged.where(of_old))
        mark = {"model": "m", "cursor_column": "c", "generation": 0, "at": datetime.now(UTC)}
        of_marks = [{**mark, "number": 1, "dispatch_id": old}, {**mark, "number": 2, "dispatch_id": marked}]
        connection.execute(sa.insert(tables.marks), of_marks)
        for statement in filter(str.strip, "".join(blocks).split(";")):
            on_mysql = "UTC_TIMESTAMP() - INTERVAL 1 DAY"
            connection.exec_driver_sql(statement.replace(on_mysql, recent.get(engine.dialect.name, on_mysql)))
    engine.dispose()
    assert len(blocks) == 5
    # What has moved a watermark says whose it is.
    assert [record.dispatch_id for record in store.dispatches()] == [new, marked]
    assert store.events(old) == []
    assert store.events(marked)
