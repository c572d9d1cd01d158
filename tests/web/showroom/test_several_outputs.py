"""A model with several outputs in the Showroom: all of them are its prediction, and none is judged."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from mlops_plugin.serving.run import Shown
from mlops_plugin.web.showroom.results import outcomes
from mlops_plugin.web.showroom.verdict import judge
from support.workshop import Workshop


def run_of(second: list[Any], **rows: list[Any]) -> Shown:
    answers = {
        "prediction_0": [1] * len(second),
        "prediction_1": second,
        "probability_0_1": [0.9] * len(second),
    }
    known = {"id": list(range(len(second))), **rows}
    return Shown("d1", "sha", pa.table(known), pa.table(answers), (), ())


def test_all_outputs_are_shown_and_none_is_judged(workshop: Workshop) -> None:
    workshop.add_model("churn", showroom={"truth": "truth"})
    shown = run_of([0, 1], truth=[1, 1])
    found = outcomes(workshop.model(), shown, (), is_what_if=False)

    assert [(one.prediction, one.agrees) for one in found] == [("1, 0", None), ("1, 1", None)]
    assert judge(shown, "truth") is None


def test_a_change_of_one_output_is_a_change(workshop: Workshop) -> None:
    (changed,) = outcomes(workshop.model(), run_of([0.5, 0.25]), (), is_what_if=True)
    assert (changed.was, changed.prediction) == ("1, 0.5", "1, 0.25")

    (alike,) = outcomes(workshop.model(), run_of([0.5, 0.5]), (), is_what_if=True)
    assert alike.was == alike.prediction == "1, 0.5"
