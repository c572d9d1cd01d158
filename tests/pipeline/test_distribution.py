"""Distributions count every value once, whatever the batches, and stay small."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlops_plugin.events.details.step_reports import as_json
from mlops_plugin.pipeline.distribution import MAX_BINS, MAX_CLASSES, Distribution, merge


def of(values: Sequence[Any], kind: pa.DataType, batch_rows: int = 1_000_000) -> dict[str, Any]:
    distribution = Distribution(kind)
    for start in range(0, len(values), batch_rows):
        distribution.see(pa.array(values[start : start + batch_rows], kind))
    report: dict[str, Any] = json.loads(json.dumps(as_json(distribution.report()), allow_nan=False))
    return report


def test_labels_are_counted_by_name() -> None:
    report = of(["b", "a", None, "b"], pa.string(), batch_rows=1)
    assert report == {"kind": "classes", "counts": [["a", 1], ["b", 2]], "others": 0, "missing": 1}


@pytest.mark.parametrize(("values", "kind"), [([1, -1, 1], pa.int64()), ([True, False, True], pa.bool_())])
def test_numbered_and_boolean_labels_are_classes(values: list[Any], kind: pa.DataType) -> None:
    assert sorted(count for _, count in of(values, kind)["counts"]) == [1, 2]


def test_a_thousand_labels_stay_a_small_report() -> None:
    report = of([f"{n}" * 500 for n in range(1000)], pa.string())
    assert len(report["counts"]) <= MAX_CLASSES
    assert sum(count for _, count in report["counts"]) + report["others"] == 1000
    assert len(json.dumps(report)) < 10_000


@pytest.mark.parametrize("batch_rows", [1, 7, 1_000_000])
@pytest.mark.parametrize(
    "values",
    [
        [0.0],
        [-0.0, 0.0],
        [3.5] * 10,
        [1e300, -1e300],
        [1.7e308, -1.7e308, 0.0],
        [5e-324, 0.0],
        [1e-300, 1e300],
        list(np.random.default_rng(1).normal(size=200)),
        list(np.random.default_rng(2).lognormal(sigma=8, size=200)),
        [float(n) for n in range(-100, 100)],
        [1e9 + n / 1000 for n in range(100)],
    ],
)
def test_numbers_are_in_the_bin_that_holds_them(values: list[float], batch_rows: int) -> None:
    report = of(values, pa.float64(), batch_rows)
    assert sum(report["counts"]) == len(values)
    assert len(report["counts"]) <= MAX_BINS
    assert (report["low"], report["high"]) == (min(values), max(values))
    expected = [0] * len(report["counts"])
    for value in values:
        expected[math.floor(math.ldexp(value, -report["exponent"])) - report["first"]] += 1
    assert report["counts"] == expected


def test_bins_are_fine_enough_to_see_a_shape() -> None:
    report = of(list(np.random.default_rng(3).normal(size=1000)), pa.float64())
    assert len(report["counts"]) > MAX_BINS // 4


def test_what_is_no_number_is_missing() -> None:
    report = of([1.0, None, math.nan, math.inf, -math.inf], pa.float64())
    assert (sum(report["counts"]), report["missing"]) == (1, 4)


def test_nothing_seen_is_reported_as_nothing() -> None:
    assert of([], pa.float64())["counts"] == []
    assert of([math.nan], pa.float64())["counts"] == []
    assert of([], pa.string())["counts"] == []


def test_labels_and_numbers_of_partitions_make_no_whole() -> None:
    labels, numbers, nothing = (
        Distribution(pa.int64()),
        Distribution(pa.float64()),
        Distribution(pa.float64()),
    )
    labels.see(pa.array([1, 2]))
    numbers.see(pa.array([0.5, 1.5, 2.5]))
    assert merge([labels.report(), numbers.report()]) is None
    assert merge([labels.report(), nothing.report()]) == labels.report()


def test_a_label_is_counted_in_full_or_not_at_all() -> None:
    few, many = Distribution(pa.string()), Distribution(pa.string())
    few.see(pa.array(["rare", *"abcdef"]))
    many.see(pa.array([*map(str, range(MAX_CLASSES)), *["rare"] * 9, *"01"]))
    for parts in ([few, many], [many, few]):
        whole = merge([part.report() for part in parts])
        assert whole is not None
        assert as_json(whole) == {**as_json(many.report()), "others": 16}
