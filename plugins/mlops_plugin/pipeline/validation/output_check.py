"""A model's answers before they are used: one for each row, numbers that are numbers, known classes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from mlops_plugin.arrow_values import array_of
from mlops_plugin.errors import AccountingError
from mlops_plugin.formats.outputs import CLASSES
from mlops_plugin.pipeline.validation.rejections import Refused

NOT_A_NUMBER = "the model answers NaN"
NO_ANSWER = "the model answers nothing"
INFINITE = "the model answers an infinite number"
UNKNOWN_CLASS = "the model answers a class that it does not have"
UNKNOWN_TO_BASELINE = "the model answers a class that the baseline does not have"


_FEW_ROWS = 64


class OutputCheck:
    """Looks at every batch of a model's answers; `baseline_classes` narrows what it may answer."""

    def __init__(self, model: str, outputs: pa.Schema, baseline_classes: Sequence[Any] | None = None) -> None:
        self._model = model
        self._known: list[_Known] = []
        for number, field in enumerate(outputs):
            classes = classes_of(field)
            if classes is not None:
                self._known.append(_Known.of(field, classes, UNKNOWN_CLASS))
            if number == 0 and baseline_classes is not None:
                self._known.append(_Known.of(field, baseline_classes, UNKNOWN_TO_BASELINE))

    def check(self, answers: pa.RecordBatch, rows: int) -> list[Refused]:
        """Invalid predictions and why; raises `AccountingError` if there is not one for each row."""
        if answers.num_rows != rows:
            raise AccountingError(
                f"models.{self._model}: the model was given {rows} rows and answered {answers.num_rows}"
            )
        found: list[Refused] = []
        for name, values in zip(answers.schema.names, answers.columns, strict=True):
            if values.null_count:
                found.append(Refused.of_mask(name, NO_ANSWER, values.is_null(), None))
            if pa.types.is_floating(values.type) and not _is_finite(values):
                for reason, test in ((NOT_A_NUMBER, pc.is_nan), (INFINITE, pc.is_inf)):
                    found.append(Refused.of_mask(name, reason, pc.fill_null(test(values), False), values))
        for one in self._known:
            values = answers.column(one.name)
            if one.holds_all(values):
                continue
            is_unknown = pc.and_(pc.invert(pc.is_in(values, value_set=one.classes)), values.is_valid())
            found.append(Refused.of_mask(one.name, one.reason, is_unknown, values))
        return [one for one in found if len(one.places)]


@dataclass(frozen=True)
class _Known:
    """The classes that answers in a column may be, and why another one is refused."""

    name: str
    classes: pa.Array
    reason: str
    values: frozenset[Any]  # empty for numbers that may be fractions

    @classmethod
    def of(cls, field: pa.Field, classes: Sequence[Any], reason: str) -> Self:
        known = _as_values(classes, field.type)
        is_exact = not pa.types.is_floating(field.type)
        return cls(field.name, known, reason, frozenset(known.to_pylist() if is_exact else ()))

    def holds_all(self, answers: pa.Array) -> bool:
        """Whether a few answers certainly are all known: of them, this tells soonest."""
        return len(answers) <= _FEW_ROWS and self.values.issuperset(answers.to_pylist())


def classes_of(field: pa.Field) -> list[Any] | None:
    """The classes that a model may predict in this column, if it declares them."""
    classes = (field.metadata or {}).get(CLASSES)
    return None if classes is None else list(json.loads(classes))


def _is_finite(values: pa.Array) -> bool:
    # If the sum is finite, all are; only otherwise are they checked one by one.
    if len(values) <= _FEW_ROWS:
        return math.isfinite(sum(value or 0.0 for value in values.to_pylist()))
    total = pc.sum(values).as_py()
    return total is None or math.isfinite(total)


def _as_values(classes: Sequence[Any], kind: pa.DataType) -> pa.Array:
    return array_of([str(label) if pa.types.is_string(kind) else label for label in classes], kind)
