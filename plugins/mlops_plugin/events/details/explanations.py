"""A stored explanation of one prediction: what the Showroom's Why has computed, for whoever has its link."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# How contributions were found; the first three are Shapley values and add up to the prediction.
Method = Literal["exact", "additive", "sampled", "one_by_one"]
# Why a model got the simpler method.
Obstacle = Literal["slow", "many", "unanswered"]
CellValue = float | int | bool | str | None


@dataclass(frozen=True)
class ReferenceSource:
    """Where reference values came from: `rows` of a baseline, or of the cases if `baseline` is None."""

    rows: int
    baseline: str | None = None  # what the baseline was made from
    made_at: str | None = None  # ISO 8601


@dataclass(frozen=True)
class Contribution:
    """What a feature's value adds to the outcome, compared with its reference value."""

    feature: str
    value: CellValue
    reference: CellValue
    amount: float | None  # None if the contract rejects the row with the reference value
    error: float | None = None  # the standard error of an amount from sampled orders


@dataclass(frozen=True)
class Explanation:
    """Contributions by size; `outcome` names the output that was watched, `value` is what it was.

    `reference` is the outcome of the case whose features all have their reference values: with any method but
    `one_by_one` it makes up the value together with all amounts, those of the `others` included.
    """

    outcome: str
    value: float
    reference: float | None
    method: Method
    contributions: tuple[Contribution, ...]
    source: ReferenceSource
    orders: int | None = None  # how many were asked about; None if all mixtures were
    others: int = 0  # features with smaller contributions, which are not kept one by one
    others_amount: float = 0.0
    obstacle: Obstacle | None = None
