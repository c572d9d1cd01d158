"""`mlops check MODEL --parity FILE` says how far a model is from reference answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlops_plugin.cli import main
from support.workshop import FEATURES, Workshop

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def reference(workshop: Workshop) -> pd.DataFrame:
    rows = pd.DataFrame(np.random.default_rng(1).normal(size=(30, 3)), columns=list(FEATURES))
    likely = workshop.classifier.predict_proba(rows)
    names = [f"probability_{label}" for label in workshop.classifier.classes_]
    return rows.assign(
        prediction=workshop.classifier.predict(rows), **dict(zip(names, likely.T, strict=True))
    )


def check(workshop: Workshop, rows: pd.DataFrame, name: str = "reference.parquet") -> int:
    file = workshop.folder / name
    rows.to_csv(file, index=False) if name.endswith("csv") else rows.to_parquet(file)
    return main(["check", "churn", "--parity", str(file)])


def test_the_same_answers_pass(workshop: Workshop, reference: pd.DataFrame, capsys: Captured) -> None:
    assert check(workshop, reference, "reference.csv") == 0
    printed = capsys.readouterr().out
    assert "30 rows" in printed
    assert "WRONG" not in printed


def test_other_answers_are_counted_and_located(
    workshop: Workshop, reference: pd.DataFrame, capsys: Captured
) -> None:
    column = reference.columns[-1]
    reference.loc[6, column] += 0.001
    reference.loc[7, column] += 1e-9  # rounding
    labels = reference["prediction"].unique()
    reference.loc[3, "prediction"] = labels[labels != reference.loc[3, "prediction"]][0]
    assert check(workshop, reference) == 1
    lines = dict(line.removeprefix("WRONG ").split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert "(row 7)" in lines[column]
    assert "0.001" in lines[column]
    assert "1 rows" in lines["prediction"]
    assert "(4)" in lines["prediction"]


def test_a_missing_answer_differs_from_a_number(workshop: Workshop, reference: pd.DataFrame) -> None:
    reference.loc[2, reference.columns[-1]] = np.nan
    assert check(workshop, reference) == 1


@pytest.mark.parametrize("kept", [["a", "b", "prediction"], list(FEATURES)], ids=["features", "answers"])
def test_a_file_that_lacks_something_is_refused(
    workshop: Workshop, reference: pd.DataFrame, kept: list[str], capsys: Captured
) -> None:
    assert check(workshop, reference[kept]) == 1
    assert "reference.parquet' has no" in capsys.readouterr().err


def test_one_model_is_named(workshop: Workshop, tmp_path: Path) -> None:
    assert main(["check", "--parity", str(tmp_path / "x.csv")]) == 1
