"""What a dispatch asks about the mark that it starts from, and what it says if it finds no new rows."""

from __future__ import annotations

from typing import Any

import pytest

from mlops_plugin.events.marks import newest_mark, set_mark
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.reading.mark_scope import read_up_to
from support.workshop import Workshop

QUERY = "SELECT id, a, b, c FROM customers ORDER BY id"
WARNING = "mlops cursor churn --set VALUE"


def incremental(workshop: Workshop, **cursor: Any) -> None:
    workshop.add_model("churn", source={"query": QUERY, "cursor": {"column": "id", **cursor}})


def run_new(workshop: Workshop) -> Dispatch:
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log", "infer", "persist")
    return dispatch


def test_what_a_cleared_run_reads_again_is_not_what_its_mark_is_about(workshop: Workshop) -> None:
    incremental(workshop)
    dispatch = run_new(workshop)
    workshop.in_source("DELETE FROM customers WHERE id > 3")
    workshop.run(dispatch)
    with workshop.deployment.event_store() as store:
        mark = newest_mark(store, "churn")
        read = read_up_to(store, mark)
    assert mark is not None
    assert read is not None
    assert (mark.value, read.greatest) == ("5", "5")


@pytest.mark.parametrize("is_set", [False, True])
def test_rows_before_a_start_that_no_dispatch_has_reached_are_no_surprise(
    workshop: Workshop, caplog: pytest.LogCaptureFixture, is_set: bool
) -> None:
    incremental(workshop, **({} if is_set else {"initial": 9}))
    if is_set:
        with workshop.deployment.event_store() as store:
            set_mark(store, "churn", "id", "9", "integer", "ann")
    run_new(workshop)
    assert WARNING not in caplog.text
    with workshop.deployment.event_store() as store:
        set_mark(store, "churn", "id", "1", "integer", "ann")
    run_new(workshop)
    workshop.in_source("DELETE FROM customers WHERE id > 3")
    run_new(workshop)
    assert WARNING in caplog.text


def test_older_rows_that_the_query_fails_on_fail_no_dispatch(
    workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    workshop.in_source(
        "CREATE TABLE arrivals (id INTEGER, a REAL, b REAL, c REAL, balance INTEGER)",
        "INSERT INTO arrivals SELECT id, a, b, c, 0 FROM customers",
    )
    # SQLite evaluates the subquery only for rows that the cursor's condition has left.
    query = "SELECT id, a, b, c FROM arrivals WHERE (SELECT abs(balance)) < 9 ORDER BY id"
    workshop.add_model("churn", source={"query": query, "cursor": {"column": "id"}})
    run_new(workshop)
    workshop.in_source(
        "DELETE FROM arrivals WHERE id > 3", "UPDATE arrivals SET balance = -9223372036854775808"
    )
    dispatch = run_new(workshop)
    assert workshop.record(dispatch.id).rows_collected == 0
    assert "whether the query has older ones is not known" in caplog.text
    assert "integer overflow" in caplog.text
    assert WARNING not in caplog.text
