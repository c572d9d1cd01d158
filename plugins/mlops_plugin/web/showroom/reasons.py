"""An explanation as the page Why shows it: a diverging chart, numbers of one format, the method in words."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from mlops_plugin.events.details.explanations import Contribution, Explanation
from mlops_plugin.web import svg
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.languages.translation import ngettext
from mlops_plugin.web.languages.written_values import format_apart, format_count, format_like

SHOWN = 20  # lines; the rest are folded away
_HALF, _HEIGHT = 100, 14


@dataclass(frozen=True)
class Reason:
    """What one feature contributes, as words and as a bar."""

    feature: str
    value: str
    reference: str
    effect: str
    amount: str
    error: str  # of a sampled amount
    bar: Markup


@dataclass(frozen=True)
class Sums:
    """From the reference case's outcome to this case's; empty texts if contributions do not add up to it."""

    reference: str
    amounts: str
    value: str


@dataclass(frozen=True)
class WhyShown:
    """An explanation in words. `method` says how contributions were found and what they mean."""

    outcome: str
    value: str
    method: str
    reasons: tuple[Reason, ...]
    more: tuple[Reason, ...]  # smaller ones
    others: str  # what the smallest contribute, which are not kept one by one
    sums: Sums | None
    has_errors: bool


def present_explanation(found: Explanation) -> WhyShown:
    """What the page shows of a stored explanation."""
    amounts = [abs(one.amount) for one in found.contributions if one.amount is not None]
    greatest = max(amounts, default=0.0)
    reasons = tuple(_reason(one, greatest) for one in found.contributions)
    others = ""
    if found.others:
        others = ngettext(
            "%(number)s further feature contributes %(amount)s",
            "%(number)s further features together contribute %(amount)s",
            found.others,
            amount=_signed(found.others_amount, greatest),
        )
    return WhyShown(
        outcome_words(found.outcome),
        format_like(found.value, _widest(found, greatest)),
        _method_words(found),
        reasons[:SHOWN],
        reasons[SHOWN:],
        others,
        _sums(found, greatest),
        found.method == "sampled",
    )


def outcome_words(outcome: str) -> str:
    """The output that was watched: `probability of 7`; `score` and `prediction` are names of columns."""
    label = outcome.removeprefix("probability_")
    return outcome if label == outcome else _("probability of %(label)s", label=label)


def _method_words(found: Explanation) -> str:
    match found.method:
        case "exact":
            return _(
                "These are exact Shapley values: what a feature adds when the features change from the "
                "reference to this case one after the other, on average over all orders. The model was asked "
                "about every mixture of the two."
            )
        case "additive":
            return _(
                "These are exact Shapley values: in each of %(orders)s orders in which the features change "
                "from the reference to this case, a feature adds the same.",
                orders=format_count(found.orders),
            )
        case "sampled":
            return _(
                "These are sampled Shapley values: what a feature adds when the features change from the "
                "reference to this case one after the other, on average over %(orders)s random orders. ± is "
                "their standard error.",
                orders=format_count(found.orders),
            )
        case "one_by_one":
            return f"{_obstacle_words(found)} " + _(
                "One feature at a time gets its reference value, the others stay, and the model predicts "
                "again. The difference is the feature's contribution. This does not show how features act "
                "together, and contributions need not add up to the prediction."
            )


def _obstacle_words(found: Explanation) -> str:
    match found.obstacle:
        case "slow":
            return _("This model is too slow for Shapley values.")
        case "many":
            return _("This model has too many features for Shapley values.")
        case _:
            return _("The model or its contract rejects a mixture of this case and the reference.")


def _reason(one: Contribution, greatest: float) -> Reason:
    return Reason(
        one.feature,
        *format_apart(one.value, one.reference),
        _effect(one.amount),
        "" if one.amount is None else _signed(one.amount, greatest),
        "" if one.error is None else f"± {format_like(one.error, greatest)}",
        _diverging(one, greatest or 1.0),
    )


def _sums(found: Explanation, greatest: float) -> Sums | None:
    if found.reference is None:
        return None
    widest = _widest(found, greatest)
    total = sum(one.amount or 0.0 for one in found.contributions) + found.others_amount
    return Sums(
        format_like(found.reference, widest), _signed(total, widest), format_like(found.value, widest)
    )


def _widest(found: Explanation, greatest: float) -> float:
    """The greatest number on the page, which says how many decimals all have."""
    return max(greatest, abs(found.reference or 0.0), abs(found.value))


def _diverging(one: Contribution, greatest: float) -> Markup:
    """A bar from the middle: to the right if the feature raises the outcome, to the left if it lowers it."""
    share, error = (one.amount or 0.0) / greatest, (one.error or 0.0) / greatest
    length, end = abs(share) * _HALF, _HALF + share * _HALF
    look, x = ("raises", float(_HALF)) if share >= 0 else ("lowers", _HALF - length)
    parts = [
        svg.rectangle(look, x, 2, length, _HEIGHT - 4),
        svg.upright("grid", _HALF, 0, _HEIGHT),
    ]
    if error:
        least, most = max(0.0, end - error * _HALF), min(2.0 * _HALF, end + error * _HALF)
        parts.append(svg.level("error-bar", least, most, _HEIGHT // 2))
    return svg.element(
        "svg",
        *parts,
        class_="diverging",
        viewBox=f"0 0 {2 * _HALF} {_HEIGHT}",
        preserveAspectRatio="none",
        aria_hidden="true",  # the number and the word beside it say the same
    )


def _effect(amount: float | None) -> str:
    if amount is None:
        return _("unknown: the contract rejects the reference value")
    return _("raises") if amount > 0 else _("lowers") if amount < 0 else _("changes nothing")


def _signed(amount: float, greatest: float) -> str:
    return f"{'-' if amount < 0 else '+'}{format_like(abs(amount), greatest)}"
