"""Rows that break a model's contract: quarantined, counted, never lost and never doubled; real dispatches."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import skops.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from mlops_plugin.errors import (
    ContractError,
    FeatureError,
    MlopsError,
    ThresholdError,
)
from mlops_plugin.events.details.step_reports import InferReport, ReasonCount
from support.random_examples import examples
from support.rejected_rows import RANGE, counts, ids, quarantined, tables
from support.workshop import Workshop


def test_rows_that_break_the_contract_are_quarantined_and_the_others_predicted(workshop: Workshop) -> None:
    workshop.in_source(
        "UPDATE customers SET a = 1e9 WHERE id = 2", "UPDATE customers SET a = NULL WHERE id = 4"
    )
    workshop.add_model("churn", input=RANGE, error_threshold=2)
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    assert ids(workshop) == [1, 3, 5]
    assert quarantined(workshop) == [(2, "a", "above 100", "1000000000.0"), (4, "a", "missing", None)]
    assert quarantined(workshop, "dispatch_id, model, key_text, released_by") == [
        (dispatch.id, "churn", "2", None),
        (dispatch.id, "churn", "4", None),
    ]
    assert counts(workshop, dispatch) == (5, 3, 2, 3)
    (report,) = [e.details for e in workshop.events(dispatch.id) if isinstance(e.details, InferReport)]
    assert report.reasons == (ReasonCount("a", "missing", 1), ReasonCount("a", "above 100", 1))


def test_several_violations_of_a_row_are_several_records_of_one_rejected_row(workshop: Workshop) -> None:
    workshop.in_source("UPDATE customers SET a = 200, b = NULL, c = -1e6 WHERE id = 3")
    rule = {"nullable": False, "min": -100, "max": 100}
    workshop.add_model("churn", input={"columns": dict.fromkeys("abc", rule)}, error_threshold=1)
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    assert quarantined(workshop) == [
        (3, "a", "above 100", "200.0"),
        (3, "b", "missing", None),
        (3, "c", "below -100", "-1000000.0"),
    ]
    assert counts(workshop, dispatch) == (5, 4, 1, 4)


def test_one_rejected_row_more_than_allowed_leaves_nothing_in_the_sink_and_all_in_quarantine(
    workshop: Workshop,
) -> None:
    workshop.in_source("UPDATE customers SET a = 1e9 WHERE id IN (2, 3)")
    workshop.add_model("churn", input=RANGE, error_threshold=1)
    dispatch = workshop.dispatch()
    with pytest.raises(ThresholdError) as raised:
        workshop.run(dispatch)
    message = str(raised.value)
    for part in (
        "2 of 5 rows",
        "error_threshold: 1",
        "'a' above 100 (2)",
        "churn_predictions_quarantine",
        "'sink'",
    ):
        assert part in message
    assert "churn_predictions" not in tables(workshop)
    assert [row[0] for row in quarantined(workshop)] == [2, 3]
    record = workshop.record(dispatch.id)
    assert record.state == "failed"
    assert (record.rows_rejected, record.rows_persisted) == (2, None)


@pytest.mark.parametrize(("threshold", "is_within"), [("40%", True), ("39.9%", False), (2, True), (0, False)])
def test_a_threshold_is_rows_or_a_share_of_those_collected(
    workshop: Workshop, threshold: Any, is_within: bool
) -> None:
    workshop.in_source("UPDATE customers SET a = 1e9 WHERE id IN (2, 3)")
    workshop.add_model("churn", input=RANGE, error_threshold=threshold)
    with contextlib.nullcontext() if is_within else pytest.raises(ThresholdError):
        workshop.run(workshop.dispatch())
    assert ("churn_predictions" in tables(workshop)) is is_within


def test_without_a_contract_a_null_fails_the_dispatch_as_ever(workshop: Workshop) -> None:
    workshop.in_source("UPDATE customers SET b = NULL WHERE id = 2")
    with pytest.raises(FeatureError, match="NULL"):
        workshop.run(workshop.dispatch())
    assert tables(workshop) == set()


def test_with_a_contract_rows_that_the_model_itself_refuses_are_quarantined(workshop: Workshop) -> None:
    workshop.in_source(
        "UPDATE customers SET b = NULL WHERE id = 2",
        "UPDATE customers SET c = 9e999 WHERE id = 3",
        "UPDATE customers SET b = NULL, c = NULL WHERE id = 4",
    )
    workshop.add_model("churn", input={"columns": {"a": {"type": "number"}}}, error_threshold=3)
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    assert ids(workshop) == [1, 5]
    assert quarantined(workshop) == [
        (2, "b", "the model refuses a missing value", None),
        (3, "c", "the model refuses an infinite number", "inf"),
        (4, "b", "the model refuses a missing value", None),
        (4, "c", "the model refuses a missing value", None),
    ]
    assert counts(workshop, dispatch) == (5, 2, 3, 2)


def test_an_unknown_category_is_quarantined_with_what_the_model_says(workshop: Workshop) -> None:
    rows = pd.DataFrame({"colour": ["red", "green"] * 10, "size": range(20)})
    encoder = make_column_transformer((OneHotEncoder(), ["colour"]), remainder="passthrough")
    skops.io.dump(
        make_pipeline(encoder, LogisticRegression()).fit(rows, [0, 1] * 10), workshop.folder / "c.skops"
    )
    workshop.in_source("CREATE TABLE cars (id INTEGER PRIMARY KEY, colour TEXT, size INTEGER)")
    for number, colour in enumerate(["red", "blue", "green", "mauve", "red", "blue"], 1):
        workshop.in_source(f"INSERT INTO cars VALUES ({number}, '{colour}', {number})")
    workshop.add_model(
        "churn",
        model={"format": "skops", "uri": "c.skops"},
        source={"query": "SELECT * FROM cars"},
        input={"columns": {"size": {"min": 0}}},
        error_threshold="50%",
    )
    workshop.run(workshop.dispatch())
    assert ids(workshop) == [1, 3, 5]
    found = quarantined(workshop)
    assert [row[0] for row in found] == [2, 4, 6]
    assert "unknown categories ['blue']" in found[0][2]


def test_text_that_says_a_number_is_converted_and_other_text_quarantined(workshop: Workshop) -> None:
    plain = workshop.dispatch()
    workshop.run(plain)
    expected = {row["id"]: row["prediction"] for row in workshop.predictions()}
    query = "SELECT id, CASE id WHEN 3 THEN 'n/a' ELSE CAST(a AS TEXT) END AS a, b, c FROM customers"
    workshop.add_model(
        "churn",
        input={"columns": {"a": {"type": "number"}}},
        source={"query": query},
        sink={"mode": "replace"},
        error_threshold=1,
    )
    workshop.run(workshop.dispatch())
    assert {row["id"]: row["prediction"] for row in workshop.predictions()} == {
        key: label for key, label in expected.items() if key != 3
    }
    assert quarantined(workshop) == [(3, "a", "not a number", "n/a")]


def test_imputed_values_are_predicted_and_counted(workshop: Workshop) -> None:
    workshop.in_source("UPDATE customers SET a = NULL, b = 5000 WHERE id = 2")
    columns = {
        "a": {"nullable": False, "on_violation": "impute", "impute": 0},
        "b": {"max": 100, "on_violation": "impute", "impute": 1.5},
    }
    workshop.add_model("churn", input={"columns": columns})
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    ((c,),) = workshop.in_source("SELECT c FROM customers WHERE id = 2")
    expected = workshop.classifier.predict_proba(workshop.frame([[0, 1.5, c]]))[0]
    (row,) = [row for row in workshop.predictions() if row["id"] == 2]
    assert (row["probability_leaves"], row["probability_stays"]) == pytest.approx(tuple(expected), abs=1e-12)
    (report,) = [e.details for e in workshop.events(dispatch.id) if isinstance(e.details, InferReport)]
    assert report.imputed == {"a": 1, "b": 1}


def test_a_column_that_may_fail_the_dispatch_does_and_stores_nothing(workshop: Workshop) -> None:
    workshop.in_source("UPDATE customers SET a = 1e9 WHERE id = 2")
    rule = {"max": 100, "on_violation": "fail"}
    workshop.add_model("churn", input={"columns": {"a": rule}}, error_threshold="100%")
    with pytest.raises(ContractError, match=r"columns\.a: .*\b100 .*\b1 of 5 rows.* 1000000000\.0"):
        workshop.run(workshop.dispatch())
    assert tables(workshop) == set()


def test_a_contract_about_a_missing_column_fails_at_collect(workshop: Workshop) -> None:
    workshop.add_model("churn", input={"columns": {"aa": {"min": 0}}})
    with pytest.raises(ContractError, match=r"'aa'.*'a'"):
        workshop.run_steps(workshop.dispatch(), "collect")


def test_a_dry_run_judges_and_stores_no_record(workshop: Workshop) -> None:
    workshop.in_source("UPDATE customers SET a = NULL WHERE id = 2")
    workshop.add_model("churn", input=RANGE)
    with pytest.raises(ThresholdError, match=r"\b1 of 5\b"):
        workshop.run(workshop.dispatch(is_dry_run=True))
    assert tables(workshop) == set()


_cells = st.sampled_from(["0.5", "-1", "NULL", "1e9", "9e999"])


_rows = st.lists(st.tuples(_cells, _cells, _cells), max_size=12)


@settings(
    max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=_rows, threshold=st.sampled_from([0, 1, 3, "25%", "100%"]), batch_rows=st.integers(1, 5))
def test_whatever_the_rows_each_is_in_the_sink_or_in_quarantine_and_the_accounts_close(
    workshop: Workshop, rows: list[tuple[str, str, str]], threshold: int | str, batch_rows: int
) -> None:
    (workshop.folder / "sink.db").unlink(missing_ok=True)
    workshop.in_source("DELETE FROM customers")
    for number, cells in enumerate(rows, 1):
        workshop.in_source(f"INSERT INTO customers VALUES ({number}, {', '.join(cells)})")
    workshop.add_model("churn", input=RANGE, error_threshold=threshold, source={"batch_rows": batch_rows})
    bad = {
        number for number, cells in enumerate(rows, 1) if cells[0] == "1e9" or {"NULL", "9e999"} & set(cells)
    }
    allowed = threshold if isinstance(threshold, int) else len(rows) * int(threshold[:-1]) // 100
    dispatch = workshop.dispatch()
    failure: MlopsError | None = None
    try:
        workshop.run(dispatch)
    except ThresholdError as error:
        failure = error
    good = set(range(1, len(rows) + 1)) - bad
    found = tables(workshop)
    in_table = set(ids(workshop)) if "churn_predictions" in found else set()
    assert (
        {row[0] for row in quarantined(workshop)} == bad
        if bad
        else "churn_predictions_quarantine" not in found
    )
    assert (failure is not None) == (len(bad) > allowed)
    assert in_table == (set() if failure else good)
    if failure is None:
        assert counts(workshop, dispatch) == (len(rows), len(good), len(bad), len(good))


def test_a_baseline_of_another_artifact_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    workshop.add_model("churn", input={"baseline": True})
    with pytest.raises(ContractError, match=r"churn\.skops\.baseline\.json'.*mlops baseline"):
        workshop.run(workshop.dispatch())


def test_each_partition_rejects_alone_and_the_dispatch_adds_up(workshop: Workshop) -> None:
    workshop.add_rows(20)
    workshop.in_source(
        "UPDATE customers SET a = NULL WHERE id % 5 = 0",
        "UPDATE customers SET b = 900 WHERE id = 7",
    )
    rules = {"a": {"nullable": False}, "b": {"max": 100}}
    workshop.add_model(
        "churn",
        input={"columns": rules},
        error_threshold=6,
        source={"partitions": {"column": "id", "count": 3}},
    )
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    assert counts(workshop, dispatch) == (25, 19, 6, 19)
    assert sorted(quarantined(workshop, "id, reason")) == [
        (5, "missing"),
        (7, "above 100"),
        (10, "missing"),
        (15, "missing"),
        (20, "missing"),
        (25, "missing"),
    ]
    assert sorted(quarantined(workshop, "record_number")) == [(number,) for number in range(1, 7)]
    assert sorted(ids(workshop)) == [number for number in range(1, 26) if number % 5 and number != 7]
