"""Narrows a query to some of its rows: it becomes a subquery of ours, and the database does the work.

Conditions stay outside of it. Inside, before GROUP BY, DISTINCT, a window or UNION, they would mean something
else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlops_plugin.databases.engines.registry import engine_named
from mlops_plugin.databases.sql_text import bare, mark, question_marks
from mlops_plugin.errors import QueryError


@dataclass(frozen=True)
class Condition:
    """What must be true of a row: SQL over the query's (quoted) columns, with values for its `?` marks.

    Without values a `?` in it is the user's own.
    """

    sql: str
    parameters: tuple[object, ...] = ()


def narrowed(
    query: str, conditions: Sequence[Condition], engine: str, *, is_limited: bool = False
) -> tuple[str, tuple[object, ...]]:
    """The statement that returns the rows of `query` for which all conditions hold, and its parameters.

    They come in the query's order. `engine` is its engine's name. `is_limited`: only the first rows will be
    taken, so that an order that cannot be kept raises `QueryError`. Without conditions the query is as it was
    written.
    """
    if not conditions:
        return query, ()
    both = " AND ".join(
        f"({mark(condition.sql) if condition.parameters else condition.sql})" for condition in conditions
    )
    parameters = tuple(value for condition in conditions for value in condition.parameters)
    inner, order = _ordered(query, engine, is_limited=is_limited)
    return f"SELECT * FROM (\n{inner}\n) selected WHERE {both}{order}", parameters


def some_rows(query: str, engine: str, rows: int, columns: str = "*") -> str:
    """The statement that returns at most so many rows of `query`, whichever they are."""
    return f"SELECT {columns} FROM {as_subquery(query, engine)} {engine_named(engine).any_rows(rows)}"


def as_subquery(query: str, engine: str) -> str:
    """The rows of `query`, in no order, as they stand behind FROM; their name is `selected`."""
    inner, _ = _ordered(query, engine, is_limited=False)
    return f"(\n{inner}\n) selected"


def is_ordered(query: str, engine: str) -> bool:
    """Whether the query has an ORDER BY of its own, not only within a subquery or a window."""
    if "order" not in query.lower():
        return False
    from mlops_plugin.databases.query_parts import parse_query

    return parse_query(query, engine).order is not None


def _ordered(query: str, engine: str, *, is_limited: bool) -> tuple[str, str]:
    """The query as a subquery, and the ORDER BY that has to stand outside of it.

    An engine may drop the order of a subquery, as MariaDB does.
    """
    if not is_ordered(query, engine):
        return bare(query, engine), ""
    from mlops_plugin.databases.query_parts import parse_query

    parts = parse_query(query, engine)
    inner = query[: parts.end]
    lost = [term.part.text for term in parts.order_terms if term.outside is None]
    if lost and is_limited:
        raise QueryError(
            f"ORDER BY {lost[0]}: the query does not return this expression, so a limit cannot keep its "
            "order; select it under another name, e.g. AS sorted_by, and write ORDER BY sorted_by, or "
            "dispatch without a row limit"
        )
    if not engine_named(engine).orders_subqueries and parts.order is not None and parts.limit is None:
        inner = inner[: parts.order.start] + inner[parts.order.end :]
    if lost:
        return inner, ""
    return inner, " ORDER BY " + ", ".join(str(term.outside) for term in parts.order_terms)


def shown(query: str, parameters: Sequence[object]) -> str:
    """A statement as a person reads it: what fills its marks stands below it."""
    values = "".join(f"\n-- ? {number}: {value}" for number, value in enumerate(parameters, 1))
    return question_marks(query) + values
