"""A model's last dispatches as a small chart: a bar for each, as high as its rows; failed ones stand out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from mlops_plugin.events.latest import RecentDispatch
from mlops_plugin.events.records import State
from mlops_plugin.web import svg
from mlops_plugin.web.languages.translation import ngettext, word_of
from mlops_plugin.web.languages.written_values import format_count

_STEP, _HEIGHT = 8, 28
_LEAST = 2  # so that a dispatch without rows is visible
_LOOKS: Mapping[State, str] = {"succeeded": "good", "failed": "bad", "running": "busy"}


def sparkline(recent: Sequence[RecentDispatch], places: int) -> Markup:
    """The newest stands at the right end of so many places; one path for each state keeps it small."""
    most = max((each.rows_predicted or 0 for each in recent if each.state != "failed"), default=0)
    paths: dict[State, str] = {}
    for place, each in enumerate(recent, start=places - len(recent)):
        height = _HEIGHT if each.state == "failed" else _LEAST
        if each.state != "failed" and most:
            height = max(_LEAST, round(_HEIGHT * (each.rows_predicted or 0) / most))
        paths[each.state] = paths.get(each.state, "") + f"M{place * _STEP + _STEP // 2} {_HEIGHT}v-{height}"
    body = [svg.element("path", class_=_LOOKS[state], d=path) for state, path in paths.items()]
    words = describe_recent(recent)
    return svg.strip([svg.element("title", words), *body], places * _STEP, _HEIGHT, description=words)


def describe_recent(recent: Sequence[RecentDispatch]) -> str:
    """`the last 20 dispatches: 19 succeeded, 1 failed; 1,234 rows predicted last`"""
    good = sum(each.state == "succeeded" for each in recent)
    bad = sum(each.state == "failed" for each in recent)
    parts = [
        ngettext("%(number)s succeeded", "%(number)s succeeded", good) if good else "",
        ngettext("%(count)s failed", "%(count)s failed", bad, count=format_count(bad)) if bad else "",
        word_of("running") if good + bad < len(recent) else "",
    ]
    words = ngettext(
        "the last dispatch: %(parts)s",
        "the last %(number)s dispatches: %(parts)s",
        len(recent),
        parts=", ".join(filter(None, parts)),
    )
    rows = next((each.rows_predicted for each in reversed(recent) if each.rows_predicted is not None), None)
    if rows is None:
        return words
    last = ngettext(
        "%(count)s row predicted last", "%(count)s rows predicted last", rows, count=format_count(rows)
    )
    return f"{words}; {last}"
