"""How right a model's stored predictions are, for its card: of some cases whose outcome is known.

The card asks once it is in view, and an answer is kept for a while: a list of hundreds of models asks no
database that nobody looks at.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.serving.case_paging import Key
from mlops_plugin.serving.case_queries import CaseQueries
from mlops_plugin.serving.cases import MAX_PAGE_ROWS, CaseView
from mlops_plugin.serving.last_predictions import (
    PREDICTION,
    PROBABILITY,
    LastPrediction,
    LastPredictions,
)
from mlops_plugin.web.showroom.verdict import Pair, Row, is_known

_WITHIN_S = 5.0  # for each of two databases
_KEPT_FOR_S = 300.0
_NOTHING_KEPT_FOR_S = 20.0  # the first dispatch is soon seen


@dataclass
class Accuracies:
    """Looks them up; one for each process, which remembers what it has found a short time ago."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _known: dict[str, tuple[ModelConfig, float, list[Pair]]] = field(default_factory=dict)  # by model

    def pairs(
        self, model: ModelConfig, deployment: Deployment, queries: CaseQueries, last: LastPredictions
    ) -> list[Pair]:
        """See `find_pairs`; at most some minutes old. Raises `MlopsError`."""
        with self._lock:
            known = self._known.get(model.name)
        if known and known[0] == model and time.monotonic() < known[1]:
            return known[2]
        found = find_pairs(model, deployment, queries, last)
        until = time.monotonic() + (_KEPT_FOR_S if found else _NOTHING_KEPT_FOR_S)
        with self._lock:
            self._known[model.name] = model, until, found
        return found


def find_pairs(
    model: ModelConfig, deployment: Deployment, queries: CaseQueries, last: LastPredictions
) -> list[Pair]:
    """The stored prediction and the outcome of each of the first cases that have both.

    Raises `MlopsError` if the cases cannot be read in time; without predictions there are no pairs.
    """
    truth = model.showroom.truth
    if truth is None:
        return []
    hurried = replace(deployment, limits=deployment.limits.of_probe(_WITHIN_S))
    with queries.open(model, hurried, is_aside=True) as cases:
        page = cases.page(CaseView(page_rows=MAX_PAGE_ROWS))
    if truth not in page.rows.column_names:
        return []
    rows = page.rows.select([*dict.fromkeys((*model.key, truth))]).to_pylist()
    outcomes = _outcomes(rows, model.key, truth)
    if page.next is not None:  # there may be more rows of the last case
        outcomes.pop(page.next.key, None)
    found = last.find(model, deployment, [*outcomes]) or {}
    return [(_answer(one), outcomes[key]) for key, one in found.items()]


def _outcomes(rows: Sequence[Row], key: Sequence[str], truth: str) -> dict[Key, Any]:
    """The known outcome of each key; of keys that have several, nobody knows which one counts."""
    found: dict[Key, list[Any]] = {}
    for row in rows:
        if is_known(row[truth]):
            found.setdefault(tuple(row[name] for name in key), []).append(row[truth])
    return {of: several[0] for of, several in found.items() if all(one == several[0] for one in several)}


def _answer(last: LastPrediction) -> Row:
    """A whole number beside probabilities is a class."""
    return {PREDICTION: last.prediction} | ({PROBABILITY: None} if last.has_probabilities else {})
