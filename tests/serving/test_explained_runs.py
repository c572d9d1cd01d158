"""A Showroom run that explains a case: what it computes, by which method, and what it leaves on record."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import skops.io
from sklearn.linear_model import LinearRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlops_plugin.config.schema import BASELINE_SUFFIX
from mlops_plugin.errors import CaseError
from mlops_plugin.events.details.explanations import Contribution, Explanation, ReferenceSource
from mlops_plugin.events.details.serialization import read_details, write_details
from mlops_plugin.events.details.step_reports import (
    Accounts,
    CollectReport,
    Explained,
    PersistReport,
    Place,
)
from mlops_plugin.pipeline.validation.baseline_making import make_from_query
from mlops_plugin.serving import explanation
from mlops_plugin.serving.explanation import question_about
from mlops_plugin.serving.references import References, Usual
from mlops_plugin.serving.run import Showroom
from mlops_plugin.serving.wanted import Wanted
from mlops_plugin.workers.pool import ModelPool
from support import hostile_models
from support.workshop import FEATURES, Workshop

WHY = Wanted(keys=[(1,)], is_why=True)


def _all(rows: pa.RecordBatch) -> pa.RecordBatch:
    return rows


def _explained(showroom: Showroom, workshop: Workshop) -> Explanation:
    found = showroom.run(workshop.model(), WHY, "ada").explanation
    assert found is not None
    return found


def _predicted(pool: ModelPool, workshop: Workshop, rows: list[list[float]], outcome: str) -> list[float]:
    batch = pa.RecordBatch.from_pandas(pd.DataFrame(rows, columns=list(FEATURES)))
    with pool.runtime(workshop.model()) as runtime:
        return [float(row[outcome]) for row in runtime.predict(batch).to_pylist()]


def test_contributions_add_up_to_the_prediction(
    showroom: Showroom, workshop: Workshop, pool: ModelPool
) -> None:
    found = _explained(showroom, workshop)
    assert (found.method, found.obstacle, found.outcome.partition("_")[0]) == (
        "exact",
        None,
        "probability",
    )
    assert found.reference is not None
    amounts = {one.feature: one.amount or 0.0 for one in found.contributions}
    assert found.reference + sum(amounts.values()) == pytest.approx(found.value, abs=1e-9)
    by_name = {one.feature: one for one in found.contributions}
    ends = [[float(by_name[name].reference or 0.0) for name in FEATURES]]
    ends.append([float(by_name[name].value or 0.0) for name in FEATURES])
    assert [found.reference, found.value] == pytest.approx(_predicted(pool, workshop, ends, found.outcome))
    sizes = [abs(one.amount or 0.0) for one in found.contributions]
    assert sizes == sorted(sizes, reverse=True)


def test_contributions_of_a_linear_model_behind_a_scaler_are_its_slopes(
    showroom: Showroom, workshop: Workshop
) -> None:
    rows = np.random.default_rng(1).normal(size=(50, 3)) * [1, 10, 100]
    model = make_pipeline(StandardScaler(), LinearRegression()).fit(
        workshop.frame(rows.tolist()), rows @ [1.0, -2.0, 0.5] + rows[:, 0] ** 2
    )
    skops.io.dump(model, workshop.folder / "linear.skops")
    workshop.add_model("churn", model={"format": "skops", "uri": "linear.skops"})
    slopes = dict(zip(FEATURES, model[-1].coef_ / model[0].scale_, strict=True))
    for one in _explained(showroom, workshop).contributions:
        assert isinstance(one.value, float)
        assert isinstance(one.reference, float)
        assert one.amount == pytest.approx(slopes[one.feature] * (one.value - one.reference), abs=1e-9)


def test_an_explanation_is_on_record_as_it_was_shown(showroom: Showroom, workshop: Workshop) -> None:
    shown = showroom.run(workshop.model(), WHY, "ada")
    record = workshop.record(shown.dispatch_id)
    assert (record.state, record.origin) == ("succeeded", "showroom")
    assert "-- why: the case, then with one feature at a time as usual in the 5 rows" in str(record.query)
    details = [event.details for event in workshop.events(shown.dispatch_id)]
    (collected,) = [one for one in details if isinstance(one, CollectReport)]
    assert collected.keys == (("1",),)
    assert collected.why == Explained("cases", tuple(FEATURES))
    (persisted,) = [one for one in details if isinstance(one, PersistReport)]
    assert persisted.place.explanation == shown.explanation
    assert persisted.place.shown == record.rows_predicted == shown.rows.num_rows


def test_references_come_from_the_baseline_of_this_artifact(showroom: Showroom, workshop: Workshop) -> None:
    workshop.add_rows(40)
    make_from_query(workshop.model(), workshop.deployment, "SELECT a, b + 100 AS b, c FROM customers")
    found = _explained(showroom, workshop)
    assert found.source.rows == 45
    assert "b + 100" in str(found.source.baseline)
    (reference,) = [one.reference for one in found.contributions if one.feature == "b"]
    assert isinstance(reference, float)
    assert reference > 90
    file = workshop.folder / f"churn.skops{BASELINE_SUFFIX}"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"artifact_sha256": "0" * 64}))  # of a model that was here before
    assert _explained(showroom, workshop).source == ReferenceSource(45)


def test_a_model_that_is_too_slow_is_explained_one_feature_at_a_time(
    showroom: Showroom, workshop: Workshop, pool: ModelPool
) -> None:
    case = showroom.run(workshop.model(), Wanted(keys=[(1,)]), None).rows
    own = case.to_pylist()[0]
    references = References({name: Usual(0.25, -1.0, 1.0) for name in FEATURES}, 5)
    with pool.runtime(workshop.model()) as runtime:
        question = question_about(case, references, runtime, _all, patience_s=0.0)
        predictions = pa.Table.from_batches(
            [runtime.predict(question.rows.select(list(FEATURES)).combine_chunks().to_batches()[0])]
        )
    assert (question.mixtures, question.obstacle, question.rows.num_rows) == (None, "slow", 4)
    found = question.explain(predictions, ())
    assert (found.method, found.obstacle, found.reference) == ("one_by_one", "slow", None)
    as_it_is = [own[name] for name in FEATURES]
    for one in found.contributions:
        replaced = [0.25 if name == one.feature else own[name] for name in FEATURES]
        value, other = _predicted(pool, workshop, [as_it_is, replaced], found.outcome)
        assert one.amount == pytest.approx(value - other)


@dataclass
class Unhurried:
    """A model of 13 numbers, whose calls take a while, or whose rows do; it is the clock as well."""

    call_s: float = 0.0
    row_s: float = 0.0
    now: float = 0.0
    asked: list[int] = field(default_factory=list)

    artifact_sha256 = "0" * 64
    signature_sha256 = None
    features = tuple(f"f{number}" for number in range(13))
    outputs = pa.schema([("prediction", pa.float64())])
    libraries: ClassVar[dict[str, str]] = {}
    packages = None
    undecided = ()

    def learn_outputs(self, rows: pa.RecordBatch) -> bool:  # noqa: ARG002 - of the protocol
        """They are known."""
        return True

    def check(self, rows: pa.Schema) -> None:
        """All are numbers."""

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        self.asked.append(rows.num_rows)
        self.now += self.call_s + self.row_s * rows.num_rows
        return pa.record_batch({"prediction": rows.column(0)})

    def monotonic(self) -> float:
        """The time, in seconds."""
        return self.now


@pytest.mark.parametrize(
    ("model", "obstacle", "asked"),
    [
        (Unhurried(call_s=0.02), None, [14, 512]),  # of 8,206 rows each is quick
        (Unhurried(row_s=0.002), "slow", [14, 512]),
        (Unhurried(row_s=0.03), "slow", [14]),
    ],
)
def test_a_model_is_slow_if_its_rows_are_and_not_if_its_calls_are(
    model: Unhurried, obstacle: str | None, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explanation, "time", model)
    case = pa.table({name: [1.0] for name in model.features})
    references = References({name: Usual(0.0, 0.0, 1.0) for name in model.features}, 5)
    assert question_about(case, references, model, _all, patience_s=8.0).obstacle == obstacle
    assert model.asked == asked


def test_a_reference_that_the_contract_rejects_leaves_the_others_one_at_a_time(
    showroom: Showroom, workshop: Workshop
) -> None:
    case = showroom.run(workshop.model(), Wanted(keys=[(1,)]), None).rows.to_pylist()[0]
    workshop.add_model("churn", input={"columns": {"a": {"min": case["a"], "max": case["a"]}}})
    found = _explained(showroom, workshop)
    assert (found.method, found.obstacle) == ("one_by_one", "unanswered")
    assert {one.feature for one in found.contributions if one.amount is None} == {"a"}


def test_a_model_is_never_asked_about_a_case_that_its_contract_rejects(
    showroom: Showroom, workshop: Workshop
) -> None:
    artifact = hostile_models.save(hostile_models.Hostile(), workshop.folder / "hostile.pickle")
    guard = {"columns": {"a": {"max": 99}}}
    workshop.add_model("churn", model=artifact, features=list(FEATURES), input=guard)
    workshop.in_source(f"UPDATE customers SET a = {hostile_models.CRASHES} WHERE id = 1")
    with pytest.raises(CaseError, match="breaks the model's contract"):
        _explained(showroom, workshop)


def test_a_case_with_usual_values_only_needs_no_contributions(showroom: Showroom, workshop: Workshop) -> None:
    with_one_row = "SELECT id, a, b, c FROM customers WHERE id = 1"
    workshop.add_model("churn", showroom={"cases": with_one_row})
    found = _explained(showroom, workshop)
    assert [one.amount for one in found.contributions] == [0.0, 0.0, 0.0]
    assert found.reference == found.value


def test_only_the_largest_of_many_contributions_are_kept_and_the_rest_is_added_up(
    workshop: Workshop, pool: ModelPool
) -> None:
    names = [f"f{number}" for number in range(230)]
    case = pa.table({name: [1.0] for name in names})
    references = References({name: Usual(0.0, 0.0, 1.0) for name in names}, 5)
    with pool.runtime(workshop.model()) as runtime:
        question = question_about(case, references, runtime, _all, patience_s=60.0)
    assert question.obstacle == "unanswered"  # this model has other features
    weights = np.arange(230.0)
    rows = np.stack([question.rows.column(name).to_numpy() for name in names], axis=1)
    found = question.explain(pa.table({"prediction": rows @ weights}), ())
    assert [one.feature for one in found.contributions] == [f"f{number}" for number in range(229, 29, -1)]
    assert found.others == 30
    assert found.others_amount == pytest.approx(weights[:30].sum())


def test_of_several_outputs_the_first_is_explained(showroom: Showroom, workshop: Workshop) -> None:
    rows = np.random.default_rng(1).normal(size=(50, 3))
    weights = np.array([[1.0, 5.0], [2.0, 6.0], [4.0, 7.0]])
    model = LinearRegression().fit(workshop.frame(rows.tolist()), rows @ weights)
    skops.io.dump(model, workshop.folder / "two.skops")
    workshop.add_model("churn", model={"format": "skops", "uri": "two.skops"})
    found = _explained(showroom, workshop)
    assert found.outcome == "prediction_0"
    for one in found.contributions:
        weight = dict(zip(FEATURES, (1.0, 2.0, 4.0), strict=True))[one.feature]
        difference = float(one.value or 0.0) - float(one.reference or 0.0)
        assert one.amount == pytest.approx(weight * difference)


def test_a_model_with_labels_only_cannot_be_explained(showroom: Showroom, workshop: Workshop) -> None:
    rows = np.random.default_rng(1).normal(size=(50, 3))
    model = make_pipeline(StandardScaler(), RidgeClassifier()).fit(
        workshop.frame(rows.tolist()), np.arange(50) % 3
    )
    skops.io.dump(model, workshop.folder / "labels.skops")
    workshop.add_model("churn", model={"format": "skops", "uri": "labels.skops"})
    with pytest.raises(CaseError, match="labels only"):
        _explained(showroom, workshop)
    assert workshop.records()[0].state == "failed"


def test_an_explanation_of_every_kind_of_value_comes_back_from_the_record(workshop: Workshop) -> None:
    values = (1, 1.5, True, "x", None)
    contributions = tuple(Contribution("f", value, value, 0.5, 0.1) for value in values)
    made = ReferenceSource(3, "a query", "2026-01-01T00:00:00+00:00")
    found = Explanation("score", 1.0, 0.5, "sampled", contributions, made, 8, 2, 0.25)
    report = PersistReport(Accounts(2, 2, 0, 0), Place(shown=2, explanation=found))
    stored = json.loads(json.dumps(write_details(report)))
    read = read_details("persist", "succeeded", stored, 0)
    assert read == report
    assert isinstance(read, PersistReport)
    assert read.place.explanation is not None
    kinds = [type(one.value) for one in read.place.explanation.contributions]
    assert kinds == [type(value) for value in values]
    assert replace(read.place, explanation=None).to_json() == {"shown": 2}
