"""What an upsert needs of an engine: rows of a temporary table are merged into the sink, by key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Merge:
    """All names are quoted. `is_keyed`: the temporary table has the key as its primary key."""

    table: str
    stage: str
    key: tuple[str, ...]
    values: tuple[str, ...]  # the columns beside the key
    is_unique: bool  # the table has a unique index over exactly the key
    is_only_unique: bool  # and no other unique index
    is_keyed: bool = False
    cleared: tuple[str, ...] = ()  # further columns, which are NULL in a row that is updated

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.key, *self.values)

    def key_equals(self, one: str, other: str) -> str:
        """The condition that two aliases have the same key."""
        return " AND ".join(f"{one}.{column} = {other}.{column}" for column in self.key)

    @property
    def staged_keys(self) -> str:
        """The staged keys to join with: MySQL gives an index to a subquery, not to a temporary table."""
        return self.stage if self.is_keyed else self.distinct()

    def distinct(self, *more: str) -> str:
        """A subquery of the staged keys, with more of their columns."""
        return f"(SELECT DISTINCT {', '.join((*self.key, *more))} FROM {self.stage})"

    @property
    def insert(self) -> str:
        """Copy all staged rows into the table."""
        columns = ", ".join(self.columns)
        staged = ", ".join(_of("s", self.columns))
        return f"INSERT INTO {self.table} ({columns}) SELECT {staged} FROM {self.stage} s WHERE 1 = 1"

    def insert_on_conflict(self) -> str:
        """`insert`, but a row whose key is there already is updated."""
        return (
            f"{self.insert} ON CONFLICT ({', '.join(self.key)}) DO UPDATE SET {self.assignments('excluded')}"
        )

    def assignments(self, of: str) -> str:
        """`column = of.column, ...` for the columns beside the key, and `column = NULL` for the cleared."""
        pairs = zip(self.values, _of(of, self.values), strict=True)
        assigned = [f"{column} = {value}" for column, value in pairs]
        return ", ".join([*assigned, *(f"{column} = NULL" for column in self.cleared)])

    def delete_existing(self) -> str:
        """Delete what the staged rows replace, in standard SQL."""
        return (
            f"DELETE FROM {self.table} WHERE EXISTS "
            f"(SELECT 1 FROM {self.stage} s WHERE {self.key_equals('s', self.table)})"
        )


def _of(alias: str, columns: Sequence[str]) -> list[str]:
    return [f"{alias}.{column}" for column in columns]
