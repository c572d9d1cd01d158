"""Parameter marks of SQL, and where a query ends; light, and without a parser for SQL of our own.

In SQL that this project makes, `?` is a parameter. A user's query may hold a `?` of its own (JSONB's
operators, a text, a name), so a statement around it marks its parameters with a character that no SQL holds:
`mark` makes these marks, and each driver turns them into its own form.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence

MARK = "\0"  # refused in a query, and in every name
# What hides a `?` in our own SQL: quoted names and short texts. A user's SQL is never looked through by this.
_OWN_PIECES = re.compile(r"""(?P<mark>\?)|'(?:''|[^'])*'|"(?:""|[^"])*"|`(?:``|[^`])*`|\[(?:\]\]|[^\]])*\]""")
_MAY_END_EARLY = re.compile(r"[;#]|--|/\*")


def bare(query: str, engine: str) -> str:
    """A query that can stand in brackets: without the semicolon, comments and blanks at its end.

    `engine` is its engine's name. The parser is loaded only for a query with a semicolon or a comment.
    """
    if not _MAY_END_EARLY.search(query):
        return query.strip()
    from mlops_plugin.databases.query_parts import parse_query

    return query[: parse_query(query, engine).end]


def mark(sql: str) -> str:
    """SQL of our own with `MARK` for each parameter's `?`."""
    return _OWN_PIECES.sub(lambda piece: MARK if piece["mark"] else piece[0], sql)


def numbered_marks(
    statement: str, parameters: Sequence[object], literal: Callable[[object], str | None]
) -> tuple[str, tuple[object, ...]]:
    """Parameters as `$1`, `$2`, ..., for PostgreSQL; those of which `literal` makes SQL stand in the text.

    Returns the statement and the other parameters.
    """
    if not parameters:
        return statement, ()
    numbers = itertools.count(1)
    statement, others = with_literals(statement, parameters, literal)
    return re.sub(MARK, lambda _: f"${next(numbers)}", statement), others


def with_literals(
    statement: str, parameters: Sequence[object], literal: Callable[[object], str | None]
) -> tuple[str, tuple[object, ...]]:
    """The statement with what `literal` makes of a parameter in its place, and the other parameters."""
    given, others = iter(parameters), list[object]()

    def written(_: re.Match[str]) -> str:
        value = next(given)
        sql = literal(value)
        if sql is None:
            others.append(value)
        return MARK if sql is None else sql

    return re.sub(MARK, written, _marked(statement)), tuple(others)


def named_marks(statement: str) -> str:
    """Parameters as `%(p1)s`, `%(p2)s`, ..., for mysql.connector."""
    numbers = itertools.count(1)
    # It makes a percent sign of %(...)%, and would take any other %( for a parameter.
    escaped = _marked(statement).replace("%(", "%(p)%(")
    return re.sub(MARK, lambda _: f"%(p{next(numbers)})s", escaped)


def question_marks(statement: str) -> str:
    """Parameters as `?`, for ODBC and SQLite."""
    return statement.replace(MARK, "?")


def _marked(statement: str) -> str:
    return statement if MARK in statement else mark(statement)
