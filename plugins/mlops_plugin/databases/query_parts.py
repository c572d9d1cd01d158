"""The parts of a user's query, found by a SQL parser: its kind, its ORDER BY, its row limit, its end.

Positions only: the query is sent as it was written, never as the parser would write it. The parser (sqlglot)
knows MySQL, PostgreSQL, SQLite and SQL Server; sqlparse has no dialects and takes MySQL's `#` and backslashes
for something else. It takes 0.1 s to load: only what reads a query's rows or shows a watermark imports this
module, and nothing that Airflow loads when it parses DAGs.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import sqlglot
from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.dialects.mysql import MySQL
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from mlops_plugin.databases.engines.registry import engine_named
from mlops_plugin.databases.nested_limits import find_nested_limit, limits_rows
from mlops_plugin.databases.sql_text import MARK

# It warns of statements that it takes as they are, which is what we want.
logging.getLogger("sqlglot").setLevel(logging.ERROR)

# A statement that begins with one of these returns no rows, or none that can be chosen from.
_NOT_A_QUERY = re.compile(
    "ALTER|ANALYZE|BEGIN|CALL|COPY|CREATE|DELETE|DESC|DESCRIBE|DO|DROP|EXEC|EXECUTE|EXPLAIN|GRANT|INSERT|LOAD"
    "|LOCK|MERGE|PRAGMA|REPLACE|SET|SHOW|TRUNCATE|UPDATE|USE|VACUUM"
)
_LIMITS = (TokenType.LIMIT, TokenType.FETCH, TokenType.TOP, TokenType.OFFSET)
_AFTER_ORDER = (TokenType.LIMIT, TokenType.FETCH, TokenType.OFFSET, TokenType.FOR)
_AFTER_ORDER_WORDS = frozenset({"LOCK", "OPTION", "INTO", "PROCEDURE"})
_OPENING = (TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE)
_CLOSING = (TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE)
_MARKS = (TokenType.PLACEHOLDER, TokenType.QMARK_PIPE, TokenType.QMARK_AMP, TokenType.AT_QMARK)
# MySQL and MariaDB run what stands in such a comment.
_EXECUTED = re.compile(r"/\*M?!\d*(.*?)\*/", re.DOTALL)
_SAME_POSITION = str.maketrans({MARK: "?"})


@dataclass(frozen=True)
class Part:
    """A piece of the query from `start` to before `end`."""

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class OrderTerm:
    """One term of the top-level ORDER BY; `outside` is how a query around this one says the same.

    `outside` is None if only this query can: the term is not among its columns.
    """

    part: Part
    outside: str | None


@dataclass(frozen=True)
class QueryParts:
    """What the parser found. Without `is_understood` it is what the tokens alone show."""

    end: int  # of the statement, without the semicolons, comments and blanks behind it
    statements: int
    verb: str  # its first word, in capitals
    is_understood: bool
    limit: Part | None  # top-level LIMIT, TOP, FETCH or OFFSET
    nested_limit: str | None  # one of a subquery or CTE that decides which rows the whole query returns
    order: Part | None  # the whole top-level ORDER BY
    order_terms: tuple[OrderTerm, ...]
    question_marks: tuple[Part, ...]  # operators such as JSONB's; no parameters of ours
    tables: tuple[str, ...] = ()  # that it reads, without case and quotes

    @property
    def is_query(self) -> bool:
        return not _NOT_A_QUERY.fullmatch(self.verb)


@lru_cache(maxsize=128)
def parse_query(query: str, engine: str) -> QueryParts:
    """The parts of a rendered query; `engine` is its engine's name. Never raises for a query's sake."""
    text = query.translate(_SAME_POSITION)
    dialect = Dialect.get_or_raise(engine_named(engine).parser)
    try:
        tokens, text, executed_end = _tokens(text, dialect)
    except SqlglotError:  # e.g. a text without an end: the database says it best
        return QueryParts(len(text.rstrip().rstrip(";").rstrip()), 1, "", False, None, None, None, (), ())
    whole = [token for token in tokens if token.token_type is not TokenType.SEMICOLON]
    statements = _count_statements(tokens)
    end = max(whole[-1].end + 1, executed_end) if whole else 0
    inner = _without_brackets(whole)
    tree = _parse(text[:end], dialect) if statements == 1 else None
    top = list(_top_level(inner))
    limit = _limit(text, top, tree)
    order = _order(text, inner, top)
    return QueryParts(
        end=end,
        statements=statements,
        verb=inner[0].text.upper() if inner else "",
        is_understood=tree is not None,
        limit=limit,
        nested_limit=None if tree is None else find_nested_limit(tree, dialect),
        order=order,
        order_terms=_order_terms(text, inner, order, tree) if order else (),
        question_marks=tuple(
            _part(text, token, token)
            for token in whole
            if token.token_type in _MARKS and query[token.start] != MARK
        ),
        tables=() if tree is None else _tables(tree),
    )


def _tokens(text: str, dialect: Dialect) -> tuple[list[Token], str, int]:
    """The tokens, the text with MySQL's executed comments laid open, and where the last of them ends."""
    tokens = dialect.tokenize(text)
    if not isinstance(dialect, MySQL) or not any(
        comment.startswith(("!", "M!")) for token in tokens for comment in token.comments
    ):
        return tokens, text, 0
    position = end = 0
    while comment := _EXECUTED.search(text, position):
        around = [token for token in tokens if token.start <= comment.start() <= token.end]
        if around:  # within a text
            position = around[0].end + 1
            continue
        blank = " " * (comment.start(1) - comment.start())
        text = f"{text[: comment.start()]}{blank}{comment[1]}  {text[comment.end() :]}"
        position = end = comment.end()
    return dialect.tokenize(text), text, end


