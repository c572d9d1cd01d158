"""Why a model answers as it does: what changes when one feature at a time takes its usual value.

This is ablation to a reference, one feature at a time: simple to read and to check by hand, and blind to
features that act together. No dispatch is recorded for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mlops_plugin.errors import CaseError
from mlops_plugin.model_loaders.runtime import Runtime
from mlops_plugin.pipeline.baseline import Baseline


@dataclass(frozen=True)
class Usual:
    """A feature among known rows: `reference` is a number's median or another type's commonest value."""

    reference: Any
    least: Any
    greatest: Any


@dataclass(frozen=True)
class Contribution:
    """`amount`: how much lower the outcome is when the feature takes its reference value."""

    feature: str
    value: Any
    reference: Any
    amount: float


@dataclass(frozen=True)
class Explanation:
    """Contributions by size; `outcome` names the output that was watched, `value` is what it was."""

    outcome: str
    value: float
    contributions: tuple[Contribution, ...]


def usual_values(features: tuple[str, ...], sample: pa.Table) -> dict[str, Usual]:
    """What the sampled cases say of each feature; features that they lack are left out."""
    return {name: _usual(sample.column(name)) for name in features if name in sample.column_names}


def usual_of_baseline(baseline: Baseline) -> dict[str, Usual]:
    """What a baseline says of each feature, where it says something."""
    usual = {}
    for name, found in baseline.features.items():
        reference = (found.quantiles or {}).get("0.5")
        if reference is None and found.categories:
            reference = found.categories[0][0]
        if reference is not None:
            usual[name] = Usual(reference, found.min, found.max)
    return usual


def explain(case: pa.Table, usual: dict[str, Usual], runtime: Runtime) -> Explanation:
    """Explain the answer about the one row of `case`, in one call of the model.

    Raises `CaseError` where the model answers with labels only.
    """
    names = [name for name in runtime.features if name in usual and name in case.column_names]
    columns = []
    for field in case.schema:
        values = [case.column(field.name)[0].as_py()] * (len(names) + 1)
        if field.name in names:
            values[names.index(field.name) + 1] = usual[field.name].reference
        columns.append(pa.array(values, field.type))
    answers = runtime.predict(pa.RecordBatch.from_arrays(columns, schema=case.schema))
    outcome = _outcome(answers)
    first, *others = answers.column(outcome).to_pylist()
    found = [
        Contribution(name, case.column(name)[0].as_py(), usual[name].reference, first - other)
        for name, other in zip(names, others, strict=True)
    ]
    found.sort(key=lambda one: abs(one.amount), reverse=True)
    return Explanation(outcome, first, tuple(found))


def _outcome(answers: pa.RecordBatch) -> str:
    """The likeliest class's probability, else the score, else the predicted number."""
    names: list[str] = answers.schema.names
    probabilities = [name for name in names if name.startswith("probability_")]
    if probabilities:
        return max(probabilities, key=lambda name: float(answers.column(name)[0].as_py()))
    if "score" in names:
        return "score"
    if "prediction" in names and pa.types.is_floating(answers.schema.field("prediction").type):
        return "prediction"
    raise CaseError("this model answers with labels only: there is no number that a feature could move")


def _usual(column: pa.ChunkedArray) -> Usual:
    present = column.drop_null()
    kind = column.type
    if len(present) == 0:
        return Usual(None, None, None)
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if is_number:
        ordered = present.take(pc.array_sort_indices(present))
        # The lower of two middle values: it occurs, and has the column's type.
        return Usual(ordered[(len(ordered) - 1) // 2].as_py(), ordered[0].as_py(), ordered[-1].as_py())
    commonest = pc.mode(pc.dictionary_encode(present).combine_chunks().indices)[0]["mode"].as_py()
    return Usual(pc.unique(present)[commonest].as_py(), None, None)
