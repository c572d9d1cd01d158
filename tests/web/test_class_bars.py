"""Bars for many classes: a row for each with its name, the largest first."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from mlops_plugin.events.details.step_reports import ClassCounts, InferReport
from mlops_plugin.web.charts import SERIES_COLOURS, Chart
from mlops_plugin.web.class_bars import MOST_ROWS, class_bars
from mlops_plugin.web.dispatches.plots import distribution_chart, history_charts
from mlops_plugin.web.frame import WIDTH
from web.dispatches.test_dispatch_plots import no_link, timed


def _report(counts: dict[str, int]) -> InferReport:
    return InferReport(sum(counts.values()), distribution=ClassCounts(tuple(counts.items())))


def _widths(chart: Chart, series: int) -> list[float]:
    drawn = ET.fromstring(chart.svg)  # noqa: S314 - our own
    return [
        float(one.attrib["width"]) for one in drawn.iter() if one.attrib.get("class") == f"series-{series}"
    ]


def _names(chart: Chart) -> list[str]:
    return re.findall(r'text-anchor="end"[^>]*>([^<]*)<', chart.svg)


def test_each_class_has_its_name_and_a_bar_in_proportion() -> None:
    shares = {f"class {n}": (n + 1) / 55 for n in range(10)}
    chart = class_bars("k", "Title", [("now", shares), ("before", {"class 0": 1.0})], head="Class")
    assert _names(chart) == [f"class {n}" for n in range(9, -1, -1)]
    widths = _widths(chart, 0)
    assert [width / widths[-1] for width in widths] == pytest.approx(list(range(10, 0, -1)), rel=0.01)
    assert [width > 0 for width in _widths(chart, 1)] == [False] * 9 + [True]
    assert chart.table.rows[0] == ("class 9", "18.2%", "0.0%")
    assert all(0 <= float(x) <= WIDTH for x in re.findall(r' x="([\d.-]+)"', chart.svg))


def test_very_many_classes_share_a_last_row_and_the_table_has_all() -> None:
    shares = {f"c{n:03}": 1 / 100 for n in range(100)}
    chart = class_bars("k", "Title", [("now", shares)], head="Class")
    assert len(_names(chart)) == MOST_ROWS
    assert _names(chart)[-1] == "61 others"
    widths = _widths(chart, 0)
    assert widths[-1] / widths[0] == pytest.approx(61, rel=0.01)
    assert len(chart.table.rows) == 100


def test_a_long_name_is_cut_and_escaped() -> None:
    chart = class_bars("k", "Title", [("now", {"<b>" + "x" * 60: 1.0})], head="Class")
    (name,) = _names(chart)
    assert (len(name) - 2 * len("&lt;") + 2, name[-1]) == (24, "…")
    assert "<b>" not in chart.svg


@pytest.mark.parametrize(("classes", "is_bars"), [(SERIES_COLOURS, False), (SERIES_COLOURS + 1, True)])
def test_more_classes_than_colours_are_drawn_as_bars(classes: int, is_bars: bool) -> None:
    counts = {f"class {n}": 1 + n for n in range(classes)}
    found = distribution_chart(_report(counts), None)
    assert found is not None
    assert ('text-anchor="end" x="160"' in found.svg) is is_bars
    *_, shares = history_charts([(timed(n), _report(counts)) for n in range(3)], no_link)
    assert [name for _swatch, name in shares.legend] == (
        ["the newest with predictions", "mean of the 2 before it"] if is_bars else list(reversed(counts))
    )
