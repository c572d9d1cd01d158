"""A model's last dispatches as a row of small bars, for its card."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from mlops_plugin.events.latest import RecentDispatch
from mlops_plugin.web import svg
from mlops_plugin.web.languages.translation import ngettext

_STEP, _WIDTH, _HEIGHT = 6, 5, 24
_PLACES = 20  # so wide, however few there are
_LEAST = 3.0  # so that a dispatch of few rows is visible


def sparkline(recent: Sequence[RecentDispatch]) -> Markup | None:
    """A bar for each, as high as it has predicted rows; one that failed is as high as the picture."""
    if not recent:
        return None
    most = max((one.rows_predicted or 0 for one in recent), default=0) or 1
    shown = recent[-_PLACES:]
    bars = [
        svg.rectangle(one.state, number * _STEP, _HEIGHT - height, _WIDTH, height)
        for number, one in enumerate(shown, _PLACES - len(shown))
        if (height := _height(one, most))
    ]
    failed = sum(one.state == "failed" for one in shown)
    words = ngettext(
        "of the last dispatch, %(failed)s failed",
        "of the last %(number)s dispatches, %(failed)s failed",
        len(shown),
        failed=failed,
    )
    return svg.strip(bars, _PLACES * _STEP, _HEIGHT, description=words)


def _height(one: RecentDispatch, most: int) -> float:
    if one.state == "failed":
        return _HEIGHT
    return max(_LEAST, _HEIGHT * (one.rows_predicted or 0) / most)
