"""`quarantined: true`: a dispatch of the rows that others have rejected."""

from __future__ import annotations

import pytest

from mlops_plugin.errors import (
    SinkError,
    ThresholdError,
)
from support.rejected_rows import RANGE, counts, ids, quarantined
from support.workshop import Workshop


def test_repaired_rows_are_predicted_and_released_others_stay(workshop: Workshop) -> None:
    workshop.in_source("UPDATE customers SET a = NULL WHERE id IN (2, 4)")
    workshop.add_model("churn", input=RANGE, error_threshold="50%")
    first = workshop.dispatch()
    workshop.run(first)
    workshop.in_source("UPDATE customers SET a = 0.5 WHERE id = 2")
    second = workshop.dispatch(is_quarantined=True)
    workshop.run(second)
    assert counts(workshop, second) == (2, 1, 1, 1)
    assert ids(workshop) == [1, 2, 3, 5]
    assert quarantined(workshop, "id, dispatch_id, released_by") == [
        (2, first.id, second.id),
        (4, first.id, None),
        (4, second.id, None),
    ]
    third = workshop.dispatch(is_quarantined=True)
    with pytest.raises(ThresholdError):
        workshop.run(third)
    assert workshop.record(third.id).rows_collected == 1


def test_its_query_says_that_it_was_narrowed(workshop: Workshop) -> None:
    workshop.add_model("churn", input=RANGE)
    dispatch = workshop.dispatch(is_quarantined=True)
    workshop.run(dispatch)
    assert counts(workshop, dispatch) == (0, 0, 0, 0)
    assert "only the rows of 0 quarantined keys" in (workshop.record(dispatch.id).query or "")


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_run_again_it_finds_its_own_rows_again(workshop: Workshop, mode: str) -> None:
    workshop.in_source("UPDATE customers SET a = NULL WHERE id = 2")
    workshop.add_model("churn", input=RANGE, error_threshold=1, sink={"mode": mode})
    workshop.run(workshop.dispatch())
    workshop.in_source("UPDATE customers SET a = 0.5 WHERE id = 2")
    dispatch = workshop.dispatch(is_quarantined=True)
    workshop.run(dispatch)
    workshop.run(dispatch)
    assert ids(workshop) == [1, 2, 3, 4, 5]
    assert quarantined(workshop, "id, released_by") == [(2, dispatch.id)]


def test_mode_replace_refuses_it(workshop: Workshop) -> None:
    workshop.add_model("churn", input=RANGE, sink={"mode": "replace"})
    with pytest.raises(SinkError, match="churn_predictions"):
        workshop.run(workshop.dispatch(is_quarantined=True))


def test_keys_that_differ_in_case_or_hold_separators_are_told_apart(workshop: Workshop) -> None:
    workshop.in_source(
        "CREATE TABLE parts (plant TEXT, part TEXT, a REAL, b REAL, c REAL)",
        "INSERT INTO parts VALUES ('x', 'y/z', NULL, 0, 0), ('x/y', 'z', 0, 0, 0), ('X', 'y/z', 0, 0, 0)",
    )
    workshop.add_model(
        "churn",
        key=["plant", "part"],
        source={"query": "SELECT * FROM parts"},
        input=RANGE,
        error_threshold=1,
    )
    workshop.run(workshop.dispatch())
    workshop.in_source("UPDATE parts SET a = 1")
    dispatch = workshop.dispatch(is_quarantined=True)
    workshop.run(dispatch)
    assert counts(workshop, dispatch) == (1, 1, 0, 1)
    assert quarantined(workshop, "plant, part, released_by") == [("x", "y/z", dispatch.id)]
