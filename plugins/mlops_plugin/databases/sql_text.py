"""Reads SQL as far as the ways in need to: where its parameter marks are, and where it ends."""

from __future__ import annotations

import itertools
import re

# What hides a mark, a semicolon or a comment: literals, quoted names, dollar quotes.
_HIDDEN = r"""
    [eE]'(?:\\.|''|[^'\\])*' | '(?:''|[^'])*' | "(?:""|[^"])*" | `[^`]*` | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$
"""
_MYSQL_HIDDEN = r"""
    '(?:\\.|''|[^'\\])*' | "(?:\\.|""|[^"\\])*" | `(?:``|[^`])*`
"""
_COMMENT = r"--[^\n]* | /\*.*?\*/"
# There, 5--1 is 6 and /*! */ is run.
_MYSQL_COMMENT = r"--(?=\s|\Z)[^\n]* | \#[^\n]* | /\*(?!M?!).*?\*/"


def _pieces(hidden: str, comment: str) -> re.Pattern[str]:
    pattern = rf"(?P<mark>\?) | (?P<nothing>{comment} | [\s;]+) | {hidden} | \w[\w$]* | %\( | ."
    return re.compile(pattern, re.VERBOSE | re.DOTALL)


_PIECES = _pieces(_HIDDEN, _COMMENT)
_MYSQL_PIECES = _pieces(_MYSQL_HIDDEN, _MYSQL_COMMENT)


def bare(query: str, engine: str) -> str:
    """A query that can stand in brackets: without the semicolon, comments and blanks at its end.

    `engine` is the dialect's name.
    """
    pieces = _MYSQL_PIECES if engine == "mysql" else _PIECES
    end = 0
    for piece in pieces.finditer(query):
        if piece["nothing"] is None:
            end = piece.end()
    return query[:end]


def numbered_marks(statement: str) -> str:
    """`?` as `$1`, `$2`, ... where it is a parameter."""
    numbers = itertools.count(1)
    return _PIECES.sub(lambda piece: f"${next(numbers)}" if piece["mark"] else piece[0], statement)


def named_marks(statement: str) -> str:
    """`?` as `%(p1)s`, `%(p2)s`, ... where it is a parameter, for mysql.connector."""
    numbers = itertools.count(1)

    def named(piece: re.Match[str]) -> str:
        # It makes a percent sign of %(...)%, and would take any other %( for a parameter.
        return f"%(p{next(numbers)})s" if piece["mark"] else piece[0].replace("%(", "%(p)%(")

    return _MYSQL_PIECES.sub(named, statement)
