"""Shapley values of one case against one reference: which mixtures to ask a model about, and what they tell.

A mixture takes some features from the case and the others from the reference. A feature's Shapley value is
what it adds when the features change from the reference's to the case's one after the other, on average over
all orders (Shapley 1953; Lundberg and Lee 2017, with a single reference). With all mixtures the average is
exact. With too many features for that it is taken over random orders, in pairs of an order and its reverse
(Mitchell et al. 2022, "Sampling permutations for Shapley value estimation"). In each order what the features
add makes up the whole difference, so that their averages do so, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Mask: TypeAlias = npt.NDArray[np.bool_]
Numbers: TypeAlias = npt.NDArray[np.float64]
Orders: TypeAlias = npt.NDArray[np.int64]

MOST_ROWS = 8_192  # mixtures to ask about: all of 13 features, 128 orders of 64
_LEAST_PAIRS = 8  # of orders; from fewer the error cannot be estimated
_SAME = 1e-9  # of the greatest number: differences that a library's arithmetic makes


@dataclass(frozen=True)
class Amounts:
    """What each feature adds. `errors`: standard errors if orders were sampled and do not agree."""

    values: Numbers
    errors: Numbers | None = None


@dataclass(frozen=True)
class Mixtures:
    """Which rows to ask about: `masks` has a row for each, True for a feature with the case's value.

    `orders` are those whose steps the rows are; None if the rows are all mixtures.
    """

    masks: Mask
    orders: Orders | None = None

    def amounts(self, outcomes: Numbers) -> Amounts:
        """What each feature adds, from the outcome of each row."""
        if self.orders is None:
            return Amounts(_exact(outcomes, self.masks.shape[1]))
        steps = _steps(outcomes, self.orders)
        spread = float(np.ptp(steps, axis=0).max(initial=0.0))
        if spread <= _SAME * float(np.abs(outcomes).max(initial=0.0)):
            return Amounts(steps.mean(axis=0))
        pairs = steps.reshape(-1, 2, steps.shape[1]).mean(axis=1)
        return Amounts(steps.mean(axis=0), pairs.std(axis=0, ddof=1) / math.sqrt(len(pairs)))


def mixtures_of(features: int) -> Mixtures | None:
    """The rows for so many features; None if even the least number of orders takes too many rows."""
    if 2**features <= MOST_ROWS:
        places = np.arange(2**features)[:, None] >> np.arange(features)[None, :]
        return Mixtures((places & 1).astype(bool))
    pairs = (MOST_ROWS - 2) // (2 * (features - 1))
    if pairs < _LEAST_PAIRS:
        return None
    dice = np.random.default_rng(0)  # the same case gets the same answer
    drawn = np.stack([dice.permutation(features) for _ in range(pairs)])
    orders = np.stack([drawn, drawn[:, ::-1]], axis=1).reshape(2 * pairs, features)
    ranks = np.argsort(orders, axis=1)
    lengths = np.arange(1, features)
    between = ranks[:, None, :] < lengths[None, :, None]
    ends = np.stack([np.zeros(features, bool), np.ones(features, bool)])
    return Mixtures(np.concatenate([ends, between.reshape(-1, features)]), orders)


def _exact(outcomes: Numbers, features: int) -> Numbers:
    """By the definition: the n-th row of the mixtures has the features that are the bits of n."""
    rows = np.arange(2**features)
    sizes = np.array([int(row).bit_count() for row in rows])
    weights = np.array([1.0 / (features * math.comb(features - 1, size)) for size in range(features)])
    values = np.zeros(features)
    for feature in range(features):
        without = rows[(rows >> feature) & 1 == 0]
        gains = outcomes[without | (1 << feature)] - outcomes[without]
        values[feature] = float(np.dot(weights[sizes[without]], gains))
    return values


def _steps(outcomes: Numbers, orders: Orders) -> Numbers:
    """What each feature adds in each order (rows: orders, columns: features)."""
    count, features = orders.shape
    between = outcomes[2:].reshape(count, features - 1)
    first, last = np.full((count, 1), outcomes[0]), np.full((count, 1), outcomes[1])
    gains: Any = np.diff(np.concatenate([first, between, last], axis=1), axis=1)
    steps = np.empty((count, features))
    np.put_along_axis(steps, orders, gains, axis=1)
    return steps
