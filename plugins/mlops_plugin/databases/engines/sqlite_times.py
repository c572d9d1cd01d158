"""SQL that finds out whether SQLite compares a value with a moment rightly; the engine `Sqlite` calls it.

SQLite has no type for times. It compares two texts by their characters, and a number is less than any text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Times are text of many forms, and SQLite's functions know milliseconds only.
FORM = "%Y-%m-%d %H:%M:%f"
DATE = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*"
_DATE_LENGTH, _PREFIX_LENGTH = 10, 19  # of 2026-01-31, and of 2026-01-31 06:00:00
_LITERAL = re.compile(r"\d{4}-\d\d-\d\d(?:(?P<sep>[ T])\d\d:\d\d:\d\d(?:\.\d+)?(?P<zone>[-+]\d\d:\d\d|Z)?)?")
_COMPACT = re.compile(r"\d{8}T\d{6}.*")
_OF_A_TIME = re.compile(r"\s*(?:date|time|datetime|julianday|unixepoch)\s*\(\s*(?P<of>[^(),]+)[,)]", re.I)
_FORMATTED = re.compile(r"\s*strftime\s*\(\s*'[^']*'\s*,\s*(?P<of>[^(),]+)[,)]", re.I)


# What the failure of a checked comparison says: its number, the value's type and the value.
REFUSED = re.compile(r"mlops:(?P<number>\d+):(?P<type>integer|real|text|blob|null):(?P<value>(?:[^']|'')*)'")


@dataclass(frozen=True)
class TimeComparison:
    """`left operator right` as the query has it; one side is made from a moment that a template printed.

    `literal` is that moment's text if the side is nothing else. `offset_s` is how far ahead of UTC the
    model's time zone is then. `at_any_moment`: try an interval that begins or ends at the very value, too.
    """

    left: str
    operator: str
    right: str
    is_moment_left: bool
    literal: str | None
    offset_s: int
    at_any_moment: bool

    @property
    def value(self) -> str:
        return self.right if self.is_moment_left else self.left

    @property
    def moment(self) -> str:
        return self.left if self.is_moment_left else self.right

    def is_right(self) -> str:
        """SQL: whether the value is NULL or empty, or compares with the moment as the two times do."""
        value, moment = self.value, self.moment
        return (
            f"CASE typeof({value}) WHEN 'null' THEN {_is_null(value)} "
            f"WHEN 'text' THEN {value} = '' OR {self._is_not_time()} "
            f"OR (typeof({moment}) = 'text' AND ({self._texts()})) "
            f"WHEN 'blob' THEN 0 ELSE {self._is_not_time()} OR {self._numbers()} END"
        )

    def _is_not_time(self) -> str:
        """What is made from the moment may be a name, e.g. of a file."""
        if self.literal is not None:
            return "0"
        moment = self.moment
        is_text = f"typeof({moment}) = 'text' AND strftime('{FORM}', {moment}) IS NULL"
        return f"({moment} IS NULL OR ({is_text} AND NOT ({_is_number(moment)})))"

    def _texts(self) -> str:
        ways = [self._is_far(), self._same_order(), self._same_digits()]
        return " OR ".join(f"({way})" for way in ways if way)

    def _is_far(self) -> str | None:
        """A quick way for most rows: the same form and another second (or day)."""
        literal = self.literal
        found = None if literal is None else _LITERAL.fullmatch(literal)
        if literal is None or (found is None and not _COMPACT.fullmatch(literal)):
            return None
        if found is None:  # 20260131T060000
            return f"{self.value} GLOB {_quoted(re.sub(r'[0-9]', '[0-9]', literal))}"
        if found["zone"] or self.at_any_moment:
            return None
        prefix = literal[:_PREFIX_LENGTH]
        form, length = re.sub(r"[0-9]", "[0-9]", prefix), len(prefix)
        return (
            f"{self.value} GLOB {_quoted(form + '*')}"
            f" AND substr({self.value}, 1, {length}) <> {_quoted(prefix)}"
            f" AND NOT {has_zone(self.value)} AND strftime('{FORM}', {self.value}) IS NOT NULL"
        )

    def _same_order(self) -> str:
        value = self.value
        readable = f"{value} GLOB '{DATE}' AND {self._local(value)} IS NOT NULL"
        return " AND ".join([readable, *(self._agrees(moment) for moment in self._moments())])

    def _moments(self) -> list[str]:
        return [self.moment, *(self._of_the_value() if self.at_any_moment else ())]

    def _of_the_value(self) -> list[str]:
        """The value's own time and one a little later, in the literal's form: where an interval might end."""
        found = None if self.literal is None else _LITERAL.fullmatch(self.literal)
        if found is None or self.literal is None:
            return []
        if found["sep"] is None:
            return [self._local(self.value, "%Y-%m-%d")]
        zone = f" || {_quoted(found['zone'])}" if found["zone"] else ""
        if self.literal[_DATE_LENGTH + 1 : _PREFIX_LENGTH] == "00:00:00":
            return [self._local(self.value, f"%Y-%m-%d{found['sep']}00:00:00") + zone]
        form = f"%Y-%m-%d{found['sep']}%H:%M:%S"
        return [self._local(self.value, form, modifier) + zone for modifier in ("", "+1 second", "+1 hour")]

    def _agrees(self, moment: str) -> str:
        value = self.value
        as_texts = self._compare(value, moment, _in_brackets)
        as_times = self._compare(value, moment, self._local)
        return f"({as_texts}) = ({as_times})"

    def _same_digits(self) -> str:
        """Numbers as texts, such as those of strftime('%s')."""
        digits = f"{_is_number('{0}')} AND {_is_number('{1}')}".format(self.value, self.moment)
        as_texts = self._compare(self.value, self.moment, _in_brackets)
        return f"{digits} AND ({as_texts}) = ({self._compare(self.value, self.moment, _as_number)})"

    def _numbers(self) -> str:
        """A number compares with a number, or with one in a text if the column's type converts it."""
        as_it_is = self._compare(self.value, self.moment, lambda side: side)
        as_numbers = self._compare(self.value, self.moment, _as_number)
        return (
            f"typeof({self.moment}) IN ('integer', 'real') OR (typeof({self.moment}) = 'text' AND "
            f"{_is_number(self.moment)} AND ({as_it_is}) = ({as_numbers}))"
        )

    def _compare(self, value: str, moment: str, write: Callable[[str], str]) -> str:
        sides = (moment, value) if self.is_moment_left else (value, moment)
        return f"{write(sides[0])} {self.operator} {write(sides[1])}"

    def _local(self, text: str, form: str = FORM, modifier: str = "") -> str:
        """The time of a text in the model's time zone; NULL if SQLite does not understand it."""
        more = f", '{modifier}'" if modifier else ""
        plain = f"strftime('{form}', {text}{more})"
        if not self.offset_s:
            return plain
        shifted = f"strftime('{form}', {text}, '{self.offset_s:+d} seconds'{more})"
        return f"CASE WHEN {has_zone(text)} THEN {shifted} ELSE {plain} END"


