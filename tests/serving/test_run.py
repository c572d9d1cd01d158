"""A Showroom run: the same steps as a DAG run, on chosen cases, on record whatever happens."""

from __future__ import annotations

import sqlite3
from typing import Any

import pyarrow as pa
import pytest

from mlops_plugin.errors import CaseError, DatabaseError, FeatureError, MlopsError
from mlops_plugin.events.details.step_reports import CollectReport
from mlops_plugin.events.records import DispatchRecord, summarise
from mlops_plugin.pipeline.validation.baseline import make_baseline
from mlops_plugin.serving.references import Usual, usual_of_baseline, usual_values
from mlops_plugin.serving.run import Shown, Showroom, StepNews, as_json
from mlops_plugin.serving.wanted import Wanted
from support.workshop import Workshop


def _run(showroom: Showroom, workshop: Workshop, wanted: Wanted) -> Shown:
    return showroom.run(workshop.model(), wanted, "ada")


def reports(workshop: Workshop, shown: Shown) -> list[CollectReport]:
    details = [event.details for event in workshop.events(shown.dispatch_id)]
    return [report for report in details if isinstance(report, CollectReport)]


def test_a_run_predicts_what_a_dag_run_predicts(showroom: Showroom, workshop: Workshop) -> None:
    shown = _run(showroom, workshop, Wanted(keys=[(2,), ("4",)]))
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    names = shown.predictions.column_names
    persisted = [{name: row[name] for name in names} for row in workshop.predictions()]
    assert shown.predictions.to_pylist() == [row for row in persisted if row["id"] in (2, 4)]


def test_two_hundred_cases_get_their_own_answers_and_no_more_are_taken(
    showroom: Showroom, workshop: Workshop
) -> None:
    workshop.add_rows(400)
    workshop.add_model("churn", input={"columns": {"id": {"max": 350}}})
    wanted = list(range(400, 0, -2))
    shown = _run(showroom, workshop, Wanted(keys=[(str(key),) for key in wanted]))
    rows = shown.rows.to_pylist()
    assert [row["id"] for row in rows] == sorted(wanted)
    expected = workshop.classifier.predict_proba(workshop.frame([[r["a"], r["b"], r["c"]] for r in rows]))
    for row, answer, chances in zip(rows, shown.answers, expected, strict=True):
        if row["id"] > 350:
            assert answer is None
        else:
            assert answer is not None
            assert answer["id"] == row["id"]
            assert answer["probability_stays"] == pytest.approx(chances[1])
    with pytest.raises(CaseError, match="at most 200"):
        _run(showroom, workshop, Wanted(keys=[(key,) for key in range(201)]))


def test_a_run_leaves_a_dispatch_with_who_what_and_how_long(showroom: Showroom, workshop: Workshop) -> None:
    shown = _run(showroom, workshop, Wanted(keys=[(2,), (3,)]))
    record = workshop.record(shown.dispatch_id)
    assert (record.origin, record.requested_by, record.state, record.dry_run) == (
        "showroom",
        "ada",
        "succeeded",
        True,
    )
    assert (record.rows_collected, record.rows_predicted, record.rows_persisted) == (2, 2, 0)
    assert record.artifact_sha256 == shown.artifact_sha256
    assert record.config_sha256 == workshop.model().config_hash()
    events = workshop.events(shown.dispatch_id)
    ended = {event.step: event for event in events if event.step and event.kind == "succeeded"}
    assert list(ended) == ["collect", "log", "infer", "persist"]
    assert all(event.seconds is not None and event.seconds >= 0 for event in ended.values())
    assert ended["collect"].details == CollectReport(2, keys=(("2",), ("3",)))


def test_what_is_recorded_together_is_what_the_events_add_up_to(
    showroom: Showroom, workshop: Workshop
) -> None:
    shown = _run(showroom, workshop, Wanted(keys=[(1,)]))
    folded: DispatchRecord | None = None
    for event in workshop.events(shown.dispatch_id):
        folded = summarise(folded, event)
    assert folded == workshop.record(shown.dispatch_id)


def test_each_step_is_told_as_it_happens(showroom: Showroom, workshop: Workshop) -> None:
    news: list[StepNews] = []
    showroom.run(workshop.model(), Wanted(keys=[(1,)]), None, news.append)
    steps = ["collect", "log", "infer", "persist"]
    assert [(one.step, one.state) for one in news] == [
        (step, state) for step in steps for state in ("started", "succeeded")
    ]


