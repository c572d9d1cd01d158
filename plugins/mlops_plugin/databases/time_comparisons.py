"""Where a rendered query compares a value with a moment that its template printed, found by its tokens.

Like `query_parts` it needs the SQL parser: only `collect` and `mlops check` load it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from mlops_plugin.databases.engines.registry import engine_named
from mlops_plugin.databases.engines.sqlite_times import TimeComparison
from mlops_plugin.databases.query_scopes import CLOSING, OPENING, word_of

_OPERATORS = frozenset({"<", "<=", ">", ">=", "=", "==", "<>", "!=", "IS"})
_ENDS = re.compile(
    "AND|OR|NOT|WHERE|ON|HAVING|WHEN|THEN|ELSE|SELECT|DISTINCT|ALL|BETWEEN|IN|LIKE|GLOB|FROM|BY|LIMIT|FILTER"
    "|AS|GROUP|ORDER|GROUP BY|ORDER BY|PARTITION BY|WINDOW|UNION|UNION ALL|EXCEPT|INTERSECT|LEFT|RIGHT|INNER"
    "|CROSS|JOIN|FULL|NATURAL|OFFSET|RETURNING|ESCAPE|VALUES|ASC|DESC|[,;]|<|<=|>|>=|=|==|<>|!=|IS"
)
_NAMES = (TokenType.VAR, TokenType.IDENTIFIER, TokenType.STRING, TokenType.NUMBER)
_NO_MOMENT = _OPERATORS | {"SELECT", "CASE", "BETWEEN", "IN", "LIKE", "GLOB", "AND", "OR"}
_FILTERS = frozenset({"FROM", "WHERE", "ON", "HAVING", "JOIN", "AS", "BY", "WITH", "GROUP BY", "ORDER BY"})
_CONSTANTS = (TokenType.STRING, TokenType.NUMBER)
_TIME = re.compile(
    r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?([-+]\d\d:?\d\d|Z)?)?|\d{8}(T\d{6}([-+]\d{4}|Z)?)?"
)
_NUMBER = re.compile(r"\d{8,}(\.\d+)?")


@dataclass(frozen=True)
class Comparison:
    """The part of the query from `start` to before `end`, and the comparisons that it makes."""

    start: int
    end: int
    text: str
    sides: tuple[TimeComparison, ...]
    is_selected: bool  # it makes a value of the select list, and chooses no rows


@dataclass(frozen=True)
class Moments:
    """How moments in the query are to be understood."""

    template: str  # the query before it was rendered: what stands there is no printed moment
    time_zone: str
    at_any_moment: bool = False


def find_comparisons(query: str, engine: str, moments: Moments) -> list[Comparison]:
    """Each comparison of a value with a printed moment."""
    try:
        tokens = Dialect.get_or_raise(engine_named(engine).parser).tokenize(query)
    except SqlglotError:  # the database says it best
        return []
    found = _Query(query, tokens, moments)
    return [comparison for index in range(len(tokens)) for comparison in found.at(index)]


def is_time(text: str) -> bool:
    """Whether a text is a date or a time as templates print them."""
    return _TIME.fullmatch(text) is not None


@dataclass(frozen=True)
class _Query:
    text: str
    tokens: Sequence[Token]
    moments: Moments

    def at(self, index: int) -> Iterator[Comparison]:
        word = self._word(index)
        if word == "BETWEEN":
            yield from self._between(index)
        elif word in _OPERATORS:
            is_negated = word == "IS" and self._word(index + 1) == "NOT"
            left = self._left_of(index)
            right = self._right_of(index + is_negated)
            yield from self._comparison(left, "IS NOT" if is_negated else word, right)
        elif word == "IN" and self._word(index + 1) == "(":
            yield from self._in_list(index)

    def _comparison(self, left: range, operator: str, right: range) -> Iterator[Comparison]:
        side = self._side(left, operator, right)
        if side is not None:
            yield self._whole(left, right, (side,))

    def _between(self, index: int) -> Iterator[Comparison]:
        value = self._left_of(index - (self._word(index - 1) == "NOT"))
        first = self._right_of(index)
        last = self._right_of(first.stop) if self._word(first.stop) == "AND" else range(0)
        if not last:
            return
        sides = (self._side(value, ">=", first), self._side(value, "<=", last))
        yield from self._several(value, last, sides)

    def _in_list(self, index: int) -> Iterator[Comparison]:
        value = self._left_of(index - (self._word(index - 1) == "NOT"))
        sides, start, items = [], index + 1, range(0)
        while self._word(start) in ("(", ","):
            items = self._right_of(start)
            sides.append(self._side(value, "=", items))
            start = items.stop
        if self._word(start) == ")" and items:
            yield from self._several(value, range(items.start, start + 1), tuple(sides))

    def _several(
        self, value: range, last: range, sides: tuple[TimeComparison | None, ...]
    ) -> Iterator[Comparison]:
        found = tuple(side for side in sides if side is not None and not side.is_moment_left)
        if found:
            yield self._whole(value, last, found)

    def _whole(self, left: range, right: range, sides: tuple[TimeComparison, ...]) -> Comparison:
        start, end = self.tokens[left[0]].start, self.tokens[right[-1]].end + 1
        return Comparison(start, end, self.text[start:end], sides, self._is_selected(left[0]))

    def _is_selected(self, index: int) -> bool:
        """Whether a select list stands around a token, at any depth."""
        depth = lowest = 0
        is_decided = False
        for before in range(index - 1, -1, -1):
            word = self._word(before)
            depth += (word in CLOSING) - (word in OPENING)
            if depth < lowest:
                lowest, is_decided = depth, False
            if depth > lowest or is_decided:
                continue
            if word == "SELECT":
                return True
            is_decided = word in _FILTERS
        return False

    def _side(self, left: range, operator: str, right: range) -> TimeComparison | None:
        """The comparison if one side, and only one, has a printed moment."""
        printed_left, printed_right = self._printed(left), self._printed(right)
        if bool(printed_left) == bool(printed_right):
            return None
        moment, printed = (left, printed_left) if printed_left else (right, printed_right)
        value = right if printed_left else left
        if all(self.tokens[index].token_type in _CONSTANTS for index in value):
            return None
        is_alone = len(moment) == 1 and self.tokens[moment[0]].token_type is TokenType.STRING
        return TimeComparison(
            left=self._part(left),
            operator=operator,
            right=self._part(right),
            is_moment_left=bool(printed_left),
            literal=printed[0] if is_alone else None,
            offset_s=_offset(printed[0], self.moments.time_zone),
            at_any_moment=self.moments.at_any_moment,
        )

    def _printed(self, side: range) -> list[str]:
        """The moments among the tokens of a side that the template printed."""
        tokens = [self.tokens[index] for index in side]
        if any(self._word(index) in _NO_MOMENT for index in side):
            return []
        return [
            token.text
            for token in tokens
            if (
                (token.token_type is TokenType.STRING and is_time(token.text))
                or (token.token_type is TokenType.NUMBER and _NUMBER.fullmatch(token.text))
            )
            and token.text not in self.moments.template
        ]

    def _left_of(self, index: int) -> range:
        """The tokens of the operand that ends before `index`."""
        depth, start = 0, index
        while start > 0:
            word = self._word(start - 1)
            depth += (word in CLOSING) - (word in OPENING)
            if depth < 0 or (depth == 0 and _ENDS.fullmatch(word)):
                break
            start -= 1
        return range(start, index)

    def _right_of(self, index: int) -> range:
        """The tokens of the operand that begins behind `index`; an alias behind it is none of them."""
        depth, end = 0, index + 1
        while end < len(self.tokens):
            word = self._word(end)
            depth += (word in OPENING) - (word in CLOSING)
            if depth < 0 or (depth == 0 and (_ENDS.fullmatch(word) or self._is_alias(index, end))):
                break
            end += 1
        return range(index + 1, end)

    def _is_alias(self, index: int, end: int) -> bool:
        before, token = self.tokens[end - 1], self.tokens[end]
        is_complete = before.token_type in _NAMES or self._word(end - 1) in CLOSING
        return end - 1 > index and token.token_type in _NAMES[:2] and is_complete

    def _word(self, index: int) -> str:
        return word_of(self.tokens[index]) if 0 <= index < len(self.tokens) else ""

    def _part(self, side: range) -> str:
        return self.text[self.tokens[side[0]].start : self.tokens[side[-1]].end + 1]


def _offset(printed: str, time_zone: str) -> int:
    """How many seconds the time zone is ahead of UTC at a printed moment."""
    try:
        moment = datetime.fromisoformat(printed).replace(tzinfo=ZoneInfo(time_zone))
    except ValueError:  # a number
        moment = datetime.now(UTC).astimezone(ZoneInfo(time_zone))
    offset = moment.utcoffset()
    return 0 if offset is None else round(offset.total_seconds())
