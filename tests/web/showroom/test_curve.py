"""The curve of What if is drawn from what the model answered, with gaps where it gave no answer."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from mlops_plugin.serving.curves import Curve
from mlops_plugin.serving.run import Shown
from mlops_plugin.serving.showing_sink import Rejection
from mlops_plugin.serving.wanted import Wanted
from mlops_plugin.web.showroom.curve import CurveShown, curve_chart
from web.conftest import rendered

WANTED = Wanted(keys=[(1,)], curve=Curve("a", 0.0, 4.0))


def _shown(values: list[Any], outcomes: list[Any], column: str = "prediction", rejected: int = -1) -> Shown:
    rows = pa.table({"id": [1] * len(values), "a": values})
    kept = [outcome for row, outcome in enumerate(outcomes) if row != rejected]
    predictions = pa.table({"id": [1] * len(kept), column: kept})
    rejections = () if rejected < 0 else (Rejection(rejected, "a", "too much", "9"),)
    return Shown("d", "0" * 64, rows, predictions, (), rejections, None, len(values) - 2)


def _drawn(shown: Shown) -> CurveShown:
    found = curve_chart(shown, WANTED)
    assert found is not None
    return found


def _dots(found: CurveShown, look: str) -> list[tuple[float, float]]:
    root = ET.fromstring(found.svg)  # noqa: S314 - our own
    return [
        (float(one.attrib["cx"]), float(one.attrib["cy"]))
        for one in root.iter()
        if one.attrib.get("class") == look
    ]


def test_the_curve_goes_through_all_answers_and_marks_the_case() -> None:
    found = _drawn(_shown([1.0, 3.0, 0.0, 2.0, 4.0], [10.0, 30.0, 0.0, 20.0, 40.0]))
    assert (found.feature, found.outcome) == ("a", "prediction")
    assert found.rows == [("0", "0"), ("2", "20"), ("4", "40")]
    spots = _dots(found, "spot")
    assert len(spots) == 3
    (was,), (now,) = _dots(found, "spot-was"), _dots(found, "spot-now")
    assert was == pytest.approx(((spots[0][0] + spots[1][0]) / 2, (spots[0][1] + spots[1][1]) / 2), abs=0.1)
    assert now == pytest.approx(((spots[1][0] + spots[2][0]) / 2, (spots[1][1] + spots[2][1]) / 2), abs=0.1)
    (path,) = re.findall(r' d="([^"]+)"', found.svg)
    assert re.findall("[ML]", path) == ["M", "L", "L"]


@pytest.mark.parametrize(
    ("values", "outcomes", "rows"),
    [
        (
            [1.7e9 + 10 * n for n in range(3)],
            [1_234_567.1, 1_234_568.4, 1_234_569.0],
            [
                ("1,700,000,000", "1,234,567.1"),
                ("1,700,000,010", "1,234,568.4"),
                ("1,700,000,020", "1,234,569"),
            ],
        ),
        (
            [2010.0, 2010.25, 2020.0],
            [0.5, 0.5 + 1e-14, 0.5],
            [("2,010", "0.5"), ("2,010.25", "0.5"), ("2,020", "0.5")],
        ),
    ],
)
def test_points_that_differ_do_not_look_alike(
    values: list[float], outcomes: list[float], rows: list[tuple[str, str]]
) -> None:
    found = _drawn(_shown([values[0], values[0], *values], [outcomes[0], outcomes[0], *outcomes]))
    assert found.rows == rows
    for at, outcome in rows:
        assert f"{at}: {outcome}" in found.svg


def test_a_range_that_its_column_cannot_tell_apart_has_no_curve() -> None:
    assert curve_chart(_shown([1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]), WANTED) is None


def test_a_value_that_is_rejected_leaves_a_gap() -> None:
    values, outcomes = [1.0, 1.0, 0.0, 1.0, 2.0, 3.0, 4.0], [5.0, 5.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    found = _drawn(_shown(values, outcomes, rejected=4))
    (path,) = re.findall(r' d="([^"]+)"', found.svg)
    assert re.findall("[ML]", path) == ["M", "L", "M", "L"]
    assert [at for at, _ in found.rows] == ["0", "1", "3", "4"]


def test_the_curve_is_that_of_the_class_which_the_case_had() -> None:
    shown = _shown([1.0, 3.0, 0.0, 4.0], [0.9, 0.2, 0.95, 0.1], "probability_stays")
    found = _drawn(shown)
    assert found.outcome == "probability of stays"
    (low,), (high,) = ([y for _x, y in _dots(found, "spot")[n : n + 1]] for n in (1, 0))
    assert low > high  # the picture's y goes down


def test_a_number_among_several_outputs_is_no_share() -> None:
    values, outcomes = [1.0, 3.0, 0.0, 4.0], [9.0, 2.0, 9.5, 1.0]
    one, first = (_drawn(_shown(values, outcomes, name)) for name in ("prediction", "prediction_0"))
    assert _dots(first, "spot") == _dots(one, "spot")


@pytest.mark.parametrize(
    "shown",
    [
        _shown([1.0, 1.0, 0.0, 4.0], ["stays", "stays", "stays", "leaves"]),  # labels only
        _shown([1.0, 1.0, 0.0, 4.0], [None, None, None, 1.0]),  # a single answer
    ],
    ids=["labels", "no answers"],
)
def test_there_is_no_curve_without_numbers(shown: Shown) -> None:
    assert curve_chart(shown, WANTED) is None
    values: dict[str, Any] = {"problem": None, "csv": "", "results": [], "verdict": None, "curl": ""}
    values |= {"model": SimpleNamespace(name="churn"), "shown": shown, "wanted": WANTED, "curve": None}
    values["categories"] = None
    assert "There is no curve over a" in rendered("showroom/result.html", **values)
