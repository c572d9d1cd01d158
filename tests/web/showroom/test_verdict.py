"""The verdict on a run of the Showroom: what is right, how far off numbers are, and what is not judged."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from mlops_plugin.serving.run import Shown
from mlops_plugin.serving.showing_sink import Rejection
from mlops_plugin.web.showroom.verdict import Confusion, Verdict, agrees, judge


def run_of(truths: Sequence[Any], predictions: Sequence[Any], *, rejected: Sequence[int] = ()) -> Shown:
    """A run whose model gives labels, or numbers; `predictions` without those of rejected rows."""
    return Shown(
        "d1",
        "sha",
        pa.table({"id": list(range(len(truths))), "truth": truths}),
        pa.table({"prediction": predictions}),
        (),
        tuple(Rejection(row, "a", "range", None) for row in rejected),
    )


def words_of(shown: Shown) -> str | None:
    verdict = judge(shown, "truth")
    return None if verdict is None else verdict.words


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (run_of(["a", "b", "a"], ["a", "b", "a"]), "3 of 3 correct"),
        (
            run_of(["a", "b", None, "a"], ["a", "a", "b"], rejected=[3]),
            "1 of 2 correct, 1 rejected, 1 not judged",
        ),
        (run_of([1.0, 2.0], [1.5, 4.0]), "mean absolute error 1.25 over 2 cases"),
        (run_of([Decimal(1), None], [1.5, 4.0]), "mean absolute error 0.5 over 1 case, 1 not judged"),
        (run_of([1.0, 2.0], [float("nan"), 4.0]), "mean absolute error 2 over 1 case, 1 not judged"),
        # whole numbers without probabilities: classes or amounts, nobody knows
        (run_of([1, 2], [1, 3]), None),
        (run_of([-1e307, -1e307], [1e308, 1e308]), "mean absolute error 1.1e+308 over 2 cases"),
        (run_of(["true", "FALSE", "false"], [True, False, True]), "2 of 3 correct"),
        # a CHAR is filled up with blanks
        (run_of(["a   ", "b   ", "a   "], ["a", "b", "b"]), "2 of 3 correct"),
        # an outcome that is not known yet
        (run_of([1.0, float("nan"), 0.0], [True, True, True]), "1 of 2 correct, 1 not judged"),
        (run_of([None, None], ["a", "b"]), None),
        (run_of(["a"], ["a"]), None),  # its card says it
    ],
)
def test_a_run_is_judged_by_what_can_be_compared(shown: Shown, words: str | None) -> None:
    assert words_of(shown) == words


def test_without_a_column_of_truth_nothing_is_judged() -> None:
    assert judge(run_of(["a", "b"], ["a", "b"]), None) is None


@pytest.mark.parametrize(
    ("answer", "truth", "right"),
    [
        ({"prediction": 1, "probability_1": 0.9}, "1", True),
        ({"prediction": 1, "probability_1": 0.9}, 1.0, True),
        ({"prediction": "1.0"}, 1.0, True),
        # a FLOAT, which has seven digits
        ({"prediction": 3.7, "probability_3.7": 0.9}, 3.700000047683716, True),
        ({"prediction": "3.7"}, 3.700000047683716, True),
        ({"prediction": "3.7"}, 3.700000286102295, False),
        ({"prediction": 3.7, "probability_3.7": 0.9}, 3.7000000000000006, False),
        ({"prediction": "1000.001"}, 1000.0009765625, False),
        ({"prediction": True}, 1, True),
        # MySQL and SQLite have 1 for true; a text may say the same
        ({"prediction": 1, "probability_True": 0.9}, "true", True),
        ({"prediction": 1, "probability_True": 0.9}, "False", False),
        ({"prediction": "True"}, 1, True),
        ({"prediction": True}, "TRUE ", True),
        ({"prediction": 1, "probability_1": 0.9}, "1.0", True),
        ({"prediction": "1.0"}, Decimal("1.00"), True),
        ({"prediction": "1.0"}, "1", False),
        ({"prediction": "true"}, "1", False),
        ({"prediction": "10"}, 1, False),
        ({"prediction": 0.5, "probability_0.5": 0.9}, Decimal("0.50"), True),
        ({"prediction": "0.5"}, Decimal("0.50"), True),
        ({"prediction": 1e-7, "probability_1e-07": 0.9}, Decimal("0.00000010"), True),
        ({"prediction": 0.5, "probability_0.5": 0.9}, Decimal("0.51"), False),
        ({"prediction": 2.5}, 2.5, None),
        (None, "a", None),
        ({"prediction": "a"}, None, None),
        # of several outputs, nobody knows which one the truth is about; a table may have no answer
        ({"prediction_0": 1, "prediction_1": 0, "probability_0_1": 0.9, "probability_1_1": 0.1}, 1, None),
        ({"prediction": None, "probability_1": None}, 1, None),
    ],
)
def test_a_label_is_the_same_in_every_type(
    answer: dict[str, Any] | None, truth: Any, right: bool | None
) -> None:
    assert agrees(answer, truth) is right


def test_many_cases_of_few_classes_are_a_table() -> None:
    truths = ["10"] * 6 + ["2"] * 5
    predictions = ["10"] * 4 + ["2"] * 7
    assert judge(run_of(truths, predictions), "truth") == Verdict(
        "9 of 11 correct", "9 of 11 correct", Confusion(("2", "10"), ((5, 0), (2, 4)))
    )
    assert judge(run_of(truths[:9], predictions[:9]), "truth") == Verdict("7 of 9 correct", "7 of 9 correct")
    flags = run_of(["TRUE"] * 6 + ["false"] * 5, [True] * 5 + [False] * 6)
    assert judge(flags, "truth") == Verdict(
        "10 of 11 correct", "10 of 11 correct", Confusion(("0", "1"), ((5, 0), (1, 5)))
    )
    many = [str(number) for number in range(30)]
    assert judge(run_of(many, many), "truth") == Verdict("30 of 30 correct", "30 of 30 correct")
