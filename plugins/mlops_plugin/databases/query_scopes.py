"""The SELECTs around a place in a query: what each reads, and its conditions; found by the query's tokens.

`compared_times` asks for the type and the values of an expression that stands there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from sqlglot.dialects.dialect import Dialect
from sqlglot.tokenizer_core import Token, TokenType

from mlops_plugin.databases.engines.registry import engine_named

OPENING, CLOSING = frozenset({"(", "CASE"}), frozenset({")", "END"})
_AFTER_WHERE = frozenset(
    {"GROUP BY", "HAVING", "WINDOW", "QUALIFY", "ORDER BY", "LIMIT", "OFFSET", "FETCH", "FOR", "OPTION"}
    | {"UNION", "UNION ALL", "EXCEPT", "INTERSECT", ";"}
)
_AFTER_FROM = _AFTER_WHERE | {"WHERE"}
_JOINS = frozenset({"JOIN", "LEFT", "RIGHT", "INNER", "CROSS", "FULL", "NATURAL", "STRAIGHT_JOIN", ","})
_ALTERNATIVES = frozenset({"OR", "XOR", "||"})


@dataclass(frozen=True)
class Scope:
    """A SELECT of the query, without what it selects."""

    before: str  # the query's WITH clause, if it has one
    source: str  # FROM and what follows, up to WHERE
    conditions: tuple[str, ...]  # of WHERE, which all hold

    def select(self, selected: str, conditions: Sequence[str]) -> str:
        """A query for something else from the same rows."""
        where = " AND ".join(f"({condition})" for condition in conditions)
        return f"{self.before}SELECT {selected}\n{self.source}\nWHERE {where}"


def word_of(token: Token) -> str:
    """A token in capitals; nothing for a text or a quoted name."""
    return "" if token.token_type in (TokenType.STRING, TokenType.IDENTIFIER) else token.text.upper()


def find_scopes(query: str, engine: str, place: int, left_out: Collection[int]) -> Iterator[Scope]:
    """The SELECTs around a position of the query, the innermost first.

    A condition of WHERE or ON that holds one of the positions `left_out` is left out.
    """
    tokens = Dialect.get_or_raise(engine_named(engine).parser).tokenize(query)
    yield from _Query(query, tokens, [word_of(token) for token in tokens], left_out).scopes(place)


@dataclass(frozen=True)
class _Query:
    text: str
    tokens: Sequence[Token]
    words: Sequence[str]
    left_out: Collection[int]

    def scopes(self, place: int) -> Iterator[Scope]:
        words = self.words
        here = next((n for n, token in enumerate(self.tokens) if token.start >= place), len(words))
        main = _find(words, 1, {"SELECT"}) if words[:1] == ["WITH"] else 0
        before = self.text[: self.tokens[main].start] if main < len(words) else ""
        for select in _selects_around(words, here):
            start = _find(words, select + 1, {"FROM"} | _AFTER_FROM)
            if start == len(words) or words[start] != "FROM":
                continue
            where = _find(words, start + 1, _AFTER_FROM)
            conditions: list[str] = []
            if where < len(words) and words[where] == "WHERE":
                end = _find(words, where + 1, _AFTER_WHERE)
                conditions = self._kept(_conjunction(words, range(where + 1, end)))
            yield Scope(before, self._source(range(start, where)), tuple(conditions))

    def _source(self, part: range) -> str:
        """FROM with its joins, each without the conditions that are left out."""
        written, done, place = "", part.start, part.start
        while (place := _find(self.words, place, {"ON"}) + 1) < part.stop:
            end = place
            while (end := _find(self.words, end, _JOINS)) < part.stop and self._is_function(end):
                end += 1
            kept = self._kept(_conjunction(self.words, range(place, min(end, part.stop))))
            written += f"{self._text(range(done, place))} {' AND '.join(kept) or '1 = 1'} "
            done = place = min(end, part.stop)
        return (written + self._text(range(done, part.stop))).rstrip()

    def _is_function(self, index: int) -> bool:
        return self.words[index + 1 : index + 2] == ["("]

    def _kept(self, conditions: Sequence[range]) -> list[str]:
        texts = []
        for part in conditions:
            begin, end = self.tokens[part[0]].start, self.tokens[part[-1]].end
            if not any(begin <= place <= end for place in self.left_out):
                texts.append(self.text[begin : end + 1])
        return texts

    def _text(self, part: range) -> str:
        return self.text[self.tokens[part[0]].start : self.tokens[part[-1]].end + 1] if part else ""


def _selects_around(words: Sequence[str], index: int) -> Iterator[int]:
    depth = outer = 0
    for before in range(index - 1, -1, -1):
        depth += (words[before] in CLOSING) - (words[before] in OPENING)
        outer = min(outer, depth)
        if depth == outer and words[before] == "SELECT":
            yield before
            outer -= 1  # another SELECT at this depth is one of a UNION


def _find(words: Sequence[str], start: int, wanted: Collection[str]) -> int:
    """The first of these words outside of brackets, or where the brackets around `start` end."""
    depth = 0
    for index in range(start, len(words)):
        depth += (words[index] in OPENING) - (words[index] in CLOSING)
        if depth < 0 or (depth == 0 and words[index] in wanted):
            return index
    return len(words)


def _conjunction(words: Sequence[str], where: range) -> list[range]:
    """The parts between the ANDs of a condition; all of it if there are alternatives."""
    if _find(words, where.start, _ALTERNATIVES) < where.stop:
        return [where]
    parts, start, place = [], where.start, where.start
    while place < where.stop:
        place = min(_find(words, place, {"AND", "BETWEEN"}), where.stop)
        if place < where.stop and words[place] == "BETWEEN":
            place = min(_find(words, place + 1, {"AND"}) + 1, where.stop)
            continue
        parts.append(range(start, place))
        start = place = place + 1
    return [part for part in parts if part]
