"""Whether a query writes CatBoost's categories as training did: 1 and true are '1', '1.0' and 'True' others.

The file holds hashes only, and a category that is written otherwise counts as unknown, without an error. But
the model tells: where it answers about a category as about one that nobody has, and otherwise about the same
in another writing, training had that other one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from mlops_plugin.errors import FeatureError

_ROWS = 32  # of a table, that are looked at; besides, the first row of as many categories
_MOST_ROWS = 640  # that are looked at while a column's answers tell nothing
_NOBODYS = "\x7fnobody has this category\x7f"
_WHOLE = re.compile(r"(-?\d+)(\.0)?")
_TRUTH = (("0", "False", "false"), ("1", "True", "true"))
_TEXTS = ("text", "str", "string", "object")

Answers = np.ndarray[Any, Any]
Ask = Callable[[Any], Answers]


def is_believed(dtype: str | None) -> bool:
    """Whether what the configuration says of a column means that its categories are written as they are."""
    return dtype in _TEXTS


class CategoryWriting:
    """Looks at the first tables that a model is asked about; `places`: of its categorical columns.

    `configurable`: the columns whose type the configuration may give; None: all.
    """

    def __init__(self, places: Sequence[int], configurable: Sequence[str] | None = None) -> None:
        self._configurable = configurable
        self._open = dict.fromkeys(places, _MOST_ROWS)
        self._refused: dict[tuple[int, str], str] = {}  # by place and type: what was wrong with such a column

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to look at."""
        return not self._open

    def trust(self, place: int) -> None:
        """Stop looking at this column, because the configuration gives its type."""
        self._open.pop(place, None)

    def require_that_of_training(self, table: Any, ask: Ask) -> None:
        """Raise `FeatureError` if a column of the table has the categories of training in other words.

        It is a DataFrame, or an array of objects.
        """
        if not self._open:
            return
        if not hasattr(table, "iloc"):
            import pandas as pd

            ask_array, table = ask, pd.DataFrame(table)
            ask = lambda rows: ask_array(rows.to_numpy())  # noqa: E731
        rows = table.iloc[_chosen(table, self._open)]
        answers = ask(rows)
        for place in [*self._open]:
            of_type = place, str(rows.dtypes.iloc[place])
            if self._is_known(rows, of_type, answers, ask):
                del self._open[place]
            elif of_type not in self._refused:
                self._open[place] -= len(rows)
                if self._open[place] <= 0:
                    del self._open[place]
            elif len(rows) < len(table):  # the others may have what was refused before
                raise FeatureError(self._refused[of_type])

    def _is_known(self, rows: Any, of_type: tuple[int, str], answers: Answers, ask: Ask) -> bool:
        """Whether the model knows a category that could be written otherwise, as it is written here."""
        place, _ = of_type
        written = [_writings(value) for value in rows.iloc[:, place].tolist()]
        if not any(written):
            return False
        unknown = ask(_with(rows, place, [_NOBODYS] * len(rows)))
        if (_differ(answers, unknown) & np.array([bool(each) for each in written])).any():
            return True
        for number in range(max(map(len, written))):
            others = [each[number] if number < len(each) else _NOBODYS for each in written]
            is_other = _differ(ask(_with(rows, place, others)), unknown)
            if is_other.any():
                row = int(np.argmax(is_other))
                name, value = rows.columns[place], rows.iloc[row, place]
                self._refused[of_type] = (
                    f"column '{name}': the query returns {value!r}, and the category of training is "
                    f"{others[row]!r}: CatBoost compares texts, and takes this one for unknown; write it "
                    f"so in the query (CASE, CAST), or, if training had both, {self._remedy(name)}"
                )
                raise FeatureError(self._refused[of_type])
        return False

    def _remedy(self, name: Any) -> str:
        if self._configurable is None or name in self._configurable:
            return f"set `model: {{dtypes: {{{name}: text}}}}`"
        return "write a signature"


def _chosen(table: Any, places: Iterable[int]) -> list[int]:
    """The first rows, and those in which a category of one of these columns is there for the first time."""
    chosen = {*range(min(_ROWS, len(table)))}
    for place in places:
        is_new = ~table.iloc[:, place].duplicated().to_numpy()
        chosen |= {*np.flatnonzero(is_new)[:_ROWS].tolist()}
    return sorted(chosen)


def _differ(some: Answers, others: Answers) -> Answers:
    """About which rows."""
    is_same = (some == others) | ((some != some) & (others != others))
    return np.asarray(~is_same.reshape(len(some), -1).all(axis=1))


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
        if (plain := str(int(whole[1]))) != whole[1]:  # pandas reads 7 for the 007 of a file
            found += [plain, f"{plain}.0"]
    if (stripped := text.strip()) != text:  # CHAR of a fixed length
        found.append(stripped)
    return found