def _count_statements(tokens: Sequence[Token]) -> int:
    is_inside, count = False, 0
    for token in tokens:
        begins = token.token_type is not TokenType.SEMICOLON
        count += begins and not is_inside
        is_inside = begins
    return count


def _without_brackets(tokens: Sequence[Token]) -> Sequence[Token]:
    """What stands in the brackets around the whole statement, if there are any."""
    while len(tokens) > 2 and tokens[0].token_type is TokenType.L_PAREN:
        top = [index for index, _ in _top_level(tokens)]
        if top[:2] != [0, len(tokens) - 1]:
            break
        tokens = tokens[1:-1]
    return tokens


def _top_level(tokens: Sequence[Token]) -> Iterator[tuple[int, Token]]:
    """The tokens outside of all brackets, each with its index."""
    depth = 0
    for index, token in enumerate(tokens):
        if token.token_type in _CLOSING:
            depth -= 1
        if depth == 0:
            yield index, token
        if token.token_type in _OPENING:
            depth += 1


def _parse(text: str, dialect: Dialect) -> exp.Expr | None:
    """The statement without brackets around it; None for what the parser does not understand."""
    try:
        tree = sqlglot.parse_one(text, read=dialect)
    except (SqlglotError, RecursionError):
        return None
    while isinstance(tree, exp.Subquery) and not any(
        tree.args.get(key) for key in ("limit", "offset", "order")
    ):
        tree = tree.this
    return tree if isinstance(tree, exp.Query) else None


def _tables(tree: exp.Expr) -> tuple[str, ...]:
    defined = {cte.alias.casefold() for cte in tree.find_all(exp.CTE)}
    named = (".".join(part.name for part in table.parts).casefold() for table in tree.find_all(exp.Table))
    return tuple(sorted({name for name in named if name} - defined))


def _limit(text: str, top: Sequence[tuple[int, Token]], tree: exp.Expr | None) -> Part | None:
    found = [token for _, token in top if token.token_type in _LIMITS]
    if tree is not None and not limits_rows(tree):
        return None
    if tree is None:  # `offset` and `top` may be names
        found = [token for token in found if token.token_type in (TokenType.LIMIT, TokenType.FETCH)]
    if not found:
        return None
    is_top = found[0].token_type is TokenType.TOP
    return _part(text, found[0], found[0] if is_top else top[-1][1])


def _order(text: str, inner: Sequence[Token], top: Sequence[tuple[int, Token]]) -> Part | None:
    starts = [index for index, token in top if token.token_type is TokenType.ORDER_BY]
    if not starts:
        return None
    start = starts[-1]
    ends = [index for index, token in top if index > start and _ends_order(token)]
    last = inner[ends[0] - 1] if ends else inner[-1]
    return _part(text, inner[start], last)


def _ends_order(token: Token) -> bool:
    return token.token_type in _AFTER_ORDER or token.text.upper() in _AFTER_ORDER_WORDS


def _order_terms(
    text: str, inner: Sequence[Token], order: Part, tree: exp.Expr | None
) -> tuple[OrderTerm, ...]:
    from mlops_plugin.databases.query_order import Columns, term_outside

    tokens = [token for token in inner if order.start <= token.start < order.end][1:]
    commas = [index for index, token in _top_level(tokens) if token.token_type is TokenType.COMMA]
    groups = [
        tokens[begin:end]
        for begin, end in zip([0, *(c + 1 for c in commas)], [*commas, len(tokens)], strict=True)
    ]
    trees: Sequence[exp.Expr] = (
        tree.args["order"].expressions if tree is not None and tree.args.get("order") else ()
    )
    if tree is None or len(trees) != len(groups) or not all(groups):
        return tuple(OrderTerm(_part(text, group[0], group[-1]), None) for group in groups if group)
    columns = Columns.of(tree)
    terms = []
    for group, ordered in zip(groups, trees, strict=True):
        part = _part(text, group[0], group[-1])
        last = group[_expression_size(group) - 1]
        suffix = text[last.end + 1 : part.end]
        outside = term_outside(text, _part(text, group[0], last).text, ordered.this, columns)
        terms.append(OrderTerm(part, None if outside is None else outside + suffix))
    return tuple(terms)


def _expression_size(tokens: Sequence[Token]) -> int:
    """How many of a term's tokens stand before ASC, DESC and NULLS FIRST or LAST."""
    size = len(tokens)
    words = [token.text.upper() for token in tokens]
    if size > 2 and words[-2:] in (["NULLS", "FIRST"], ["NULLS", "LAST"]):
        size -= 2
    elif size > 1 and words[-1] in ("NULLS FIRST", "NULLS LAST"):
        size -= 1
    return size - 1 if size > 1 and words[size - 1] in ("ASC", "DESC") else size


def _part(text: str, first: Token, last: Token) -> Part:
    return Part(text[first.start : last.end + 1], first.start, last.end + 1)
