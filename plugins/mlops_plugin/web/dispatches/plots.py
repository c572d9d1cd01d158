"""The plots of the Dispatches view: a model's history, and a dispatch's predictions beside the last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from mlops_plugin.events.details.step_reports import ClassCounts, Counts, InferReport, NumberCounts
from mlops_plugin.events.reading import DispatchLine
from mlops_plugin.web.charts import (
    SERIES_COLOURS,
    Chart,
    Point,
    Shares,
    comparison_chart,
    line_chart,
    share_chart,
)
from mlops_plugin.web.class_bars import class_bars
from mlops_plugin.web.dispatches.lines import TimedLine
from mlops_plugin.web.frame import DURATIONS
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.languages.translation import ngettext
from mlops_plugin.web.languages.written_values import format_number

Report = InferReport | None
_BINS = 32  # columns of a histogram; more would be too thin for two series


def history_charts(
    history: Sequence[tuple[TimedLine, Report]], link_of: Callable[[DispatchLine], str | None]
) -> list[Chart]:
    """Duration, rows, and what was predicted, of the same dispatches over time; none for fewer than two.

    Each point leads to `link_of` its dispatch.
    """
    if len(history) < 2:
        return []
    timed = [each for each, _report in history]

    def point(line: DispatchLine, value: float | None) -> Point:
        return Point(line.created_at, value, line.state, link_of(line))

    charts = [
        line_chart("duration", _("Duration"), [point(each.line, each.seconds) for each in timed], DURATIONS),
        line_chart(
            "rows", _("Rows predicted"), [point(each.line, each.line.rows_predicted) for each in timed]
        ),
    ]
    reports = [(each.line, distribution_of(report)) for each, report in history]
    shares = [
        Shares(line.created_at, _shares(found), link_of(line))
        for line, found in reports
        if isinstance(found, ClassCounts) and _total(found)  # nothing has no shares
    ]
    if shares:
        charts.append(_class_chart(shares))
    means = [point(line, found.mean) for line, found in reports if isinstance(found, NumberCounts)]
    if means:
        charts.append(line_chart("mean", _("Mean prediction"), means))
    return charts


def _class_chart(points: Sequence[Shares]) -> Chart:
    """Shares over time; of more classes than colours, the newest shares beside the mean of those before."""
    classes = {name for point in points for name in point.shares}
    if len(classes) <= SERIES_COLOURS or len(points) < 2:
        return share_chart("shares", _("Share of each class"), points)
    *earlier, newest = points
    mean = {name: sum(point.shares.get(name, 0.0) for point in earlier) / len(earlier) for name in classes}
    series = [
        (_("the newest with predictions"), newest.shares),
        (ngettext("the dispatch before it", "mean of the %(number)s before it", len(earlier)), mean),
    ]
    return class_bars("shares", _("Share of each class"), series, head=_("Prediction"))


def distribution_chart(this: Report, previous: Report) -> Chart | None:
    """One dispatch's predictions, beside those of the one before if both count alike, or None."""
    found, before = distribution_of(this), distribution_of(previous)
    if found is None or not _total(found):
        return None
    wholes = [(_("this dispatch"), found)]
    if before is not None and before.kind == found.kind and _total(before):
        wholes.append((_("the one before"), before))
    classes = [(name, whole) for name, whole in wholes if isinstance(whole, ClassCounts)]
    if classes and len({name for _name, whole in classes for name in _classes(whole)}) > SERIES_COLOURS:
        shares = [(name, _shares(whole)) for name, whole in classes]
        return class_bars("distribution", _("Distribution of predictions"), shares, head=_("Prediction"))
    if isinstance(found, NumberCounts):
        labels, counts = _aligned_bins([whole for _name, whole in wholes if isinstance(whole, NumberCounts)])
    else:
        labels, counts = _aligned_classes(
            [whole for _name, whole in wholes if isinstance(whole, ClassCounts)]
        )
    series = [
        (name, [count / _total(whole) for count in column])
        for (name, whole), column in zip(wholes, counts, strict=True)
    ]
    return comparison_chart("distribution", _("Distribution of predictions"), labels, series)


def distribution_of(report: Report) -> Counts | None:
    """The distribution in what `infer` reported; dispatches of earlier versions have none."""
    return None if report is None else report.distribution


def _classes(distribution: ClassCounts) -> dict[str, int]:
    # A class may have one of these names, too.
    rest = Counter({_("others"): distribution.others, _("no value"): distribution.missing})
    return Counter(dict(distribution.counts)) + rest


def _total(distribution: Counts) -> int:
    if isinstance(distribution, ClassCounts):
        return sum(_classes(distribution).values())
    return sum(distribution.counts)


def _shares(distribution: ClassCounts) -> dict[str, float]:
    """Of counts that are not empty."""
    counts = _classes(distribution)
    whole = sum(counts.values())
    return {name: count / whole for name, count in counts.items()}


def _aligned_classes(wholes: Sequence[ClassCounts]) -> tuple[list[str], list[list[int]]]:
    counted = [_classes(whole) for whole in wholes]
    labels = list(dict.fromkeys(name for counts in counted for name in counts))
    return labels, [[counts.get(name, 0) for name in labels] for counts in counted]


def _aligned_bins(wholes: Sequence[NumberCounts]) -> tuple[list[str], list[list[int]]]:
    """The same bins for all: those of the coarsest, and coarser if there would be too many."""
    exponent = max(whole.exponent for whole in wholes)
    while True:
        counted = [_at(whole, exponent) for whole in wholes]
        first = min(min(counts) for counts in counted)
        last = max(max(counts) for counts in counted)
        if last - first < _BINS:
            break
        exponent += 1
    numbers = range(first, last + 1)
    labels = [_bin_words(number, exponent) for number in numbers]
    return labels, [[counts.get(number, 0) for number in numbers] for counts in counted]


def _bin_words(number: int, exponent: int) -> str:
    """A bin by both of its ends: `0.25 to 0.5`."""
    low, high = number * 2.0**exponent, (number + 1) * 2.0**exponent
    return _("%(low)s to %(high)s", low=format_number(low), high=format_number(high))


def _at(distribution: NumberCounts, exponent: int) -> dict[int, int]:
    merged: dict[int, int] = {}
    for place, count in enumerate(distribution.counts):
        number = (distribution.first + place) >> (exponent - distribution.exponent)
        merged[number] = merged.get(number, 0) + count
    return merged
