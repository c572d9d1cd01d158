"""`quarantined: true` in a real Airflow: rejected rows are dispatched again, and only they."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mlops_plugin.events.migrating import upgrade
from mlops_plugin.pipeline.dispatch import dispatch_id
from support.airflow_process import RunningAirflow, running_airflow
from support.servers import Server
from support.workshop import Workshop

pytestmark = [pytest.mark.airflow, pytest.mark.slow]


@pytest.fixture
def airflow(workshop: Workshop, postgres: Server) -> Iterator[RunningAirflow]:
    workshop.metadata = postgres.new_database()
    workshop.add_model(
        "churn",
        input={"columns": {"a": {"nullable": False, "max": 100}}},
        error_threshold="40%",
        retries=3,
    )
    with workshop.deployment.event_store() as store:
        upgrade(store.address)
    with running_airflow(workshop) as running:
        running.wait(lambda: "churn" in running.api.dag_ids(), "parsing")
        yield running


def quarantined(workshop: Workshop) -> list[tuple[Any, ...]]:
    return workshop.in_sink(
        "SELECT id, dispatch_id, released_by FROM churn_predictions_quarantine ORDER BY id"
    )


def test_a_run_over_the_quarantine_predicts_what_was_repaired_and_nothing_else(
    airflow: RunningAirflow,
) -> None:
    workshop = airflow.workshop
    workshop.in_source("UPDATE customers SET a = NULL WHERE id IN (2, 4)")
    first = airflow.trigger("churn")
    assert airflow.wait_for_run("churn", first) == "success", airflow.logs()
    rejecting = workshop.record(dispatch_id("churn", first))
    assert (rejecting.rows_collected, rejecting.rows_rejected, rejecting.rows_persisted) == (5, 2, 3)
    workshop.in_source("UPDATE customers SET a = 0.5")
    second = airflow.trigger("churn", conf={"quarantined": True})
    assert airflow.wait_for_run("churn", second) == "success", airflow.logs()
    releasing = workshop.record(dispatch_id("churn", second))
    assert (releasing.rows_collected, releasing.rows_rejected, releasing.rows_persisted) == (2, 0, 2)
    assert {row["id"]: row["dispatch_id"] for row in workshop.predictions()} == {
        **dict.fromkeys((1, 3, 5), rejecting.dispatch_id),
        **dict.fromkeys((2, 4), releasing.dispatch_id),
    }
    assert quarantined(workshop) == [
        (number, rejecting.dispatch_id, releasing.dispatch_id) for number in (2, 4)
    ]
    workshop.in_source("UPDATE customers SET a = NULL")
    third = airflow.trigger("churn")
    assert airflow.wait_for_run("churn", third) == "failed"
    failing = workshop.record(dispatch_id("churn", third))
    assert (failing.state, failing.rows_rejected) == ("failed", 5)
    assert "5 of 5 rows were rejected" in (failing.error or "")
    assert len(workshop.predictions()) == 5
    # A wait would not have made the rows better.
    assert airflow.task("churn", third, "persist")["try_number"] == 1
