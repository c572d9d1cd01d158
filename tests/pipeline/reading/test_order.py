"""The order of dispatches is that of the snapshots that they read, or of the intervals that they are for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mlops_plugin.databases.database import Database
from mlops_plugin.databases.sink.write_request import Order
from mlops_plugin.errors import DispatchesOverlap
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.reading.order import interval_end, uses_interval
from mlops_plugin.pipeline.runner import run_step
from mlops_plugin.pipeline.staging.notes import read_note
from mlops_plugin.pipeline.staging.records import Collected, Planned
from support.workshop import Workshop

END = datetime(2026, 1, 3, tzinfo=UTC)
INTERVAL = (datetime(2026, 1, 2, tzinfo=UTC), END)


@dataclass(frozen=True)
class Interrupted(Deployment):
    """A deployment in which something happens each time before the source is opened."""

    happens: Callable[[], None] = field(default=lambda: None)

    def database(self, conn_id: str, **settings: Any) -> Database:
        if conn_id == "source":
            self.happens()
        return super().database(conn_id, **settings)


def order_of(workshop: Workshop, dispatch: Dispatch) -> Order:
    shelf = workshop.deployment.staging.shelf(dispatch.model.name, dispatch.id)
    return read_note(Collected, shelf).order or Order(0)


def collect(workshop: Workshop, dispatch: Dispatch, happens: Callable[[], None]) -> None:
    deployment = Interrupted(**vars(workshop.deployment), happens=happens)
    run_step("collect", dispatch, deployment, query=lambda: dispatch.model.source.query)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM t WHERE day >= '{{ data_interval_start }}'",
        "SELECT * FROM t WHERE day = '{{ ds }}'",
        "SELECT * FROM t WHERE day = '{{ macros.ds_add(ds, -1) }}'",
        "SELECT * FROM t_{{ts_nodash}}",
        "{% if logical_date.day == 1 %}SELECT 1{% else %}SELECT 2{% endif %}",
        "SELECT * FROM t WHERE at < '{{ dag_run.data_interval_end }}'",
        "SELECT * FROM t WHERE at < '{{ dag_run.run_after\n}}'",
        "SELECT * FROM t WHERE at > '{{ prev_data_interval_end_success }}'",
        "SELECT * FROM t WHERE day = '{{ params.get('day', ds) }}'",
        "SELECT * FROM t WHERE day = '{{ params['day'] or ds }}'",
    ],
)
def test_query_that_names_a_date_of_its_run_uses_the_interval(query: str) -> None:
    assert uses_interval(query)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id, ds FROM t WHERE ds > 3",
        "SELECT * FROM {{ params.table }} WHERE ts < now()",
        "SELECT 1 {# not by ds #}",
        "SELECT * FROM t LIMIT {{ params.row_limit or 10 }}",
        "SELECT * FROM {{ var.value.adds }}",
        "SELECT * FROM t WHERE day = '{{ params.ds }}'",
        "SELECT * FROM t WHERE day = '{{ dag_run.conf['ts'] }}' OR day = '{{ var.json.run.logical_date }}'",
        "SELECT * FROM t WHERE day = '{{ params.get(\"ds\", 3) }}'",
    ],
)
def test_query_that_reads_whatever_is_there_does_not(query: str) -> None:
    assert not uses_interval(query)


def test_interval_counts_only_if_it_chooses_the_rows(workshop: Workshop) -> None:
    assert interval_end(workshop.dispatch(data_interval=INTERVAL)) is None
    daily = {"query": "SELECT id, a, b, c FROM customers WHERE '{{ ds }}' > ''"}
    workshop.add_model("daily", source=daily)
    assert interval_end(workshop.dispatch("daily", data_interval=INTERVAL)) == END
    assert interval_end(workshop.dispatch("daily", data_interval=None)) is None


def test_run_by_hand_for_its_date_is_newer_than_that_of_the_day_before(workshop: Workshop) -> None:
    """Both have the same data interval: the last complete one."""
    daily = {"query": "SELECT id, a, b, c FROM customers WHERE '{{ ds }}' > ''"}
    workshop.add_model("daily", source=daily)
    by_hand = workshop.dispatch("daily", data_interval=INTERVAL, logical_date=END + timedelta(hours=15))
    workshop.run(by_hand)
    cleared = workshop.dispatch("daily", data_interval=INTERVAL, logical_date=INTERVAL[0])
    workshop.run(cleared)
    assert (workshop.record(cleared.id).rows_persisted, workshop.record(cleared.id).rows_superseded) == (0, 5)
    assert {row["dispatch_id"] for row in workshop.predictions("daily_predictions")} == {by_hand.id}
    workshop.add_model("daily", source={"query": f"{daily['query']} AND '{{{{ data_interval_end }}}}' > ''"})
    both = replace(by_hand, model=workshop.model("daily"))
    assert interval_end(both) == END


def test_of_two_runs_by_hand_for_one_day_the_later_reader_is_newer(workshop: Workshop) -> None:
    workshop.add_model("daily", source={"query": "SELECT id, a, b, c FROM customers WHERE '{{ ds }}' > ''"})
    first, second = (
        workshop.dispatch("daily", data_interval=INTERVAL, logical_date=END + timedelta(hours=hours))
        for hours in (10, 11)
    )
    workshop.run(second)
    workshop.run(first)  # it was cleared: both have the same date in the query
    assert {row["dispatch_id"] for row in workshop.predictions("daily_predictions")} == {first.id}


@pytest.mark.parametrize(
    ("template", "hours"), [("ds", 24), ("yesterday_ds", 24), ("ts", 15), ("logical_date | ds", 15)]
)
def test_a_query_with_a_day_counts_as_of_its_end_and_one_with_a_moment_as_of_that(
    workshop: Workshop, template: str, hours: int
) -> None:
    query = f"SELECT id, a, b, c FROM customers WHERE '{{{{ {template} }}}}' > ''"
    workshop.add_model("daily", source={"query": query})
    dispatch = workshop.dispatch("daily", data_interval=INTERVAL, logical_date=END + timedelta(hours=15))
    assert interval_end(dispatch) == END + timedelta(hours=hours)


def test_backfill_by_cursor_is_of_its_interval_and_a_usual_run_is_not(workshop: Workshop) -> None:
    workshop.add_model("new", source={"cursor": {"column": "id"}})
    backfill = workshop.dispatch("new", data_interval=INTERVAL, reads_own_interval=True)
    assert interval_end(backfill) == END
    assert interval_end(workshop.dispatch("new", data_interval=INTERVAL)) is None
    # Over the quarantine the cursor is not used.
    quarantined = replace(backfill, is_quarantined=True)
    assert interval_end(quarantined) is None
    # Without a cursor a backfill reads everything that the query returns.
    assert interval_end(workshop.dispatch(data_interval=INTERVAL, reads_own_interval=True)) is None


def test_dispatch_that_another_has_overtaken_reads_again(workshop: Workshop) -> None:
    slow, fast = workshop.dispatch(), workshop.dispatch()
    opened = []

    def overtake() -> None:
        opened.append(1)
        if len(opened) == 1:  # the number is taken, nothing is read yet
            workshop.run_steps(fast, "collect")
            workshop.in_source("UPDATE customers SET a = 7")

    collect(workshop, slow, overtake)
    assert len(opened) == 2
    assert order_of(workshop, slow).number > order_of(workshop, fast).number


def test_dispatch_that_others_overtake_each_time_fails(workshop: Workshop) -> None:
    with pytest.raises(DispatchesOverlap):
        collect(workshop, workshop.dispatch(), lambda: workshop.run_steps(workshop.dispatch(), "collect"))


def test_dispatch_of_another_interval_does_not_overtake(workshop: Workshop) -> None:
    workshop.add_model("daily", source={"query": "SELECT id, a, b, c FROM customers WHERE '{{ ds }}' > ''"})
    dispatch = workshop.dispatch("daily", data_interval=INTERVAL)
    opened = []

    def overtake() -> None:
        opened.append(1)
        workshop.run_steps(workshop.dispatch("daily"), "collect")

    collect(workshop, dispatch, overtake)
    assert len(opened) == 1
    assert order_of(workshop, dispatch).interval_end == END


def test_dry_run_takes_no_place(workshop: Workshop) -> None:
    dispatch = workshop.dispatch(is_dry_run=True)
    workshop.run_steps(dispatch, "collect")
    assert order_of(workshop, dispatch) == Order(0)


def test_partitions_share_the_order_that_their_plan_took(workshop: Workshop) -> None:
    workshop.add_model("parts", source={"partitions": {"column": "id", "count": 2}})
    dispatch = workshop.dispatch("parts")
    workshop.run(dispatch)
    shelf = workshop.deployment.staging.shelf("parts", dispatch.id)
    order = read_note(Planned, shelf).order
    assert order is not None
    for number in range(2):
        assert read_note(Collected, shelf.of_partition(number)).order == order
    assert workshop.in_sink("SELECT number FROM mlops_dispatches") == [(order.number,)]
