"""`mlops sign`: a signature from a file's rows or a query's, for a model that is configured."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_plugin.cli import main
from mlops_plugin.errors import GoldenRowMismatch
from mlops_plugin.formats.signature.signature import Signature, parse_signature
from support.workshop import FEATURES, Workshop

Captured = pytest.CaptureFixture[str]


def signature_of(workshop: Workshop) -> Signature:
    file = workshop.folder / "churn.skops.signature.json"
    return parse_signature(str(file), file.read_bytes())


def training_rows(count: int = 200) -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(1).normal(size=(count, 3)), columns=list(FEATURES))


@pytest.mark.parametrize("ending", ["parquet", "csv", "json", "jsonl"])
def test_rows_of_a_file_sign_a_model(workshop: Workshop, capsys: Captured, ending: str) -> None:
    file = workshop.folder / f"rows.{ending}"
    rows = training_rows().assign(other="not a feature")
    writers: dict[str, Any] = {
        "parquet": lambda: rows.to_parquet(file),
        "csv": lambda: rows.to_csv(file, index=False),
        "json": lambda: rows.to_json(file, orient="records"),
        "jsonl": lambda: rows.to_json(file, orient="records", lines=True),
    }
    writers[ending]()
    assert main(["sign", "churn", "--rows", str(file)]) == 0
    found = signature_of(workshop)
    assert f"signature_sha256: {found.sha256}" in capsys.readouterr().out
    assert [column.name for column in found.input.columns] == list(FEATURES)
    assert len(found.golden.rows) == 50
    assert main(["check", "--connect"]) == 0


def test_the_models_own_query_signs_it(workshop: Workshop) -> None:
    workshop.add_rows(60)
    assert main(["sign", "churn"]) == 0
    stored = set(workshop.in_source("SELECT a, b, c FROM customers"))
    assert set(signature_of(workshop).golden.rows) <= stored


def test_another_query_signs_it(workshop: Workshop) -> None:
    assert main(["sign", "churn", "--query", "SELECT id, a, b, c FROM customers WHERE id < 3"]) == 0
    assert len(signature_of(workshop).golden.rows) == 2


def test_rows_that_break_the_contract_are_not_taken(workshop: Workshop) -> None:
    workshop.in_source("UPDATE customers SET a = 1000 WHERE id = 1")
    workshop.add_model("churn", input={"columns": {"a": {"max": 100}}})
    assert main(["sign", "churn"]) == 0
    assert 1000.0 not in {row[0] for row in signature_of(workshop).golden.rows}


def test_made_up_rows_are_none_of_the_querys(workshop: Workshop) -> None:
    workshop.add_rows(200)
    assert main(["sign", "churn", "--synthetic"]) == 0
    stored = set(workshop.in_source("SELECT a, b, c FROM customers"))
    found = signature_of(workshop)
    assert found.golden.origin == "synthetic"
    assert not set(found.golden.rows) & stored


def test_a_wrong_signature_is_replaced(workshop: Workshop) -> None:
    file = workshop.folder / "churn.skops.signature.json"
    file.write_text("{}")
    assert main(["sign", "churn"]) == 0
    assert main(["check", "--connect"]) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rows", "rows.txt"], ".parquet"),
        (["--rows", "gone.csv"], "does not exist"),
        (["--rows", "pipe.csv"], "'pipe.csv' is a pipe"),
        (["--query", "SELECT id, a FROM customers"], "lack"),
        (["--query", "SELECT id, a, b, c FROM customers WHERE id < 0"], "no rows"),
    ],
)
def test_what_cannot_sign_is_said_and_writes_nothing(
    workshop: Workshop,
    capsys: Captured,
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.csv")
    assert main(["sign", "churn", *arguments]) == 1
    assert says in capsys.readouterr().err
    assert not (workshop.folder / "churn.skops.signature.json").exists()


def test_a_baseline_goes_into_the_signature_and_stays_there(workshop: Workshop, capsys: Captured) -> None:
    workshop.add_rows(20)
    assert main(["sign", "churn"]) == 0
    assert main(["baseline", "churn"]) == 0
    assert not (workshop.folder / "churn.skops.baseline.json").exists()
    workshop.add_model("churn", input={"baseline": True})
    assert main(["check", "--connect"]) == 0
    assert "models.churn.input" in capsys.readouterr().out
    before = signature_of(workshop)
    assert before.baseline is not None
    assert main(["sign", "churn"]) == 0
    assert signature_of(workshop).baseline == before.baseline


def test_a_signature_holds_the_baseline_of_the_rows_that_signed(workshop: Workshop) -> None:
    file = workshop.folder / "rows.parquet"
    rows = training_rows()
    rows.to_parquet(file)
    assert main(["sign", "churn", "--rows", str(file)]) == 0
    baseline = signature_of(workshop).baseline
    assert baseline is not None
    assert (baseline["rows"], baseline["origin"], baseline["classes"]) == (
        200,
        str(file),
        ["leaves", "stays"],
    )
    assert baseline["features"]["a"]["max"] == rows["a"].max()
    workshop.add_model("churn", input={"baseline": True}, error_threshold=5)
    workshop.in_source("UPDATE customers SET a = 1000 WHERE id = 1")
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    assert workshop.record(dispatch.id).rows_rejected == 1


def test_made_up_rows_come_without_the_extremes_of_a_baseline(workshop: Workshop) -> None:
    workshop.add_rows(200)
    assert main(["sign", "churn", "--synthetic"]) == 0
    assert signature_of(workshop).baseline is None


def test_a_baseline_of_its_own_file_keeps_working_beside_a_signature(workshop: Workshop) -> None:
    assert main(["baseline", "churn"]) == 0
    file = workshop.folder / "churn.skops.baseline.json"
    assert main(["sign", "churn", "--query", "SELECT id, a, b, c FROM customers WHERE id < 3"]) == 0
    assert signature_of(workshop).baseline == json.loads(file.read_text())
    workshop.add_model("churn", input={"baseline": True})
    assert main(["check", "--connect"]) == 0


def test_a_dispatch_with_another_answer_stops_and_writes_nothing(workshop: Workshop) -> None:
    assert main(["sign", "churn"]) == 0
    workshop.run(workshop.dispatch())
    written = workshop.predictions()
    file: Path = workshop.folder / "churn.skops.signature.json"
    content = json.loads(file.read_text())
    content["golden"]["answers"]["predict_proba"][1] = [0.25, 0.75]
    file.write_text(json.dumps(content))
    dispatch = workshop.dispatch()
    with pytest.raises(GoldenRowMismatch, match=r"golden row 2, column 'probability_leaves': expected 0.25"):
        workshop.run(dispatch)
    assert workshop.predictions() == written
    assert workshop.record(dispatch.id).state == "failed"


def test_a_query_of_another_kind_stops_before_its_first_row(workshop: Workshop, capsys: Captured) -> None:
    assert main(["sign", "churn"]) == 0
    workshop.add_model("churn", source={"query": "SELECT id, a, b, 'x' || c AS c FROM customers"})
    assert main(["dispatch", "churn"]) == 1
    assert "models.churn.source: column 'c': found string" in capsys.readouterr().err
