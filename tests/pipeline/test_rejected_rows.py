"""Rows that break a model's contract: quarantined, counted, never lost and never doubled; real dispatches."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from mlops_plugin.errors import (
    ConnectionUnusable,
    ContractError,
    FeatureError,
    MlopsError,
    SinkError,
    StagingError,
    ThresholdError,
)
from mlops_plugin.pipeline.dispatch import Dispatch
from workshop import Workshop

RANGE = {"columns": {"a": {"type": "number", "nullable": False, "min": -100, "max": 100}}}


def in_source(workshop: Workshop, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(workshop.folder / "source.db")) as source, source:
        for statement in statements:
            source.execute(statement)


def in_sink(workshop: Workshop, query: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(workshop.folder / "sink.db")) as sink:
        return sink.execute(query).fetchall()


def quarantined(workshop: Workshop, columns: str = "id, column_name, reason, value") -> list[tuple[Any, ...]]:
    return in_sink(
        workshop, f"SELECT {columns} FROM churn_predictions_quarantine ORDER BY quarantined_at, record_number"
    )


def tables(workshop: Workshop) -> set[str]:
    return {name for (name,) in in_sink(workshop, "SELECT name FROM sqlite_master WHERE type = 'table'")}


def ids(workshop: Workshop) -> list[int]:
    return [row["id"] for row in workshop.predictions()]


def counts(workshop: Workshop, dispatch: Dispatch) -> tuple[int | None, ...]:
    record = workshop.record(dispatch.id)
    return record.rows_collected, record.rows_predicted, record.rows_rejected, record.rows_persisted


def again(workshop: Workshop, dispatch: Dispatch, **changes: Any) -> Dispatch:
    """The same dispatch, cleared, with the configuration as it is now."""
    return Dispatch(**{**vars(dispatch), "model": workshop.model(), **changes})


def test_rows_that_break_the_contract_are_quarantined_and_the_others_predicted(workshop: Workshop) -> None:
    in_source(
        workshop, "UPDATE customers SET a = 1e9 WHERE id = 2", "UPDATE customers SET a = NULL WHERE id = 4"
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
    (infer,) = [e for e in workshop.events(dispatch.id) if e.step == "infer" and e.kind == "succeeded"]
    assert infer.details is not None
    assert infer.details["reasons"] == [
        {"column": "a", "reason": "missing", "rows": 1},
        {"column": "a", "reason": "above 100", "rows": 1},
    ]


def test_several_violations_of_a_row_are_several_records_of_one_rejected_row(workshop: Workshop) -> None:
    in_source(workshop, "UPDATE customers SET a = 200, b = NULL, c = -1e6 WHERE id = 3")
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
    in_source(workshop, "UPDATE customers SET a = 1e9 WHERE id IN (2, 3)")
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
    in_source(workshop, "UPDATE customers SET a = 1e9 WHERE id IN (2, 3)")
    workshop.add_model("churn", input=RANGE, error_threshold=threshold)
    with contextlib.nullcontext() if is_within else pytest.raises(ThresholdError):
        workshop.run(workshop.dispatch())
    assert ("churn_predictions" in tables(workshop)) is is_within


def test_a_raised_threshold_lets_the_same_dispatch_end_without_inferring_again(workshop: Workshop) -> None:
    in_source(workshop, "UPDATE customers SET a = 1e9 WHERE id = 2")
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
    with pytest.raises(StagingError, match="input, output, partitions or sink changed"):
        workshop.run_steps(again(workshop, dispatch), "infer")


@pytest.mark.parametrize("mode", ["append", "upsert", "replace"])
def test_every_step_twice_quarantines_and_persists_once(workshop: Workshop, mode: str) -> None:
    in_source(workshop, "UPDATE customers SET a = NULL WHERE id = 2")
    workshop.add_model("churn", input=RANGE, error_threshold=1, sink={"mode": mode})
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log", "infer", "infer", "collect", "log", "infer")
    workshop.run(dispatch)
    workshop.run(dispatch)
    assert ids(workshop) == [1, 3, 4, 5]
    assert quarantined(workshop, "id, record_number") == [(2, 1)]


def test_a_cleared_dispatch_takes_back_what_it_quarantined_before(workshop: Workshop) -> None:
    in_source(workshop, "UPDATE customers SET a = NULL WHERE id = 2")
    workshop.add_model("churn", input=RANGE, error_threshold=1)
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    in_source(workshop, "UPDATE customers SET a = 1 WHERE id = 2")
    workshop.run(dispatch)
    assert ids(workshop) == [1, 2, 3, 4, 5]
    assert quarantined(workshop) == []


def test_without_a_contract_a_null_fails_the_dispatch_as_ever(workshop: Workshop) -> None:
    in_source(workshop, "UPDATE customers SET b = NULL WHERE id = 2")
    with pytest.raises(FeatureError, match="refuses NULL"):
        workshop.run(workshop.dispatch())
    assert tables(workshop) == set()


def test_with_a_contract_rows_that_the_model_itself_refuses_are_quarantined(workshop: Workshop) -> None:
    in_source(
        workshop,
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
    in_source(workshop, "CREATE TABLE cars (id INTEGER PRIMARY KEY, colour TEXT, size INTEGER)")
    for number, colour in enumerate(["red", "blue", "green", "mauve", "red", "blue"], 1):
        in_source(workshop, f"INSERT INTO cars VALUES ({number}, '{colour}', {number})")
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
    in_source(workshop, "UPDATE customers SET a = NULL, b = 5000 WHERE id = 2")
    columns = {
        "a": {"nullable": False, "on_violation": "impute", "impute": 0},
        "b": {"max": 100, "on_violation": "impute", "impute": 1.5},
    }
    workshop.add_model("churn", input={"columns": columns})
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    (c,) = (row for (row,) in [in_source_row(workshop, "SELECT c FROM customers WHERE id = 2")])
    expected = workshop.classifier.predict_proba(workshop.frame([[0, 1.5, c]]))[0]
    (row,) = [row for row in workshop.predictions() if row["id"] == 2]
    assert (row["probability_leaves"], row["probability_stays"]) == pytest.approx(tuple(expected), abs=1e-12)
    (infer,) = [e for e in workshop.events(dispatch.id) if e.step == "infer" and e.kind == "succeeded"]
    assert infer.details is not None
    assert infer.details["imputed"] == {"a": 1, "b": 1}


def in_source_row(workshop: Workshop, query: str) -> tuple[Any, ...]:
    with contextlib.closing(sqlite3.connect(workshop.folder / "source.db")) as source:
        row: tuple[Any, ...] = source.execute(query).fetchone()
    return row


def test_a_column_that_may_fail_the_dispatch_does_and_stores_nothing(workshop: Workshop) -> None:
    in_source(workshop, "UPDATE customers SET a = 1e9 WHERE id = 2")
    rule = {"max": 100, "on_violation": "fail"}
    workshop.add_model("churn", input={"columns": {"a": rule}}, error_threshold="100%")
    with pytest.raises(ContractError, match=r"columns\.a: above 100 in 1 of 5 rows, first 1000000000\.0"):
        workshop.run(workshop.dispatch())
    assert tables(workshop) == set()


def test_a_contract_about_a_missing_column_fails_at_collect(workshop: Workshop) -> None:
    workshop.add_model("churn", input={"columns": {"aa": {"min": 0}}})
    with pytest.raises(ContractError, match=r"no column 'aa' \(did you mean 'a'\?\)"):
        workshop.run_steps(workshop.dispatch(), "collect")


def test_a_missing_quarantine_table_fails_before_the_sink_is_touched_and_a_retry_completes(
    workshop: Workshop,
) -> None:
    in_source(workshop, "UPDATE customers SET a = NULL WHERE id = 2")
    workshop.add_model("churn", input=RANGE, error_threshold=1, quarantine={"create": False})
    dispatch = workshop.dispatch()
    with pytest.raises(SinkError, match="no table churn_predictions_quarantine"):
        workshop.run(dispatch)
    assert tables(workshop) == set()
    workshop.add_model("churn", input=RANGE, error_threshold=1)
    workshop.run_steps(again(workshop, dispatch), "persist")
    assert ids(workshop) == [1, 3, 4, 5]
    assert [row[0] for row in quarantined(workshop)] == [2]


def test_a_dead_quarantine_fails_before_the_sink_is_touched_and_a_retry_completes(workshop: Workshop) -> None:
    in_source(workshop, "UPDATE customers SET a = NULL WHERE id = 2")
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
    in_source(workshop, "UPDATE customers SET a = NULL WHERE id = 2")
    place = {"connection": "source", "table": "bad_customers", "create": True}
    workshop.add_model("churn", input=RANGE, error_threshold=1, quarantine=place, sink={"create": False})
    dispatch = workshop.dispatch()
    with pytest.raises(SinkError):
        workshop.run(dispatch)
    assert in_source_row(workshop, "SELECT COUNT(*) FROM bad_customers") == (1,)
    workshop.add_model("churn", input=RANGE, error_threshold=1, quarantine=place)
    workshop.run_steps(again(workshop, dispatch), "persist")
    assert ids(workshop) == [1, 3, 4, 5]
    assert in_source_row(workshop, "SELECT COUNT(*) FROM bad_customers") == (1,)


def test_a_dry_run_judges_and_stores_no_record(workshop: Workshop) -> None:
    in_source(workshop, "UPDATE customers SET a = NULL WHERE id = 2")
    workshop.add_model("churn", input=RANGE)
    with pytest.raises(ThresholdError, match="a dry run stores none"):
        workshop.run(workshop.dispatch(is_dry_run=True))
    assert tables(workshop) == set()


class TestDispatchOverTheQuarantine:
    """`quarantined: true`."""

    def test_repaired_rows_are_predicted_and_released_others_stay(self, workshop: Workshop) -> None:
        in_source(workshop, "UPDATE customers SET a = NULL WHERE id IN (2, 4)")
        workshop.add_model("churn", input=RANGE, error_threshold="50%")
        first = workshop.dispatch()
        workshop.run(first)
        in_source(workshop, "UPDATE customers SET a = 0.5 WHERE id = 2")
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

    def test_its_query_says_that_it_was_narrowed(self, workshop: Workshop) -> None:
        workshop.add_model("churn", input=RANGE)
        dispatch = workshop.dispatch(is_quarantined=True)
        workshop.run(dispatch)
        assert counts(workshop, dispatch) == (0, 0, 0, 0)
        assert "only the rows of 0 quarantined keys" in (workshop.record(dispatch.id).query or "")

    @pytest.mark.parametrize("mode", ["append", "upsert"])
    def test_run_again_it_finds_its_own_rows_again(self, workshop: Workshop, mode: str) -> None:
        in_source(workshop, "UPDATE customers SET a = NULL WHERE id = 2")
        workshop.add_model("churn", input=RANGE, error_threshold=1, sink={"mode": mode})
        workshop.run(workshop.dispatch())
        in_source(workshop, "UPDATE customers SET a = 0.5 WHERE id = 2")
        dispatch = workshop.dispatch(is_quarantined=True)
        workshop.run(dispatch)
        workshop.run(dispatch)
        assert ids(workshop) == [1, 2, 3, 4, 5]
        assert quarantined(workshop, "id, released_by") == [(2, dispatch.id)]

    def test_mode_replace_refuses_it(self, workshop: Workshop) -> None:
        workshop.add_model("churn", input=RANGE, sink={"mode": "replace"})
        with pytest.raises(SinkError, match="the quarantined rows only would leave nothing else"):
            workshop.run(workshop.dispatch(is_quarantined=True))

    def test_keys_that_differ_in_case_or_hold_separators_are_told_apart(self, workshop: Workshop) -> None:
        in_source(
            workshop,
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
        in_source(workshop, "UPDATE parts SET a = 1")
        dispatch = workshop.dispatch(is_quarantined=True)
        workshop.run(dispatch)
        assert counts(workshop, dispatch) == (1, 1, 0, 1)
        assert quarantined(workshop, "plant, part, released_by") == [("x", "y/z", dispatch.id)]


class Odd(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Answers with its first feature, and with no number where that is 777 or 778."""

    feature_names_in_ = np.array(["a", "b", "c"])
    n_features_in_ = 3

    def predict(self, rows: Any) -> Any:
        values = np.asarray(rows)[:, 0]
        return np.select([values == 777, values == 778], [np.nan, -np.inf], values)


class OddClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Knows two classes and answers with a third one where its first feature is above 700."""

    feature_names_in_ = np.array(["a", "b", "c"])
    n_features_in_ = 3
    classes_ = np.array(["low", "high"])

    def predict(self, rows: Any) -> Any:
        values = np.asarray(rows)[:, 0]
        return np.select([values > 700, values > 0], ["third", "high"], "low")


class TestOutput:
    """What the model answers."""

    def odd(self, workshop: Workshop, model: Any, **changes: Any) -> None:
        file = workshop.folder / "odd.joblib"
        joblib.dump(model, file)
        in_source(
            workshop,
            "UPDATE customers SET a = 777 WHERE id = 2",
            "UPDATE customers SET a = 778 WHERE id = 3",
        )
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        artifact = {"format": "joblib", "uri": "odd.joblib", "sha256": sha256}
        workshop.add_model("churn", model=artifact, **changes)

    def test_an_answer_that_is_no_number_fails_the_dispatch(self, workshop: Workshop) -> None:
        self.odd(workshop, Odd())
        expected = r"'prediction' the model answers NaN \(1\), 'prediction' .* infinite number \(1\)"
        with pytest.raises(ContractError, match=expected):
            workshop.run(workshop.dispatch())
        assert tables(workshop) == set()

    def test_or_is_quarantined_where_the_configuration_says_so(self, workshop: Workshop) -> None:
        self.odd(workshop, Odd(), output={"on_violation": "reject"}, error_threshold=2)
        dispatch = workshop.dispatch()
        workshop.run(dispatch)
        assert ids(workshop) == [1, 4, 5]
        assert quarantined(workshop) == [
            (2, "prediction", "the model answers NaN", "nan"),
            (3, "prediction", "the model answers an infinite number", "-inf"),
        ]
        assert counts(workshop, dispatch) == (5, 3, 2, 3)

    def test_a_class_that_the_model_does_not_have_fails_the_dispatch(self, workshop: Workshop) -> None:
        self.odd(workshop, OddClassifier())
        with pytest.raises(ContractError, match=r"answers a class that it does not have \(2\)"):
            workshop.run(workshop.dispatch())

    def test_or_is_quarantined_with_the_class(self, workshop: Workshop) -> None:
        self.odd(workshop, OddClassifier(), output={"on_violation": "reject"}, error_threshold=2)
        workshop.run(workshop.dispatch())
        assert [(row[0], row[3]) for row in quarantined(workshop)] == [(2, "third"), (3, "third")]


_cells = st.sampled_from(["0.5", "-1", "NULL", "1e9", "9e999"])
_rows = st.lists(st.tuples(_cells, _cells, _cells), max_size=12)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=_rows, threshold=st.sampled_from([0, 1, 3, "25%", "100%"]), batch_rows=st.integers(1, 5))
def test_whatever_the_rows_each_is_in_the_sink_or_in_quarantine_and_the_accounts_close(
    workshop: Workshop, rows: list[tuple[str, str, str]], threshold: int | str, batch_rows: int
) -> None:
    (workshop.folder / "sink.db").unlink(missing_ok=True)
    in_source(workshop, "DELETE FROM customers")
    for number, cells in enumerate(rows, 1):
        in_source(workshop, f"INSERT INTO customers VALUES ({number}, {', '.join(cells)})")
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
    assert {row[0] for row in quarantined(workshop)} == bad if bad else len(found) <= 1
    assert (failure is not None) == (len(bad) > allowed)
    assert in_table == (set() if failure else good)
    if failure is None:
        assert counts(workshop, dispatch) == (len(rows), len(good), len(bad), len(good))


def test_a_baseline_of_another_artifact_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    workshop.add_model("churn", input={"baseline": True})
    with pytest.raises(ContractError, match=r"churn\.skops\.baseline\.json' does not exist; make it with"):
        workshop.run(workshop.dispatch())


def test_each_partition_rejects_alone_and_the_dispatch_adds_up(workshop: Workshop) -> None:
    workshop.add_rows(20)
    in_source(
        workshop,
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
