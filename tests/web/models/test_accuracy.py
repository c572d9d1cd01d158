"""A card says how right the stored predictions are, of cases whose outcome is known."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from mlops_plugin.errors import ServingBusy
from mlops_plugin.serving.case_queries import CaseQueries
from mlops_plugin.serving.cases import MAX_PAGE_ROWS
from mlops_plugin.serving.last_predictions import LastPredictions
from mlops_plugin.web.models.accuracy import Accuracies, find_pairs
from mlops_plugin.web.showroom.verdict import Pair, judge_pairs
from support.workshop import Workshop

CASES = "SELECT id, a, b, c, CASE WHEN id = 1 THEN NULL ELSE 'stays' END AS truth FROM customers"
OUTCOMES = (("stays", "< 3"), ("leaves", "= 1"))  # of cases that have one already


@pytest.fixture
def ready(workshop: Workshop) -> Iterator[Workshop]:
    workshop.add_model("churn", showroom={"cases": CASES, "truth": "truth"})
    with workshop.ready():
        yield workshop


def pairs_of(workshop: Workshop) -> list[Pair]:
    return find_pairs(workshop.model(), workshop.deployment, CaseQueries(), LastPredictions())


def stored(workshop: Workshop) -> dict[int, Any]:
    found = workshop.in_sink("SELECT id, prediction FROM churn_predictions")
    return {int(key): prediction for key, prediction in found}


def test_stored_predictions_are_compared_with_known_outcomes(ready: Workshop) -> None:
    assert pairs_of(ready) == []  # nothing is stored yet
    ready.run(ready.dispatch())
    predicted = stored(ready)
    assert len(predicted) == 5
    found = pairs_of(ready)
    assert sorted(answer["prediction"] for answer, _truth in found if answer) == sorted(
        prediction for key, prediction in predicted.items() if key != 1
    )
    right = sum(prediction == "stays" for key, prediction in predicted.items() if key != 1)
    verdict = judge_pairs(found)
    assert verdict is not None
    assert verdict.words == f"{right} of 4 correct"


def test_a_case_with_two_outcomes_is_not_judged(workshop: Workshop) -> None:
    more = [f"SELECT *, '{truth}' FROM customers WHERE id {which}" for truth, which in OUTCOMES]
    cases = " UNION ALL ".join(["SELECT *, 'stays' AS truth FROM customers", *more])
    workshop.add_model("churn", showroom={"cases": cases, "truth": "truth"})
    with workshop.ready():
        workshop.run(workshop.dispatch())
        assert [truth for _answer, truth in pairs_of(workshop)] == ["stays"] * 4


def test_a_case_whose_second_outcome_is_on_the_next_page_is_not_judged(workshop: Workshop) -> None:
    workshop.add_rows(MAX_PAGE_ROWS - 5)
    last = f"SELECT *, 'leaves' FROM customers WHERE id = {MAX_PAGE_ROWS}"
    cases = f"SELECT *, 'stays' AS truth FROM customers UNION ALL {last}"
    workshop.add_model("churn", showroom={"cases": cases, "truth": "truth"})
    with workshop.ready():
        workshop.run(workshop.dispatch())
        assert len(pairs_of(workshop)) == MAX_PAGE_ROWS - 1


def test_whole_numbers_beside_probabilities_are_classes() -> None:
    pairs: list[Pair] = [
        ({"probability_1": None, "prediction": 1}, "1"),
        ({"probability_1": None, "prediction": 0}, 1),
    ]
    verdict = judge_pairs(pairs)
    assert verdict is not None
    assert verdict.words == verdict.short == "1 of 2 correct"


def test_probabilities_of_another_model_make_no_class_of_a_number(workshop: Workshop) -> None:
    cases = "SELECT id, a, b, c, 1.0 AS truth FROM customers"
    workshop.add_model("churn", sink={"mode": "append"}, showroom={"cases": cases, "truth": "truth"})
    with workshop.ready():
        workshop.in_sink(
            "CREATE TABLE churn_predictions (id INTEGER, prediction REAL, probability_stays REAL,"
            " dispatch_id TEXT, model TEXT, artifact_sha256 TEXT, predicted_at TEXT)",
            "INSERT INTO churn_predictions VALUES (1, 1.5, NULL, 'd1', 'churn', '', '2026-01-01 00:00:00'),"
            " (2, 0.5, NULL, 'd1', 'churn', '', '2026-01-01 00:00:00'),"
            " (2, 1.0, 0.7, 'd2', 'loans', '', '2026-01-02 00:00:00')",
        )
        verdict = judge_pairs(pairs_of(workshop))
    assert verdict is not None
    assert verdict.words == "mean absolute error 0.5 over 2 cases"


def test_numbers_have_a_mean_absolute_error_that_fits_a_card() -> None:
    verdict = judge_pairs([({"prediction": 1.5}, 1), ({"prediction": 4.0}, 1.0), ({"prediction": 4.0}, "?")])
    assert verdict is not None
    assert verdict.words == "mean absolute error 1.75 over 2 cases, 1 not judged"
    assert verdict.short == "mean absolute error 1.75"


def test_a_model_without_outcomes_has_no_accuracy_and_asks_no_database(workshop: Workshop) -> None:
    assert pairs_of(workshop) == []  # it was never made ready


def test_cards_leave_places_to_the_pages(ready: Workshop) -> None:
    queries, model, deployment = CaseQueries(), ready.model(), ready.deployment
    with contextlib.ExitStack() as others:
        for _ in range(2):
            others.enter_context(queries.open(model, deployment, is_aside=True))
        with pytest.raises(ServingBusy):
            find_pairs(model, deployment, queries, LastPredictions())
        others.enter_context(queries.open(model, deployment))


def test_an_answer_is_kept_for_a_while_and_not_for_another_configuration(ready: Workshop) -> None:
    accuracies, queries, last = Accuracies(), CaseQueries(), LastPredictions()
    assert accuracies.pairs(ready.model(), ready.deployment, queries, last) == []
    ready.run(ready.dispatch())
    assert accuracies.pairs(ready.model(), ready.deployment, queries, last) == []
    changed = {**ready.models["churn"], "description": "another"}
    ready.add_model("churn", **changed)
    assert len(accuracies.pairs(ready.model(), ready.deployment, queries, last)) == 4
