"""How right a run was: how many classes agree with the truth, or how far numbers are from it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from mlops_plugin.serving.run import Shown
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.languages.translation import ngettext
from mlops_plugin.web.languages.written_values import format_number

_MANY = 10  # cases; fewer are seen one by one
_MOST_CLASSES = 20  # a larger table of truth and prediction cannot be read
_NUMBER = re.compile(r"-?\d{1,40}(\.\d{1,40})?(e[-+]?\d{1,3})?", re.ASCII)
_FLOAT_CHARS = 16  # longer numbers may be those of a FLOAT that was read as a double; few digits are exact
_TRUTHS = {"true": 1, "false": 0}

Row = Mapping[str, Any]
Pair = tuple[Row | None, Any]  # an answer and the truth


@dataclass(frozen=True)
class Confusion:
    """How many cases of each truth (a row) got each prediction (a column); both in the order of `labels`."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Verdict:
    """A run in one line, and for many cases of few classes in a table."""

    words: str
    short: str  # the same, of the judged cases alone
    confusion: Confusion | None = None


def is_known(truth: Any | None) -> bool:
    """Whether an outcome is known: it is neither NULL nor NaN."""
    return truth is not None and not (isinstance(truth, float | Decimal) and math.isnan(truth))


def agrees(answer: Row | None, truth: Any | None) -> bool | None:
    """Whether the predicted class is the truth; None without a truth, or if not one class was predicted.

    A whole number may be a class or an amount: it is a class if the model gives probabilities, too.
    """
    if answer is None or not is_known(truth):
        return None
    predicted = answer.get("prediction")  # None of several outputs, whose probabilities are beside it
    if predicted is None:
        return None
    is_class = isinstance(predicted, str | bool) or any(name.startswith("probability_") for name in answer)
    if not is_class:
        return None
    one, other = _labels(predicted, truth)
    return one == other


def judge(shown: Shown, truth_column: str | None) -> Verdict | None:
    """The verdict on a run of several cases; None if none of them can be judged."""
    if truth_column is None:
        return None
    rows = shown.rows.to_pylist()
    return judge_pairs(
        [(answer, row.get(truth_column)) for row, answer in zip(rows, shown.answers, strict=True)]
    )


def judge_pairs(pairs: Sequence[Pair]) -> Verdict | None:
    """The verdict on several answers, each with its truth; a rejected row has no answer."""
    if len(pairs) < 2:
        return None
    judged = [(answer, truth, agrees(answer, truth)) for answer, truth in pairs]
    classes = [(answer, truth, right) for answer, truth, right in judged if right is not None]
    errors = [error for answer, truth in pairs if (error := _error(answer, truth)) is not None]
    count = len(classes) or len(errors)
    if not count:
        return None
    rejected = sum(answer is None for answer, _truth in pairs)
    right = sum(is_right for *_pair, is_right in classes)
    mean = format_number(math.fsum(error / count for error in errors))  # their sum may be infinite
    parts = [_right_words(right, count) if classes else _error_words(mean, count)]
    short = parts[0] if classes else _("mean absolute error %(error)s", error=mean)
    if rejected:
        parts.append(ngettext("%(number)s rejected", "%(number)s rejected", rejected))
    if unjudged := len(pairs) - count - rejected:
        parts.append(ngettext("%(number)s not judged", "%(number)s not judged", unjudged))
    return Verdict(", ".join(parts), short, _confusion(classes))


def _right_words(right: int, count: int) -> str:
    return ngettext("%(right)s of %(number)s correct", "%(right)s of %(number)s correct", count, right=right)


def _error_words(mean: str, count: int) -> str:
    return ngettext(
        "mean absolute error %(error)s over %(number)s case",
        "mean absolute error %(error)s over %(number)s cases",
        count,
        error=mean,
    )


def _error(answer: Row | None, truth: Any | None) -> float | None:
    """How far a predicted number is from the truth; None if either is no finite number."""
    predicted = None if answer is None else answer.get("prediction")
    if not isinstance(predicted, float) or isinstance(truth, bool):
        return None
    if not isinstance(truth, int | float | Decimal) or agrees(answer, truth) is not None:
        return None
    error = abs(predicted - float(truth))
    return error if math.isfinite(error) else None


def _confusion(classes: Sequence[tuple[Row | None, Any, bool]]) -> Confusion | None:
    counts: Counter[tuple[str, str]] = Counter()
    for answer, truth, _right in classes:
        predicted, known = _labels(answer["prediction"] if answer else None, truth)
        counts[known, predicted] += 1
    labels = tuple(sorted({label for pair in counts for label in pair}, key=_by_number))
    if len(classes) < _MANY or not 2 <= len(labels) <= _MOST_CLASSES:
        return None
    return Confusion(
        labels, tuple(tuple(counts[truth, predicted] for predicted in labels) for truth in labels)
    )


def _labels(predicted: Any, truth: Any) -> tuple[str, str]:
    """The names of two classes, the same for the same class.

    If only one of them is a text, the other may be what it says: a number, true or false.
    """
    if isinstance(predicted, str) != isinstance(truth, str):
        predicted, truth = _said(predicted), _said(truth)
    return _label(predicted), _label(truth)


def _said(value: Any) -> Any:
    """The number, or 1 or 0 for true or false, that a text says; else the value itself."""
    if not isinstance(value, str):
        return value
    word = value.rstrip(" ").lower()
    return Decimal(word) if _NUMBER.fullmatch(word) else _TRUTHS.get(word, value)


def _label(value: Any) -> str:
    """The name of a class, which may be stored as 1, 1.0 or true, as 0.50, or in a CHAR with blanks."""
    if isinstance(value, bool | float | Decimal) and math.isfinite(value):
        return str(int(value)) if value == int(value) else _fraction(float(value))
    return str(value).rstrip(" ")


def _fraction(value: float) -> str:
    """Its digits; those of a FLOAT as they were stored, 3.7 and not 3.700000047683716."""
    import numpy as np

    with np.errstate(over="ignore"):
        short = np.float32(value)
    is_float = float(short) == value and len(str(value)) > _FLOAT_CHARS
    return str(short) if is_float else str(value)


def _by_number(label: str) -> tuple[bool, float, str]:
    """2 before 10, and numbers before words."""
    try:
        return False, float(label), label
    except ValueError:
        return True, 0.0, label