def checked(comparison: str, sides: Sequence[TimeComparison], number: int) -> str:
    """The comparison, or an error that quotes the first value for which it is wrong."""
    value = sides[0].value
    # No function raises an error of one's own; this one quotes the path that it does not understand.
    refuse = f"json_extract('null', 'mlops:{number:d}:' || typeof({value}) || ':' || coalesce({value}, ''))"
    is_right = " AND ".join(f"({side.is_right()})" for side in sides)
    return f"(CASE WHEN {is_right} THEN ({comparison}) ELSE {refuse} END)"


def _is_null(value: str) -> str:
    """SQL: a NULL is right, unless it is what SQLite makes of a time that it does not understand."""
    call = _OF_A_TIME.match(value) or _FORMATTED.match(value)
    return f"({call['of']}) IS NULL" if call else "1"


def has_zone(text: str) -> str:
    """SQL: the text of a time ends with a zone, which SQLite's functions take into account."""
    return f"substr({text}, {_DATE_LENGTH + 1}) GLOB '*[-+Zz]*'"


def _is_number(text: str) -> str:
    return f"{text} <> '' AND {text} NOT GLOB '*[^0-9.]*'"


def _as_number(side: str) -> str:
    return f"CAST({side} AS NUMERIC)"


def _in_brackets(side: str) -> str:
    return f"({side})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
