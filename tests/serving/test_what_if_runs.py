"""What-if runs: the curve over one feature, and changes that follow each other soon are one dispatch."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import joblib
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import FunctionTransformer, make_pipeline

from mlops_plugin.errors import CaseError
from mlops_plugin.events import tables
from mlops_plugin.events.details.step_reports import CollectReport
from mlops_plugin.formats.runtime import artifact_sha256
from mlops_plugin.formats.signature.signature_writer import write_signature
from mlops_plugin.serving.curves import Categories, Curve, curve_rows
from mlops_plugin.serving.explanation import watched_outcome
from mlops_plugin.serving.run import Shown, Showroom
from mlops_plugin.serving.wanted import Wanted
from mlops_plugin.web.showroom.results import outcomes
from support import shop_code
from support.workshop import Workshop

CURVE = Curve("a", -2.0, 4.0)


def _run(showroom: Showroom, workshop: Workshop, wanted: Wanted, user: str = "ada") -> Shown:
    return showroom.run(workshop.model(), wanted, user)


def _changed(value: float, after: Shown | None = None, key: int = 3) -> Wanted:
    return Wanted(keys=[(key,)], changes={"a": value}, continues=None if after is None else after.dispatch_id)


def test_a_curve_is_what_the_model_answers_for_each_value(showroom: Showroom, workshop: Workshop) -> None:
    shown = _run(showroom, workshop, Wanted(keys=[(3,)], changes={"b": 2.5}, curve=CURVE))
    as_it_is, changed, *curve = shown.rows.to_pylist()
    assert (shown.on_curve, len(curve)) == (31, 31)
    assert [row["a"] for row in curve] == pytest.approx([-2 + step / 5 for step in range(31)])
    assert {(row["b"], row["c"], row["id"]) for row in curve} == {(2.5, as_it_is["c"], 3)}
    assert changed == {**as_it_is, "b": 2.5}
    for row, answer in list(zip(curve, shown.answers[2:], strict=True))[::10]:
        alone = _run(showroom, workshop, Wanted(keys=[(3,)], changes={"a": row["a"], "b": 2.5}))
        assert alone.answers[1] == pytest.approx(answer)
    record = workshop.record(shown.dispatch_id)
    assert record.rows_predicted == 33
    assert str(record.query).endswith("-- what if: 31 values of a")


def test_what_is_missing_before_and_after_has_not_changed(workshop: Workshop) -> None:
    rows = pa.table({"id": [3, 3], "a": [1.0, 2.0], "b": [float("nan")] * 2, "c": [None, 0.5]})
    shown = Shown("d", "sha", rows, pa.table({"id": [3, 3], "prediction": ["stays", "stays"]}), ())
    (outcome,) = outcomes(workshop.model(), shown, ("a", "b", "c"), is_what_if=True)
    assert outcome.changes == (("a", "1", "2"), ("c", "NULL", "0.5"))


@pytest.mark.parametrize(
    ("before", "after", "shown_as"),
    [
        (0.25, 0.5, ("0.25", "0.5")),
        (12_345_678.0, 12_345_690.0, ("12345678", "12345690")),
        (12_345_678.5, 12_345_678.25, ("12345678.5", "12345678.25")),
        (0.12345671, 0.12345672, ("0.12345671", "0.12345672")),
        (1.5, 1.5, ("1.5", "1.5")),
        ("a b", "a  b", ('"a b"', '"a  b"')),
        ("a", "b", ("a", "b")),
    ],
)
def test_values_that_differ_never_look_alike(
    workshop: Workshop, before: object, after: object, shown_as: tuple[str, str]
) -> None:
    shown = Shown(
        "d",
        "sha",
        pa.table({"id": [3, 3], "a": [before, after], "b": [None, "NULL"]}),
        pa.table({"id": [3, 3], "prediction": [before, after]}),
        (),
    )
    (outcome,) = outcomes(workshop.model(), shown, ("a", "b"), is_what_if=True)
    changed = [] if before == after else [("a", *shown_as)]
    assert outcome.changes == (*changed, ("b", "NULL", '"NULL"'))
    assert (outcome.was, outcome.prediction) == shown_as


def test_the_outcome_on_a_curve_is_that_of_a_class_which_has_one() -> None:
    nothing = float("nan")
    assert watched_outcome({"probability_a": nothing, "probability_b": 0.2, "probability_c": 0.3}) == (
        "probability_c"
    )
    assert watched_outcome({"probability_a": None, "probability_b": nothing}) == "probability_a"


def test_the_outcome_of_a_model_with_several_is_its_first_number() -> None:
    assert watched_outcome({"prediction_0": 1.5, "prediction_1": 2.5}) == "prediction_0"
    assert watched_outcome({"prediction_0": "a", "prediction_1": 2.5}) == "prediction_1"


def test_a_case_is_not_compared_with_what_it_might_have_been(showroom: Showroom, workshop: Workshop) -> None:
    ranking = make_pipeline(FunctionTransformer(shop_code.ranks), LinearRegression())
    rows = workshop.frame([[n / 2, n % 7 / 2, n % 5 / 2] for n in range(60)])
    path = str(workshop.folder / "ranking.joblib")
    joblib.dump(ranking.fit(rows, shop_code.ranks(rows)["a"]), path)
    write_signature(ranking, rows, path)
    workshop.add_model(
        "churn", model={"format": "joblib", "uri": path, "sha256": artifact_sha256(path)}, key=["id"]
    )
    shown = _run(showroom, workshop, Wanted(keys=[(3,)], changes={"a": 100.0}, curve=CURVE))
    assert [answer and answer["prediction"] for answer in shown.answers] == pytest.approx([1.0] * 33)
    with pytest.raises(CaseError, match="rows beside it"):
        _run(showroom, workshop, Wanted(keys=[(3,)], is_why=True))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.int64(), [0, 1, 2, 3]),
        (pa.decimal128(5, 1), [Decimal(n) / 10 for n in range(31)]),
        (pa.float32(), [n / 10 for n in range(31)]),
    ],
)
def test_a_curve_has_values_of_its_column(kind: pa.DataType, values: list[object]) -> None:
    case = pa.table({"id": [7], "n": pa.array([None], kind)})
    rows = curve_rows(case, Curve("n", 0, 3))
    assert rows.schema == case.schema
    assert rows.column("n").to_pylist() == pytest.approx(values)
    assert set(rows.column("id").to_pylist()) == {7}


@pytest.mark.parametrize(
    ("kind", "curve", "greatest"),
    [
        (pa.int16(), Curve("n", -32_800.0, 32_800.0), 30_613),
        (pa.uint8(), Curve("n", -10.0, 290.0), 250),
        (pa.decimal128(4, 2), Curve("n", 0.0, 100.0), Decimal("96.67")),
        (pa.decimal128(38, 2), Curve("n", 0.0, 3e30), Decimal(3 * 10**30)),
    ],
)
def test_a_curve_ends_where_its_column_does(kind: pa.DataType, curve: Curve, greatest: object) -> None:
    rows = curve_rows(pa.table({"n": pa.array([None], kind)}), curve)
    assert max(rows.column("n").to_pylist()) == greatest


@pytest.mark.parametrize(
    ("kind", "given", "values"),
    [
        (pa.string(), ("y", "x", "y"), ["y", "x"]),
        (pa.bool_(), ("true", "false"), [True, False]),
        (pa.dictionary(pa.int32(), pa.string()), ("x", "z"), ["x", "z"]),
    ],
)
def test_a_curve_over_categories_has_each_of_them_once(
    kind: pa.DataType, given: tuple[str, ...], values: list[object]
) -> None:
    case = pa.table({"id": [7], "word": pa.array([None], kind)})
    rows = curve_rows(case, Categories("word", given))
    assert rows.schema == case.schema
    assert rows.column("word").to_pylist() == values
    assert rows.column("id").to_pylist() == [7] * len(values)


@pytest.mark.parametrize(
    ("curve", "said"),
    [
        (Curve("nose", 0, 1), "no column 'nose'"),
        (Curve("word", 0, 1), "no number"),
        (Curve("n", 1, 1), "range from low to high"),
        (Curve("n", 0, float("inf")), "range from low to high"),
        (Curve("n", 1e20, 2e20), "holds nothing from"),
        (Curve("n", float("nan"), 1), "range from low to high"),
        (Categories("nose", ("x",)), "no column 'nose'"),
        (Categories("word", ()), "0 categories"),
        (Categories("word", tuple(map(str, range(101)))), "101 categories"),
        (Categories("n", ("x",)), "'x' is not a valid"),
    ],
)
def test_a_curve_that_cannot_be_drawn_is_refused(curve: Curve | Categories, said: str) -> None:
    with pytest.raises(CaseError, match=said):
        curve_rows(pa.table({"n": [1], "word": ["x"]}), curve)


def test_a_curve_is_of_one_case(showroom: Showroom, workshop: Workshop) -> None:
    with pytest.raises(CaseError, match="one case"):
        _run(showroom, workshop, Wanted(keys=[(1,), (2,)], curve=CURVE))


def test_changes_that_follow_each_other_are_one_dispatch_with_each_of_them_on_record(
    showroom: Showroom, workshop: Workshop
) -> None:
    first = _run(showroom, workshop, _changed(1.0))
    begun = workshop.record(first.dispatch_id)
    second = _run(showroom, workshop, _changed(2.0, first))
    third = _run(showroom, workshop, _changed(3.0, second))
    (record,) = workshop.records()
    assert {first.dispatch_id, second.dispatch_id, third.dispatch_id} == {record.dispatch_id}
    assert (record.state, record.tries, record.created_at) == ("succeeded", 3, begun.created_at)
    assert (record.rows_collected, record.rows_predicted) == (2, 2)
    events = workshop.events(record.dispatch_id)
    asked = [event.details.changes for event in events if isinstance(event.details, CollectReport)]
    assert asked == [{"a": 1.0}, {"a": 2.0}, {"a": 3.0}]
    assert [event.kind for event in events if event.step is None] == ["started", "succeeded"] * 3
    assert [event.try_number for event in events if (event.step, event.kind) == ("persist", "succeeded")] == [
        1,
        2,
        3,
    ]


def test_a_what_if_never_goes_on_with_anything_else(showroom: Showroom, workshop: Workshop) -> None:
    first = _run(showroom, workshop, _changed(1.0))
    plain = _run(showroom, workshop, Wanted(keys=[(3,)]))
    why = _run(showroom, workshop, Wanted(keys=[(3,)], is_why=True))
    stored = workshop.dispatch()
    workshop.run(stored)
    for wanted, user in (
        (_changed(2.0, first), "eve"),  # another user
        (_changed(2.0, first, key=4), "ada"),  # another case
        (Wanted(keys=[(3,)], continues=first.dispatch_id), "ada"),  # no what-if
        (_changed(2.0, plain), "ada"),
        (_changed(2.0, why), "ada"),
        (Wanted(keys=[(3,)], changes={"a": 2.0}, continues=stored.id), "ada"),
        (Wanted(keys=[(3,)], changes={"a": 2.0}, continues="nothing"), "ada"),
    ):
        before = {record.dispatch_id for record in workshop.records()}
        assert _run(showroom, workshop, wanted, user).dispatch_id not in before


def test_a_minute_later_a_what_if_is_a_dispatch_of_its_own(showroom: Showroom, workshop: Workshop) -> None:
    first = _run(showroom, workshop, _changed(1.0))
    ended = workshop.record(first.dispatch_id).finished_at
    assert ended is not None
    values = {"finished_at": ended - timedelta(seconds=61)}
    this = sa.update(tables.dispatches).where(tables.dispatches.c.dispatch_id == first.dispatch_id)
    showroom.store.write("ageing a dispatch", lambda connection: connection.execute(this.values(values)))
    assert _run(showroom, workshop, _changed(2.0, first)).dispatch_id != first.dispatch_id


def test_a_change_that_fails_leaves_a_failed_dispatch_and_the_next_one_goes_on(
    showroom: Showroom, workshop: Workshop
) -> None:
    first = _run(showroom, workshop, _changed(1.0))
    with pytest.raises(CaseError):
        _run(showroom, workshop, Wanted(keys=[(3,)], changes={"a": "x"}, continues=first.dispatch_id))
    assert [record.state for record in workshop.records()] == ["failed"]
    assert _run(showroom, workshop, _changed(2.0, first)).dispatch_id == first.dispatch_id
    assert [record.state for record in workshop.records()] == ["succeeded"]
