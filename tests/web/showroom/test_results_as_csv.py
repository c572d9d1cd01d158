"""The results of a run as CSV: each value whole, and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pyarrow as pa

from mlops_plugin.serving.run import Shown
from mlops_plugin.serving.showing_sink import Rejection
from mlops_plugin.web.showroom.results import csv_text


def _read(rows: pa.Table, predictions: pa.Table, *rejections: Rejection) -> list[list[str]]:
    model: Any = SimpleNamespace(key=["id"])
    text = csv_text(Shown("d1", "sha", rows, predictions, (), rejections), model)
    return list(csv.reader(io.StringIO(text, newline="")))


def test_names_and_texts_that_a_spreadsheet_would_run_begin_with_an_apostrophe() -> None:
    rows = pa.table({"id": [1, 2], "=1+1": ["\n=2", "fine"]})
    predictions = pa.table({"id": [1], "prediction": ["@x"]})
    assert _read(rows, predictions, Rejection(1, "=1+1", "-range", None)) == [
        ["dispatch_id", "id", "'=1+1", "prediction", "rejected"],
        ["d1", "1", "'\n=2", "'@x", ""],
        ["d1", "2", "fine", "", "'=1+1: -range"],
    ]


def test_values_keep_all_their_digits() -> None:
    rows = pa.table({"id": [2**63 - 1], "d": [Decimal("-0.10")], "f": [0.1 + 0.2], "t": ['"a"\r\nb, c']})
    assert _read(rows, pa.table({"id": [1], "prediction": [-1e-7]}))[1] == [
        "d1", "9223372036854775807", "-0.10", "0.30000000000000004", '"a"\r\nb, c', "-1e-07",
    ]  # fmt: skip
