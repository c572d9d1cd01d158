"""Whether a query writes CatBoost's categories as training did: 1 and true are '1', '1.0' and 'True' others.

The file holds hashes only, and a category that is written otherwise counts as unknown, without an error. But
the model tells: where it answers about a category as about one that nobody has, and otherwise about the same
in another writing, training had that other one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mlops_plugin.errors import FeatureError

_ROWS = 32  # of a table, that are looked at
_TABLES = 20  # that are looked at while a column's answers tell nothing
_NOBODYS = "\x7fnobody has this category\x7f"
_WHOLE = re.compile(r"(-?\d+)(\.0)?")
_TRUTH = (("0", "False", "false"), ("1", "True", "true"))

Ask = Callable[[Any], np.ndarray[Any, Any]]


class CategoryWriting:
    """Looks at the first tables that a model is asked about; `places`: of its categorical columns."""

    def __init__(self, places: Sequence[int]) -> None:
        self._open = dict.fromkeys(places, _TABLES)

    def trust(self, place: int) -> None:
        """Look at this column no more: the configuration says what it is."""
        self._open.pop(place, None)

    def require_that_of_training(self, table: Any, ask: Ask) -> None:
        """Raise `FeatureError` if a column of the DataFrame has the categories of training in other words."""
        if not self._open:
            return
        rows = table.iloc[:_ROWS]
        answers = ask(rows)
        for place in [*self._open]:
            if self._is_known(rows, place, answers, ask):
                del self._open[place]

    def _is_known(self, rows: Any, place: int, answers: np.ndarray[Any, Any], ask: Ask) -> bool:
        """Whether that is settled."""
        unknown = ask(_with(rows, place, [_NOBODYS] * len(rows)))
        if not np.array_equal(answers, unknown, equal_nan=True):
            return True
        written = [_writings(value) for value in rows.iloc[:, place].tolist()]
        for number in range(max(map(len, written), default=0)):
            others = [each[number] if number < len(each) else _NOBODYS for each in written]
            found = ask(_with(rows, place, others))
            is_other = (found != unknown).reshape(len(rows), -1).any(axis=1)
            if is_other.any():
                row = int(np.argmax(is_other))
                name, value = rows.columns[place], rows.iloc[row, place]
                raise FeatureError(
                    f"column '{name}': the query returns {value!r}, and the category of training is "
                    f"{others[row]!r}: CatBoost compares texts, and takes this one for unknown; write it "
                    "so in the query (CASE, CAST), or, if training had both, set `model: {dtypes: "
                    f"{{{name}: text}}}}`"
                )
        self._open[place] -= 1
        return self._open[place] == 0


def _with(rows: Any, place: int, values: list[str]) -> Any:
    import pandas as pd

    changed = rows.copy(deep=False)
    column = pd.Series(values, index=rows.index, dtype=object)
    changed.isetitem(place, column)
    return changed


def _writings(value: Any) -> list[str]:
    """How else the same may be written."""
    text = str(int(value)) if isinstance(value, bool | np.bool_) else str(value)
    same = next((writings for writings in _TRUTH if text in writings), ())
    found = [writing for writing in same if writing != text]
    if whole := _WHOLE.fullmatch(text):
        found.append(whole[1] if whole[2] else f"{text}.0")
    return found
