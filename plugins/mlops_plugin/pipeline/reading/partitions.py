"""Divides a query's rows into partitions: each row belongs to exactly one, and the database finds the bounds.

The `plan` step decides once for a dispatch; the `collect` of each partition reads that decision.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from mlops_plugin.config.schema import PartitionsConfig
from mlops_plugin.databases.database import Database
from mlops_plugin.databases.selection import Condition
from mlops_plugin.errors import PartitionError
from mlops_plugin.pipeline.reading.ranges import as_numbers, ends_of, require_columns, value_of

_PARSE: Mapping[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "Decimal": Decimal,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
}


@dataclass(frozen=True)
class PlannedQuery:
    """A query as `plan` rendered it: all partitions of a dispatch are parts of its rows.

    Its secrets are masked if it `is_masked`, because it is kept in a note.
    """

    text: str
    is_masked: bool


@dataclass(frozen=True)
class Partition:
    """A part of the rows, with a name for people; `sql` is None if it is all rows.

    `query` is None before it is planned, and if all rows are read at once.
    """

    name: str
    sql: str | None = None
    parameters: tuple[Any, ...] = ()
    query: PlannedQuery | None = None

    @property
    def conditions(self) -> list[Condition]:
        return [] if self.sql is None else [Condition(self.sql, self.parameters)]

    def stored(self) -> StoredPartition:
        """The partition as a note keeps it."""
        parameters = tuple((type(value).__name__, _text(value)) for value in self.parameters)
        return StoredPartition(self.name, self.sql, parameters)


@dataclass(frozen=True)
class StoredPartition:
    """A partition in JSON; `parameters` are pairs of a type's name and the exact value as text."""

    name: str
    sql: str | None
    parameters: tuple[tuple[str, str], ...]

    def partition(self) -> Partition:
        return Partition(self.name, self.sql, tuple(_PARSE[kind](text) for kind, text in self.parameters))


ALL_ROWS = Partition("all rows")


def plan_partitions(database: Database, query: str, wanted: PartitionsConfig, path: str) -> list[Partition]:
    """Choose the partitions of `query`, at least one; `path` is the place in the configuration, for errors.

    Raises `PartitionError` if the query lacks a column or its values cannot be divided.
    """
    if wanted.predicates is not None:
        return _by_predicates(wanted.predicates)
    columns = [wanted.column] if wanted.column is not None else [*(wanted.hash or ())]
    require_columns(columns, database.describe(query).names, path)
    count = wanted.count or 1
    if wanted.column is None:
        return _by_hash(database, columns, count, path)
    return _by_range(database, query, wanted.column, count, path)


def _by_predicates(predicates: Sequence[str]) -> list[Partition]:
    # A line break ends a comment at the end of a predicate.
    any_of_them = " OR ".join(f"({predicate}\n)" for predicate in predicates)
    rest = Partition("all others", f"CASE WHEN {any_of_them} THEN 1 ELSE 0 END = 0")  # NULL is not true
    return [*(Partition(" ".join(predicate.split()), f"{predicate}\n") for predicate in predicates), rest]


def _by_hash(database: Database, columns: Sequence[str], count: int, path: str) -> list[Partition]:
    if count == 1:
        return [ALL_ROWS]
    number = database.engine.row_hash([database.engine.quote(column) for column in columns], count)
    if number is None:
        raise PartitionError(
            f"{path}.hash: hash partitions are not supported on this engine; use column or predicates"
        )
    return [Partition(f"hash {part + 1} of {count}", f"{number} = {part:d}") for part in range(count)]


def _by_range(database: Database, query: str, column: str, count: int, path: str) -> list[Partition]:
    quoted = database.engine.quote(column)
    least, greatest = ends_of(database, query, column, database.describe(query).field(column).type)
    if least is None:
        return [ALL_ROWS]
    bounds = _bounds(least, greatest, count, f"{path}.column: '{column}'")
    if not bounds:
        return [ALL_ROWS]
    first, last = bounds[0], bounds[-1]
    return [
        # Open at both ends: a row that is inserted later belongs to a partition too.
        Partition(f"{column} before {_text(first)}", f"{quoted} < ? OR {quoted} IS NULL", (first,)),
        *(
            Partition(
                f"{column} from {_text(lower)} to before {_text(upper)}",
                f"{quoted} >= ? AND {quoted} < ?",
                (lower, upper),
            )
            for lower, upper in itertools.pairwise(bounds)
        ),
        Partition(f"{column} from {_text(last)}", f"{quoted} >= ?", (last,)),
    ]


def _bounds(least: Any, greatest: Any, count: int, what: str) -> list[Any]:
    """At most `count` - 1 values, ascending, that divide the range into parts of equal width."""
    first, last = as_numbers(least, greatest, what, "use hash instead")
    numbers = [first + (last + 1 - first) * part // count for part in range(1, count)]
    return [value_of(number, least) for number in dict.fromkeys(numbers) if number > first]


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)
