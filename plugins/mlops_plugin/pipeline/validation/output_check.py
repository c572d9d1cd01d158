"""A model's answers before they are used: one for each row, numbers that are numbers, known classes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

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


class OutputCheck:
    """Looks at every batch of a model's answers; `baseline_classes` narrows what it may answer."""

    def __init__(self, model: str, outputs: pa.Schema, baseline_classes: Sequence[Any] | None = None) -> None:
        self._model = model
        self._known: list[tuple[str, pa.Array, str]] = []
        for number, field in enumerate(outputs):
            classes = classes_of(field)
            if classes is not None:
                self._known.append((field.name, _as_values(classes, field.type), UNKNOWN_CLASS))
            if number == 0 and baseline_classes is not None:
                self._known.append(
                    (field.name, _as_values(baseline_classes, field.type), UNKNOWN_TO_BASELINE)
                )

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
        for name, known, reason in self._known:
            values = answers.column(name)
            is_unknown = pc.and_(pc.invert(pc.is_in(values, value_set=known)), values.is_valid())
            found.append(Refused.of_mask(name, reason, is_unknown, values))
        return [one for one in found if len(one.places)]


def classes_of(field: pa.Field) -> list[Any] | None:
    """The classes that a model may predict in this column, if it declares them."""
    classes = (field.metadata or {}).get(CLASSES)
    return None if classes is None else list(json.loads(classes))


def _is_finite(values: pa.Array) -> bool:
    # If the sum is finite, all are; only otherwise are they checked one by one.
    total = pc.sum(values).as_py()
    return total is None or math.isfinite(total)


def _as_values(classes: Sequence[Any], kind: pa.DataType) -> pa.Array:
    return array_of([str(label) if pa.types.is_string(kind) else label for label in classes], kind)
