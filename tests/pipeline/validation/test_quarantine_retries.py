"""A dispatch with a quarantine that failed or was cleared, run again: nothing is lost or there twice."""

from __future__ import annotations

import pytest

from mlops_plugin.errors import (
    ConnectionUnusable,
    SinkError,
    StagingError,
    ThresholdError,
)
from support.rejected_rows import RANGE, again, counts, ids, quarantined, tables
from support.workshop import Workshop


def test_a_raised_threshold_lets_the_same_dispatch_end_without_inferring_again(workshop: Workshop) -> None:
    workshop.in_source("UPDATE customers SET a = 1e9 WHERE id = 2")
    workshop.add_model("churn", input=RANGE)
    dispatch = workshop.dispatch()
    with pytest.raises(ThresholdError):
        workshop.run(dispatch)
    workshop.add_model("churn", input=RANGE, error_threshold=1)
    workshop.run_steps(again(workshop, dispatch), "persist")
    assert ids(workshop) == [1, 3, 4, 5]
    assert [row[0] for row in quarantined(workshop)] == [2]
    assert workshop.record(dispatch.id).state == "succeeded"


def test_a_contract_changed_between_steps_is_refused(workshop: Workshop) -> None:
    workshop.add_model("churn", input=RANGE)
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log")
    workshop.add_model("churn", input={"columns": {"a": {"min": 0}}})
    with pytest.raises(StagingError, match="clear 'collect'"):
        workshop.run_steps(again(workshop, dispatch), "infer")


@pytest.mark.parametrize("mode", ["append", "upsert", "replace"])
def test_every_step_twice_quarantines_and_persists_once(workshop: Workshop, mode: str) -> None:
    workshop.in_source("UPDATE customers SET a = NULL WHERE id = 2")
    workshop.add_model("churn", input=RANGE, error_threshold=1, sink={"mode": mode})
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log", "infer", "infer", "collect", "log", "infer")
    workshop.run(dispatch)
    workshop.run(dispatch)
    assert ids(workshop) == [1, 3, 4, 5]
    assert quarantined(workshop, "id, record_number") == [(2, 1)]


def test_a_cleared_dispatch_takes_back_what_it_quarantined_before(workshop: Workshop) -> None:
    workshop.in_source("UPDATE customers SET a = NULL WHERE id = 2")
    workshop.add_model("churn", input=RANGE, error_threshold=1)
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    workshop.in_source("UPDATE customers SET a = 1 WHERE id = 2")
    workshop.run(dispatch)
    assert ids(workshop) == [1, 2, 3, 4, 5]
    assert quarantined(workshop) == []


def test_a_missing_quarantine_table_fails_before_the_sink_is_touched_and_a_retry_completes(
    workshop: Workshop,
) -> None:
    workshop.in_source("UPDATE customers SET a = NULL WHERE id = 2")
    workshop.add_model("churn", input=RANGE, error_threshold=1, quarantine={"create": False})
    dispatch = workshop.dispatch()
    with pytest.raises(SinkError, match="churn_predictions_quarantine"):
        workshop.run(dispatch)
    assert tables(workshop) == set()
    workshop.add_model("churn", input=RANGE, error_threshold=1)
    workshop.run_steps(again(workshop, dispatch), "persist")
    assert ids(workshop) == [1, 3, 4, 5]
    assert [row[0] for row in quarantined(workshop)] == [2]


def test_a_dead_quarantine_fails_before_the_sink_is_touched_and_a_retry_completes(workshop: Workshop) -> None:
    workshop.in_source("UPDATE customers SET a = NULL WHERE id = 2")
    workshop.add_model("churn", input=RANGE, error_threshold=1, quarantine={"connection": "nowhere"})
    dispatch = workshop.dispatch()
    with pytest.raises(ConnectionUnusable, match="nowhere"):
        workshop.run(dispatch)
    assert tables(workshop) == set()
    workshop.add_model("churn", input=RANGE, error_threshold=1)
    workshop.run_steps(again(workshop, dispatch), "persist")
    assert ids(workshop) == [1, 3, 4, 5]
    assert counts(workshop, dispatch) == (5, 4, 1, 4)


def test_a_dead_sink_keeps_the_quarantine_and_a_retry_doubles_nothing(workshop: Workshop) -> None:
    workshop.in_source("UPDATE customers SET a = NULL WHERE id = 2")
    place = {"connection": "source", "table": "bad_customers", "create": True}
    workshop.add_model("churn", input=RANGE, error_threshold=1, quarantine=place, sink={"create": False})
    dispatch = workshop.dispatch()
    with pytest.raises(SinkError):
        workshop.run(dispatch)
    assert workshop.in_source("SELECT COUNT(*) FROM bad_customers") == [(1,)]
    workshop.add_model("churn", input=RANGE, error_threshold=1, quarantine=place)
    workshop.run_steps(again(workshop, dispatch), "persist")
    assert ids(workshop) == [1, 3, 4, 5]
    assert workshop.in_source("SELECT COUNT(*) FROM bad_customers") == [(1,)]