def test_a_case_that_breaks_the_contract_is_shown_with_its_reasons_and_on_record(
    showroom: Showroom, workshop: Workshop
) -> None:
    rule = {"columns": {"id": {"max": 3}}}
    workshop.add_model("churn", input=rule)
    shown = _run(showroom, workshop, Wanted(keys=[(2,), (3,), (4,)]))
    assert [answer and answer["id"] for answer in shown.answers] == [2, 3, None]
    assert [vars(one) for one in shown.rejections] == [
        {"row": 2, "column": "id", "reason": "above 3", "value": "4"}
    ]
    record = workshop.record(shown.dispatch_id)
    assert (record.state, record.rows_collected, record.rows_predicted, record.rows_rejected) == (
        "succeeded",
        3,
        2,
        1,
    )
    assert not (workshop.folder / "sink.db").exists()


def test_a_value_that_the_model_refuses_is_shown_as_rejected_where_there_is_a_contract(
    showroom: Showroom, workshop: Workshop
) -> None:
    workshop.add_model("churn", input={"columns": {"a": {"type": "number"}}})
    shown = _run(showroom, workshop, Wanted(keys=[(1,)], changes={"b": None}))
    assert [answer is None for answer in shown.answers] == [False, True]
    (rejection,) = shown.rejections
    assert (rejection.row, rejection.column, rejection.reason) == (
        1,
        "b",
        "the model refuses a missing value",
    )


def test_a_failure_is_on_record(showroom: Showroom, workshop: Workshop) -> None:
    with pytest.raises(CaseError, match=r"\b2 .*\b1 .*: 77"):
        _run(showroom, workshop, Wanted(keys=[(1,), (77,)]))
    (record,) = workshop.records()
    assert (record.state, record.origin, record.requested_by) == ("failed", "showroom", "ada")
    assert "77" in str(record.error)


def test_a_failing_model_is_on_record_with_the_rows_it_failed_on(
    showroom: Showroom, workshop: Workshop
) -> None:
    workshop.add_model("churn", showroom={"cases": "SELECT id, a, b, NULL AS c FROM customers"})
    with pytest.raises(FeatureError):
        _run(showroom, workshop, Wanted(keys=[(1,)]))
    (record,) = workshop.records()
    assert record.state == "failed"
    assert record.artifact_sha256 is not None
    kinds = [(event.step, event.kind) for event in workshop.events(record.dispatch_id)]
    assert kinds[-2:] == [("infer", "failed"), (None, "failed")]


def test_a_source_that_is_away_is_on_record_in_the_drivers_words(
    showroom: Showroom, workshop: Workshop
) -> None:
    with sqlite3.connect(workshop.folder / "source.db") as source:
        source.execute("DROP TABLE customers")
    source.close()
    with pytest.raises(DatabaseError, match="no such table: customers"):
        _run(showroom, workshop, Wanted(keys=[(1,)]))
    assert "no such table" in str(workshop.records()[0].error)


def test_nothing_is_shown_without_an_event_store(showroom: Showroom, workshop: Workshop) -> None:
    (workshop.folder / "events.db").unlink()
    with pytest.raises(MlopsError, match="mlops db upgrade"):
        showroom.run(workshop.model(), Wanted(keys=[(1,)]), None)


