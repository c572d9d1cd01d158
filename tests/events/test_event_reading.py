"""Lists, counts and histories of dispatches, on every engine."""

from __future__ import annotations

import random
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mlops_plugin.config.schema import EventsConfig
from mlops_plugin.events import tables
from mlops_plugin.events.address import StoreAddress
from mlops_plugin.events.details.step_reports import InferReport, PlanReport, StepReport
from mlops_plugin.events.reading import DispatchFilter, DispatchLine, read_page
from mlops_plugin.events.records import DispatchRecord, Step
from mlops_plugin.events.store import EventStore
from mlops_plugin.web.dispatches.story import infer_report_of
from support.event_stories import connection_of, new_entry, new_identity
from support.event_tables import make_tables
from support.servers import Server, ServerDatabase

START = datetime(2026, 1, 1, tzinfo=UTC)


def fill(store: EventStore, count: int) -> list[DispatchRecord]:
    """Dispatches of several models, states and origins, many at the same instant; newest first."""
    identity = new_identity()
    store.begin(identity)
    sample = store.get(identity.dispatch_id)
    assert sample is not None
    chance = random.Random(count)
    records = []
    for n in range(count):
        at = START + timedelta(hours=chance.randrange(count // 4))
        records.append(
            replace(
                sample,
                dispatch_id=f"{n:06d}",
                model=chance.choice(("a", "b")),
                state=chance.choice(("running", "succeeded", "failed")),
                origin=chance.choice(("manual", "scheduled", "showroom")),
                created_at=at,
                updated_at=at,
                finished_at=chance.choice((None, at + timedelta(seconds=1.5))),
            )
        )
    with store.address.create_engine().execution_options(writes=True).begin() as connection:
        connection.execute(sa.delete(tables.dispatches))
        connection.execute(sa.insert(tables.dispatches), [asdict(record) for record in records])
    return sorted(records, key=lambda record: record.cursor, reverse=True)


FILTERS = [
    DispatchFilter(),
    DispatchFilter(model="a"),
    DispatchFilter(state="failed"),
    DispatchFilter(origin="showroom"),
    DispatchFilter(model="a", origin="manual"),
    DispatchFilter(state="running", origin="manual"),
    DispatchFilter(model="b", state="succeeded", origin="showroom"),
    DispatchFilter(since=START + timedelta(hours=3), until=START + timedelta(hours=20)),
    DispatchFilter(model="a", until=START + timedelta(hours=9)),
    DispatchFilter(model="gone"),
    DispatchFilter(models=("a",)),
    DispatchFilter(models=("b", "gone"), state="failed"),
    DispatchFilter(models=("a", "b"), origin="manual"),
    DispatchFilter(models=("a", *(f"m{n}" for n in range(40)))),
    DispatchFilter(models=("a", *(f"m{n}" for n in range(40))), state="failed", origin="showroom"),
    DispatchFilter(model="a", models=("a", "b")),
    DispatchFilter(model="a", models=("b",)),
    DispatchFilter(model="a", models=tuple(f"m{n}" for n in range(40))),
    DispatchFilter(models=()),
    DispatchFilter(origin="operations"),
    DispatchFilter(model="a", state="failed", origin="operations"),
    DispatchFilter(
        models=("a", "b", *(f"m{n}" for n in range(14))),  # as many as are read one by one
        origin="operations",
        since=START + timedelta(hours=3),
    ),
    DispatchFilter(models=("a", *(f"m{n}" for n in range(40))), origin="operations"),
    DispatchFilter(models=(), origin="operations"),
]


def passes(record: DispatchRecord, wanted: DispatchFilter) -> bool:
    return (
        wanted.model in (None, record.model)
        and (wanted.models is None or record.model in wanted.models)
        and wanted.state in (None, record.state)
        and (
            wanted.origin in (None, record.origin)
            or (wanted.origin, record.origin != "showroom") == ("operations", True)
        )
        and (wanted.since is None or wanted.since <= record.created_at)
        and (wanted.until is None or record.created_at < wanted.until)
    )


@pytest.mark.slow
def test_every_filter_shows_and_counts_what_passes_it(store: EventStore) -> None:
    records = fill(store, 120)
    for wanted in FILTERS:
        passing = [record.dispatch_id for record in records if passes(record, wanted)]
        seen: list[DispatchLine] = []
        while page := store.page(wanted, before=seen[-1].cursor if seen else None, limit=7):
            seen += page
        assert [line.dispatch_id for line in seen] == passing, wanted
        in_one_go = [line for page in store.every_page(wanted, limit=11) for line in page]
        assert in_one_go == seen
        assert store.count(wanted) == len(passing)


def test_a_page_without_the_showroom_reads_past_none_of_its_dispatches(
    mariadb_database: ServerDatabase, tmp_path: Path
) -> None:
    """Five thousand runs of the Showroom are newer than all that it shows, as many others are older."""
    address = StoreAddress.of(EventsConfig(), connection_of(mariadb_database), tmp_path)
    make_tables(address)
    with EventStore(address) as store:
        (sample, *_) = fill(store, 40)
        records = [
            replace(
                sample,
                dispatch_id=f"x{n:06d}",
                origin="showroom" if n < 5_000 else ("manual", "scheduled")[n % 2],
                created_at=START - timedelta(seconds=n),
            )
            for n in range(10_100)
        ]
        with address.create_engine().execution_options(writes=True).begin() as connection:
            connection.execute(sa.delete(tables.dispatches))
            connection.execute(sa.insert(tables.dispatches), [asdict(record) for record in records])
        for wanted in (
            DispatchFilter(origin="operations"),
            DispatchFilter(origin="operations", models=("a", "b")),
        ):
            with store.read("counting rows read") as connection:
                before = rows_read(connection)
                assert len(read_page(connection, wanted, before=None, limit=50)) == 50
                assert rows_read(connection) - before < 1_000, wanted


def rows_read(connection: sa.Connection) -> int:
    """By this session so far, from tables and from what the server makes of them."""
    found = connection.execute(sa.text("SHOW SESSION STATUS LIKE 'Handler_read%'"))
    return sum(int(value) for _, value in found)


@pytest.mark.slow
def test_pages_lead_back_the_way_they_came(store: EventStore) -> None:
    fill(store, 60)
    for wanted in FILTERS:
        pages = list(store.every_page(wanted, limit=7))
        for newer, older in pairwise(pages):
            assert store.newer_page(wanted, after=older[0].cursor, limit=7) == newer
        if pages:
            assert store.newer_page(wanted, after=pages[0][0].cursor, limit=7) == []


def test_a_page_of_many_models_makes_no_columns_of_its_parts(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to 80 parts of 21 columns each: making them took longer than asking the database."""
    made: list[sa.Column[Any]] = []
    make = sa.Column._make_proxy

    def count(column: sa.Column[Any], *arguments: Any, **others: Any) -> Any:
        made.append(column)
        return make(column, *arguments, **others)

    fill(store, 8)
    monkeypatch.setattr(sa.Column, "_make_proxy", count)
    wanted = DispatchFilter(models=("a", *(f"m{n}" for n in range(15))), origin="operations")
    page = store.page(wanted)
    assert page
    assert store.newer_page(wanted, after=page[-1].cursor) == page[:-1]
    assert made == []


def test_a_line_says_what_the_record_says(store: EventStore) -> None:
    record = fill(store, 8)[0]
    (line,) = store.page(DispatchFilter(), limit=1)
    assert asdict(line) == {name: value for name, value in asdict(record).items() if name in asdict(line)}


def test_a_line_knows_how_long_it_took(store: EventStore) -> None:
    fill(store, 40)
    for line in store.page(DispatchFilter()):
        assert line.seconds == (None if line.finished_at is None else 1.5)


def test_counting_stops_at_the_bound(store: EventStore) -> None:
    fill(store, 40)
    assert store.count(DispatchFilter(), at_most=40) == 40
    assert store.count(DispatchFilter(), at_most=39) == 39
    assert store.count(DispatchFilter(models=("a", "b")), at_most=39) == 39


def test_the_models_with_dispatches_are_listed_once(store: EventStore) -> None:
    assert store.models() == []
    for model in ("churn", "wine", "churn", "a.b-c_1"):
        store.begin(new_identity(model))
    assert sorted(store.models()) == ["a.b-c_1", "churn", "wine"]


def test_rows_added_meanwhile_do_not_shift_the_pages(store: EventStore) -> None:
    records = fill(store, 20)
    first = store.page(DispatchFilter(), limit=5)
    store.begin(new_identity())  # is newest
    second = store.page(DispatchFilter(), before=first[-1].cursor, limit=5)
    assert [line.dispatch_id for line in second] == [record.dispatch_id for record in records[5:10]]


def dispatch(store: EventStore, model: str, reports: list[InferReport], **rest: object) -> DispatchRecord:
    """A dispatch that succeeded, its `infer` once for each report."""
    identity = new_identity(model, **rest)  # type: ignore[arg-type]
    store.begin(identity)
    store.log(identity.dispatch_id, new_entry(3))
    for number, report in enumerate(reports, 1):
        store.step_started(identity.dispatch_id, "infer", number)
        store.step_succeeded(identity.dispatch_id, "infer", number, rows=3, report=report)
    return store.finish(identity.dispatch_id, collected=3, predicted=3, rejected=0, persisted=3)


def test_history_has_the_last_report_of_each_dispatch_oldest_first(store: EventStore) -> None:
    first = dispatch(store, "churn", [InferReport(1), InferReport(2)])
    silent = dispatch(store, "churn", [])
    dispatch(store, "other", [InferReport(3)])
    history = store.history(DispatchFilter(model="churn"))
    assert [(line.dispatch_id, reports) for line, reports in history] == [
        (first.dispatch_id, [InferReport(2)]),
        (silent.dispatch_id, []),
    ]
    assert [line.dispatch_id for line, _ in store.history(DispatchFilter(model="churn"), limit=1)] == [
        silent.dispatch_id
    ]
    assert store.history(DispatchFilter(model="gone")) == []
    assert store.history(DispatchFilter(model="churn", models=("other",))) == []
    assert len(store.history(DispatchFilter(models=("churn", "other")), limit=2)) == 2


def test_what_partitions_of_an_earlier_plan_reported_does_not_count(store: EventStore) -> None:
    identity = new_identity("churn")
    store.begin(identity)

    def succeed(step: Step, number: int, report: StepReport, partition: int | None = None) -> None:
        store.step_started(identity.dispatch_id, step, number, partition=partition)
        store.step_succeeded(identity.dispatch_id, step, number, partition=partition, report=report)

    for number, rows in enumerate(([10, 11, 12], [20, 21]), 1):
        succeed("plan", number, PlanReport.of([f"part {n}" for n in range(len(rows))]))
        for partition, count in enumerate(rows):
            succeed("infer", number, InferReport(count), partition)
        ((_line, reports),) = store.history(DispatchFilter(model="churn"))
        assert [report.rows for report in reports] == rows
        whole = infer_report_of(store.events(identity.dispatch_id))
        assert whole is not None
        assert whole.rows == sum(rows)
    succeed("infer", 3, InferReport(40))  # the model has no partitions any more
    ((_line, reports),) = store.history(DispatchFilter(model="churn"))
    assert [report.rows for report in reports] == [40]


@pytest.mark.parametrize("origin", ["manual", "showroom"])
def test_previous_is_the_last_that_succeeded_by_a_door_that_stores(store: EventStore, origin: str) -> None:
    before = dispatch(store, "churn", [])
    dispatch(store, "churn", [], origin="showroom")
    dispatch(store, "other", [])
    failed = new_identity("churn")
    store.begin(failed)
    store.step_failed(failed.dispatch_id, "collect", 1, error="no", is_final=True)
    this = dispatch(store, "churn", [], origin=origin)
    dispatch(store, "churn", [])
    assert store.previous(this) == before
    assert store.previous(before) is None


def test_all_events_are_read_whatever_rows_the_server_returns_by_default(
    mariadb: Server, mariadb_database: ServerDatabase, tmp_path: Path
) -> None:
    address = StoreAddress.of(EventsConfig(), connection_of(mariadb_database), tmp_path)
    make_tables(address)
    identity = new_identity()
    mariadb.administration.execute("SET GLOBAL sql_select_limit = 2")
    try:
        with EventStore(address) as store:
            store.begin(identity)
            for number in range(1, 5):
                store.step_started(identity.dispatch_id, "collect", number)
            tries = [event.try_number for event in store.events(identity.dispatch_id) if event.step]
    finally:
        mariadb.administration.execute("SET GLOBAL sql_select_limit = DEFAULT")
    assert tries == [1, 2, 3, 4]
