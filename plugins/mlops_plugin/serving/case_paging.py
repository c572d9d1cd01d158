"""The order of cases, and the SQL for those behind a place in it: pages are found by key, not counted off.

A page deep inside of a table then costs what the first one does. What a case holds in the sorted column is
compared by the database with what it holds itself: no driver and no browser must carry it unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlops_plugin.databases.engines.engine import Engine

Key = tuple[Any, ...]

PLACE = "place"  # the subquery with the one value that others are compared with
PLACE_VALUE = "mlops_place_value"


@dataclass(frozen=True)
class Place:
    """A case after which a page begins, or before which it ends if it `is_backwards`.

    `is_null`: whether the sorted column is NULL there. Without a sorted column, or if that is part of the
    key, the key says all.
    """

    key: Key
    is_null: bool = False
    is_backwards: bool = False


@dataclass(frozen=True)
class CaseOrder:
    """By `sort`, a column or None, then by the key, which decides between equals; all in one direction."""

    engine: Engine
    key: tuple[str, ...]
    sort: str | None
    is_descending: bool
    labels: frozenset[str] = frozenset()  # columns that may be an ENUM, see `arrow_values.LABELS`

    @property
    def by_key(self) -> tuple[str, ...]:
        """The key's columns, a sorted one first."""
        first = [name for name in self.key if name == self.sort]
        return (*first, *(name for name in self.key if name not in first))

    @property
    def by_value(self) -> str | None:
        """The sorted column that is not part of the key."""
        return None if self.sort is None or self.sort in self.key else self._column(self.sort)

    def clause(self, *, is_backwards: bool = False) -> str:
        """ORDER BY, with NULL where `behind` expects it."""
        columns = [self._column(name) for name in self.by_key]
        if self.by_value:
            columns.insert(0, self.by_value)
            if self.engine.null_order is None:
                columns.insert(0, f"CASE WHEN {self.by_value} IS NULL THEN 0 ELSE 1 END")
        direction = " DESC" if self.is_descending != is_backwards else ""
        return " ORDER BY " + ", ".join(column + direction for column in columns)

    def behind(self, place: Place) -> tuple[str, list[Any]]:
        """The condition of the cases on a page that begins at `place`, and its parameters.

        Where there is a `by_value`, not NULL there, `PLACE_VALUE` of a subquery stands for its value.
        """
        is_ascending = self.is_descending == place.is_backwards
        sign = ">" if is_ascending else "<"
        values = dict(zip(self.key, place.key, strict=True))
        equals, parameters = self._behind_key(sign, [(name, values[name]) for name in self.by_key])
        column = self.by_value
        if column is None:
            return equals, parameters
        is_null_last = (self.engine.null_order == "greatest") == is_ascending
        if place.is_null:
            others = "" if is_null_last else f" OR {column} IS NOT NULL"
            return f"(({column} IS NULL AND {equals}){others})", parameters
        value = f"{PLACE}.{PLACE_VALUE}"
        others = f" OR {column} IS NULL" if is_null_last else ""
        return f"({column} {sign} {value} OR ({column} = {value} AND {equals}){others})", parameters

    def _behind_key(self, sign: str, columns: Sequence[tuple[str, Any]]) -> tuple[str, list[Any]]:
        (name, value), rest = columns[0], columns[1:]
        column = self._column(name)
        if not rest:
            return f"{column} {sign} ?", [value]
        inner, parameters = self._behind_key(sign, rest)
        # The first part says less than the second, but an index can answer it.
        both = f"({column} {sign}= ? AND ({column} {sign} ? OR {inner}))"
        return both, [value, value, *parameters]

    def _column(self, name: str) -> str:
        column = f"cases.{self.engine.quote(name)}"
        return self.engine.as_label(column) if name in self.labels else column
