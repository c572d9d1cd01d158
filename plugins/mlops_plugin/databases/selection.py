"""Narrows a query to some of its rows: it becomes a subquery of ours, and the database does the work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlops_plugin.databases.sql_text import bare


@dataclass(frozen=True)
class Condition:
    """What must be true of a row: SQL over the query's (quoted) columns, with values for its `?` marks."""

    sql: str
    parameters: tuple[object, ...] = ()


def narrowed(query: str, conditions: Sequence[Condition], engine: str) -> tuple[str, tuple[object, ...]]:
    """The statement that returns the rows of `query` for which all conditions hold, and its parameters.

    `engine` is the dialect's name. Without conditions the query is as it was written.
    """
    if not conditions:
        return query, ()
    both = " AND ".join(f"({condition.sql})" for condition in conditions)
    parameters = tuple(value for condition in conditions for value in condition.parameters)
    return f"SELECT * FROM (\n{bare(query, engine)}\n) selected WHERE {both}", parameters


def shown(query: str, parameters: Sequence[object]) -> str:
    """A statement as a person reads it: what fills its marks stands below it."""
    values = "".join(f"\n-- ? {number}: {value}" for number, value in enumerate(parameters, 1))
    return query + values
