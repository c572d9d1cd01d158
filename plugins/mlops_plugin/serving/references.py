"""What is usual of each feature: what an explanation compares a case with, and the ranges of What if."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.events.details.explanations import ReferenceSource
from mlops_plugin.formats.runtime import Runtime
from mlops_plugin.pipeline.validation.baseline import Baseline
from mlops_plugin.pipeline.validation.baseline_making import find_baseline
from mlops_plugin.serving.cases import Cases
from mlops_plugin.serving.curves import MOST_CATEGORIES


@dataclass(frozen=True)
class Usual:
    """A feature among known rows: `reference` is a number's median or another type's commonest value.

    `choices`: all values of a feature that is no number, the commonest first; empty if there are too many.
    """

    reference: Any
    least: Any
    greatest: Any
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True)
class References:
    """The usual value of each feature that has one, and where it comes from."""

    usual: dict[str, Usual]
    rows: int  # of the baseline, or of the sampled cases
    baseline: Baseline | None = None

    @property
    def source(self) -> ReferenceSource:
        """Where the values come from, as a stored explanation has it."""
        if self.baseline is None:
            return ReferenceSource(self.rows)
        return ReferenceSource(self.rows, self.baseline.origin, self.baseline.made_at)

    @property
    def origin(self) -> Literal["baseline", "cases"]:
        return "cases" if self.baseline is None else "baseline"

    def __str__(self) -> str:
        return f"as usual in the {self.rows} rows of the {'baseline' if self.baseline else 'sampled cases'}"


def usual_values(features: tuple[str, ...], sample: pa.Table) -> dict[str, Usual]:
    """The usual value of each feature among the sampled cases; features that they lack are left out."""
    return {name: _usual(sample.column(name)) for name in features if name in sample.column_names}


def references_of(model: ModelConfig, runtime: Runtime, cases: Cases) -> References:
    """From the model's baseline if there is one for this artifact, else from a sample of its cases.

    A feature that the baseline says nothing usual of, a date for example, is as usual among the cases.
    """
    sample = cases.sample()
    usual = usual_values(runtime.features, sample)
    baseline = find_baseline(model, runtime.artifact_sha256)
    if baseline is None:
        return References(usual, sample.num_rows)
    known = usual_of_baseline(baseline, sample.schema)
    usual |= {name: known[name] for name in usual if name in known}
    return References(usual, baseline.rows, baseline)


def usual_of_baseline(baseline: Baseline, columns: pa.Schema) -> dict[str, Usual]:
    """The usual value of each feature in a baseline, if its column can hold it."""
    usual = {}
    for name, found in baseline.features.items():
        reference = (found.quantiles or {}).get("0.5")
        if reference is None and found.categories:
            reference = found.categories[0][0]
        if reference is None or name not in columns.names:
            continue
        with contextlib.suppress(pa.ArrowException, ValueError, TypeError):
            if pa.types.is_integer(columns.field(name).type):
                reference = round(reference)  # of two middle values the median is between them
            typed = pa.scalar(reference, columns.field(name).type).as_py()
            choices = [value for value, _ in found.categories or ()] if isinstance(typed, str | bool) else []
            usual[name] = Usual(typed, found.min, found.max, _if_few(choices))
    return usual


def _usual(column: pa.ChunkedArray) -> Usual:
    present = column.drop_null()
    kind = column.type
    if pa.types.is_floating(kind):
        present = present.filter(pc.invert(pc.is_nan(present)))
    if len(present) == 0:
        return Usual(None, None, None)
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if is_number:
        ordered = present.take(pc.array_sort_indices(present))
        # The lower of two middle values: it occurs, and has the column's type.
        return Usual(ordered[(len(ordered) - 1) // 2].as_py(), ordered[0].as_py(), ordered[-1].as_py())
    counted = sorted(present.value_counts().to_pylist(), key=lambda one: -one["counts"])
    values = [one["values"] for one in counted]
    return Usual(values[0], None, None, _if_few(values) if isinstance(values[0], str | bool) else ())


def _if_few(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(values) if len(values) <= MOST_CATEGORIES else ()
