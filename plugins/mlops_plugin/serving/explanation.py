"""Explains a prediction by what each feature adds to it, compared with a reference case.

An explanation is a Showroom run: its rows are the case, the case with one feature at a time as usual, and
mixtures of the case and the reference case, from whose answers `shapley` finds contributions that add up to
the prediction. If a model is too slow for that, has too many features, or its contract rejects a mixture, the
first rows alone explain: simple to read and to check by hand, and blind to features that act together.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mlops_plugin.errors import CaseError, FeatureError
from mlops_plugin.events.details.explanations import CellValue, Contribution, Explanation, Method, Obstacle
from mlops_plugin.formats.runtime import Runtime
from mlops_plugin.pipeline.validation.learning import Admit
from mlops_plugin.serving.case_values import text_of
from mlops_plugin.serving.references import References
from mlops_plugin.serving.shapley import Mask, Mixtures, Numbers, mixtures_of

_PROBED = 512  # rows that tell how fast a model is
_MOST_KEPT = 200  # contributions on record; a longer list is no help


@dataclass(frozen=True)
class Question:
    """What a run that explains asks: about `rows`, of which the first is the case.

    `changed` are the features whose values differ from their references, in the order of the rows that
    follow, each with one of them as usual. `mixtures` are the rows after those.
    """

    references: References
    rows: pa.Table
    changed: tuple[str, ...]
    mixtures: Mixtures | None
    obstacle: Obstacle | None = None

    def explain(self, predictions: pa.Table, rejected: Collection[int]) -> Explanation:
        """Explain the case by the predictions about all rows that were not rejected.

        Raises `CaseError` if the model predicts labels only, or the case itself was rejected.
        """
        if 0 in rejected:
            raise CaseError("this case breaks the model's contract: there is no answer to explain")
        outcome = watched_outcome(predictions.slice(0, 1).to_pylist()[0])
        outcomes = np.full(self.rows.num_rows, np.nan)
        accepted = np.ones(self.rows.num_rows, bool)
        accepted[list(rejected)] = False
        outcomes[accepted] = predictions.column(outcome).to_numpy().astype(np.float64)
        if not np.isfinite(outcomes[0]):
            raise CaseError(f"the model's {outcome} for this case is {outcomes[0]}: no number to explain")
        if self.mixtures is None or not np.isfinite(outcomes).all():
            return self._one_at_a_time(outcome, outcomes)
        first = 1 + len(self.changed)
        found = self.mixtures.amounts(outcomes[first:])
        method: Method = "sampled" if found.errors is not None else "additive"
        orders = self.mixtures.orders
        return self._explanation(
            outcome,
            float(outcomes[0]),
            dict(zip(self.changed, found.values.tolist(), strict=True)),
            errors={}
            if found.errors is None
            else dict(zip(self.changed, found.errors.tolist(), strict=True)),
            reference=float(outcomes[first + self._reference_row]),
            method="exact" if orders is None else method,
            orders=None if orders is None else len(orders),
        )

    @property
    def _reference_row(self) -> int:
        """Where the mixture that has no value of the case stands."""
        assert self.mixtures is not None  # noqa: S101 -- the caller has looked
        return int(np.flatnonzero(~self.mixtures.masks.any(axis=1))[0])

    def _one_at_a_time(self, outcome: str, outcomes: Numbers) -> Explanation:
        differences = outcomes[0] - outcomes[1 : 1 + len(self.changed)]
        amounts = {
            name: float(amount) if np.isfinite(amount) else None
            for name, amount in zip(self.changed, differences, strict=True)
        }
        obstacle = self.obstacle or "unanswered"
        return self._explanation(outcome, float(outcomes[0]), amounts, obstacle=obstacle)

    def _explanation(
        self,
        outcome: str,
        value: float,
        amounts: Mapping[str, float | None],
        *,
        errors: Mapping[str, float] | None = None,
        reference: float | None = None,
        method: Method = "one_by_one",
        orders: int | None = None,
        obstacle: Obstacle | None = None,
    ) -> Explanation:
        case = self.rows.slice(0, 1).to_pylist()[0]
        contributions = [
            Contribution(
                name,
                _cell(case[name]),
                _cell(usual.reference),
                amounts.get(name, 0.0),
                (errors or {}).get(name),
            )
            for name, usual in self.references.usual.items()
        ]
        contributions.sort(key=lambda one: abs(one.amount or 0.0), reverse=True)
        kept, others = contributions[:_MOST_KEPT], contributions[_MOST_KEPT:]
        return Explanation(
            outcome,
            value,
            reference,
            method,
            tuple(kept),
            self.references.source,
            orders,
            len(others),
            sum(one.amount or 0.0 for one in others),
            obstacle,
        )


def question_about(
    case: pa.Table, references: References, runtime: Runtime, admit: Admit, *, patience_s: float
) -> Question:
    """What to ask about the one row of `case`, if the model answers all of it within about `patience_s`.

    `admit` leaves the rows that the contract admits: the model is never asked about others.
    """
    row = case.to_pylist()[0]
    changed = tuple(
        name
        for name, usual in references.usual.items()
        if not _are_equal(row[name], _typed(usual.reference, case.schema.field(name).type))
    )
    ones = np.concatenate([np.ones((1, len(changed)), bool), ~np.eye(len(changed), dtype=bool)])
    alone = _mixed(case, references, changed, ones)
    mixtures = mixtures_of(len(changed))
    if mixtures is None:
        return Question(references, alone, changed, None, "many")
    mixed = _mixed(case, references, changed, np.concatenate([ones, mixtures.masks]))
    obstacle = _obstacle(alone, mixed, runtime, admit, patience_s)
    if obstacle is not None:
        return Question(references, alone, changed, None, obstacle)
    return Question(references, mixed, changed, mixtures)


def _obstacle(
    few: pa.Table, rows: pa.Table, runtime: Runtime, admit: Admit, patience_s: float
) -> Obstacle | None:
    """Why not to ask about all rows; what the model answers here is not looked at.

    The first rows say how slow the model is at most: a call takes its time, too. If that is too slow, more
    rows tell, unless they would take too long themselves.
    """
    probes = [few, rows.slice(0, _PROBED)]
    for probe, following in zip(probes, [*probes[1:], rows], strict=True):
        seconds = _seconds_for(admit(probe.combine_chunks().to_batches()[0]), runtime)
        if seconds is None:
            return "unanswered"
        a_row = seconds / probe.num_rows
        if a_row * rows.num_rows <= patience_s:
            return None
        if a_row * following.num_rows > patience_s:
            break
    return "slow"


def _seconds_for(rows: pa.RecordBatch, runtime: Runtime) -> float | None:
    """How long the model takes for these rows; None if it refuses them."""
    try:
        runtime.learn_outputs(rows)
        started = time.monotonic()
        runtime.predict(rows)
    except FeatureError:
        return None
    return time.monotonic() - started


def _mixed(case: pa.Table, references: References, changed: tuple[str, ...], masks: Mask) -> pa.Table:
    """A row for each of the masks, which say which of the changed features have the case's value."""
    places = {name: place for place, name in enumerate(changed)}
    columns = []
    for field in case.schema:
        own = case.column(field.name)[0].as_py()
        if (place := places.get(field.name)) is None:
            chosen, choice = np.zeros(len(masks), np.int64), [own]
        else:
            chosen, choice = (
                (~masks[:, place]).astype(np.int64),
                [own, references.usual[field.name].reference],
            )
        columns.append(pa.array(choice, field.type).take(pa.array(chosen)))
    return pa.Table.from_arrays(columns, schema=case.schema)


def _typed(value: Any, kind: pa.DataType) -> Any:
    return pa.scalar(value, kind).as_py()


def _are_equal(value: Any, other: Any) -> bool:
    """Two missing values are equal, NaN or NULL each."""
    return bool(value == other or (value != value and other != other))


def _cell(value: Any) -> CellValue:
    return value if isinstance(value, bool | int | float | str | None) else text_of(value)


def watched_outcome(answer: Mapping[str, Any]) -> str:
    """The output to explain: the likeliest class's probability, the score, or the first number predicted.

    Raises `CaseError` if there is no number.
    """
    probabilities = {name: value for name, value in answer.items() if name.startswith("probability_")}
    known = {name: value for name, value in probabilities.items() if value is not None and value == value}
    if probabilities:
        return max(known, key=known.__getitem__) if known else next(iter(probabilities))
    if "score" in answer:
        return "score"
    for name, value in answer.items():
        if name.startswith("prediction") and isinstance(value, float):
            return name
    raise CaseError("this model answers with labels only: there is no number to explain")
