"""Divides a query's rows into partitions: every row is in one of them, and the database finds the bounds.

The `plan` step decides once for a dispatch; each partition's `collect` reads what was decided.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from mlops_plugin.config.schema import PartitionsConfig
from mlops_plugin.databases.database import Database
from mlops_plugin.databases.selection import Condition
from mlops_plugin.databases.sql_text import bare
from mlops_plugin.errors import PartitionError

_PARSE: Mapping[str, Callable[[str], Any]] = {
    "int": int,
    "Decimal": Decimal,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
}
# A number from 0 to {count} - 1 for a row, always the same for the same values; NULL counts as a value.
_HASHES = {
    "mysql": "MOD(CRC32(CONCAT_WS('|', {columns})), {count})",
    "postgresql": "MOD(ABS(CAST(HASHTEXT(CONCAT_WS('|', {columns})) AS BIGINT)), {count})",
    "sqlite": "(({sum}) % {count} + {count}) % {count}",
    "mssql": "ABS(CAST(CHECKSUM({columns}) AS BIGINT)) % {count}",
}
# SQLite has no hash function.
_SQLITE_NUMBER = (
    "COALESCE(CASE TYPEOF({column}) WHEN 'text' THEN UNICODE(SUBSTR({column}, -1)) + LENGTH({column}) "
    "ELSE CAST({column} AS INTEGER) % {count} END, 0)"
)


@dataclass(frozen=True)
class Partition:
    """A part of the rows, with a name for people; `sql` is None where it is all of them."""

    name: str
    sql: str | None = None
    parameters: tuple[Any, ...] = ()

    @property
    def conditions(self) -> list[Condition]:
        return [] if self.sql is None else [Condition(self.sql, self.parameters)]

    def as_json(self) -> dict[str, Any]:
        """As a note keeps it: each parameter with its type, and exact."""
        parameters = [[type(value).__name__, _text(value)] for value in self.parameters]
        return {"name": self.name, "sql": self.sql, "parameters": parameters}

    @classmethod
    def from_json(cls, note: dict[str, Any]) -> Partition:
        parameters = tuple(_PARSE[kind](text) for kind, text in note["parameters"])
        return cls(note["name"], note["sql"], parameters)


ALL_ROWS = Partition("all rows")


def plan_partitions(database: Database, query: str, wanted: PartitionsConfig, path: str) -> list[Partition]:
    """The partitions of `query`, at least one; `path` is the place in the configuration, for errors.

    Raises `PartitionError` for a column that the query does not have, or cannot be divided by.
    """
    if wanted.predicates is not None:
        return _by_predicates(wanted.predicates)
    columns = [wanted.column] if wanted.column is not None else [*(wanted.hash or ())]
    known = database.describe(query).names
    for column in columns:
        if column not in known:
            raise PartitionError(
                f"{path}: the query returns no column '{column}'; it returns {_named(known)}"
            )
    count = wanted.count or 1
    if wanted.column is None:
        return _by_hash(database, columns, count, path)
    return _by_range(database, query, wanted.column, count, path)


def _by_predicates(predicates: Sequence[str]) -> list[Partition]:
    # A line break ends a comment that may stand at the end of one.
    any_of_them = " OR ".join(f"({predicate}\n)" for predicate in predicates)
    rest = Partition("all others", f"CASE WHEN {any_of_them} THEN 1 ELSE 0 END = 0")  # NULL is not true
    return [*(Partition(" ".join(predicate.split()), f"{predicate}\n") for predicate in predicates), rest]


def _by_hash(database: Database, columns: Sequence[str], count: int, path: str) -> list[Partition]:
    if count == 1:
        return [ALL_ROWS]
    engine = database.dialect.name
    if engine not in _HASHES:
        raise PartitionError(
            f"{path}.hash: no hash function of this engine is known; use column or predicates instead"
        )
    quoted = [database.dialect.quote(column) for column in columns]
    numbers = " + ".join(_SQLITE_NUMBER.format(column=column, count=count) for column in quoted)
    number = _HASHES[engine].format(columns=", ".join(quoted), sum=numbers, count=count)
    return [Partition(f"hash {part + 1} of {count}", f"{number} = {part:d}") for part in range(count)]


def _by_range(database: Database, query: str, column: str, count: int, path: str) -> list[Partition]:
    quoted = database.dialect.quote(column)
    is_decimal = pa.types.is_decimal(database.describe(query).field(column).type)
    # PostgreSQL's MIN forgets how many digits its column has; bounds are whole numbers anyway.
    before, after = ("CAST(FLOOR(", ") AS DECIMAL(38, 0))") if is_decimal else ("", "")
    # Two questions, not one: an engine answers each from an end of the index.
    least, greatest = (_end(database, query, f"{before}{end}({quoted}){after}") for end in ("MIN", "MAX"))
    if least is None:
        return [ALL_ROWS]
    bounds = _bounds(least, greatest, count, f"{path}.column: '{column}'")
    if not bounds:
        return [ALL_ROWS]
    first, last = bounds[0], bounds[-1]
    return [
        # Open at both ends: a row that appears after this was decided is in one of them too.
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


def _end(database: Database, query: str, end: str) -> Any:
    statement = f"SELECT {end} AS bound FROM (\n{bare(query, database.dialect.name)}\n) selected"
    return database.read(statement, batch_rows=1).read_all().column(0)[0].as_py()


def _bounds(least: Any, greatest: Any, count: int, what: str) -> list[Any]:
    """At most `count` - 1 values, ascending, that divide least..greatest into parts of equal width."""
    try:
        first, last = _number(least), _number(greatest)
    except TypeError:
        raise PartitionError(
            f"{what} holds values like {str(least)[:50]!r}; ranges are made of numbers, dates and "
            "timestamps; use hash instead"
        ) from None
    numbers = [first + (last + 1 - first) * part // count for part in range(1, count)]
    return [_value(number, least) for number in dict.fromkeys(numbers) if number > first]


_EPOCH = datetime(1970, 1, 1)
_STEP = timedelta(microseconds=1)


def _number(value: Any) -> int:
    match value:
        case bool():
            raise TypeError
        case int():
            return value
        case datetime():
            return (value - (_EPOCH if value.tzinfo is None else _EPOCH.replace(tzinfo=UTC))) // _STEP
        case date():
            return value.toordinal()
        case Decimal() | float() if math.isfinite(value):
            return math.floor(value)  # whole numbers are bounds fine enough
        case _:
            raise TypeError


def _value(number: int, like: Any) -> Any:
    match like:
        case datetime():
            moment = _EPOCH + number * _STEP
            return moment if like.tzinfo is None else moment.replace(tzinfo=UTC)
        case date():
            return date.fromordinal(number)
        case _:
            return number


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


def _named(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
