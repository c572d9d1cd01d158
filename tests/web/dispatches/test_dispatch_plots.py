"""Plots are well-formed, say what they show, and keep their figures right for any values."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from mlops_plugin.events.details.milestones import Reconciliation, TryStart
from mlops_plugin.events.details.step_reports import InferReport
from mlops_plugin.events.reading import DispatchLine
from mlops_plugin.events.records import EventRecord, Kind, Step
from mlops_plugin.pipeline.distribution import Distribution
from mlops_plugin.web.charts import Chart, Point, Shares, line_chart, share_chart
from mlops_plugin.web.dispatches.lines import TimedLine
from mlops_plugin.web.dispatches.plots import distribution_chart, history_charts
from mlops_plugin.web.dispatches.story import (
    FAILED,
    LOST,
    RUNNING,
    SUCCEEDED,
    list_tries,
    step_to_resume,
    summarise_steps,
)
from mlops_plugin.web.dispatches.timeline import timeline
from mlops_plugin.web.frame import DURATIONS, HEIGHT, WIDTH

START = datetime(2026, 1, 1, tzinfo=UTC)
HOSTILE = '</title><script>alert("x")</script>'


def parsed(svg: str) -> ET.Element:
    """The picture, after proving that nothing lies outside of it and nothing is no number."""
    root = ET.fromstring(svg)  # noqa: S314 - our own
    for element in root.iter():
        for name in ("x", "y", "cx", "cy", "width", "height", "x1", "x2", "y1", "y2"):
            if name in element.attrib:
                value = float(element.attrib[name])
                limit = WIDTH if name in ("x", "cx", "width", "x1", "x2") else HEIGHT
                assert math.isfinite(value)
                assert -1 <= value <= limit + 1, (element.tag, element.attrib)
    has_links = any(element.tag.endswith("}a") or element.tag == "a" for element in root.iter())
    assert root.attrib["role"] == ("group" if has_links else "img")
    title, description = root.attrib["aria-labelledby"].split()
    assert {element.attrib.get("id") for element in root.iter()} >= {title, description}
    return root


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [0.0],
        [1.0],
        [0.0, 0.0],
        [None, None],
        [1.0, None, 2.0],
        [-5.0, 5.0],
        [-5.0, -1.0],
        [1e308, -1e308],
        [5e-324],
        [1e-9, 2e-9],
        [float(n) for n in range(500)],
    ],
)
def test_line_chart_draws_any_values(values: list[float | None]) -> None:
    points = [Point(at(n), value, "succeeded") for n, value in enumerate(values)]
    chart = line_chart("k", "Title", points)
    drawn = parsed(chart.svg)
    circles = [element for element in drawn.iter() if element.tag.endswith("circle")]
    assert len(circles) == sum(value is not None for value in values)
    assert len(chart.table.rows) == len(values)


def test_line_chart_says_its_range_and_marks_failures() -> None:
    points = [Point(at(0), 2.0, "succeeded"), Point(at(1), 8.0, "failed")]
    chart = line_chart("k", "Rows", points)
    assert "2 values from 2 to 8; the newest is 8" in chart.svg
    assert chart.svg.count("dot-failed") == 1


def test_larger_values_are_drawn_higher() -> None:
    drawn = parsed(line_chart("k", "T", [Point(at(n), float(n), "") for n in range(9)]).svg)
    heights = [float(element.attrib["cy"]) for element in drawn.iter() if element.tag.endswith("circle")]
    assert heights == sorted(heights, reverse=True)


def test_names_from_the_data_are_escaped_everywhere() -> None:
    share = share_chart("k", HOSTILE, [Shares(at(0), {HOSTILE: 1.0})])
    line = line_chart("k", HOSTILE, [Point(at(0), 1.0, HOSTILE)])
    for chart in (share, line):
        parsed(chart.svg)
        assert "<script" not in chart.svg
    bars = distribution_chart(report(pa.array([HOSTILE])), None)
    assert bars is not None
    assert "<script" not in bars.svg


def test_shares_of_many_classes_are_summed_up_as_others() -> None:
    shares = {f"class {n}": 1 / 20 for n in range(20)}
    chart = share_chart("k", "Shares", [Shares(at(0), shares), Shares(at(1), shares)])
    parsed(chart.svg)
    assert [name for _, name in chart.legend][-1] == "others"
    for row in chart.table.rows:
        assert sum(float(cell.rstrip("%")) for cell in row[1:]) == pytest.approx(100)


def report(column: pa.Array) -> InferReport:
    distribution = Distribution(column.type)
    distribution.see(column)
    return InferReport(len(column), distribution=distribution.report())


def shares_of(chart: Chart | None) -> dict[str, tuple[str, ...]]:
    assert chart is not None
    parsed(chart.svg)
    return {row[0]: row[1:] for row in chart.table.rows}


def test_classes_of_two_dispatches_stand_side_by_side() -> None:
    this, before = report(pa.array(["a", "a", "b", None])), report(pa.array(["a", "c"]))
    assert shares_of(distribution_chart(this, before)) == {
        "a": ("50.0%", "50.0%"),
        "b": ("25.0%", "0.0%"),
        "no value": ("25.0%", "0.0%"),
        "c": ("0.0%", "50.0%"),
    }


def test_numbers_of_two_dispatches_share_their_bins() -> None:
    fine = report(pa.array([n / 1000 for n in range(1000)]))
    coarse = report(pa.array([float(n) for n in range(-500, 500)]))
    shares = shares_of(distribution_chart(fine, coarse))
    assert len(shares) <= 32
    for column in (0, 1):
        whole = sum(float(row[column].rstrip("%")) for row in shares.values())
        assert whole == pytest.approx(100, abs=1)


@pytest.mark.parametrize("values", [[0.0], [1e300, -1e300], [5e-324, 1.0], [1.0] * 9])
def test_any_numbers_are_drawn(values: list[float]) -> None:
    assert shares_of(distribution_chart(report(pa.array(values)), None))


def test_a_class_may_be_called_as_the_rest_is() -> None:
    labels = ["others"] * 5 + ["no value"] * 2 + [f"class {n:02}" for n in range(60)] * 2 + [None] * 3
    chart = distribution_chart(report(pa.array(labels)), None)
    assert chart is not None
    shares = {row[0]: row[1] for row in chart.table.rows}
    assert len(shares) == 50
    assert (shares["others"], shares["no value"]) == (f"{(5 + 12 * 2) / 130:.1%}", f"{(2 + 3) / 130:.1%}")
    chart = share_chart("k", "Shares", [Shares(at(0), {"others": 0.4} | {f"c{n}": 0.06 for n in range(10)})])
    assert [name for _, name in chart.legend].count("others") == 1
    assert "others 64.0%" in chart.svg  # with the four that have no colour


def test_without_a_distribution_there_is_no_plot() -> None:
    assert distribution_chart(None, None) is None
    assert distribution_chart(InferReport(3), report(pa.array(["a"]))) is None
    assert distribution_chart(report(pa.array([], pa.string())), None) is None
    kinds_differ = shares_of(distribution_chart(report(pa.array(["a"])), report(pa.array([1.0]))))
    assert kinds_differ == {"a": ("100.0%",)}


def line(n: int, **changes: Any) -> DispatchLine:
    values: dict[str, Any] = dict.fromkeys(DispatchLine.__dataclass_fields__)
    values |= {"dispatch_id": str(n), "model": "m", "origin": "manual", "dry_run": False, "tries": 1}
    values |= {"state": "succeeded", "created_at": at(n), "finished_at": at(n + 0.5), "updated_at": at(n)}
    return DispatchLine(**(values | changes))


def timed(n: int) -> TimedLine:
    return TimedLine(line(n), line(n).seconds)


def no_link(_line: DispatchLine) -> None:
    return None


def test_each_point_and_each_row_of_its_table_leads_to_its_dispatch() -> None:
    history = [(timed(n), report(pa.array(["a", "b"]))) for n in range(3)]
    charts = history_charts(history, lambda line: f"dispatches/<{line.dispatch_id}>")
    links = ["dispatches/<0>", "dispatches/<1>", "dispatches/<2>"]
    for chart in charts[:1] + charts[2:]:  # no rows are recorded
        drawn = parsed(chart.svg)
        found = [element.attrib["href"] for element in drawn.iter() if element.tag == "a"]
        assert list(dict.fromkeys(found)) == links, chart.title
        assert chart.table.links == links


def test_bars_stand_at_their_time_rather_than_one_after_the_other() -> None:
    chart = share_chart("k", "Shares", [Shares(at(n), {"a": 1.0}) for n in (0, 1, 9)])
    bars = [element for element in parsed(chart.svg).iter() if element.tag == "rect"]
    first, second, third = (float(bar.attrib["x"]) for bar in bars)
    assert third - second == pytest.approx(8 * (second - first), abs=1)


def test_ticks_of_durations_are_those_of_a_clock() -> None:
    points = [Point(at(n), seconds, "succeeded") for n, seconds in enumerate((40.0, 400.0))]
    drawn = parsed(line_chart("k", "Duration", points, DURATIONS).svg)
    words = [element.text for element in drawn.iter() if element.tag == "text"]
    assert words[:5] == ["0 s", "2 min", "4 min", "6 min", "8 min"]
    assert words[5:] == ["00:00", "00:15", "00:30", "00:45", "01:00"]


def test_bins_of_numbers_are_named_by_both_ends() -> None:
    shares = shares_of(distribution_chart(report(pa.array([0.1, 0.3, 0.6])), None))
    assert all(" to " in label for label in shares)
    ends = [label.split(" to ") for label in shares]
    assert [end for _, end in ends[:-1]] == [start for start, _ in ends[1:]]


def test_history_of_a_regression_shows_its_mean() -> None:
    history = [(timed(n), report(pa.array([float(n), n + 2.0]))) for n in range(3)]
    charts = {chart.title: chart for chart in history_charts(history, no_link)}
    assert list(charts) == ["Duration", "Rows predicted", "Mean prediction"]
    assert [row[1] for row in charts["Mean prediction"].table.rows] == ["1", "2", "3"]
    assert [row[1] for row in charts["Duration"].table.rows] == ["30 min"] * 3


def test_history_that_began_without_distributions_shows_those_there_are() -> None:
    history = [(timed(0), None), (timed(1), InferReport(1)), (timed(2), report(pa.array(["a"])))]
    shares = history_charts(history, no_link)[-1]
    assert shares.title == "Share of each class"
    assert len(shares.table.rows) == 1
    assert history_charts(history[:1], no_link) == []


@pytest.mark.parametrize("classes", [2, 9])
def test_a_dispatch_without_rows_has_no_shares(classes: int) -> None:
    some, nothing = report(pa.array([str(n) for n in range(classes)])), report(pa.array([], pa.string()))
    history = [(timed(n), report) for n, report in enumerate([some, nothing, some, nothing])]
    shares = history_charts(history, no_link)[-1]
    half = f"{1 / classes:.1%}"
    expected = [(half,) * 2] * classes if classes > 8 else [(half,) * classes] * 2
    assert [row[1:] for row in shares.table.rows] == expected
    assert [chart.title for chart in history_charts(history[1::2], no_link)] == ["Duration", "Rows predicted"]


def event(after: float, step: Step | None, kind: Kind, number: int | None = 1, **rest: Any) -> EventRecord:
    values = {"row_count": None, "seconds": None, "error": None, "details": None, **rest}
    moment = START + timedelta(seconds=after)
    return EventRecord(None, "d", "m", step, kind, None, number, moment, **values)


RETRIED = [
    event(0, None, "started", None),
    event(1, "collect", "started"),
    event(2, "collect", "failed", error="no route", seconds=1.0),
    event(5, "collect", "started", 2),
    event(6, "collect", "succeeded", 2, row_count=10, seconds=0.5),
    event(7, "log", "started"),
]


def test_tries_are_told_with_their_outcome() -> None:
    tries = list_tries(RETRIED)
    assert [(each.step, each.number, each.outcome) for each in tries] == [
        ("collect", 1, FAILED),
        ("collect", 2, SUCCEEDED),
        ("log", 1, RUNNING),
    ]
    assert tries[0].error == "no route"
    assert tries[1].rows_per_second == 20
    steps = summarise_steps(tries)
    assert [(step.step, step.tries) for step in steps] == [
        ("collect", 2),
        ("log", 1),
        ("infer", 0),
        ("persist", 0),
    ]


def test_a_killed_try_is_no_running_one() -> None:
    retried = list_tries([*RETRIED, event(60, "log", "started", 2)])
    assert [each.outcome for each in retried if each.step == "log"] == [LOST, RUNNING]
    closed = list_tries([*RETRIED, event(60, None, "reconciled", None, details=Reconciliation("failed"))])
    assert closed[-1].outcome == LOST


@pytest.mark.parametrize(
    ("more", "step"),
    [
        ([event(8, "log", "succeeded"), event(9, "infer", "failed")], "infer"),
        ([event(8, None, "reconciled", None, details=Reconciliation("failed"))], "log"),  # it was killed
        ([event(8, "log", "succeeded"), event(9, "collect", "failed", 3)], None),
        ([event(8, "log", "succeeded")], None),
        ([event(8, "log", "failed"), event(9, "infer", "started", details=TryStart(task="dispatch"))], None),
    ],
)
def test_a_failed_dispatch_goes_on_where_the_rows_are_staged(
    more: list[EventRecord], step: Step | None
) -> None:
    assert step_to_resume(list_tries([*RETRIED, *more])) == step


def test_a_step_has_the_partitions_of_the_last_plan() -> None:
    def succeeded(after: float, step: Step, number: int, rows: int | None, part: int | None = None) -> Any:
        rest: dict[str, Any] = {"row_count": rows, "partition_number": part, "seconds": 1.0}
        return [
            replace(event(after, step, "started", number), partition_number=part),
            replace(event(after + 1, step, "succeeded", number), **rest),
        ]

    first = [*succeeded(1, "plan", 1, None), *(e for n in range(3) for e in succeeded(3, "infer", 1, 10, n))]
    second = [*succeeded(20, "plan", 2, None), *succeeded(22, "infer", 2, 7, 0)]
    story = [event(0, None, "started", None), *first, event(9, None, "failed", None), *second]
    (infer,) = [step for step in summarise_steps(list_tries(story)) if step.step == "infer"]
    assert infer.last is not None
    assert (infer.tries, infer.partitions, infer.last.rows) == (4, 1, 7)
    lost = [*story, *[replace(e, kind="failed") if e.kind == "succeeded" else e for e in second[2:]]]
    assert step_to_resume(list_tries(lost)) == "infer"


def test_timeline_shows_the_last_pass_only() -> None:
    again = [*RETRIED, event(9, None, "failed", None), event(90_000, None, "started", None)]
    tries = list_tries(
        [*again, event(90_001, "collect", "started"), event(90_003, "collect", "succeeded", seconds=2.0)]
    )
    drawn = timeline(tries, START + timedelta(days=3))
    assert drawn is not None
    bars = [element for element in parsed(drawn).iter() if element.tag.endswith("rect")]
    assert len(bars) == 1
    assert "collect, try 1: succeeded in 2.0 s" in drawn
    assert timeline([], START) is None


def test_timeline_has_ticks_at_round_durations() -> None:
    drawn = timeline(list_tries(RETRIED), START + timedelta(seconds=107))
    assert drawn is not None
    words = [element.text for element in parsed(drawn).iter() if element.tag == "text"]
    assert words[4:] == ["0 s", "30.0 s", "1 min", "1 min 30 s"]


def test_running_step_reaches_until_now() -> None:
    drawn = timeline(list_tries(RETRIED), START + timedelta(seconds=107))
    assert drawn is not None
    bars = [element for element in parsed(drawn).iter() if element.tag.endswith("rect")]
    assert max(float(bar.attrib["width"]) for bar in bars) > WIDTH / 2
