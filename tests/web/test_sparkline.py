"""The small bars on a model's card say how many of its last dispatches failed, and how large each was."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from mlops_plugin.events.latest import RecentDispatch
from mlops_plugin.web.sparkline import sparkline


def test_bars_are_as_high_as_rows_and_failures_are_highest() -> None:
    drawn = sparkline(
        [
            RecentDispatch("succeeded", 50),
            RecentDispatch("succeeded", 100),
            RecentDispatch("failed", None),
            RecentDispatch("running", None),
        ]
    )
    assert drawn is not None
    picture = ET.fromstring(drawn)  # noqa: S314 - our own
    bars = [(bar.attrib["class"], float(bar.attrib["height"])) for bar in picture.findall("rect")]
    assert bars == [("succeeded", 12), ("succeeded", 24), ("failed", 24), ("running", 3)]
    assert picture.attrib["aria-label"] == "of the last 4 dispatches, 1 failed"
    # The newest stands at the right end.
    assert picture.findall("rect")[-1].attrib["x"] == "114"


def test_a_model_without_dispatches_has_no_bars_and_only_the_last_are_shown() -> None:
    assert sparkline([]) is None
    many = sparkline([RecentDispatch("failed", None), *[RecentDispatch("succeeded", 1)] * 20])
    assert many is not None
    assert "of the last 20 dispatches, 0 failed" in many
