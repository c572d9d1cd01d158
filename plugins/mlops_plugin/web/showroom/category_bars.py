"""The outcome for each category of a feature of a case, as the page What if draws it: one bar for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from mlops_plugin.serving.curves import Categories
from mlops_plugin.serving.run import Shown
from mlops_plugin.serving.wanted import Wanted
from mlops_plugin.web import svg
from mlops_plugin.web.axes import number_ticks
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.languages.translation import word_of
from mlops_plugin.web.languages.written_values import format_number, format_value
from mlops_plugin.web.showroom.curve import is_share, outcome_on_curve
from mlops_plugin.web.showroom.reasons import outcome_words
from mlops_plugin.web.showroom.results import REJECTED

_WIDTH, _HEIGHT = 200, 16
_MARK = 6  # how wide a value's mark is, where no bar begins at nothing


@dataclass(frozen=True)
class CategoryShown:
    """A category: its outcome in words and as a bar, and whether the case has or had it."""

    label: str
    outcome: str
    bar: Markup
    note: str
    is_now: bool


@dataclass(frozen=True)
class CategoriesShown:
    """All categories, in the order of the feature's list; bars go from `low` to `high`."""

    feature: str
    outcome: str
    low: str
    high: str
    rows: Sequence[CategoryShown]


def category_bars(shown: Shown, wanted: Wanted) -> CategoriesShown | None:
    """The bars of a what-if that asked for them; None if the model gives no numbers for any category."""
    outcome = outcome_on_curve(shown)
    if not isinstance(wanted.curve, Categories) or outcome is None:
        return None
    feature = wanted.curve.feature
    values = shown.rows.column(feature).to_pylist()
    was, now, *listed = [
        (value, _number(answer, outcome)) for value, answer in zip(values, shown.answers, strict=True)
    ]
    if now[0] not in (value for value, _number_of_it in listed):
        listed.append(now)  # a value that is not in the list
    known = [number for _value, number in listed if number is not None]
    if not known:
        return None
    low, high = (0.0, 1.0) if is_share(outcome) else _ends(known)
    rows = [
        CategoryShown(
            format_value(value),
            word_of(REJECTED) if number is None else format_number(number),
            _bar(number, low, high, is_now=value == now[0], from_nothing=is_share(outcome)),
            _note(value, was[0], now[0]),
            value == now[0],
        )
        for value, number in listed
    ]
    return CategoriesShown(feature, outcome_words(outcome), format_number(low), format_number(high), rows)


def _number(answer: dict[str, Any] | None, outcome: str) -> float | None:
    """None where the contract rejects the row, or there is no number."""
    if answer is None or answer.get(outcome) is None:
        return None
    number = float(answer[outcome])
    return number if math.isfinite(number) else None


def _ends(known: Sequence[float]) -> tuple[float, float]:
    ticks = number_ticks(min(known), max(known))
    return ticks[0], ticks[-1]


def _note(value: Any, was: Any, now: Any) -> str:
    if value == was:
        return _("as it is")
    return _("now") if value == now else ""


def _bar(number: float | None, low: float, high: float, *, is_now: bool, from_nothing: bool) -> Markup:
    """A bar from nothing, or a mark between both ends; the number beside it says the same."""
    parts = [svg.level("grid", 0, _WIDTH, _HEIGHT // 2)]
    if number is not None:
        at = (min(max(number, low), high) - low) / (high - low)
        look = "now" if is_now else "other"
        if from_nothing:
            parts.append(svg.rectangle(look, 0, 2, at * _WIDTH, _HEIGHT - 4))
        else:
            parts.append(svg.rectangle(look, at * (_WIDTH - _MARK), 2, _MARK, _HEIGHT - 4))
    return svg.element(
        "svg",
        *parts,
        class_="category",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        preserveAspectRatio="none",
        aria_hidden="true",
    )
