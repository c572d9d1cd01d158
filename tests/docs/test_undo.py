"""docs/undo.md: its commands leave no prediction of the bad model, whichever way the model reads."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from mlops_plugin.cli import main
from support.workshop import FEATURES, Workshop

pytestmark = pytest.mark.slow

PAGE = Path(__file__).resolve().parents[2] / "docs" / "undo.md"
ROWS = 5
SOURCES: dict[str, dict[str, Any]] = {
    "reads all rows": {},
    "has `skip_predicted`": {"skip_predicted": True},
    "has a `cursor`": {"cursor": {"column": "id"}},
}


def commands(start: str) -> list[str]:
    """Those that the page names for such a model."""
    page = PAGE.read_text(encoding="utf-8")
    (row,) = (line for line in page.splitlines() if line.strip().startswith(f"| {start}"))
    if "| the same:" in row:
        return commands("reads all rows")
    return re.findall(r"`(mlops [^`]+)`", row)


def train_badly(file: Path) -> None:
    rows = pd.DataFrame([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], columns=list(FEATURES))
    skops.io.dump(LogisticRegression().fit(rows, ["stays", "leaves"]), file)


def artifacts(workshop: Workshop) -> list[str]:
    """What has predicted each row."""
    return [found for (found,) in workshop.in_source("SELECT artifact_sha256 FROM churn_predictions")]


@pytest.mark.parametrize("start", SOURCES)
def test_its_commands_leave_no_prediction_of_the_bad_model(workshop: Workshop, start: str) -> None:
    workshop.add_model("churn", source=SOURCES[start], sink={"connection": "source"})
    file = workshop.folder / "churn.skops"
    good = file.read_bytes()
    train_badly(file)
    assert main(["dispatch", "churn"]) == 0
    bad = artifacts(workshop)
    file.write_bytes(good)
    # The last watermark before any row; on the page it is a time.
    named = [command.replace("2026-02-01", "0") for command in commands(start)]
    assert named[-1] == "mlops dispatch churn"
    assert [main(shlex.split(command)[1:]) for command in named] == [0] * len(named)
    now = artifacts(workshop)
    assert (len(now), len(set(now)), set(now) & set(bad)) == (ROWS, 1, set())