def test_what_if_shows_the_case_as_it_is_and_changed(showroom: Showroom, workshop: Workshop) -> None:
    shown = _run(showroom, workshop, Wanted(keys=[(3,)], changes={"a": "99", "b": "99"}))
    as_it_is, changed = shown.rows.to_pylist()
    assert {name: as_it_is[name] for name in ("id", "c")} == {name: changed[name] for name in ("id", "c")}
    assert (changed["a"], changed["b"]) == (99.0, 99.0)
    assert shown.predictions.to_pylist()[1]["prediction"] == "stays"
    (collected,) = reports(workshop, shown)
    assert collected.changes == {"a": "99", "b": "99"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"a": "much"}, "column 'a': 'much' is not a valid double"),
        ({"nose": 1}, "no column 'nose' to change"),
        ({"id": 3.7}, "column 'id': 3.7 is not a valid int64"),
        ({"id": "3.7"}, "column 'id': '3.7' is not a valid int64"),
        ({"a": True}, "column 'a': True is not a valid double"),
        ({"a": "1e999"}, "column 'a': '1e999' is not a valid double"),
    ],
)
def test_a_change_that_cannot_be_is_refused(
    showroom: Showroom, workshop: Workshop, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(CaseError, match=said):
        _run(showroom, workshop, Wanted(keys=[(3,)], changes=changes))


def test_rows_of_a_request_need_no_key(showroom: Showroom, workshop: Workshop) -> None:
    shown = _run(showroom, workshop, Wanted(rows=[{"a": 1, "b": 2.5, "c": 0}, {"a": -9, "b": 0.0, "c": 0}]))
    assert [row["id"] for row in shown.predictions.to_pylist()] == [1, 2]
    assert [row["prediction"] for row in as_json(shown.predictions)] == ["stays", "leaves"]


@pytest.mark.parametrize(
    ("missing", "entry"), [("a", {"key": ["a"]}), ("id", {"input": {"columns": {"id": {"nullable": False}}}})]
)
def test_a_key_that_model_or_contract_reads_is_never_made_up(
    showroom: Showroom, workshop: Workshop, missing: str, entry: dict[str, Any]
) -> None:
    workshop.add_model("churn", **entry)
    row = {"id": 1, "a": 1.0, "b": 2.5, "c": 0.0}
    del row[missing]
    with pytest.raises(CaseError, match=rf"lack {missing},"):
        _run(showroom, workshop, Wanted(rows=[row]))


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted(), "has 0 rows"),
        (Wanted(rows=[{"a": 1}, {"a": "one"}]), "cannot be converted to columns"),
        (Wanted(rows=[{"a": 10**400}]), "cannot be converted to columns"),
        (Wanted(rows=[{"a": 1.5}, {"a": True}]), "beside true or false"),
        (Wanted(rows=[{"a": "\ud800"}]), "cannot be converted to columns"),
        (Wanted(rows=[{"a": 1, "b": 1, "c": 1}, {"a": 1, "c": 1}]), r"1 and 2 .*\bb;"),
        (Wanted(rows=[{"a": 1, "b": 1, "c": 1}, {"a": 1, "b": 1, "c": 1, "d": 1}]), r"1 and 2 .*\bd;"),
        (Wanted(keys=[(10**30,)]), "is not a valid int64"),
        (Wanted(keys=[("\ud800",)]), "is not a valid int64"),
        (Wanted(keys=[(None,)]), "among the cases"),
        (Wanted(keys=[(1, 2)]), r"a key has 1 values \(id\), found 2"),
        (Wanted(keys=[("1 OR 1=1",)]), "'1 OR 1=1' is not a valid int64"),
    ],
)
def test_a_request_that_makes_no_sense_is_told_so(
    showroom: Showroom, workshop: Workshop, wanted: Wanted, said: str
) -> None:
    with pytest.raises(CaseError, match=said):
        _run(showroom, workshop, wanted)


def test_the_reference_of_a_whole_number_is_one() -> None:
    rows = pa.table({"n": [1, 2, 3, 4], "word": ["a", "b", "b", "b"], "gone": [1.0, 2.0, 3.0, 4.0]})
    baseline = make_baseline(
        rows.column_names, rows.to_batches(), artifact_sha256="a" * 64, origin="a test", classes=None
    )
    usual = usual_of_baseline(baseline, rows.drop_columns(["gone"]).schema)
    assert usual == {"n": Usual(2, 1, 4), "word": Usual("b", None, None, ("b", "a"))}
    # The column has become one of numbers since.
    assert usual_of_baseline(baseline, pa.schema({"word": pa.int64()})) == {}


def test_what_is_no_number_is_not_usual_among_numbers() -> None:
    sample = pa.table({"a": [2.0, float("nan"), 1.0, float("nan"), 4.0, float("nan"), float("nan")]})
    assert usual_values(("a",), sample)["a"] == Usual(2.0, 1.0, 4.0)


def test_the_usual_value_of_words_is_the_commonest() -> None:
    sample = pa.table({"word": ["b", "a", None, "a"], "empty": pa.array([None] * 4, pa.float64())})
    usual = usual_values(("word", "empty", "missing"), sample)
    assert usual["word"] == Usual("a", None, None, ("a", "b"))
    many = pa.table({"word": [str(number) for number in range(101)]})
    assert usual_values(("word",), many)["word"].choices == ()
    assert usual["empty"].reference is None
    assert "missing" not in usual
