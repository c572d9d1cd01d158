"""The curve of a prediction over one feature of a case, as the page What if draws it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from mlops_plugin.errors import CaseError
from mlops_plugin.serving.curves import Curve
from mlops_plugin.serving.explanation import watched_outcome
from mlops_plugin.serving.run import Shown
from mlops_plugin.serving.wanted import Wanted
from mlops_plugin.web import svg
from mlops_plugin.web.axes import number_ticks
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.languages.written_values import format_number, format_numbers
from mlops_plugin.web.showroom.reasons import outcome_words

_WIDTH, _HEIGHT = 360, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 26


@dataclass(frozen=True)
class Spot:
    """A value of the feature, and the outcome there."""

    at: float
    outcome: float


@dataclass(frozen=True)
class CurveShown:
    """The picture and the same as a table: the feature's value, the outcome."""

    feature: str
    outcome: str
    svg: Markup
    rows: Sequence[tuple[str, str]]


def curve_chart(shown: Shown, wanted: Wanted) -> CurveShown | None:
    """The curve of a what-if that asked for one; None if the model answers with labels only."""
    outcome = outcome_on_curve(shown)
    if not isinstance(wanted.curve, Curve) or outcome is None:
        return None
    feature = wanted.curve.feature
    rows = shown.rows.column(feature).to_pylist()
    spots = [_spot(value, answer, outcome) for value, answer in zip(rows, shown.answers, strict=True)]
    as_it_is, changed, *curve = spots
    words = outcome_words(outcome)
    known = [spot for spot in curve if spot]
    if len({spot.at for spot in known}) < 2:
        return None
    texts = _texts_of([spot for spot in spots if spot])
    drawn = _drawn(feature, words, as_it_is, changed, curve, texts)
    return CurveShown(feature, words, drawn, [texts[spot] for spot in known])


def outcome_on_curve(shown: Shown) -> str | None:
    """The output that a curve shows; None without one, or if the model answers with labels only."""
    first = next((answer for answer in shown.answers if answer is not None), None)
    if not shown.on_curve or first is None:
        return None
    try:
        return watched_outcome(first)
    except CaseError:
        return None


def is_share(outcome: str) -> bool:
    """Whether an output goes from 0 to 1."""
    return outcome.startswith("probability_")


def _spot(value: Any, answer: dict[str, Any] | None, outcome: str) -> Spot | None:
    """None where the contract rejects the row, or there is no number."""
    if value is None or answer is None or answer.get(outcome) is None:
        return None
    spot = Spot(float(value), float(answer[outcome]))
    return spot if math.isfinite(spot.at) and math.isfinite(spot.outcome) else None


def _texts_of(spots: Sequence[Spot]) -> Mapping[Spot, tuple[str, str]]:
    """The value and the outcome of each, with the same digits."""
    places, outcomes = [spot.at for spot in spots], [spot.outcome for spot in spots]
    return dict(zip(spots, zip(format_numbers(places), format_numbers(outcomes), strict=True), strict=True))


def _drawn(
    feature: str,
    outcome: str,
    as_it_is: Spot | None,
    changed: Spot | None,
    curve: Sequence[Spot | None],
    texts: Mapping[Spot, tuple[str, str]],
) -> Markup:
    spots = [spot for spot in (as_it_is, changed, *curve) if spot]
    frame = _Frame.around(spots, is_share=is_share(outcome))
    parts = [*frame.axes(), svg.element("path", class_="line", d=frame.path(curve))]
    for spot in curve:
        if spot:
            tip = ": ".join(texts[spot])
            parts.append(svg.dot("spot", frame.x(spot.at), frame.y(spot.outcome), tip=tip))
    for spot, look, words in ((as_it_is, "spot-was", _("as it is")), (changed, "spot-now", _("now"))):
        if spot:
            tip = f"{words}: {', '.join(texts[spot])}"
            parts.append(svg.dot(look, frame.x(spot.at), frame.y(spot.outcome), tip=tip))
    by_outcome = sorted((spot for spot in curve if spot), key=lambda spot: spot.outcome)
    by_place = sorted(spots, key=lambda spot: spot.at)
    description = _(
        "%(outcome)s from %(least)s to %(greatest)s as %(feature)s goes from %(low)s to %(high)s",
        outcome=outcome,
        least=texts[by_outcome[0]][1],
        greatest=texts[by_outcome[-1]][1],
        feature=feature,
        low=texts[by_place[0]][0],
        high=texts[by_place[-1]][0],
    )
    title = _("%(outcome)s over %(feature)s", outcome=outcome, feature=feature)
    return svg.picture(
        parts, _WIDTH, _HEIGHT, key="curve", title=title, description=description, data_crosshair=""
    )


@dataclass(frozen=True)
class _Frame:
    """The plotted range, mapped to the picture."""

    low: float
    high: float
    ticks: list[float]

    @classmethod
    def around(cls, spots: Sequence[Spot], *, is_share: bool) -> _Frame:
        places, outcomes = [spot.at for spot in spots], [spot.outcome for spot in spots]
        least, most = (0.0, 1.0) if is_share else (min(outcomes), max(outcomes))
        return cls(min(places), max(places), number_ticks(least, most))

    def x(self, at: float) -> float:
        return _LEFT + (at - self.low) / (self.high - self.low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, outcome: float) -> float:
        least, most = self.ticks[0], self.ticks[-1]
        return _HEIGHT - _BOTTOM - (outcome - least) / (most - least) * (_HEIGHT - _TOP - _BOTTOM)

    def path(self, curve: Sequence[Spot | None]) -> str:
        """The curve, with a gap where there is no outcome."""
        steps, is_down = [], False
        for spot in curve:
            if spot:
                sign = "L" if is_down else "M"
                steps.append(f"{sign}{self.x(spot.at):.1f} {self.y(spot.outcome):.1f}")
            is_down = spot is not None
        return "".join(steps)

    def axes(self) -> list[Markup]:
        parts = []
        for tick in self.ticks:
            parts.append(svg.level("grid", _LEFT, _WIDTH - _RIGHT, self.y(tick)))
            parts.append(svg.label(format_number(tick), _LEFT - 6, self.y(tick) + 4, anchor="end"))
        for tick in number_ticks(self.low, self.high):
            if self.low <= tick <= self.high:
                parts.append(svg.upright("grid", self.x(tick), _HEIGHT - _BOTTOM, _HEIGHT - _BOTTOM + 4))
                parts.append(svg.label(format_number(tick), self.x(tick), _HEIGHT - 8, anchor="middle"))
        return parts
